"""A transition file of one's own, and the gymnasium environment to score it in."""

import functools
from collections.abc import Callable, Sequence

import gymnasium
import numpy as np

from bdpo_jax.data import d4rl, ends, files, rewards, spaces
from bdpo_jax.data.dataset import Dataset, check
from bdpo_jax.envs import foreign
from bdpo_jax.errors import UserError

OPTIONAL: tuple[str, ...] = ("timeouts", "next_observations")


def load(
    path: str, reward_scaling: str | float = "auto", action_space: gymnasium.Space | None = None, columns: str = ""
) -> Dataset:
    """The dataset of `load_scaled`."""
    return load_scaled(path, reward_scaling, action_space, columns)[0]


def load_scaled(
    path: str,
    reward_scaling: str | float = "auto",
    action_space: gymnasium.Space | None = None,
    columns: str = "",
    action_bounds: Sequence = (),
) -> tuple[Dataset, rewards.Scaling]:
    """The transitions of a file, actions mapped to the box [-1, 1] and clipped to +-(1 - 1e-5).

    A row that is terminal and timed out is terminal.

    Args:
      path: a file with `observations`, `actions`, `rewards`, `terminals`, a row per step, and either `timeouts` (the
        last row of an episode that was cut off; the next observation is the next row's), one of `ends.KEYS` in their
        place, or `next_observations`.
      reward_scaling: as in `d4rl.load`; "auto" is 1000 / (max - min return).
      action_space: the box of the file's actions; None: [-1, 1].
      columns: where in the file the keys lie, see `columns.parse`.
      action_bounds: see `action_box`.

    Raises:
      UserError: what `files.read`, `action_box` and `d4rl.transitions` find, or nothing that tells the ends of
        episodes.
    """
    if not path:
        raise UserError("This task needs a file: set dataset_path to one of your own (--config.dataset_path=FILE).")
    raw = files.read(path, OPTIONAL, columns)
    if "timeouts" not in raw and "next_observations" not in raw:
        raise UserError(
            f"{path} has neither timeouts nor next_observations, so that episodes that were cut off cannot be told "
            f"from episodes that go on; add one of them, or one of {', '.join(ends.KEYS)} (docs/own-data.md)."
        )
    box = action_box(action_bounds, action_space, raw["actions"].shape[1])
    raw["actions"] = spaces.unit_actions(raw["actions"], box)
    if "next_observations" in raw:
        fields = {key: raw[key] for key in ("observations", "actions", "rewards", "next_observations")}
        data = Dataset(**fields, terminals=raw["terminals"].astype(np.float32))
    else:
        data = d4rl.transitions(raw, len(raw["rewards"]) + 1, path, keep_terminals=True)
    data = check(data, path, clip_actions=True)
    if "next_observations" in raw:
        find_episodes(raw, path, needed=reward_scaling == "auto")
    found = d4rl.episodes(raw, len(raw["rewards"]) + 1)
    scaling = rewards.find_scaling(reward_scaling, None, *found, raw["rewards"], path)
    return d4rl.finish(data, scaling, path), scaling


def find_episodes(raw: dict, path: str, needed: bool) -> None:
    """Fills in `timeouts` where a file has next observations alone.

    An episode ends where the next row does not begin with this row's next observation.

    Raises:
      UserError: episodes are needed, but most rows are followed by another episode's.
    """
    follows = np.append((raw["next_observations"][:-1] == raw["observations"][1:]).all(axis=1), False)
    ended = raw["terminals"] | raw.get("timeouts", False)
    inside = ~ended[:-1]
    if needed and inside.any() and follows[:-1][inside].mean() < 0.5:
        raise UserError(
            f"{np.sum(inside & ~follows[:-1])} of {inside.sum()} rows of {path} are not followed by a row that begins "
            "with their next_observations, as if the rows were shuffled: the returns of its episodes cannot scale the "
            "rewards; put the rows in order, or set reward_scaling to 'none' or a number."
        )
    raw.setdefault("timeouts", ~follows & ~raw["terminals"])


def action_box(bounds: Sequence, env_space: gymnasium.Space | None, width: int) -> gymnasium.Space | None:
    """The box of a file's actions; None: they are in [-1, 1].

    Args:
      bounds: (low, high), or such a pair for each component; empty: those of the environment.
      env_space: the environment's box in its own units; None without one.
      width: of the actions.

    Raises:
      UserError: the bounds are no such pairs, or not those of the environment.
    """
    if not bounds:
        return env_space
    try:
        low, high = np.broadcast_to(np.asarray(bounds, np.float64).reshape(-1, 2), (width, 2)).T
        box = gymnasium.spaces.Box(low, high, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"config.action_bounds is {bounds!r}; it must be (low, high), or such a pair for each of {width} columns."
        ) from error
    if (
        env_space is not None
        and env_space.shape == box.shape
        and not spaces.same_bounds(box, spaces.finite_box(env_space))
    ):
        raise UserError(
            f"config.action_bounds is {bounds!r}, but the actions of config.env are {env_space}: leave it out."
        )
    return box


def environment(name: str) -> Callable[[], foreign.Fitted] | None:
    """A function that makes the environment `name`, fitted (see `foreign.Fitted`); None where the name is empty."""
    return functools.partial(foreign.make, repr(name), functools.partial(gymnasium.make, name)) if name else None
