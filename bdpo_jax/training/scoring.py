"""Evaluation beside training: a thread scores a snapshot of the policy on the host's processor."""

import contextlib
import dataclasses
import functools
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bdpo_jax import devices
from bdpo_jax.agents import common
from bdpo_jax.agents.base import State
from bdpo_jax.checkpoint import Checkpointer
from bdpo_jax.errors import Damaged
from bdpo_jax.tasks.base import Acting


def snapshot(state: State) -> State:
    """A copy of what policies act by, on the host's processor if it is a device of its own.

    Training donates its state, so what outlives the next update must be a copy. The state must not be spread over
    devices.
    """
    kept, device = jax.device_get(common.only_acting(state)), devices.host_device()
    return jax.tree.map(jnp.array, kept) if device is None else jax.device_put(kept, device)


@functools.partial(jax.jit, static_argnums=0)
def _call(function, state, *inputs):
    return function(state, *inputs)


def acting(agent: Any, state: State) -> Acting:
    """Returns an algorithm's policies and views, compiled, with this state.

    Args:
      agent: the algorithm's module.
      state: or a snapshot of one.
    """
    bound = {
        kind: {name: functools.partial(_call, function, state) for name, function in functions.items()}
        for kind, functions in (("policies", agent.POLICIES), ("views", agent.VIEWS))
    }
    return Acting(**bound)


@dataclasses.dataclass
class _Pending:
    step: int
    state: State
    future: Future[tuple[dict, float]]  # scores and seconds; never done where another process scores
    is_stored: bool


class Unfinished(NamedTuple):
    """An evaluation that a stop cut short.

    Attributes:
      step: the update that is scored.
      leaves: of the snapshot.
      is_stored: whether that lies undamaged in the evaluation's directory.
    """

    step: int
    leaves: list[np.ndarray]
    is_stored: bool


class Evaluator:
    """At most one evaluation at a time, of the policy as it was when it began.

    The scores are those of the snapshot, whatever training does meanwhile. One that a stop interrupts can be stored
    and begun again by the process that goes on. In a job of several processes all call every method, and one of
    them scores.
    """

    def __init__(self, directory: Path, threads: ThreadPoolExecutor, before_step: Callable[[], None], owner: int = 0):
        """
        Args:
          directory: where an unfinished evaluation's snapshot is stored.
          threads: with one thread; of several evaluators, if they are to take turns.
          before_step: called before each step of an evaluation; what it raises ends the evaluation.
          owner: the process that scores.
        """
        self._directory, self._threads, self._before_step, self._owner = directory, threads, before_step, owner
        self._pending: _Pending | None = None

    @property
    def step(self) -> int | None:
        """The update whose policy is being scored, or has been but was not taken yet."""
        return None if self._pending is None else self._pending.step

    def start(
        self, step: int, state: State, score: Callable[[State, Callable[[], None]], dict], is_stored: bool = False
    ) -> None:
        """Begins `score(snapshot, before_step)`; the one before must have been taken.

        Args:
          step: the update that the scores belong to.
          state: the train state, or an earlier snapshot.
          score: runs in the thread; what it raises is raised by `take`.
          is_stored: whether `store` has written the snapshot before.
        """
        taken = snapshot(state)

        def work() -> tuple[dict, float]:
            device = devices.host_device()
            began = time.perf_counter()
            with contextlib.nullcontext() if device is None else jax.default_device(device):
                return score(taken, self._before_step), time.perf_counter() - began

        mine = jax.process_index() == self._owner
        self._pending = _Pending(step, taken, self._threads.submit(work) if mine else Future(), is_stored)

    def finished(self) -> bool:
        """Whether `take` would not wait; with several processes, which cannot all know, always False."""
        return jax.process_count() == 1 and self._pending is not None and self._pending.future.done()

    def take(self) -> tuple[int, dict, float]:
        """Waits for the evaluation; returns its update, scores and seconds. After an error it is still pending."""
        pending = self._pending
        if pending is None:
            raise RuntimeError("There is no evaluation to take.")
        scores, seconds = devices.shared(pending.future.result, self._owner)
        self._pending = None
        return pending.step, scores, seconds

    def store(self) -> None:
        """Writes the snapshot of the evaluation under way, so that another process can begin it again.

        To be called in the process that writes.
        """
        if self._pending is None or self._pending.is_stored:
            return
        shutil.rmtree(self._directory, ignore_errors=True)
        with Checkpointer(self._directory, keep=1) as checkpoints:
            checkpoints.save(self._pending.step, self._pending.state)
        self._pending.is_stored = True

    def stored(self, state: State, after: int, before: int, kept: Callable[[int], State | None]) -> Unfinished | None:
        """A stored evaluation between `after` and `before`, both exclusive.

        To be called in the process that writes.

        Args:
          state: any of the run.
          kept: update -> the state after it, None where it is not kept: what is taken where the snapshot is damaged.

        Returns:
          None where there is none.

        Raises:
          Damaged: the snapshot is, and the state of its update is not kept.
        """
        if not self._directory.is_dir():
            return None
        with Checkpointer(self._directory, keep=1) as checkpoints:
            step = checkpoints.latest_step()
            if step is None or not after < step < before:
                return None
            like, is_stored = jax.eval_shape(common.only_acting, state), True
            try:
                found = checkpoints.restore(like)[0]
            except Damaged:
                whole, is_stored = kept(step), False
                if whole is None:
                    raise
                found = common.only_acting(whole)
            return Unfinished(step, [np.asarray(leaf) for leaf in jax.tree.leaves(found)], is_stored)
