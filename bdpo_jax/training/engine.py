"""Where the states of the runs live, and how a chunk is done for all of them."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from bdpo_jax import devices
from bdpo_jax.agents.base import State
from bdpo_jax.training import programs
from bdpo_jax.training.schedule import Chunk
from bdpo_jax.training.sources import Source

Metrics = dict[str, np.ndarray]  # on the host, one entry per update or cycle


def make(
    states: dict[str, State], keys: dict[str, jax.Array], source: Source, batch_size: int, mesh: Mesh | None
) -> "Engine":
    """Returns one program for all runs on accelerators and meshes; on a CPU, or for a single run, a state for each.

    Args:
      states: the runs' by name, on the host or the default device.
      keys: the runs'.
      source: of their data.
      batch_size: transitions per update.
      mesh: of the devices, None for a single one.
    """
    separate = len(states) == 1 or mesh is None and jax.default_backend() == "cpu"
    return (Separate if separate else Stacked)(states, keys, source, batch_size, mesh)


class Separate:
    """A state for each run. They share the compiled program; on a CPU they run in threads, as many as processors.

    Each run's numbers are those of a single run, bit for bit.
    """

    def __init__(self, states, keys, source: Source, batch_size: int, mesh: Mesh | None = None):
        self._states = {name: devices.place(jax.device_get(state), mesh) for name, state in states.items()}
        self._keys, self._source, self._batch_size, self._mesh = dict(keys), source, batch_size, mesh
        self._threads = ThreadPoolExecutor(min(len(states), devices.processors()), "run")
        self._compiled: set = set()

    def advance(self, chunk: Chunk, upcoming: Chunk | None) -> dict[str, Metrics]:
        """Does a chunk for every run; returns the runs' metrics by name."""

        def one(name: str) -> tuple[str, Metrics]:
            data = self._source.take(chunk, upcoming, self._keys[name])
            self._states[name], metrics = programs.advance(
                self._states[name],
                data,
                self._keys[name],
                chunk.start,
                phase=chunk.phase,
                length=chunk.length,
                cycles=chunk.cycles,
                batch_size=self._batch_size,
                mesh=self._mesh,
            )
            return name, jax.device_get(metrics)

        names = list(self._states)
        if len(names) == 1:
            return dict(map(one, names))
        first = [] if chunk.program in self._compiled else [one(names.pop(0))]  # it compiles the program for all
        self._compiled.add(chunk.program)
        return dict([*first, *self._threads.map(one, names)])

    def state(self, name: str) -> State:
        """Returns a run's state, on the host where it lies on several devices; all processes must call this."""
        return self._states[name] if self._mesh is None else devices.fetch(self._states[name], self._mesh)

    def drop(self, name: str) -> None:
        """Trains this run no further."""
        self._source.forget(self._keys[name])
        del self._states[name]

    def close(self) -> None:
        self._threads.shutdown()


class Stacked:
    """One vmapped program over a leading axis of runs; a dropped run keeps its seat, and its numbers are ignored."""

    def __init__(self, states, keys, source: Source, batch_size: int, mesh: Mesh | None = None):
        self._seats = {name: seat for seat, name in enumerate(states)}
        on_host = [jax.device_get(state) for state in states.values()]  # the devices hold the stack alone
        stack = jax.tree.map(lambda *leaves: np.stack(leaves), *on_host)
        self._states = devices.place(stack, mesh, stacked=True)
        self._keys = jnp.stack([keys[name] for name in states])
        self._source, self._batch_size, self._mesh = source, batch_size, mesh
        self._fetched = None

    def advance(self, chunk: Chunk, upcoming: Chunk | None) -> dict[str, Metrics]:
        """As `Separate.advance`."""
        data, self._fetched = self._source.take(chunk, upcoming, self._keys), None
        self._states, metrics = programs.advance(
            self._states,
            data,
            self._keys,
            chunk.start,
            phase=chunk.phase,
            length=chunk.length,
            cycles=chunk.cycles,
            batch_size=self._batch_size,
            mesh=self._mesh,
            stacked=True,
        )
        metrics = jax.device_get(metrics)
        return {name: {key: x[seat] for key, x in metrics.items()} for name, seat in self._seats.items()}

    def state(self, name: str) -> State:
        """As `Separate.state`; all runs' are fetched at once."""
        if self._fetched is None:
            self._fetched = devices.fetch(self._states, self._mesh)
        return jax.tree.map(lambda leaf: leaf[self._seats[name]], self._fetched)

    def drop(self, name: str) -> None:
        """As `Separate.drop`."""
        del self._seats[name]

    def close(self) -> None:
        """As `Separate.close`."""


Engine = Separate | Stacked
