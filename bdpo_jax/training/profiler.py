"""A record of some updates by JAX's profiler, for TensorBoard or Perfetto."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax

from bdpo_jax import devices
from bdpo_jax.training.schedule import Chunk


class Profiler:
    """Records whole chunks of one phase, once their program is compiled, until so many updates are recorded."""

    def __init__(self, directory: Path, updates: int, phase: str):
        self._directory, self._left, self._phase, self._recording = directory, updates, phase, False

    @contextlib.contextmanager
    def around(self, chunk: Chunk, compiled: bool) -> Iterator[None]:
        """Records the block, which does a chunk, if its turn has come."""
        wanted = self._left > 0 and compiled and chunk.phase.name == self._phase
        if wanted and not self._recording:
            self._recording = devices.is_first()
            if self._recording:
                jax.profiler.start_trace(str(self._directory))
        yield
        if wanted:
            self._left -= chunk.length
            if self._left <= 0:
                self.close()

    def close(self) -> None:
        """Writes what was recorded."""
        if self._recording:
            jax.profiler.stop_trace()
            self._recording = False
            devices.say(f"Profile: {self._directory}")
