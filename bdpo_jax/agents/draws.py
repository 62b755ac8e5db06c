"""Where the states, noisy actions and diffusion steps `(s, a^n, n)` of a loss come from.

The paper leaves it open (section 4.3): it noises the data's actions, and names points of the policy's own paths as the
other choice. The two differ even where the policy is the behavior model, because the chain starts at N(0, I).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bdpo_jax import diffusion
from bdpo_jax.types import Array, Batch


class Visited(NamedTuple):
    """Paths of a policy: one for each row of a batch, or fewer, which then serve several rows each.

    Attributes:
      observations: `[paths, observation_dim]`, where they were drawn.
      actions: `[N + 1, paths, action_dim]`, by diffusion step.
      missing: `[paths]`, 1 where there is no such observation (after a terminal).
      kls: `[N + 1, paths]`, the penalties `l_n` on the way; 0 without a reference, and at n = 0.
    """

    observations: jax.Array
    actions: jax.Array
    missing: jax.Array
    kls: jax.Array


def visit(static: Any, params: Any, batch: Batch, key: jax.Array, reference: Any = None) -> Visited:
    """Draws paths at some of the batch's observations, each to serve N / 2 rows: two evaluations a row whatever N.

    Args:
      static: of the policy, see `denoiser.Denoiser`.
      params: of its noise predictor.
      batch: transitions; only observations are read.
      key: PRNG key.
      reference: parameters of the behavior model, for the penalties, evaluated as often; None: they are 0.
    """
    row_key, path_key = jax.random.split(key)
    size, action_dim = batch.actions.shape
    paths = min(size, -(-2 * size // static.diffusion_steps))
    observations = batch.observations[jax.random.permutation(row_key, size)[:paths]]

    def predictor(params):
        return lambda noisy, n: static.noise_predictor.apply(params, observations, noisy, n)

    path = diffusion.sample(
        static.schedule,
        predictor(params),
        path_key,
        (paths, action_dim),
        static.clip,
        reference=None if reference is None else predictor(reference),
        trajectory=True,
    )
    assert path.trajectory is not None and path.kls is not None
    return Visited(observations, path.trajectory, jnp.zeros(paths), path.kls)


def path_points(
    static: Any, visited: Visited, values: jax.Array, size: int, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, Array, jax.Array, jax.Array]:
    """Draws `size` points of paths, n as in `noisy_actions`; which path gives which point is random.

    Args:
      static: with `diffusion_steps` and `stratified`.
      visited: the paths.
      values: of their points, `[N + 1, paths]`.
      size: how many.
      key: PRNG key.

    Returns:
      observations, `a^n`, n, weights (0 where the path is missing), the points' values and `l_n`; leading axis `size`.
    """
    row_key, n_key = jax.random.split(key)
    path = jax.random.permutation(row_key, size) % len(visited.observations)
    n, weights, _ = diffusion.draw_steps(static.diffusion_steps, size, n_key, static.stratified)
    points = visited.observations[path], visited.actions[n, path], n
    return *points, weights * (1 - visited.missing[path]), values[n, path], visited.kls[n, path]


def noisy_actions(
    static: Any, batch: Batch, key: jax.Array, visited: Visited | None = None
) -> tuple[jax.Array, jax.Array, jax.Array, Array, int]:
    """Extends each row of a batch by n and `a^n ~ q(a^n | a)` (Algorithm 1, line 8), or by a point of its own path.

    Which rows get which n is random: a caller's batch may be in any order.

    Args:
      static: with `schedule`, `diffusion_steps`, `stratified`, and `path_share` if `visited` is given.
      batch: transitions.
      key: PRNG key.
      visited: paths of the policy: a share `path_share` of the rows takes a point of one of them where it is not
        missing, of its own where there is one for each row and in their order (not after `visit`).

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
        path = rows % len(visited.observations)
        chosen = (chosen & (visited.missing[path] == 0))[:, None]
        observations = jnp.where(chosen, visited.observations[path], observations)
        noisy = jnp.where(chosen, visited.actions[n, path], noisy)
    return observations, noisy, n, weights, ones
