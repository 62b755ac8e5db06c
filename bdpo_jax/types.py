"""The types that all modules share."""

from collections.abc import Mapping

import jax
import numpy as np
from flax import struct

Array = jax.Array | np.ndarray  # on a device, or on the host: what JAX's functions take alike


class Batch(struct.PyTreeNode):
    """Transitions `(s, a, r, s', d)`, float32.

    Attributes:
      observations: `[batch, observation_dim]`.
      actions: `[batch, action_dim]`.
      rewards: `[batch]`.
      next_observations: `[batch, observation_dim]`; ignored where `terminals` is 1.
      terminals: `[batch]`, 1 only at a true terminal, never at a time-out.
      extra: what the phase's `prepare`, or its `gather`, made for these rows, by name, `[batch, ...]`; None without.
    """

    observations: jax.Array
    actions: jax.Array
    rewards: jax.Array
    next_observations: jax.Array
    terminals: jax.Array
    extra: Mapping[str, jax.Array] | None = None
