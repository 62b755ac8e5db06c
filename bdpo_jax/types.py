"""The types that every room shares."""

import signal

import jax
from flax import struct


class UserError(ValueError):
    """Something the user can mend; the message is one sentence: what is wrong, where, what to do."""


class Stopped(Exception):
    """A stop signal, taken at a safe point; `code` is the exit status that batch systems expect."""

    def __init__(self, number: int):
        super().__init__(number)
        self.code = 128 + number

    def __str__(self) -> str:
        return signal.Signals(self.args[0]).name


@struct.dataclass
class Batch:
    """Transitions `(s, a, r, s', d)`, float32.

    Attributes:
      observations: `[batch, observation_dim]`.
      actions: `[batch, action_dim]`.
      rewards: `[batch]`.
      next_observations: `[batch, observation_dim]`; ignored where `terminals` is 1.
      terminals: `[batch]`, 1 only at a true terminal, never at a time-out.
    """

    observations: jax.Array
    actions: jax.Array
    rewards: jax.Array
    next_observations: jax.Array
    terminals: jax.Array
