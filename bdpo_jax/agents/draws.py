"""Where the states, noisy actions and diffusion steps `(s, a^n, n)` of a loss come from.

The paper leaves it open (section 4.3): it noises the data's actions, and names points of the policy's own paths as the
other choice. The two differ even where the policy is the behavior model, because the chain starts at N(0, I).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bdpo_jax import diffusion
from bdpo_jax.types import Batch


class Visited(NamedTuple):
    """One path of a policy for each row of a batch.

    Attributes:
      observations: `[batch, observation_dim]`, where the paths were drawn.
      actions: `[N + 1, batch, action_dim]`, by diffusion step.
      missing: `[batch]`, 1 where there is no such observation (after a terminal).
    """

    observations: jax.Array
    actions: jax.Array
    missing: jax.Array


def visit(static: Any, params: Any, batch: Batch, key: jax.Array) -> Visited:
    """Draws a path at each of the batch's observations: N evaluations of the noise predictor a row.

    Args:
      static: of the policy, see `denoiser.Denoiser`.
      params: of its noise predictor.
      batch: transitions; only observations are read.
      key: PRNG key.
    """
    path = diffusion.sample(
        static.schedule,
        lambda noisy, n: static.noise_predictor.apply(params, batch.observations, noisy, n),
        key,
        batch.actions.shape,
        static.clip,
        trajectory=True,
    )
    assert path.trajectory is not None
    return Visited(batch.observations, path.trajectory, jnp.zeros_like(batch.rewards))


def noisy_actions(
    static: Any, batch: Batch, key: jax.Array, visited: Visited | None = None
) -> tuple[jax.Array, jax.Array, jax.Array, np.ndarray, int]:
    """Extends each row of a batch by n and `a^n ~ q(a^n | a)` (Algorithm 1, line 8), or by a point of its own path.

    Which rows get which n is random: a caller's batch may be in any order.

    Args:
      static: with `schedule`, `diffusion_steps`, `stratified`, and `path_share` if `visited` is given.
      batch: transitions.
      key: PRNG key.
      visited: paths, one for each row: a share `path_share` of the rows takes its point from there, but for rows
        without a path.

    Returns:
      observations, `a^n`, n, weights, number of leading rows with n = 1 (see `diffusion.draw_steps`).
    """
    row_key, n_key, noise_key = jax.random.split(key, 3)
    size = batch.rewards.shape[0]
    rows = jax.random.permutation(row_key, size) if static.stratified else jnp.arange(size)
    observations, actions = batch.observations, batch.actions
    if static.stratified:
        observations, actions = observations[rows], actions[rows]
    n, weights, ones = diffusion.draw_steps(static.diffusion_steps, size, n_key, static.stratified)
    noisy = diffusion.add_noise(static.schedule, actions, n, jax.random.normal(noise_key, actions.shape))
    if visited is not None:
        chosen = jax.random.bernoulli(jax.random.fold_in(key, 3), static.path_share, (size,))
        chosen = (chosen & (visited.missing[rows] == 0))[:, None]
        observations = jnp.where(chosen, visited.observations[rows], observations)
        noisy = jnp.where(chosen, visited.actions[n, rows], noisy)
    return observations, noisy, n, weights, ones
