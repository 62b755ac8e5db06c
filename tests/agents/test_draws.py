"""Where the noisy actions and diffusion steps of a loss come from."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from helpers import make_batch

from bdpo_jax import diffusion
from bdpo_jax.agents.draws import noisy_actions


def test_stratified_rows_stay_whole_and_meet_every_n_alike():
    size, keys = 7, 900
    static = SimpleNamespace(schedule=diffusion.variance_preserving(3), diffusion_steps=3, stratified=True)
    numbers = jnp.arange(1.0, size + 1)[:, None]
    batch = make_batch(size=size, action_dim=1).replace(observations=numbers, actions=1e4 * numbers)

    @jax.jit
    @jax.vmap
    def draw(key):
        return noisy_actions(static, batch, key)[:3]

    observations, noisy, n = (np.asarray(x) for x in draw(jax.random.split(jax.random.key(0), keys)))
    # The noise of order 1 is small beside the actions: an action is its own observation's, scaled for its own n.
    scale = np.sqrt(static.schedule.alpha_bars[np.broadcast_to(np.asarray(n), (keys, size))])
    np.testing.assert_allclose(noisy[..., 0], 1e4 * observations[..., 0] * scale, atol=6)
    assert (np.sort(observations[..., 0]) == np.arange(1, size + 1)).all()
    # n = 1, 2, 3 have 3, 2, 2 of the 7 places: a row meets n = 1 with probability 3/7; 4 standard errors of 900 draws.
    for step, share in ((1, 3 / 7), (2, 2 / 7), (3, 2 / 7)):
        met = [np.mean((observations[..., 0] == row) & (n == step)) * size for row in range(1, size + 1)]
        np.testing.assert_allclose(met, share, atol=4 * np.sqrt(share * (1 - share) / keys))


def test_independent_rows_keep_their_places():
    static = SimpleNamespace(schedule=diffusion.variance_preserving(3), diffusion_steps=3, stratified=False)
    batch = make_batch(size=50)
    observations, noisy, n, weights, ones = noisy_actions(static, batch, jax.random.key(0))
    np.testing.assert_array_equal(observations, batch.observations)
    assert noisy.shape == batch.actions.shape and set(np.asarray(n)) == {1, 2, 3}
    assert ones == 0 and (weights == 1).all()
