"""Which updates come next, and what is due when they are done: numbers alone.

Updates are counted over all phases; intervals are counted within a phase.
"""

import dataclasses

from bdpo_jax.agents.base import Phase
from bdpo_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Chunk:
    """The `length` updates of a phase that follow its first `start`: one dispatch, in which nothing else happens.

    Attributes:
      phase: the phase.
      start: updates of the phase before it.
      length: updates.
      cycles: whether these are cycles: `phase.delayed` is done after each `phase.interval` of them.
    """

    phase: Phase
    start: int
    length: int
    cycles: bool

    @property
    def program(self) -> tuple[str, int, bool]:
        """Identifies the chunk's compiled program."""
        return self.phase.name, self.length, self.cycles

    def update_of(self, entry: int, entries: int) -> int:
        """The phase's update that an entry of a metric with so many entries belongs to."""
        return self.start + (entry + 1) * (self.length // entries)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Phases and intervals.

    Raises:
      UserError: a phase's interval does not divide its budget, its warm-up or an interval of the trainer.
    """

    phases: tuple[Phase, ...]
    log_every: int
    checkpoint_every: int
    evaluate_every: int

    def __post_init__(self):
        for phase in (phase for phase in self.phases if phase.updates):
            numbers = {
                "log_every": self.log_every,
                "checkpoint_every": self.checkpoint_every,
                "evaluate_every": self.evaluate_every if phase.watch else 0,
                f"the budget of the phase {phase.name!r}": phase.updates,
                f"the warm-up of the phase {phase.name!r}": phase.delayed_from,
            }
            for name, value in numbers.items():
                if value % phase.interval:
                    raise UserError(
                        f"{name} is {value}; it must be a multiple of {phase.interval}, the updates of the phase "
                        f"{phase.name!r} that make a cycle."
                    )

    @property
    def total(self) -> int:
        """All updates."""
        return sum(phase.updates for phase in self.phases)

    def at(self, done: int) -> tuple[Phase, int]:
        """The phase that the last of `done` updates belongs to, and how many of its updates are done.

        Before the first update that is the first phase with a budget, or the last phase where none has one.
        """
        before = 0
        for phase in self.phases:
            if phase.updates and done <= before + phase.updates:
                return phase, done - before
            before += phase.updates
        return self.phases[-1], self.phases[-1].updates

    def counts(self, done: int) -> dict[str, int]:
        """How many of the first `done` updates belong to each phase."""
        found = {}
        for phase in self.phases:
            found[phase.name] = min(done, phase.updates)
            done -= found[phase.name]
        return found

    def next(self, done: int) -> Chunk:
        """The chunk that follows `done` updates, of which there must be fewer than `total`."""
        phase, position = self.at(done + 1)
        start = position - 1
        warm_up = phase.delayed is not None and start < phase.delayed_from
        every = [self.log_every, self.checkpoint_every] + [self.evaluate_every] * bool(phase.watch)
        ends = [start + interval - start % interval for interval in every] + [phase.updates]
        stop = min(ends + [phase.delayed_from] * warm_up)
        return Chunk(phase, start, stop - start, cycles=phase.delayed is not None and not warm_up)

    def save_due(self, done: int) -> bool:
        """Whether a checkpoint belongs after `done` updates: at every interval of a phase, and at its end."""
        phase, position = self.at(done)
        return position == phase.updates or position % self.checkpoint_every == 0

    def policies_due(self, done: int) -> tuple[str, ...]:
        """The policies to score after `done` updates."""
        if done == self.total:
            return self.phases[-1].score
        phase, position = self.at(done)
        watched = phase.watch if position and position % self.evaluate_every == 0 else ()
        return phase.score or watched if position == phase.updates else watched
