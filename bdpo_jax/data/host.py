"""A dataset that stays in the host's memory: the batches of the next chunk of updates are gathered while one runs.

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


class Drawn(struct.PyTreeNode):
    """The batches of some updates; stands in for a `Dataset` in their compiled chunk.

    Attributes:
      batches: leaves `[updates, batch, ...]`, for stacked runs `[runs, updates, batch, ...]`.
      first: how many updates of their phase come before them, `[]` or `[runs]`.
    """

    batches: Batch
    first: jax.Array
    run_axis = 0

    def batch(self, key: jax.Array, phase: str, step: jax.Array, batch_size: int) -> Batch:
        """Returns the batch of update `step`, which must be one of these."""
        return jax.tree.map(lambda leaf: leaf[step - self.first], self.batches)


@dataclasses.dataclass(frozen=True)
class Request:
    """Which batches: those of the `length` updates of a phase that follow its first `start`."""

    phase: str
    start: int
    length: int


class Gatherer:
    """Draws the batches of chunks from a dataset on the host, one chunk ahead of training for each run.

    Args:
      dataset: NumPy arrays.
      batch_size: of an update.
      mesh: of the devices, None for a single one.
    """

    def __init__(self, dataset: Dataset, batch_size: int, mesh):
        self.dataset, self.batch_size, self.mesh = dataset, batch_size, mesh
        self._thread = ThreadPoolExecutor(1, "data")
        self._ahead: dict[bytes, tuple[Request, Future]] = {}  # by the run's key

    def take(self, request: Request, keys: jax.Array) -> Drawn:
        """Returns the batches of a request; at once, where it is the one last prepared for these keys."""
        numbers = _numbers(keys)
        ahead = self._ahead.pop(numbers.tobytes(), None)
        if ahead is not None and ahead[0] == request:
            return ahead[1].result()
        return self._gather(request, self._rows(request, numbers))

    def prepare(self, request: Request, keys: jax.Array) -> None:
        """Begins to gather what will be taken next.

        To be called before the devices are given their next chunk: where JAX has no other device, they draw the
        numbers of the rows, too.
        """
        numbers = _numbers(keys)
        rows = self._rows(request, numbers)
        self._ahead[numbers.tobytes()] = (request, self._thread.submit(self._gather, request, rows))

    def forget(self, keys: jax.Array) -> None:
        """Drops what was prepared for these keys."""
        self._ahead.pop(_numbers(keys).tobytes(), None)

    def close(self) -> None:
        self._ahead.clear()
        self._thread.shutdown()

    def _rows(self, request: Request, numbers: np.ndarray) -> np.ndarray:
        with jax.default_device(devices.host_device()):
            sizes = (request.length, self.dataset.size, self.batch_size)
            return np.asarray(_draw_rows(numbers, request.start, request.phase, *sizes))

    def _gather(self, request: Request, rows: np.ndarray) -> Drawn:
        runs = rows.shape[:-2]
        axes = (devices.RUN,) if runs else ()
        batches: dict[str, Any] = {}
        for name, source in self.dataset.transitions.items():
            shape = rows.shape + source.shape[1:]
            take = lambda part, source=source: source[rows[part[: rows.ndim]]]  # noqa: E731
            batches[name] = self._put(shape, take, *axes, None, devices.BATCH)
        first = np.full(runs, request.start, np.int32)
        return Drawn(Batch(**batches), self._put(runs, lambda part: first[part], *axes))

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
    """The rows of the batches, `[length, batch]`, with stacked keys `[runs, length, batch]`."""

    def of_one(numbers):
        key = jax.random.wrap_key_data(numbers)
        return jax.vmap(lambda i: draw_rows(batch_key(key, phase, start + i), size, batch_size))(jnp.arange(length))

    return of_one(numbers) if numbers.ndim == 1 else jax.vmap(of_one)(numbers)
