"""Observation and action spaces: one way to make them flat for data and environments, and where two of them differ."""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from bdpo_jax.errors import UserError

WIDEST_BOX = 1e8  # bounds of actions from here on stand for "no bounds"
NARROWEST_BOX = 1e-5  # of the bounds' size: a hundred steps of float32


def flatten(space: gymnasium.Space, values, batch: bool = False) -> np.ndarray:
    """Returns values of a space as float32 `[width]`, of a batch `[rows, width]`.

    Parts of a dictionary lie in the order of the space's keys, whatever the order of the values' own: who flattens
    data and environment must do both by one space. Boxes are taken row by row; what is discrete becomes one-hot.

    Args:
      space: a box, a discrete space, or a dictionary or tuple of such, nested at will.
      values: as the space's samples are; of a batch each array has an axis of rows before its own.
      batch: whether it is one.

    Raises:
      UserError: a space of another kind.
    """
    if isinstance(space, Dict):
        parts = [flatten(part, values[key], batch) for key, part in space.spaces.items()]
        return np.concatenate(parts, axis=-1)
    if isinstance(space, Tuple):
        parts = [flatten(part, value, batch) for part, value in zip(space.spaces, values, strict=True)]
        return np.concatenate(parts, axis=-1)
    if isinstance(space, Box):
        array = np.asarray(values, np.float32)
        return array.reshape(len(array), -1) if batch else array.reshape(-1)
    if isinstance(space, Discrete | MultiDiscrete | MultiBinary):
        if batch:
            return np.array([flatten(space, value) for value in values])
        return np.asarray(gymnasium.spaces.flatten(space, values), np.float32)
    raise UserError(f"The observation space {space} has parts that are neither boxes nor discrete: leave those out.")


def difference(one: gymnasium.Space, other: gymnasium.Space, where: str = "") -> str:
    """Returns where two spaces differ in kind, keys or shape, as "part: ONE and OTHER"; "" where they agree.

    Neither bounds nor dtypes are compared, nor the order of keys.
    """
    named = f"{where}: " if where else ""
    if isinstance(one, Dict) and isinstance(other, Dict):
        if set(one.spaces) != set(other.spaces):
            return f"{named}the keys {sorted(one.spaces)} and {sorted(other.spaces)}"
        pairs = [(str(key), part, other.spaces[key]) for key, part in one.spaces.items()]
    elif isinstance(one, Tuple) and isinstance(other, Tuple) and len(one.spaces) == len(other.spaces):
        pairs = [(str(i), *both) for i, both in enumerate(zip(one.spaces, other.spaces, strict=True))]
    elif isinstance(one, Box) and isinstance(other, Box):
        return "" if one.shape == other.shape else f"{named}the shapes {list(one.shape)} and {list(other.shape)}"
    else:
        return "" if one == other else f"{named}{one} and {other}"
    found = (difference(mine, its, f"{where}.{key}" if where else key) for key, mine, its in pairs)
    return next(filter(None, found), "")


def same_bounds(one: Box, other: Box) -> bool:
    """Whether two finite boxes of one shape have the same bounds, up to float32's rounding."""
    size = np.maximum(np.abs(one.low), np.abs(one.high)).astype(np.float64)
    pairs = ((one.low, other.low), (one.high, other.high))
    return all((np.abs(np.float64(mine) - np.float64(its)) <= 1e-6 * size).all() for mine, its in pairs)


def unit_actions(actions: np.ndarray, space: gymnasium.Space | None) -> np.ndarray:
    """Returns actions `[rows, A]` of a box, mapped to [-1, 1]; unchanged without a space.

    Those that only float32's rounding of their own units puts outside lie on the edge.

    Raises:
      UserError: the space is no finite box of real numbers of one axis.
    """
    if space is None:
        return actions
    box = finite_box(space)
    if actions.shape[1:] != box.shape:
        return actions  # of another task, which the check of the task finds and names
    low, high = box.low.astype(np.float64), box.high.astype(np.float64)
    center, half = (high + low) / 2, (high - low) / 2
    mapped = (actions - center) / half
    rounding = np.finfo(np.float32).eps * np.maximum(np.abs(low), np.abs(high)) / half
    return np.where(np.abs(mapped) <= 1 + rounding, np.clip(mapped, -1, 1), mapped).astype(np.float32)


def own_actions(actions: np.ndarray, box: Box) -> np.ndarray:
    """Returns actions `[..., A]` in [-1, 1], mapped to a finite box; rounding, too, stays in it."""
    low, high = box.low.astype(np.float64), box.high.astype(np.float64)
    mapped = (high + low) / 2 + np.asarray(actions, np.float64) * (high - low) / 2
    return np.clip(mapped, low, high).astype(box.dtype)


def finite_box(space: gymnasium.Space) -> Box:
    """Returns a space of actions if it is a finite box of real numbers of one axis.

    Raises:
      UserError: it is not.
    """
    if not (
        isinstance(space, Box)
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
