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
        wanted = (request, _numbers(keys).tobytes())
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == wanted:
            return ahead[1].result()
        return self._draw(request, _numbers(keys))

    def prepare(self, request: Request, keys: jax.Array) -> None:
        """Begins to draw what will be taken next."""
        numbers = _numbers(keys)
        self._ahead = ((request, numbers.tobytes()), self._thread.submit(self._draw, request, numbers))

    def close(self) -> None:
        self._ahead = None
        self._thread.shutdown()

    def _draw(self, request: Request, numbers: np.ndarray) -> Drawn:
        with jax.default_device(devices.host_device()):
            sizes = (request.length, self.dataset.size, self.batch_size)
            rows = np.asarray(_rows(numbers, request.start, request.phase, *sizes))
        members = rows.shape[:-2]
        axes = (devices.MEMBER,) if members else ()
        arrays = {name: getattr(self.dataset, name)[rows] for name in Batch.__dataclass_fields__}
        batches = Batch(**{name: self._put(array, *axes, None, devices.BATCH) for name, array in arrays.items()})
        return Drawn(batches, self._put(np.full(members, request.start, np.int32), *axes))

    def _put(self, array: np.ndarray, *axes) -> jax.Array:
        """On the devices; without a word between processes, since a thread may not put one between the updates'."""
        if self.mesh is None:
            return jax.device_put(array)
        return jax.make_array_from_callback(
            array.shape, NamedSharding(self.mesh, PartitionSpec(*axes)), lambda part: array[part]
        )


def _numbers(keys: jax.Array) -> np.ndarray:
    """What keys are made of, on the host."""
    return np.asarray(jax.random.key_data(keys))


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _rows(numbers, start, phase: str, length: int, size: int, batch_size: int):
    """The rows of the batches, `[length, batch]`, with members' keys `[members, length, batch]`."""

    def of_one(numbers):
        key = jax.random.wrap_key_data(numbers)
        return jax.vmap(lambda i: draw_rows(batch_key(key, phase, start + i), size, batch_size))(jnp.arange(length))

    return of_one(numbers) if numbers.ndim == 1 else jax.vmap(of_one)(numbers)
