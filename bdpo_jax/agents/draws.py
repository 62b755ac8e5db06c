"""Where the states, noisy actions and diffusion steps `(s, a^n, n)` of a loss come from."""

from typing import Any

import jax
import numpy as np

from bdpo_jax import diffusion
from bdpo_jax.types import Batch


def noisy_actions(static: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, np.ndarray, int]:
    """Extends each row of a batch by n and `a^n ~ q(a^n | a)` (Algorithm 1, line 8).

    Which rows get which n is random: a caller's batch may be in any order.

    Args:
      static: with `schedule`, `diffusion_steps` and `stratified`.
      batch: transitions.
      key: PRNG key.

    Returns:
      observations, `a^n`, n, weights, number of leading rows with n = 1 (see `diffusion.draw_steps`).
    """
    row_key, n_key, noise_key = jax.random.split(key, 3)
    size = batch.rewards.shape[0]
    observations, actions = batch.observations, batch.actions
    if static.stratified:
        rows = jax.random.permutation(row_key, size)
        observations, actions = observations[rows], actions[rows]
    n, weights, ones = diffusion.draw_steps(static.diffusion_steps, size, n_key, static.stratified)
    noisy = diffusion.add_noise(static.schedule, actions, n, jax.random.normal(noise_key, actions.shape))
    return observations, noisy, n, weights, ones
