"""A trained policy as a plain function, for whoever runs it."""

import contextlib
import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
import numpy.typing as npt

from bdpo_jax.agents import AGENTS, budget
from bdpo_jax.errors import UserError

ATTEMPTS = 5  # to read a checkpoint of a run that goes on


class DeployedPolicy(Protocol):
    """What `load_policy` returns."""

    def __call__(self, observations: npt.ArrayLike, key: jax.Array | None = None) -> np.ndarray: ...


class Restored(NamedTuple):
    """A trained policy before it is compiled.

    Attributes:
      act: (observations `[..., observation_dim]`, key) -> actions `[..., action_dim]`, to be traced.
      root: the run's key.
      wide: whether it was trained in 64-bit JAX.
      observation_dim, action_dim: widths.
      trained: after how many updates of how many it was saved, in words.
    """

    act: Callable[[jax.Array, jax.Array], jax.Array]
    root: jax.Array
    wide: bool
    observation_dim: int
    action_dim: int
    trained: str

    def as_trained(self) -> contextlib.AbstractContextManager:
        """A block in which JAX computes with as many bits as it was trained with, whatever the process has set."""
        return precision(self.wide)


def precision(wide: bool) -> contextlib.AbstractContextManager:
    """A block in which JAX computes with 64 bits (`wide`) or with 32."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(wide)
    from jax import experimental

    return experimental.enable_x64(wide)  # type: ignore[attr-defined]  # before JAX 0.8


def restore_policy(
    workdir: str | Path, step: int | None = None, candidates: int | None = None, policy: str = "policy"
) -> Restored:
    """Reads the policy of a run; arguments and errors are those of `load_policy`."""
    from bdpo_jax.workdir import BROKEN

    workdir, config, agent = _read_agent(workdir)
    if policy not in agent.POLICIES:
        raise UserError(f"{config.agent} has no policy {policy!r}; it has {', '.join(agent.POLICIES)}.")
    function = agent.POLICIES[policy]
    if candidates is not None:
        if "candidates" not in inspect.signature(function).parameters:
            raise UserError(f"The policy {policy!r} of {config.agent} draws one action; leave candidates out.")
        if candidates < 1:
            raise UserError(f"candidates is {candidates}; it must be 1 or more.")
        function = functools.partial(function, candidates=candidates)
    state, root, wide, sizes, found = _restore(workdir, config, agent, step)
    trained = f"after {found:,} of {budget(vars(config)):,} updates"
    if (workdir / BROKEN).exists():
        trained += ", before its numbers became NaN or infinite"
    return Restored(lambda observations, key: function(state, observations, key), root, wide, **sizes, trained=trained)


def load_policy(
    workdir: str | Path, step: int | None = None, candidates: int | None = None, policy: str = "policy"
) -> DeployedPolicy:
    """Returns the policy of the run in `workdir`: `policy(observations, key=None) -> actions`, NumPy to NumPy.

    Observations are `[observation_dim]` or `[batch, observation_dim]`. Without `key` the noise of the k-th call is a
    function of the run's seed and k. It computes with the bits that it was trained with, also where JAX has 64.

    Args:
      workdir: directory of a run; a run still going may be read too.
      step: which kept checkpoint; None: the latest.
      candidates: actions drawn, of which Q picks one; None: as in the run.
      policy: "policy" (the algorithm's own), "behavior", or another of its `POLICIES`.

    Raises:
      UserError: there is no run, checkpoint or policy of that name, or it does not choose among candidates; also when
        called with observations of another width.
    """
    return deploy(restore_policy(workdir, step, candidates, policy))


def deploy(restored: Restored) -> DeployedPolicy:
    """Returns what `load_policy` does, of a policy that has been read."""
    act = jax.jit(restored.act)
    calls = 0

    def deployed(observations: npt.ArrayLike, key: jax.Array | None = None) -> np.ndarray:
        nonlocal calls
        with restored.as_trained():
            if key is None:
                key = jax.random.fold_in(restored.root, calls)
                calls += 1
            return np.asarray(act(_rows("observations", observations, restored.observation_dim), key))

    return deployed


def load_q(workdir: str | Path, step: int | None = None) -> Callable[[npt.ArrayLike, npt.ArrayLike], np.ndarray]:
    """Returns Q of the run in `workdir`: `q(observations, actions) -> values`, NumPy to NumPy.

    Observations are `[..., observation_dim]`, actions in [-1, 1] `[..., action_dim]`, values `[...]`: the ensemble's
    mean of the discounted return, in scaled rewards, less what the algorithm subtracts (BDPO: eta times the penalty).

    Args:
      workdir: directory of a run; a run still going may be read too.
      step: which kept checkpoint; None: the latest.

    Raises:
      UserError: there is no run or checkpoint, or its algorithm has no Q; also when called with arrays of other widths.
    """
    workdir, config, agent = _read_agent(workdir)
    if "q" not in agent.VIEWS:
        raise UserError(f"{config.agent} offers no Q.")
    state, _, wide, sizes, _ = _restore(workdir, config, agent, step)
    values = jax.jit(lambda observations, actions: agent.VIEWS["q"](state, observations, actions))

    def q(observations: npt.ArrayLike, actions: npt.ArrayLike) -> np.ndarray:
        with precision(wide):
            rows = _rows("observations", observations, sizes["observation_dim"])
            return np.asarray(values(rows, _rows("actions", actions, sizes["action_dim"])))

    return q


def _rows(kind: str, values: npt.ArrayLike, width: int) -> np.ndarray:
    """Values `[..., width]` as float32.

    Raises:
      UserError: they are of another width.
    """
    found = np.asarray(values, np.float32)
    if found.shape[-1:] != (width,):
        raise UserError(f"The {kind} have the shape {list(found.shape)}; this run's are [..., {width}].")
    return found


def read_run(workdir: str | Path, *keys: str) -> SimpleNamespace:
    """Returns the config of a run, which has these keys.

    Raises:
      UserError: there is no run, or its config lacks a key.
    """
    from bdpo_jax.workdir import CONFIG_FILE, read_config

    config = SimpleNamespace(**read_config(workdir))
    missing = [key for key in keys if not hasattr(config, key)]
    if missing:
        raise UserError(
            f"{Path(workdir) / CONFIG_FILE} has no {missing[0]!r}: it is damaged, or of another version of this "
            "package."
        )
    return config


def _read_agent(workdir: str | Path) -> tuple[Path, SimpleNamespace, Any]:
    """The directory of a run, its config and its algorithm."""
    from bdpo_jax.workdir import expanded

    config = read_run(workdir, "agent", "seed")
    if config.agent not in AGENTS:
        raise UserError(
            f"The run in {workdir} is of the algorithm {config.agent!r}, which this version has not; it has "
            f"{', '.join(AGENTS)}."
        )
    return expanded(workdir), config, AGENTS[config.agent]


def _restore(
    workdir: Path, config: SimpleNamespace, agent: Any, step: int | None
) -> tuple[Any, jax.Array, bool, dict, int]:
    """The state of a checkpoint, the run's key, whether it is of 64-bit JAX, the widths of its data, and the step."""
    # Storage is imported only here and above: who imports the algorithms alone needs none of it.
    from bdpo_jax.checkpoint import Damaged

    sizes = _read_sizes(workdir)
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(Damaged, FileNotFoundError):  # a run that goes on may have deleted what is being read
            return _restore_once(workdir, config, agent, step, sizes)
    return _restore_once(workdir, config, agent, step, sizes)


def _restore_once(
    workdir: Path, config: SimpleNamespace, agent: Any, step: int | None, sizes: dict
) -> tuple[Any, jax.Array, bool, dict, int]:
    """One attempt of `_restore`."""
    from bdpo_jax.checkpoint import Checkpointer

    with Checkpointer(workdir / "checkpoints", read_only=True) as checkpoints:
        step = checkpoints.latest_step() if step is None else step
        wide = checkpoints.extra(step).get("numbers", {}).get("jax_enable_x64", False)
        with precision(wide):
            root = jax.random.key(config.seed)
            like = jax.eval_shape(lambda key: agent.init(config, key, **sizes), root)
            # A version may have more numbers than the one that saved the run, which had them at their defaults.
            hyper = jax.jit(lambda key: agent.init(config, key, **sizes).hyper)(root)
            state, _ = checkpoints.restore(like.replace(hyper=hyper), step, may_lack=".hyper.")
    assert step is not None, "without a checkpoint there is no extra"
    return state, root, wide, sizes, step


def _read_sizes(workdir: Path) -> dict:
    """The widths of a run's data.

    Raises:
      UserError: the run has not noted them yet, or they cannot be read.
    """
    from bdpo_jax.workdir import SIZES_FILE

    try:
        sizes = json.loads((workdir / SIZES_FILE).read_text())
        return {name: int(sizes[name]) for name in ("observation_dim", "action_dim")}
    except FileNotFoundError:
        runs = sorted(path.parent.name for path in workdir.glob("*/config.json"))
        if runs:
            raise UserError(f"{workdir} holds several runs: name one of {', '.join(runs)} in it.") from None
        raise UserError(f"{workdir} holds no checkpoint yet: wait for the run's first one.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{workdir / SIZES_FILE} cannot be read ({error}): run the command of the run again, which writes it."
        ) from error
