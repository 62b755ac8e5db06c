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
      UserError: what `read`, `action_box`, `by_rules` and `d4rl.Reading.scaled` find.
    """
    raw = read(path, columns)
    box = action_box(action_bounds, action_space, raw["actions"].shape[1])
    return by_rules(raw, path, box).scaled(reward_scaling)


def read(path: str, columns: str = "") -> dict:
    """The arrays of `files.read`.

    Raises:
      UserError: what `files.read` finds, or nothing that tells the ends of episodes.
    """
    if not path:
        raise UserError("This task needs a file: set dataset_path to one of your own (--config.dataset_path=FILE).")
    raw = files.read(path, OPTIONAL, columns)
    if "timeouts" not in raw and "next_observations" not in raw:
        raise UserError(
            f"{path} has neither timeouts nor next_observations, so that episodes that were cut off cannot be told "
            f"from episodes that go on; add one of them, or one of {', '.join(ends.KEYS)} (docs/own-data.md)."
        )
    return raw


def by_rules(raw: dict, path: str, box: gymnasium.Space | None = None) -> d4rl.Reading:
    """Reads the arrays of `read` by the rules of files of one's own: all transitions whose successor is known.

    Where there are next observations alone, an episode ends where the next row does not begin with this row's: the
    reading's `timeouts` say so.

    Args:
      raw: the arrays, actions in their own units.
      path: what error messages call them.
      box: of the actions; None: [-1, 1].

    Raises:
      UserError: see `d4rl.transitions` and `dataset.check`.
    """
    raw = raw | {"actions": spaces.unit_actions(raw["actions"], box)}
    if "next_observations" in raw:
        fields = {key: raw[key] for key in ("observations", "actions", "rewards", "next_observations")}
        data = Dataset(**fields, terminals=raw["terminals"].astype(np.float32), last=raw.get("timeouts"))
    else:
        data = d4rl.transitions(raw, len(raw["rewards"]) + 1, path, keep_terminals=True)
    bounds = None
    if box is not None and box.shape == raw["actions"].shape[1:]:  # else of another task, which its check finds
        own = spaces.finite_box(box)
        bounds = own.low, own.high
    data = check(data, path, clip_actions=True, bounds=bounds)
    doubt = gap = ""
    if "next_observations" in raw:
        follows = ends.followed(raw)
        doubt, gap = _apart(raw, follows, path)
        raw.setdefault("timeouts", ~follows & ~raw["terminals"])
    return d4rl.Reading(path, raw, data, *d4rl.episodes(raw, len(raw["rewards"]) + 1), doubt=doubt, gap=gap)


def _apart(raw: dict, follows: np.ndarray, path: str) -> tuple[str, str]:
    """Returns the `doubt` and the `gap` of a reading, by the rows that end no episode and are not followed.

    Where most are not, rows are out of order, and no episodes can be told. Where some are not and `timeouts` are told,
    these miss an end there; without `timeouts` each such row is an end.

    Args:
      raw: of `read`.
      follows: `[rows]`, see `ends.followed`.
      path: of the file.
    """
    inside = ~(raw["terminals"] | raw.get("timeouts", False))[:-1]
    apart = inside & ~follows[:-1]
    if apart.sum() > inside.sum() / 2:
        return (
            f"{apart.sum()} of {inside.sum()} rows of {path} are not followed by a row that begins with their "
            "next_observations, as if the rows were shuffled"
        ), ""
    if not apart.any() or "timeouts" not in raw:
        return "", ""
    return "", (
        f"{apart.sum()} rows of {path} end no episode, but the next row does not begin with their next_observations "
        f"(the first is row {np.argmax(apart)})"
    )


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
