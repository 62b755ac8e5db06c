"""Where the states of the runs live, and how a chunk is done for all of them."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from bdpo_jax import devices
from bdpo_jax.agents.base import Phase, State
from bdpo_jax.data.dataset import Prepared
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
        self._prepared: dict[str, tuple[str, Prepared]] = {}  # a run's, with the name of the phase

    def advance(self, chunk: Chunk, upcoming: Chunk | None) -> dict[str, Metrics]:
        """Does a chunk for every run; returns the runs' metrics by name."""

        def one(name: str) -> tuple[str, Metrics]:
            data = self._prepare(name, chunk.phase, self._source.take(chunk, upcoming, self._keys[name]))
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

    def _prepare(self, name: str, phase: Phase, data):
        """Returns the data of a run in a phase: with what it prepares, which is made once."""
        if phase.prepare is None:
            self._prepared.pop(name, None)
            return data
        if name not in self._prepared or self._prepared[name][0] != phase.name:
            self._prepared.pop(name, None)  # not both in memory at once
            made = programs.prepare(self._states[name], data, self._keys[name], phase=phase, mesh=self._mesh)
            self._prepared[name] = (phase.name, made)
        return self._prepared[name][1]

    def state(self, name: str) -> State:
        """Returns a run's state, on the host where it lies on several devices; all processes must call this."""
        return self._states[name] if self._mesh is None else devices.fetch(self._states[name], self._mesh)

    def drop(self, name: str) -> None:
        """Trains this run no further."""
        self._source.forget(self._keys[name])
        del self._states[name]
        self._prepared.pop(name, None)

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
        self._prepared: tuple[str, Prepared] | None = None  # all runs', with the name of the phase

    def advance(self, chunk: Chunk, upcoming: Chunk | None) -> dict[str, Metrics]:
        """As `Separate.advance`."""
        data = self._prepare(chunk.phase, self._source.take(chunk, upcoming, self._keys))
        self._fetched = None
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

    def _prepare(self, phase: Phase, data):
        """As `Separate._prepare`, for all runs."""
        if phase.prepare is None:
            self._prepared = None
            return data
        if self._prepared is None or self._prepared[0] != phase.name:
            self._prepared = None
            made = programs.prepare(self._states, data, self._keys, phase=phase, mesh=self._mesh, stacked=True)
            self._prepared = (phase.name, made)
        return self._prepared[1]

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
