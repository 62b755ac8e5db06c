"""A run's evaluations: which one is under way, and what the last one found."""

from collections.abc import Callable
from typing import Any

import jax

from bdpo_jax.agents.base import State
from bdpo_jax.agents.common import only_acting
from bdpo_jax.tasks.base import Task
from bdpo_jax.training.schedule import Schedule
from bdpo_jax.training.scoring import Evaluator, Unfinished, acting

NOTHING: dict[str, Any] = {"step": -1, "policies": [], "episodes": 0, "scores": {}}


class Scores:
    """The evaluations of one run, at most one of them at a time.

    Attributes:
      last: the last one's update, policies, episodes and scores.
    """

    def __init__(
        self,
        config,
        task: Task,
        agent: Any,
        schedule: Schedule,
        evaluator: Evaluator,
        key: jax.Array,
        begun: Callable[[int], None],
    ):
        """
        Args:
          config: of the run.
          task: of the run.
          agent: the algorithm's module.
          schedule: what is due when.
          evaluator: that scores beside training.
          key: of the policies' noise.
          begun: called with the update when an evaluation begins, in its thread.
        """
        self._config, self._task, self._agent, self._schedule = config, task, agent, schedule
        self._evaluator, self._key, self._begun = evaluator, key, begun
        self.last: dict = NOTHING

    @property
    def under_way(self) -> int | None:
        """The update that is being scored, or has been but was not taken yet."""
        return self._evaluator.step

    @property
    def ready(self) -> bool:
        """Whether `take` would not wait."""
        return self._evaluator.finished()

    def has(self, done: int, policies: tuple[str, ...]) -> bool:
        """Whether these policies are scored, or being scored, as they are after `done` updates."""
        last = self.last
        scored = last["step"] == done and set(policies) <= set(last["policies"])
        return self.under_way == done or scored and last["episodes"] >= self._episodes(done)

    def start(self, done: int, state: State, is_stored: bool = False) -> None:
        """Begins to score what is due after `done` updates; the evaluation before must have been taken.

        Args:
          done: updates.
          state: after them, or a snapshot of it.
          is_stored: whether a snapshot of it has been stored for this evaluation.
        """
        policies, episodes = self._policies(done), self._episodes(done)
        key = jax.random.fold_in(self._key, done)

        def score(state, before_step):
            self._begun(done)
            return self._task.evaluate(acting(self._agent, state), policies, episodes, key, before_step)

        self._evaluator.start(done, state, score, is_stored)

    def take(self) -> float:
        """Waits for the evaluation under way, whose scores become the last; returns its seconds."""
        step, scores, seconds = self._evaluator.take()
        self.last = {"step": step, "policies": list(scores), "episodes": self._episodes(step), "scores": scores}
        return seconds

    def store(self, done: int) -> None:
        """Writes what it takes to begin the evaluation under way again, if it is not of the update `done` itself.

        In the first process.
        """
        if self.under_way != done:
            self._evaluator.store()

    def stored(self, state: State, last: dict, done: int, kept: Callable[[int], State | None]) -> Unfinished | None:
        """Reads an evaluation that was stored after the `last` one and before `done` updates; in the first process.

        Arguments and errors are those of `Evaluator.stored`.
        """
        return self._evaluator.stored(state, last["step"], done, kept)

    def go_on(self, state: State, last: dict, unfinished: Unfinished | None) -> None:
        """Takes over the last scores, and begins an unfinished evaluation again.

        Args:
          state: any of the run.
          last: as in the attribute.
          unfinished: of `stored`.
        """
        self.last = last
        if unfinished is not None:
            structure = jax.tree.structure(jax.eval_shape(only_acting, state))
            self.start(unfinished.step, jax.tree.unflatten(structure, unfinished.leaves), unfinished.is_stored)

    def _policies(self, done: int) -> tuple[str, ...]:
        """What an evaluation scores, also one that was begun when the intervals were others."""
        return self._schedule.policies_due(done) or self._schedule.at(done)[0].watch

    def _episodes(self, done: int) -> int:
        final = self._config.final_episodes if done == self._schedule.total else 0
        return final or self._config.eval_episodes
