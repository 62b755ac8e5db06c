"""A transition file of one's own, and the gymnasium environment to score it in."""

import functools
from collections.abc import Callable, Sequence

import gymnasium
import numpy as np

from bdpo_jax.data import d4rl, ends, files, rewards, spaces
from bdpo_jax.data.columns import flag
from bdpo_jax.data.dataset import Dataset, check
from bdpo_jax.envs import foreign
from bdpo_jax.errors import UserError

OPTIONAL: tuple[str, ...] = ("timeouts", "next_observations")
NO_ENVIRONMENT = "none"  # where no environment is wanted
NEAR = 0.1  # of a step: two observations that are so near are hardly of two episodes


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
            f"from episodes that go on; add one of them, or one of {', '.join(ends.KEYS)} (lengths not in a table; see "
            "docs/own-data.md)."
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
    doubt = remedy = ""
    notices = _terminals_in_a_row(raw["terminals"], path)
    if "next_observations" in raw:
        follows = ends.followed(raw)
        doubt, remedy, found = _apart(raw, follows, path)
        notices += found
        raw.setdefault("timeouts", ~follows & ~raw["terminals"])
    by_episode = d4rl.episodes(raw, len(raw["rewards"]) + 1)
    return d4rl.Reading(path, raw, data, *by_episode, doubt=doubt, remedy=remedy, notices=notices)


def _terminals_in_a_row(terminals: np.ndarray, path: str) -> tuple[str, ...]:
    """A sentence about a flag that stays set after an episode's end, unless every row is an episode of its own."""
    again = terminals[1:] & terminals[:-1]
    if not again.any() or terminals.all():
        return ()
    return (
        f"Of the terminal rows of {path}, {again.sum()} come after another one (the first is row "
        f"{np.argmax(again) + 1}), each as an episode of one row: if the flag stays set after the end, keep the first "
        "of such rows only.",
    )


def _apart(raw: dict, follows: np.ndarray, path: str) -> tuple[str, str, tuple[str, ...]]:
    """Returns `doubt`, `remedy` and `notices` of a reading, by the rows that end no episode and are not followed.

    Where most are not, rows are out of order, and no episodes can be told. Where some are not and `timeouts` are told,
    these miss an end there; without `timeouts` each such row is an end. Either way it may be that the two observations
    are one that was rounded or measured twice.

    Args:
      raw: of `read`.
      follows: `[rows]`, see `ends.followed`.
      path: of the file.
    """
    is_told = "timeouts" in raw
    inside = ~(raw["terminals"] | raw.get("timeouts", False))[:-1]
    apart = inside & ~follows[:-1]
    if not apart.any():
        return "", "", ()
    observations, following = raw["observations"], raw["next_observations"][:-1]
    step = np.median(np.linalg.norm(following - observations[:-1], axis=1))
    near = apart & (np.linalg.norm(following - observations[1:], axis=1) < NEAR * step)
    twice = "as if they were rounded or measured twice"
    remedy = f"leave next_observations out by {flag('next_observations=none')}"
    remedy += "" if is_told else ", and tell in timeouts where episodes end"
    if apart.sum() > inside.sum() / 2:
        is_near = near.sum() > apart.sum() / 2
        doubt = (
            f"{apart.sum()} of {inside.sum()} rows of {path} are not followed by a row that begins with their "
            f"next_observations, {twice if is_near else 'as if the rows were shuffled'}"
        )
        return doubt, remedy if is_near else "put the rows in order", ()
    notices = []
    if near.any():
        notices.append(
            f"{near.sum()} rows of {path} have next_observations that are not the next row's observations, but within "
            f"a tenth of a step of them (the first is row {np.argmax(near)}), {twice}; "
            f"{'no next action of the data is known there' if is_told else 'episodes end there'}: {remedy}."
        )
    if is_told and (far := apart & ~near).any():
        notices.append(
            f"{far.sum()} rows of {path} end no episode, but the next row does not begin with their next_observations "
            f"(the first is row {np.argmax(far)}): tell in timeouts where episodes end."
        )
    return "", "", tuple(notices)


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
    """A function that makes the environment `name`, fitted (see `foreign.Fitted`); None for "" and `NO_ENVIRONMENT`."""
    if name in ("", NO_ENVIRONMENT):
        return None
    return functools.partial(foreign.make, repr(name), functools.partial(gymnasium.make, name))
