"""A dataset that stays in the host's memory: the batches of the next stretch of updates are gathered while one runs.

The rows are those that `Dataset.sample` draws on a device from the same keys, so training cannot tell the difference.
"""

import dataclasses
import functools
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import NamedSharding, PartitionSpec

from bdpo_jax import devices
from bdpo_jax.data.dataset import Dataset, batch_key, draw_rows
from bdpo_jax.types import Batch


@struct.dataclass
class Drawn:
    """The batches of some updates; stands in for a `Dataset` in their compiled stretch.

    Attributes:
      batches: leaves `[updates, batch, ...]`, for members side by side `[members, updates, batch, ...]`.
      first: how many updates of their phase come before them, `[]` or `[members]`.
    """

    batches: Batch
    first: jax.Array
    member_axis = 0

    def batch(self, key: jax.Array, phase: str, step: jax.Array, batch_size: int) -> Batch:
        """Returns the batch of update `step`, which must be one of these."""
        return jax.tree.map(lambda leaf: leaf[step - self.first], self.batches)


@dataclasses.dataclass(frozen=True)
class Request:
    """Which batches: those of `length` updates of a phase ("pretrain", "train") after `start`."""

    phase: str
    start: int
    length: int


class Gatherer:
    """Draws stretches of batches from a dataset on the host, one stretch ahead of training.

    Args:
      dataset: NumPy arrays.
      batch_size: of an update.
      mesh: of the devices, None for a single one.
    """

    def __init__(self, dataset: Dataset, batch_size: int, mesh):
        self.dataset, self.batch_size, self.mesh = dataset, batch_size, mesh
        self._thread = ThreadPoolExecutor(1, "data")
        self._ahead: tuple[Any, Future] | None = None

    def take(self, request: Request, keys: jax.Array) -> Drawn:
        """Returns the batches of a request; at once, where it is the one last prepared."""
        numbers = _numbers(keys)
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == (request, numbers.tobytes()):
            return ahead[1].result()
        return self._gather(request, self._rows(request, numbers))

    def prepare(self, request: Request, keys: jax.Array) -> None:
        """Begins to gather what will be taken next.

        To be called before the devices are given their next stretch: where JAX has no other device, they draw the
        numbers of the rows, too.
        """
        numbers = _numbers(keys)
        rows = self._rows(request, numbers)
        self._ahead = ((request, numbers.tobytes()), self._thread.submit(self._gather, request, rows))

    def forget(self) -> None:
        """Drops what was prepared."""
        self._ahead = None

    def close(self) -> None:
        self.forget()
        self._thread.shutdown()

    def _rows(self, request: Request, numbers: np.ndarray) -> np.ndarray:
        with jax.default_device(devices.host_device()):
            sizes = (request.length, self.dataset.size, self.batch_size)
            return np.asarray(_draw_rows(numbers, request.start, request.phase, *sizes))

    def _gather(self, request: Request, rows: np.ndarray) -> Drawn:
        members = rows.shape[:-2]
        axes = (devices.MEMBER,) if members else ()
        batches = {}
        for name in Batch.__dataclass_fields__:
            source = getattr(self.dataset, name)
            shape = rows.shape + source.shape[1:]
            take = lambda part, source=source: source[rows[part[: rows.ndim]]]  # noqa: E731
            batches[name] = self._put(shape, take, *axes, None, devices.BATCH)
        first = np.full(members, request.start, np.int32)
        return Drawn(Batch(**batches), self._put(members, lambda part: first[part], *axes))

    def _put(self, shape: tuple[int, ...], part_of, *axes) -> jax.Array:
        """An array on the devices of which each process makes its own parts.

        No word passes between processes: a thread may not put one between those of the updates.
        """
        if self.mesh is None:
            return jax.device_put(part_of((slice(None),) * len(shape)))
        return jax.make_array_from_callback(shape, NamedSharding(self.mesh, PartitionSpec(*axes)), part_of)


def _numbers(keys: jax.Array) -> np.ndarray:
    """What keys are made of, on the host."""
    return np.asarray(jax.random.key_data(keys))


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _draw_rows(numbers, start, phase: str, length: int, size: int, batch_size: int):
    """The rows of the batches, `[length, batch]`, with members' keys `[members, length, batch]`."""

    def of_one(numbers):
        key = jax.random.wrap_key_data(numbers)
        return jax.vmap(lambda i: draw_rows(batch_key(key, phase, start + i), size, batch_size))(jnp.arange(length))

    return of_one(numbers) if numbers.ndim == 1 else jax.vmap(of_one)(numbers)
