"""Where a chunk's data come from: the dataset on the devices, or batches gathered from the host's memory."""

from collections.abc import Sequence

import jax
from jax.sharding import Mesh

from bdpo_jax import devices
from bdpo_jax.data.dataset import Dataset
from bdpo_jax.data.host import Drawn, Gatherer, Request
from bdpo_jax.errors import UserError
from bdpo_jax.training.schedule import Chunk


class OnDevice:
    """The whole dataset on every device."""

    def __init__(self, dataset: Dataset, mesh: Mesh | None):
        self._data = devices.place(dataset, mesh)

    def take(self, chunk: Chunk, upcoming: Chunk | None, keys: jax.Array) -> Dataset:
        """Returns what a program of `chunk` draws from, and prepares for the chunk that follows it.

        Args:
          chunk: the updates.
          upcoming: the chunk after it, None at the end.
          keys: of the run, or `[runs]`.
        """
        return self._data

    def forget(self, keys: jax.Array) -> None:
        """Drops what was prepared for a run that ends early."""

    def close(self) -> None:
        """Ends what runs in the background."""


class OnHost:
    """The dataset in the host's memory; batches are gathered one chunk ahead."""

    def __init__(self, dataset: Dataset, batch_size: int, mesh: Mesh | None):
        self._gatherer = Gatherer(dataset, batch_size, mesh)

    def take(self, chunk: Chunk, upcoming: Chunk | None, keys: jax.Array) -> Drawn:
        data = self._gatherer.take(_request(chunk), keys)
        if upcoming is not None:
            self._gatherer.prepare(_request(upcoming), keys)
        return data

    def forget(self, keys: jax.Array) -> None:
        self._gatherer.forget(keys)

    def close(self) -> None:
        self._gatherer.close()


Source = OnDevice | OnHost


def make(config, dataset: Dataset, mesh: Mesh | None, preparing: Sequence[str] = ()) -> Source:
    """Returns the source that `config.dataset_memory` asks for.

    Args:
      config: of a run.
      dataset: on the host.
      mesh: of the devices, None for a single one.
      preparing: the phases that prepare arrays of their own for the dataset.

    Raises:
      UserError: there are some, and the data would stay on the host.
    """
    if preparing and _stays_on_host(config, dataset):
        raise UserError(
            f"The phase {preparing[0]!r} of {config.agent} prepares arrays for every transition, which it keeps on the "
            "device, but the data would stay on the host: set config.dataset_memory to 'device', use a device with "
            "more memory, or leave the phase out, where the algorithm can do without it (value_steps=0, n_step=1)."
        )
    return OnHost(dataset, config.batch_size, mesh) if _stays_on_host(config, dataset) else OnDevice(dataset, mesh)


def _stays_on_host(config, dataset: Dataset) -> bool:
    if config.dataset_memory != "auto":
        return config.dataset_memory == "host"
    memory = devices.memory()
    return bool(devices.agreed(memory is not None and 2 * devices.size_of(dataset) > memory))


def _request(chunk: Chunk) -> Request:
    return Request(chunk.phase.name, chunk.start, chunk.length)
