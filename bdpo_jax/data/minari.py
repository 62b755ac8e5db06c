"""Minari's datasets, through its own package (extra `minari`)."""

import functools
from collections.abc import Callable

import gymnasium
import numpy as np

from bdpo_jax.data import d4rl, rewards, spaces
from bdpo_jax.data.dataset import Dataset, check
from bdpo_jax.envs import foreign
from bdpo_jax.errors import UserError


@functools.cache
def _dataset(name: str):
    """Minari's dataset, downloaded into its cache where it is missing."""
    try:
        import minari
    except ImportError as error:
        raise UserError("Minari's datasets need its package: pip install '.[minari]'.") from error
    try:
        return minari.load_dataset(name, download=True)
    except Exception as error:  # whatever the network, its cloud library and its file formats raise
        reason = " ".join(str(error).split())
        raise UserError(
            f"Minari cannot load {name!r} ({type(error).__name__}: {reason}); `minari list remote` prints the names, "
            f"`minari download {name}` fetches it into ~/.minari/datasets (or $MINARI_DATASETS_PATH)."
        ) from error


def load(name: str, reward_scaling: str | float = "auto") -> Dataset:
    """The dataset of `load_scaled`."""
    return load_scaled(name, reward_scaling)[0]


def load_scaled(name: str, reward_scaling: str | float = "auto") -> tuple[Dataset, rewards.Scaling]:
    """The transitions of a Minari dataset; next observations are stored there, so no row is dropped.

    Args:
      name: for instance `mujoco/hopper/medium-v0`. Dictionary observations are flattened in the order of the
        stored space's keys, as `environment` flattens its own.
      reward_scaling: as in `d4rl.load`; "auto" is 1000 / (max - min return).

    Raises:
      UserError: the package or the dataset is missing, or its actions are no finite box.
    """
    source = _dataset(name)
    parts: dict[str, list] = {
        key: [] for key in ("observations", "actions", "rewards", "next_observations", "terminals")
    }
    returns = []
    for episode in source.iterate_episodes():
        observations = spaces.flatten(source.observation_space, episode.observations, batch=True)
        parts["observations"].append(observations[:-1])
        parts["next_observations"].append(observations[1:])
        parts["actions"].append(np.asarray(episode.actions, np.float32))
        parts["rewards"].append(np.asarray(episode.rewards, np.float32))
        parts["terminals"].append(np.asarray(episode.terminations, np.float32))
        returns.append(float(np.sum(episode.rewards)))
    if not returns:
        raise UserError(f"Minari's dataset {name!r} has no episodes.")
    arrays = {key: np.concatenate(values) for key, values in parts.items()}
    arrays["actions"] = spaces.unit_actions(arrays["actions"], source.action_space)
    where = f"Minari's {name}"
    lengths = np.array([len(part) for part in parts["rewards"]])
    last = np.isin(np.arange(lengths.sum()), lengths.cumsum() - 1)
    data = check(Dataset(**arrays, last=last), where, clip_actions=True)
    scaling = rewards.find_scaling(reward_scaling, None, np.array(returns), lengths, arrays["rewards"], where)
    return d4rl.finish(data, scaling, where), scaling


def environment(name: str, env: str = "") -> Callable[[], gymnasium.Env] | None:
    """A function that makes an environment whose observations are flattened as the dataset's are; None without one.

    Args:
      name: of the dataset.
      env: a gymnasium id; "": the dataset's own evaluation environment, which not every dataset has.

    Raises:
      UserError: the package or the dataset is missing.
    """
    source = _dataset(name)
    called = repr(env) if env else f"of Minari's {name!r}"
    if env:
        construct = functools.partial(gymnasium.make, env)
    elif source.env_spec is None and source.storage.metadata.get("eval_env_spec") is None:
        return None
    else:
        construct = functools.partial(source.recover_environment, eval_env=True)

    def agreeing() -> gymnasium.Env:
        found = construct()
        pairs = {
            "observations": (source.observation_space, found.observation_space),
            "actions": (source.action_space, found.action_space),
        }
        for kind, both in pairs.items():
            differ = spaces.difference(*both)
            if not differ and kind == "actions" and not spaces.same_bounds(*map(spaces.finite_box, both)):
                differ = "{} and {}".format(*both)
            if differ:
                raise UserError(
                    f"The {kind} of Minari's {name!r} and of the environment {called} differ ({differ}): name another "
                    "environment, --config.env=ID, or train without scores, --config.env=none."
                )
        return found

    return functools.partial(foreign.make, called, agreeing, source.observation_space)


def normalized_score(name: str, returns: np.ndarray) -> np.ndarray | None:
    """`100 (return - min) / (max - min)` with the dataset's reference scores; None where it has none."""
    metadata = _dataset(name).storage.metadata
    low, high = metadata.get("ref_min_score"), metadata.get("ref_max_score")
    if low is None or high is None:
        return None
    return 100.0 * (np.asarray(returns, np.float64) - low) / (high - low)
