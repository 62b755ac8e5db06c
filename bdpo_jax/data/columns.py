"""Which arrays of a file are what: names that are known, and `columns`, which tells the others.

    observations=pos_1,pos_2,vel_*;actions=torque;rewards=reward;terminals=none;episodes=run

A file is a `Source`: named arrays of one row per step, `[rows]` or `[rows, width]`. The columns of a table are such
arrays, and so are the datasets of an HDF5 file. Those named for one key are set side by side.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bdpo_jax.data.dataset import RANKS, check_precision
from bdpo_jax.errors import UserError

# Key -> other names under which it is found without being told.
NAMES: dict[str, tuple[str, ...]] = {
    "observations": ("obs", "observation", "states"),
    "actions": ("acts", "action"),
    "rewards": ("rews", "reward"),
    "terminals": ("terminated", "terminations"),
    "timeouts": ("truncated", "truncations"),
    "next_observations": ("next_obs",),
    "episode_starts": (),
    "episodes": ("episode", "episode_id", "episode_ids", "episode_index"),
    "lengths": ("episode_lengths",),
    "times": ("time", "timestamp", "timestamps"),
}
LABELS = ("episodes",)  # compared, never computed with: any type will do
MAY_LACK = "next_observations"  # those of terminal rows, which the check of whole arrays knows
NONE = "none"  # `terminals=none`: no row is terminal; `times=none`: what is called so in the file is no time
NEEDED = ("observations", "actions", "rewards")  # which cannot be none
SHOWN = 20  # names of a file in one message


class Source(NamedTuple):
    """The arrays of a file.

    Attributes:
      names: of all of them, in the file's order; a table may have two of the same name.
      take: (names of numbers, names of labels, names of numbers that may be missing and are NaN then) -> name -> array
        `[rows]` or `[rows, width]`, of numbers and of labels.
      is_table: whether each is a column of single cells, so that even one makes up `[rows, 1]`.
    """

    names: Sequence[str]
    take: Callable[
        [Sequence[str], Sequence[str], Sequence[str]], tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]
    ]
    is_table: bool


def parse(text: str) -> dict[str, list[str]]:
    """Returns key -> names of "KEY=NAME,NAME;KEY=NAME".

    Raises:
      UserError: no such form, an unknown key, or a key without a name or told twice.
    """
    chosen: dict[str, list[str]] = {}
    for part in filter(str.strip, text.split(";")):
        key, equals, listed = part.partition("=")
        key, names = key.strip(), [name.strip() for name in listed.split(",") if name.strip()]
        if not equals or not names:
            raise UserError(f"columns has {part.strip()!r}; write KEY=COLUMN,COLUMN and a semicolon between two keys.")
        if key not in NAMES:
            nearest = difflib.get_close_matches(key, NAMES, n=1, cutoff=0.0)[0]
            raise UserError(
                f"columns has the key {key!r}; the nearest known one is {nearest!r} (known: {', '.join(NAMES)})."
            )
        if key in chosen:
            raise UserError(f"columns has the key {key!r} twice; write it once, with all of its columns.")
        if len(names) > 1 and RANKS.get(key) != 2:
            raise UserError(f"columns names {len(names)} columns for {key}, which is one number a row; name one.")
        chosen[key] = names
    return chosen


def gather(source: Source, keys: Sequence[str], columns: str, where: str) -> dict[str, np.ndarray]:
    """Returns the arrays of a file that `keys` stand for, as far as it has them.

    A key is found under its own name, one of `NAMES`, or what `columns` says. What is named there is set side by side
    and checked by itself, so that an error names the column; whole arrays are checked by their reader.

    Args:
      source: the file.
      keys: of `NAMES`; others that `columns` tells are ignored, as they are in a file.
      columns: "KEY=NAME,NAME;KEY=NAME", with * for any characters.
      where: what error messages call the file.

    Raises:
      UserError: see `parse`; a name that does not exist, exists twice or holds no numbers; two names for one key.
    """
    chosen = parse(columns)
    told = {key: _expand(source, key, chosen[key], where) for key in keys if key in chosen}
    found = {key: names for key in keys if key not in told and (names := _known(source, key, where))}
    every = {key: names for key, names in (told | found).items() if not _is_left_out(key, names)}
    for name in (name for names in every.values() for name in names):
        if source.names.count(name) > 1:
            places = [str(place + 1) for place, other in enumerate(source.names) if other == name]
            raise UserError(f"{where} has two columns {name!r} (number {' and '.join(places)}); rename one of them.")
    numbers = [name for key, names in every.items() if key not in LABELS for name in names]
    labels = [name for key, names in every.items() if key in LABELS for name in names]
    arrays, compared = source.take(list(dict.fromkeys(numbers)), labels, every.get(MAY_LACK, []))
    gathered = {}
    for key, names in every.items():
        if key in LABELS:
            gathered[key] = compared[names[0]]
        elif key == "times" or (key in found and not source.is_table):
            gathered[key] = arrays[names[0]]
        else:
            gathered[key] = _side_by_side(key, {name: arrays[name] for name in names}, where)
    if "terminals" in told and "terminals" not in every:
        gathered["terminals"] = np.zeros(np.shape(gathered.get("rewards", ()))[:1], bool)
    return gathered


def flag(choice: str) -> str:
    """How `columns` is set, which training and `inspect` call by different names."""
    return f"--config.columns='{choice}' (of inspect: --columns)"


def missing(key: str, names: Sequence[str], where: str) -> UserError:
    """The error for a file without a key that it must have."""
    unique = list(dict.fromkeys(names))
    listed = ", ".join(unique[:SHOWN]) or "none"
    listed += f" and {len(unique) - SHOWN} more" if len(unique) > SHOWN else ""
    ways = {
        "terminals": f"name it by {flag('terminals=COLUMN')}, or 'terminals=none' if no episode ends in a terminal "
        "state",
        "rewards": f"name it by {flag('rewards=COLUMN')}; a log without rewards needs some computed and added",
    }
    way = ways.get(key, f"name what it is made of by {flag(f'{key}=COLUMN,COLUMN')}")
    return UserError(f"{where} lacks the key {key} (found: {listed}); {way}; see docs/own-data.md.")


def _is_left_out(key: str, names: Sequence[str]) -> bool:
    """Whether a key is told to be none of the file."""
    return key not in NEEDED and list(names) == [NONE]


def _known(source: Source, key: str, where: str) -> list[str]:
    """The name under which a file has a key, if it has it."""
    if key == "lengths" and source.is_table:  # a number for each episode, where there is one for each row
        return []
    if key in source.names:
        return [key]
    present = [name for name in NAMES[key] if name in source.names]
    if len(present) > 1:
        raise UserError(
            f"{where} has both {present[0]} and {present[1]}, either of which may be its {key}: say which by "
            f"{flag(f'{key}={present[0]}')}."
        )
    return present


def _expand(source: Source, key: str, wanted: Sequence[str], where: str) -> list[str]:
    """The names that `wanted` stands for, those of a pattern in the file's order."""
    if _is_left_out(key, wanted):
        return [NONE]
    expanded: list[str] = []
    for name in wanted:
        pattern = ".*".join(map(re.escape, name.split("*")))
        names = [name] if name in source.names else [one for one in source.names if re.fullmatch(pattern, one)]
        if not names:
            nearest = difflib.get_close_matches(name, source.names, n=1, cutoff=0.0)
            raise UserError(
                f"columns names {name!r} for {key}, which {where} does not have"
                + (f"; the nearest is {nearest[0]!r}." if nearest else ".")
            )
        expanded += names
    again = [name for name in expanded if expanded.count(name) > 1 and source.names.count(name) == 1]
    if again:
        raise UserError(f"columns names {again[0]!r} twice for {key}; name it once.")
    if len(expanded) > 1 and RANKS.get(key) != 2:
        raise UserError(f"columns names {len(expanded)} columns for {key}, which is one number a row; name one.")
    return expanded


def _side_by_side(key: str, parts: Mapping[str, np.ndarray], where: str) -> np.ndarray:
    """Columns as one array `[rows, width]`, or `[rows]` where the key is a vector, in float32."""
    parts = {name: np.asarray(part) for name, part in parts.items()}  # a lone text of an HDF5 file is none
    first = next(iter(parts))
    rows = parts[first].shape[:1]
    if rows == (0,):
        raise UserError(f"{where} is empty (the column {first!r} has 0 rows); give a dataset with at least two steps.")
    numbers = []
    for name, part in parts.items():
        if not part.ndim:
            raise UserError(f"{name!r} of {where} is a single value ({part}); {key} need one row per step.")
        if part.dtype.kind not in "biuf":
            raise UserError(f"The column {name!r} of {where} has the type {part.dtype}; it must hold numbers.")
        if part.ndim not in (1, 2) or part.shape[:1] != rows:
            raise UserError(
                f"The columns {first!r} and {name!r} of {where} have the shapes {list(parts[first].shape)} and "
                f"{list(part.shape)}; each needs one row per step."
            )
        with np.errstate(over="ignore"):  # what overflows becomes inf, which is reported with its row
            value = part.reshape(len(part), -1).astype(np.float32)
        bad = ~np.isfinite(value).all(axis=1)
        if bad.any() and key != MAY_LACK:
            row = int(np.argmax(bad))
            raise UserError(
                f"The column {name!r} of {where} has the value {part[row]} in row {row} ({bad.sum()} such rows in "
                "all); repair or remove them."
            )
        check_precision(f"The column {name!r} of {where}", part, value)
        numbers.append(value)
    whole = np.concatenate(numbers, axis=1)
    return whole if RANKS.get(key) == 2 else whole[:, 0] if whole.shape[1] == 1 else whole
