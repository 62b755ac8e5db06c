"""A trained policy as a plain function, for whoever runs it."""

import contextlib
import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, Protocol

import jax
import numpy as np
import numpy.typing as npt

from bdpo_jax.agents import AGENTS
from bdpo_jax.errors import UserError


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
    """

    act: Callable[[jax.Array, jax.Array], jax.Array]
    root: jax.Array
    wide: bool
    observation_dim: int
    action_dim: int

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
    # Storage is imported only here: who imports the algorithms alone needs none of it.
    from bdpo_jax.checkpoint import Checkpointer
    from bdpo_jax.workdir import read_config

    workdir = Path(workdir)
    config = SimpleNamespace(**read_config(workdir))
    agent = AGENTS[config.agent]
    if policy not in agent.POLICIES:
        raise UserError(f"{config.agent} has no policy {policy!r}; it has {', '.join(agent.POLICIES)}.")
    function = agent.POLICIES[policy]
    if candidates is not None:
        if "candidates" not in inspect.signature(function).parameters:
            raise UserError(f"The policy {policy!r} of {config.agent} draws one action; leave candidates out.")
        function = functools.partial(function, candidates=candidates)
    try:
        sizes = json.loads((workdir / "sizes.json").read_text())
    except FileNotFoundError:
        runs = sorted(path.parent.name for path in workdir.glob("*/config.json"))
        if runs:
            raise UserError(f"{workdir} holds several runs: name one of {', '.join(runs)} in it.") from None
        raise UserError(f"{workdir} holds no checkpoint yet: wait for the run's first one.") from None
    with Checkpointer(workdir / "checkpoints", read_only=True) as checkpoints:
        wide = checkpoints.extra(step).get("numbers", {}).get("jax_enable_x64", False)
        with precision(wide):
            root = jax.random.key(config.seed)
            like = jax.eval_shape(lambda key: agent.init(config, key, **sizes), root)
            state, _ = checkpoints.restore(like, step)
    return Restored(lambda observations, key: function(state, observations, key), root, wide, **sizes)


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
      UserError: there is no run, checkpoint or policy of that name, or it does not choose among candidates.
    """
    restored = restore_policy(workdir, step, candidates, policy)
    act = jax.jit(restored.act)
    calls = 0

    def deployed(observations: npt.ArrayLike, key: jax.Array | None = None) -> np.ndarray:
        nonlocal calls
        with restored.as_trained():
            if key is None:
                key = jax.random.fold_in(restored.root, calls)
                calls += 1
            return np.asarray(act(np.asarray(observations, np.float32), key))

    return deployed
