"""What the trainer knows of an algorithm: its state, its phases, the policies that it acts by.

An algorithm is a module. It has the names of `Agent`; there is no base class.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax

from bdpo_jax.types import Array, Batch

# A `flax.struct` dataclass with `hyper: Hyper`, `static: Static`, a `common.Model` for each network that acts, and an
# integer that counts its updates and is folded into their key. Only the algorithm looks further.
State = Any
Metrics = dict[str, jax.Array]  # scalars; each is averaged over the updates between two rows and must be finite
Update = Callable[[State, Batch, jax.Array], tuple[State, Metrics]]
# (state, dataset on the device, key) -> arrays `[size, ...]`, float32, by name: a row for each of the dataset's
Prepare = Callable[[State, Any, jax.Array], Mapping[str, Array]]
# (dataset, what was prepared, rows `[batch]`) -> arrays `[batch, ...]`, float32, by name
Gather = Callable[[Any, Mapping[str, Array], Array], Mapping[str, Array]]
Policy = Callable[..., jax.Array]  # (state, observations, key[, candidates]) -> actions


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of training in which one kind of update is repeated.

    Two phases are equal where they are the same compiled program: a longer run is, other functions are not.

    Attributes:
      name: of its batches' random stream, in messages and in the account of time.
      updates: its budget.
      update: done every time.
      delayed: done after each `interval`-th update, on that update's batch (a delayed actor); its metrics come once for
        each time that it is done.
      interval: updates per `delayed`; the budget, the warm-up and all intervals of the trainer are multiples of it.
      delayed_from: updates of the phase before `delayed` is done for the first time (a warm-up).
      settle: state -> state after each chunk of updates, idempotent ("the actor starts as the behavior model").
      prepare: makes arrays of the run's own, which its batches carry as `extra`, when the phase begins and again when a
        stopped run goes on: it may read of the state only what the phase leaves as it is.
      gather: makes a batch's `extra` of the dataset and what was prepared; without it, these are its rows of the
        latter. Windows of following rows, for example, would take the memory of many datasets if they were prepared.
      check_data: raises a `UserError` where the dataset, on the host, cannot train this phase.
      watch: policies scored every `evaluate_every` updates.
      score: policies scored when the phase ends.
    """

    name: str
    updates: int = dataclasses.field(compare=False)
    update: Update
    delayed: Update | None = None
    interval: int = 1
    delayed_from: int = dataclasses.field(default=0, compare=False)
    settle: Callable[[State], State] | None = None
    prepare: Prepare | None = None
    gather: Gather | None = None
    check_data: Callable[[Any], None] | None = dataclasses.field(default=None, compare=False)
    watch: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    score: tuple[str, ...] = dataclasses.field(default=(), compare=False)


class Agent(Protocol):
    """The names that a module of `agents/` has.

    Attributes:
      Static: frozen dataclass of sizes and switches, each a field of `bdpo_jax.settings`; a change recompiles. It also
        has the field `action_dim`, without a default.
      Hyper: `flax.struct` dataclass of the numbers that one sweeps, likewise; a change never recompiles.
      Budget: frozen dataclass of the updates of its phases; `train_steps` is among them.
      POLICIES: what can act, by name. "policy" comes first and is the algorithm's own; "behavior" is a model of the
        data, if it has one. One that chooses among several actions takes their number as `candidates`.
      VIEWS: what pictures may ask for, where it is offered:
        "q": (state, observations `[..., S]`, actions `[..., A]`) -> values `[...]`;
        "value": (state, observations, noisy actions `[..., A]`, n `[...]`) -> values `[...]`;
        "path": (state, observations `[m, S]`, key) -> `[N + 1, m, A]`, noisy actions by diffusion step.
    """

    Static: type
    Hyper: type
    Budget: type
    POLICIES: Mapping[str, Policy]
    VIEWS: Mapping[str, Callable]

    @staticmethod
    def init(config: Any, key: jax.Array, observation_dim: int, action_dim: int) -> State:
        """Returns the initial state.

        Args:
          config: any object with attributes of the names of `Static`, `Hyper` and `Budget`; what it lacks has its
            default.
          key: PRNG key.
          observation_dim: width of the observations.
          action_dim: width of the actions.
        """

    @staticmethod
    def phases(config: Any) -> tuple[Phase, ...]:
        """Returns what training does, in order."""

    @staticmethod
    def check(config: Any) -> None:
        """Raises a `UserError` where settings do not fit together; ranges are in the fields."""
