"""A transition file of one's own, and the gymnasium environment to score it in."""

from collections.abc import Callable

import gymnasium
import numpy as np

from bdpo_jax.data import d4rl, files, rewards
from bdpo_jax.data.dataset import Dataset, check
from bdpo_jax.errors import UserError

WIDEST_BOX = 1e8  # bounds of actions from here on stand for "no bounds"
NARROWEST_BOX = 1e-5  # of the bounds' size: a hundred steps of float32


def load(path: str, reward_scaling: str | float = "auto", action_space: gymnasium.Space | None = None) -> Dataset:
    """The dataset of `load_scaled`."""
    return load_scaled(path, reward_scaling, action_space)[0]


def load_scaled(
    path: str, reward_scaling: str | float = "auto", action_space: gymnasium.Space | None = None
) -> tuple[Dataset, rewards.Scaling]:
    """The transitions of an HDF5 or npz file, actions mapped to the box [-1, 1] and clipped to +-(1 - 1e-5).

    A row that is terminal and timed out is terminal.

    Args:
      path: a file with `observations`, `actions`, `rewards`, `terminals`, a row per step, and either `timeouts` (the
        last row of an episode that was cut off; the next observation is the next row's) or `next_observations`.
      reward_scaling: as in `d4rl.load`; "auto" is 1000 / (max - min return).
      action_space: the box of the file's actions; None: [-1, 1].

    Raises:
      UserError: what `files.read` and `d4rl.transitions` find, or neither of the two keys.
    """
    if not path:
        raise UserError("This task needs a file: set dataset_path to an HDF5 or npz file (--config.dataset_path=FILE).")
    raw = files.read(path, optional=("timeouts", "next_observations"))
    if "timeouts" not in raw and "next_observations" not in raw:
        raise UserError(
            f"{path} has neither timeouts nor next_observations, so that episodes that were cut off cannot be told "
            "from episodes that go on; add one of them."
        )
    raw["actions"] = unit_actions(raw["actions"], action_space)
    if "next_observations" in raw:
        fields = {key: raw[key] for key in ("observations", "actions", "rewards", "next_observations")}
        data = Dataset(**fields, terminals=raw["terminals"].astype(np.float32))
    else:
        data = d4rl.transitions(raw, len(raw["rewards"]) + 1, path, keep_terminals=True)
    data = check(data, path, clip_actions=True)
    if "next_observations" in raw:
        _find_episodes(raw, path, needed=reward_scaling == "auto")
    found = d4rl.episodes(raw, len(raw["rewards"]) + 1)
    scaling = rewards.find_scaling(reward_scaling, None, *found, raw["rewards"], path)
    return d4rl.finish(data, scaling, path), scaling


def _find_episodes(raw: dict, path: str, needed: bool) -> None:
    """Fills in `timeouts` where a file has next observations alone.

    An episode ends where the next row does not begin with this row's next observation.

    Raises:
      UserError: episodes are needed, but most rows are followed by another episode's.
    """
    follows = np.append((raw["next_observations"][:-1] == raw["observations"][1:]).all(axis=1), False)
    ends = raw["terminals"] | raw.get("timeouts", False)
    inside = ~ends[:-1]
    if needed and inside.any() and follows[:-1][inside].mean() < 0.5:
        raise UserError(
            f"{np.sum(inside & ~follows[:-1])} of {inside.sum()} rows of {path} are not followed by a row that begins "
            "with their next_observations, as if the rows were shuffled: the returns of its episodes cannot scale the "
            "rewards; put the rows in order, or set reward_scaling to 'none' or a number."
        )
    raw.setdefault("timeouts", ~follows & ~raw["terminals"])


def environment(name: str) -> Callable[[], gymnasium.Env] | None:
    """A function that makes the environment `name` with actions in [-1, 1]; None where the name is empty.

    Raises:
      UserError: it cannot be made, has no step limit, or its action space is no finite box of real numbers of one axis.
    """
    if not name:
        return None

    def make() -> gymnasium.Env:
        return unit_box(gymnasium.make(name))

    try:
        env = make()
    except (gymnasium.error.Error, ImportError) as error:
        raise UserError(f"config.env is {name!r}, which gymnasium cannot make ({error}).") from error
    if env.spec is None or env.spec.max_episode_steps is None:
        raise UserError(f"config.env is {name!r}, which has no step limit; register it with max_episode_steps.")
    env.close()
    return make


def unit_box(env: gymnasium.Env) -> gymnasium.Env:
    """The environment with flat observations and with actions in [-1, 1].

    Raises:
      UserError: its action space is no finite box of real numbers of one axis.
    """
    observed = env.observation_space
    if not isinstance(observed, gymnasium.spaces.Box) or len(observed.shape) != 1:
        env = gymnasium.wrappers.FlattenObservation(env)
    space = _finite_box(env.action_space)
    if np.all(space.low == -1) and np.all(space.high == 1):
        return env
    low, high, dtype = space.low.astype(np.float64), space.high.astype(np.float64), space.dtype
    unit = gymnasium.spaces.Box(-1.0, 1.0, space.shape, np.float32)

    def own_units(action):
        mapped = (high + low) / 2 + np.asarray(action, np.float64) * (high - low) / 2
        return np.clip(mapped, low, high).astype(dtype)  # rounding, too, stays in the box

    return gymnasium.wrappers.TransformAction(env, own_units, unit)


def unit_actions(actions: np.ndarray, space: gymnasium.Space | None) -> np.ndarray:
    """Actions `[rows, A]` of a box, mapped to [-1, 1].

    Raises:
      UserError: the space is no finite box of real numbers of one axis.
    """
    if space is None:
        return actions
    box = _finite_box(space)
    if actions.shape[1:] != box.shape:
        return actions  # of another task, which the check of the task finds and names
    low, high = box.low.astype(np.float64), box.high.astype(np.float64)
    center, half = (high + low) / 2, (high - low) / 2
    return ((actions - center) / half).astype(np.float32)


def _finite_box(space: gymnasium.Space) -> gymnasium.spaces.Box:
    if not (
        isinstance(space, gymnasium.spaces.Box)
        and len(space.shape) == 1
        and np.isfinite(space.low).all()
        and np.isfinite(space.high).all()
        and (space.low < space.high).all()
    ):
        raise UserError(f"The action space {space} is not a finite box of one axis, which this method needs.")
    if not np.issubdtype(space.dtype, np.floating):
        raise UserError(f"The action space {space} holds whole numbers; this method needs a box of real ones.")
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    widest = min(WIDEST_BOX, float(np.finfo(space.dtype).max))
    largest = np.maximum(np.abs(low), np.abs(high))
    if (largest >= widest).any():
        raise UserError(
            f"The action space {space} is finite in name only (bounds of {largest.max():g}): give the environment the "
            "bounds that its actions really have."
        )
    if (high - low < NARROWEST_BOX * largest).any():
        raise UserError(f"The action space {space} is narrower than float32 can tell apart: give it wider bounds.")
    return space
