"""Minari's datasets, through its own package (extra `minari`)."""

import functools
from collections.abc import Callable

import gymnasium
import numpy as np

from bdpo_jax.data import custom, d4rl, rewards
from bdpo_jax.data.dataset import Dataset, check
from bdpo_jax.errors import UserError


@functools.cache
def _dataset(name: str):
    """Minari's dataset, downloaded into its cache where it is missing."""
    try:
        import minari
    except ImportError as error:
        raise UserError("Minari's datasets need its package: pip install 'bdpo_jax[minari]'.") from error
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
      name: for instance `mujoco/hopper/medium-v0`. Dictionary observations are flattened as gymnasium does.
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
        observations = _flat(episode.observations, source.observation_space)
        parts["observations"].append(observations[:-1])
        parts["next_observations"].append(observations[1:])
        parts["actions"].append(np.asarray(episode.actions, np.float32))
        parts["rewards"].append(np.asarray(episode.rewards, np.float32))
        parts["terminals"].append(np.asarray(episode.terminations, np.float32))
        returns.append(float(np.sum(episode.rewards)))
    if not returns:
        raise UserError(f"Minari's dataset {name!r} has no episodes.")
    arrays = {key: np.concatenate(values) for key, values in parts.items()}
    arrays["actions"] = custom.unit_actions(arrays["actions"], source.action_space)
    where = f"Minari's {name}"
    data = check(Dataset(**arrays), where, clip_actions=True)
    lengths = np.array([len(part) for part in parts["rewards"]])
    scaling = rewards.find_scaling(reward_scaling, None, np.array(returns), lengths, arrays["rewards"], where)
    return d4rl.finish(data, scaling, where), scaling


def environment(name: str) -> Callable[[], gymnasium.Env] | None:
    """A function that makes the dataset's own evaluation environment; None for a dataset without one.

    Raises:
      UserError: the package or the dataset is missing, or the environment cannot be made.
    """
    source = _dataset(name)
    if source.env_spec is None:
        return None

    def make() -> gymnasium.Env:
        return custom.unit_box(source.recover_environment(eval_env=True))

    try:
        make().close()
    except (gymnasium.error.Error, ImportError) as error:
        raise UserError(f"The environment of Minari's {name!r} cannot be made ({error}).") from error
    return make


def normalized_score(name: str, returns: np.ndarray) -> np.ndarray | None:
    """`100 (return - min) / (max - min)` with the dataset's reference scores; None where it has none."""
    metadata = _dataset(name).storage.metadata
    low, high = metadata.get("ref_min_score"), metadata.get("ref_max_score")
    if low is None or high is None:
        return None
    return 100.0 * (np.asarray(returns, np.float64) - low) / (high - low)


def _flat(observations, space) -> np.ndarray:
    """`[steps, width]`; the parts of a dictionary in the order of its space."""
    if isinstance(space, gymnasium.spaces.Dict):
        return np.concatenate([_flat(observations[key], part) for key, part in space.spaces.items()], axis=1)
    if not isinstance(space, gymnasium.spaces.Box):
        raise UserError(f"The observation space {space} is neither a box nor a dictionary of boxes.")
    observations = np.asarray(observations, np.float32)
    return observations.reshape(len(observations), -1)
