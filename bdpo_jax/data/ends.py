"""Where the episodes of a file end, however it says so."""

from collections.abc import Mapping

import numpy as np

from bdpo_jax.data.columns import flag
from bdpo_jax.errors import UserError

KEYS = ("episode_starts", "episodes", "lengths")  # each of which tells the last row of every episode


def add_timeouts(raw: dict[str, np.ndarray], told: Mapping[str, np.ndarray], where: str) -> None:
    """Marks as timed out, in `raw["timeouts"]`, the last row of each episode that is not terminal.

    The file's last row ends its episode. Without any of `KEYS` nothing is changed.

    Args:
      raw: with `terminals [rows]`, and `timeouts [rows]` where the file has them, which stay.
      told: `episode_starts [rows]`, true in the first row of an episode; `episodes [rows]`, which differ from one
        episode to the next; `lengths [episodes]`, in rows; any or none of them.
      where: what error messages call the file.

    Raises:
      UserError: what they tell is impossible, or two of them contradict each other, or a terminal or a time-out is not
        in the last row of its episode.
    """
    rows = len(raw["terminals"])
    found = {key: _READERS[key](np.asarray(told[key]), rows, where) for key in KEYS if key in told}
    if not found:
        return
    (first, ends), *others = found.items()
    for key, other in others:
        if (ends != other).any():
            row = int(np.argmax(ends != other))
            raise UserError(
                f"{first} and {key} of {where} contradict each other: by {first if ends[row] else key} alone an "
                f"episode ends in row {row}; leave one of them out, for example {flag(f'{key}=none')}."
            )
    inside = raw["terminals"] & ~ends
    if inside.any():
        raise UserError(
            f"Row {np.argmax(inside)} of {where} is terminal, but by {first} its episode goes on ({inside.sum()} such "
            "rows in all); a terminal ends an episode: keep it in the last row only, or, if it means something "
            f"else, set {flag('terminals=none')}."
        )
    timeouts = raw.get("timeouts", np.zeros(rows, bool))
    inside = timeouts & ~ends
    if inside.any():
        raise UserError(
            f"Row {np.argmax(inside)} of {where} is timed out, but by {first} its episode goes on ({inside.sum()} such "
            f"rows in all); leave one of them out: {flag('timeouts=none')}, or {first}=none."
        )
    raw["timeouts"] = timeouts | (ends & ~raw["terminals"])


def followed(raw: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns `[rows]`, whether the next row begins with the row's `next_observations`."""
    return np.append((raw["next_observations"][:-1] == raw["observations"][1:]).all(axis=1), False)


def check_times(times: np.ndarray, raw: Mapping[str, np.ndarray], where: str) -> None:
    """Raises a `UserError` where the time does not grow from a row to the next of its episode.

    Args:
      times: `[rows]`, numbers or dates.
      raw: with `terminals`, and either `timeouts` or `next_observations`, by which an episode ends in a row that is not
        `followed`; with neither, terminals alone end an episode.
      where: what error messages call the file.
    """
    times = np.asarray(times)
    if times.dtype.kind not in "biufmM":
        raise UserError(
            f"times of {where} has the type {times.dtype}; it must hold numbers or dates: convert it, or leave it "
            f"out by {flag('times=none')}."
        )
    times = _column("times", times, len(raw["terminals"]), where)
    missing = times != times  # NaN, and a date that is none
    if missing.any():
        raise UserError(f"times of {where} has no value in row {np.argmax(missing)}; fill it in or remove the row.")
    ends = raw["terminals"] | raw.get("timeouts", False)
    if "timeouts" not in raw and "next_observations" in raw:
        ends = ends | ~followed(raw)
    wrong = ~ends[:-1] & ~(times[1:] > times[:-1])
    if wrong.any():
        row = int(np.argmax(wrong))
        same = times[row] == times[row + 1]
        fault = f"have the same time {times[row]}" if same else f"go back from {times[row]} to {times[row + 1]}"
        cause = "keep one row for each step" if same else "put them in order, or say where the episode ends"
        raise UserError(
            f"Rows {row} and {row + 1} of {where} {fault} within an episode ({wrong.sum()} such pairs in all): {cause}."
        )


def _of_starts(starts: np.ndarray, rows: int, where: str) -> np.ndarray:
    starts = _column("episode_starts", starts, rows, where)
    other = starts[(starts != 0) & (starts != 1)]
    if other.size:
        raise UserError(f"episode_starts of {where} has the value {other[0]}; it must be 0 or 1: convert it.")
    if not starts[0]:
        raise UserError(
            f"episode_starts of {where} is 0 in row 0, where the first episode begins; if it marks the ends of "
            "episodes, it is timeouts or terminals."
        )
    return np.append(starts[1:] != 0, True)


def _of_labels(labels: np.ndarray, rows: int, where: str) -> np.ndarray:
    labels = _column("episodes", labels, rows, where)
    changes = np.append(labels[1:] != labels[:-1], True)
    begins = np.append(0, np.flatnonzero(changes)[:-1] + 1)
    _, first = np.unique(labels[begins], return_index=True)
    if len(first) < len(begins):
        row = begins[np.setdiff1d(np.arange(len(begins)), first)[0]]
        raise UserError(
            f"Episode {labels[row]} of {where} begins again in row {row}, after another one: put the rows of each "
            "episode together, in their order."
        )
    return changes


def _of_lengths(lengths: np.ndarray, rows: int, where: str) -> np.ndarray:
    lengths = np.asarray(lengths).reshape(-1)
    whole = lengths.dtype.kind in "iuf" and (lengths == np.floor(lengths)).all() and (lengths >= 1).all()
    if not whole or lengths.sum() != rows:
        found = f"sum to {lengths.sum():g}" if whole else "are not all whole numbers of at least 1"
        raise UserError(
            f"lengths of {where} {found}; they are the rows of each episode, {rows} in all: mend them, or leave them "
            f"out by {flag('lengths=none')}."
        )
    ends = np.zeros(rows, bool)
    ends[np.cumsum(lengths.astype(np.int64)) - 1] = True
    return ends


def _column(key: str, values: np.ndarray, rows: int, where: str) -> np.ndarray:
    if values.shape not in ((rows,), (rows, 1)):
        raise UserError(f"{key} of {where} has the shape {list(values.shape)}; it must be [{rows}].")
    return values.reshape(rows)


_READERS = {"episode_starts": _of_starts, "episodes": _of_labels, "lengths": _of_lengths}
