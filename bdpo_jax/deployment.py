"""A trained policy as a plain function, for whoever runs it."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np

from bdpo_jax.agents import bdpo
from bdpo_jax.types import UserError


def load_policy(
    workdir: str | Path, step: int | None = None, candidates: int | None = None, policy: str = "actor"
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the policy of the run in `workdir`: `policy(observations, key=None) -> actions`, NumPy to NumPy.

    Observations are `[observation_dim]` or `[batch, observation_dim]`. Without `key` the noise of the k-th call is a
    function of the run's seed and k.

    Args:
      workdir: directory of a run; a run still going may be read too.
      step: which kept checkpoint; None: the latest.
      candidates: as in `sample_actions`; None: the run's `greedy_candidates`.
      policy: "actor" or "behavior".

    Raises:
      UserError: there is no run or no checkpoint.
    """
    # Storage is imported only here: who imports the algorithm alone needs none of it.
    from bdpo_jax.checkpoint import Checkpointer
    from bdpo_jax.workdir import read_config

    workdir = Path(workdir)
    config = SimpleNamespace(**read_config(workdir))
    try:
        sizes = json.loads((workdir / "sizes.json").read_text())
    except FileNotFoundError:
        members = sorted(path.parent.name for path in workdir.glob("*/config.json"))
        if members:
            raise UserError(f"{workdir} holds several runs: name one of {', '.join(members)} in it.") from None
        raise UserError(f"{workdir} holds no checkpoint yet: wait for the run's first one.") from None
    root = jax.random.key(config.seed)
    like = jax.eval_shape(lambda key: bdpo.init(config, key, sizes["observation_dim"], sizes["action_dim"]), root)
    with Checkpointer(workdir / "checkpoints", read_only=True) as checkpoints:
        state, _ = checkpoints.restore(like, step)
    act = jax.jit(lambda observations, key: bdpo.sample_actions(state, observations, key, candidates, policy))
    calls = 0

    def deployed(observations, key=None):
        nonlocal calls
        if key is None:
            key = jax.random.fold_in(root, calls)
            calls += 1
        return np.asarray(act(np.asarray(observations, np.float32), key))

    return deployed
