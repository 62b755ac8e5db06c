"""The one form that every source of data takes: five arrays of transitions."""

import difflib
import hashlib
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax import struct

from bdpo_jax.errors import Notice, UserError
from bdpo_jax.types import Array, Batch

# Key -> rank of the array; a trailing axis of length one is accepted where a vector is expected.
RANKS = {"observations": 2, "actions": 2, "rewards": 1, "next_observations": 2, "terminals": 1, "timeouts": 1}
MOST_NAMES = 20  # that an error message lists
CONSTANT = 1e-6  # a column that varies by no more counts as constant
COARSE = 0.01  # of a column's deviation, by which float32 may round it


def batch_key(key: jax.Array, phase: str, step: jax.Array | int) -> jax.Array:
    """Returns the key of an update's batch.

    Args:
      key: of the run.
      phase: its name; each phase has a random stream of its own.
      step: updates of the phase before this one.
    """
    stream = zlib.crc32(phase.encode()) & 0x7FFFFFFF
    return jax.random.fold_in(jax.random.fold_in(key, stream), step)


def draw_rows(key: jax.Array, size: int, batch_size: int) -> jax.Array:
    """Returns `[batch_size]` rows of a dataset of `size`, independent and with replacement."""
    return jax.random.randint(key, (batch_size,), 0, size)


def single(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Returns the arrays as float32, which is what a batch holds: JAX may have made them wider."""
    return {name: array.astype(jnp.float32) for name, array in arrays.items()}


class Dataset(struct.PyTreeNode):
    """Transitions `(s, a, r, s', d)`, float32; NumPy on the host until `jax.device_put(dataset)`.

    Attributes:
      observations: `[size, observation_dim]`.
      actions: `[size, action_dim]`.
      rewards: `[size]`, already scaled.
      next_observations: `[size, observation_dim]`; ignored where `terminals` is 1.
      terminals: `[size]`, 1 only at a true terminal, never at a time-out.
      last: `[size]`, bool: rows after which the next one is of another episode, where the source says so; not part of a
        batch.
    """

    observations: Array
    actions: Array
    rewards: Array
    next_observations: Array
    terminals: Array
    last: Array | None = None
    run_axis = None  # the runs of a group share it

    @property
    def transitions(self) -> dict[str, Array]:
        """The five arrays that a batch has rows of, by name."""
        return {name: array for name, array in vars(self).items() if name != "last"}

    @property
    def size(self) -> int:
        return self.observations.shape[0]

    @property
    def observation_dim(self) -> int:
        return self.observations.shape[-1]

    @property
    def action_dim(self) -> int:
        return self.actions.shape[-1]

    def sample(self, key: jax.Array, batch_size: int) -> Batch:
        """Draws `batch_size` transitions independently and with replacement.

        Works inside `jit`, `scan` and `vmap` (over keys); pass the dataset as an argument there, because a
        captured one would be compiled in as a constant.
        """
        rows = draw_rows(key, self.size, batch_size)
        return Batch(
            observations=jnp.take(self.observations, rows, axis=0),
            actions=jnp.take(self.actions, rows, axis=0),
            rewards=jnp.take(self.rewards, rows, axis=0),
            next_observations=jnp.take(self.next_observations, rows, axis=0),
            terminals=jnp.take(self.terminals, rows, axis=0),
        )

    def batch(self, key: jax.Array, phase: str, step: jax.Array, batch_size: int) -> Batch:
        """Returns the batch of update `step` of a run whose key is `key` (see `batch_key`)."""
        return self.sample(batch_key(key, phase, step), batch_size)


class Prepared(struct.PyTreeNode):
    """A dataset with what a run's phase has prepared for it; stands in for a `Dataset` in a compiled chunk.

    Attributes:
      dataset: shared by the runs of a group.
      extra: arrays by name, `[size, ...]`, for stacked runs `[runs, size, ...]`.
      gather: the phase's, see `agents.base.Phase`; None: a batch has its rows of `extra`.
    """

    dataset: Dataset
    extra: Mapping[str, Array]
    gather: Callable[..., Mapping[str, Array]] | None = struct.field(pytree_node=False, default=None)

    @property
    def run_axis(self) -> "Prepared":
        """The axis of runs, as `jax.vmap` wants it told."""
        return self.replace(dataset=None, extra=0)

    def batch(self, key: jax.Array, phase: str, step: jax.Array, batch_size: int) -> Batch:
        """Returns the batch of `Dataset.batch`, with `extra` of the same rows."""
        rows = draw_rows(batch_key(key, phase, step), self.dataset.size, batch_size)
        if self.gather is None:
            extra: Mapping[str, Array] = {name: jnp.take(array, rows, axis=0) for name, array in self.extra.items()}
        else:
            extra = single(self.gather(self.dataset, self.extra, rows))
        return self.dataset.batch(key, phase, step, batch_size).replace(extra=extra)


def fingerprint(dataset: Dataset) -> str:
    """Returns the SHA-256 of the five arrays in order, each with its shape and dtype."""
    found = hashlib.sha256()
    for name, array in dataset.transitions.items():
        array = np.ascontiguousarray(array)
        found.update(f"{name} {array.shape} {array.dtype.name} ".encode())
        found.update(array.data if array.size else b"")
    return found.hexdigest()


def check(
    dataset: Dataset, where: str, clip_actions: bool = False, bounds: tuple[np.ndarray, np.ndarray] | None = None
) -> Dataset:
    """Returns the dataset on the host as float32, having looked at every number in it.

    Args:
      dataset: what to check.
      where: the file or source that error messages name.
      clip_actions: whether actions belong in [-1, 1]: those outside are counted in one warning and clipped.
      bounds: (low, high) `[action_dim]`, of the box that was mapped to [-1, 1]: the warning names it and its units.

    Raises:
      UserError: see `check_arrays`.
    """
    arrays = check_arrays(dataset.transitions, where)
    if clip_actions:
        arrays["actions"] = _clip(arrays["actions"], where, bounds)
    return dataset.replace(**arrays)


def check_arrays(arrays: Mapping[str, npt.ArrayLike], where: str) -> dict[str, np.ndarray]:
    """Returns the arrays, named as in `RANKS`, as float32 of the right rank, or raises the first fault.

    Next observations of terminal rows, which nothing reads, may be NaN or infinite: the row's observation takes their
    place.

    Raises:
      UserError: not numbers, wrong rank, no rows, unequal lengths, observations and next observations of different
        widths, a value that is not finite in float32, or what `check_precision` finds.
    """
    found = {key: _as_float32(key, value, where) for key, value in arrays.items()}
    lengths = {key: len(value) for key, value in found.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise UserError(f"The arrays of {where} have unequal lengths ({listed}); every key needs one row per step.")
    if "next_observations" in found and found["observations"].shape != found["next_observations"].shape:
        raise UserError(
            f"observations and next_observations of {where} have different widths, "
            f"{found['observations'].shape[1]} and {found['next_observations'].shape[1]}; they must agree."
        )
    if {"next_observations", "terminals"} <= set(found):
        unread = (found["terminals"] != 0) & ~np.isfinite(found["next_observations"]).all(axis=1)
        if unread.any():
            filled = np.where(unread[:, None], found["observations"], found["next_observations"])
            found["next_observations"] = filled
    for key, value in found.items():
        finite = np.isfinite(value) if value.ndim == 1 else np.isfinite(value).all(axis=1)
        if not finite.all():
            row = int(np.argmin(finite))
            bad = value[row] if value.ndim == 1 else value[row][~np.isfinite(value[row])][0]
            raise UserError(
                f"{key} of {where} has the value {bad} in row {row} ({np.sum(~finite)} such rows in all); "
                "repair or remove them."
            )
        check_precision(f"{key} of {where}", np.asarray(arrays[key]), value)
    return found


def check_precision(what: str, values: np.ndarray, narrow: np.ndarray) -> None:
    """Raises a `UserError` where a column varies, but not in float32, or is rounded there by much of its spread.

    Args:
      what: the sentence's subject.
      values: `[rows]` or `[rows, width]`, in their own type.
      narrow: the same in float32.
    """
    if np.can_cast(values.dtype, np.float32):
        return
    values, narrow = values.reshape(len(values), -1), narrow.reshape(len(values), -1)
    same = np.flatnonzero((narrow == narrow[0]).all(axis=0))
    low, high = values[:, same].min(axis=0), values[:, same].max(axis=0)
    for column in np.flatnonzero(high - low > CONSTANT)[:1]:
        place = f" in column {same[column]}" if values.shape[1] > 1 else ""
        raise UserError(
            f"{what} goes from {low[column]} to {high[column]}{place}, which float32 cannot tell apart: subtract its "
            "start or scale it."
        )
    for column, (wide, cast) in enumerate(zip(values.T.astype(np.float64), narrow.T, strict=True)):
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is reported elsewhere
            error, spread = np.sqrt(np.square(wide - cast).mean()), wide.std()
        if error > COARSE * spread and np.ptp(wide) > CONSTANT:
            place = f" in column {column}" if values.shape[1] > 1 else ""
            raise UserError(
                f"{what} lies around {np.median(wide):.9g}{place}, where float32 rounds it by {error / spread:.1%} of "
                "its standard deviation: subtract its start or scale it."
            )


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a `kind` ("D4RL task", ...) that does not exist; it names what is near, else all, if not many."""
    names = list(known)
    if not difflib.get_close_matches(str(name), names, n=1) and len(names) <= MOST_NAMES:
        return UserError(f"There is no {kind} {name!r}; known {'is' if len(names) == 1 else 'are'} {', '.join(names)}.")
    nearest = difflib.get_close_matches(str(name), names, n=1, cutoff=0.0)
    return UserError(f"There is no {kind} {name!r}; the nearest known one is {nearest[0]!r}.")


def _as_float32(key: str, values: npt.ArrayLike, where: str) -> np.ndarray:
    value = np.asarray(values)
    if value.dtype.kind not in "biuf":
        raise UserError(f"{key} of {where} has the type {value.dtype}; it must hold numbers.")
    if value.shape[:1] == (0,):
        raise UserError(f"{where} is empty ({key} has 0 rows); give a dataset with at least two steps.")
    rank = RANKS[key]
    if rank == 1 and value.ndim == 2 and value.shape[1] == 1:
        value = value[:, 0]
    if value.ndim != rank or value.shape[1:] == (0,):
        expected = "[rows]" if rank == 1 else "[rows, width]"
        way = ": reshape it to [rows, 1]" if rank == 2 and value.ndim == 1 else ""
        raise UserError(f"{key} of {where} has the shape {list(value.shape)}; it must be {expected}{way}.")
    with np.errstate(over="ignore"):  # what overflows becomes inf, which is reported with its row
        return np.ascontiguousarray(value, dtype=np.float32)


def _clip(actions: np.ndarray, where: str, bounds: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
    outside = int(np.sum(np.any(np.abs(actions) > 1, axis=1)))
    if not outside:
        return actions
    row, column = np.unravel_index(np.abs(actions).argmax(), actions.shape)
    farthest = float(actions[row, column])
    box, found = "[-1, 1]", f"largest magnitude {abs(farthest):.6g}"
    if bounds is not None:
        low, high = (float(bound[column]) for bound in bounds)
        own = (low + high) / 2 + farthest * (high - low) / 2
        box, found = "their box", f"column {column} has {own:.6g}, its bounds are {low:.6g} and {high:.6g}"
    warnings.warn(
        f"{outside} of {len(actions)} actions of {where} lie outside {box} ({found}); they were clipped. If they are "
        "in other units, set config.action_bounds, or config.env whose bounds they have.",
        Notice,
        stacklevel=3,
    )
    return np.clip(actions, -1, 1)
