"""Evaluation beside training: a thread scores a snapshot of the policy on the host's processor."""

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from bdpo_jax import devices
from bdpo_jax.agents.state import TrainState
from bdpo_jax.checkpoint import Checkpointer


def _averages(state: TrainState) -> TrainState:
    models = ("actor", "behavior", "q", "v")
    return state.replace(**{name: getattr(state, name).replace(params=None, opt_state=None) for name in models})


def snapshot(state: TrainState) -> TrainState:
    """A copy of the networks' averages, without what only training reads; on the host's processor if it has a device.

    Training donates its state, so what outlives the next update must be a copy. The state must not be spread over
    devices.
    """
    kept, device = jax.device_get(_averages(state)), devices.host_device()
    return jax.tree.map(jnp.array, kept) if device is None else jax.device_put(kept, device)


@dataclasses.dataclass
class _Pending:
    step: int
    state: TrainState
    future: Future | None  # None where another process scores
    kept: bool = False


class Evaluator:
    """At most one evaluation at a time, of the policy as it was when it began.

    The scores are those of the snapshot, whatever training does meanwhile. One that a stop interrupts can be kept on
    disk and begun again by the process that goes on. In a job of several processes all call every method, and one of
    them scores.
    """

    def __init__(self, directory: Path, threads: ThreadPoolExecutor, owner: int = 0):
        """
        Args:
          directory: where an unfinished evaluation's snapshot is kept.
          threads: with one thread; of several evaluators, if they are to take turns.
          owner: the process that scores.
        """
        self._directory, self._threads, self._owner = directory, threads, owner
        self._pending: _Pending | None = None

    @property
    def step(self) -> int | None:
        """The update whose policy is being scored, or has been but was not taken yet."""
        return None if self._pending is None else self._pending.step

    def start(self, step: int, state: TrainState, score: Callable[[TrainState], dict]) -> None:
        """Begins `score(snapshot)`; the one before must have been taken.

        Args:
          step: the update that the scores belong to.
          state: the train state, or an earlier snapshot.
          score: runs in the thread; what it raises is raised by `take`.
        """
        taken = snapshot(state)

        def work():
            device = devices.host_device()
            began = time.perf_counter()
            with contextlib.nullcontext() if device is None else jax.default_device(device):
                return score(taken), time.perf_counter() - began

        mine = jax.process_index() == self._owner
        self._pending = _Pending(step, taken, self._threads.submit(work) if mine else None)

    def finished(self) -> bool:
        """Whether `take` would not wait; with several processes, which cannot all know, always False."""
        return jax.process_count() == 1 and self._pending is not None and self._pending.future.done()

    def take(self) -> tuple[int, dict, float]:
        """Waits for the evaluation; returns its update, scores and seconds. After an error it is still pending."""
        scores, seconds = devices.shared(lambda: self._pending.future.result(), self._owner)
        step, self._pending = self._pending.step, None
        return step, scores, seconds

    def keep(self) -> None:
        """Writes the snapshot of the evaluation under way, so that another process can begin it again."""
        if self._pending is None or self._pending.kept:
            return

        def write():
            shutil.rmtree(self._directory, ignore_errors=True)
            with Checkpointer(self._directory, keep=1) as checkpoints:
                checkpoints.save(self._pending.step, self._pending.state)

        devices.shared(write)
        self._pending.kept = True

    def kept(self, state: TrainState, after: int, before: int) -> tuple[int, TrainState] | None:
        """The update and snapshot of a kept evaluation between `after` and `before`, both exclusive, if there is one.

        Args:
          state: any of the run.
        """

        def read():
            if not self._directory.is_dir():
                return None
            with Checkpointer(self._directory, keep=1) as checkpoints:
                step = checkpoints.latest_step()
                if step is None or not after < step < before:
                    return None
                leaves = jax.tree.leaves(checkpoints.restore(like)[0])
                return step, [np.asarray(leaf) for leaf in leaves]

        like = jax.eval_shape(_averages, state)
        found = devices.shared(read)
        return None if found is None else (found[0], jax.tree.unflatten(jax.tree.structure(like), found[1]))
