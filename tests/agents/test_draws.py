"""Where the noisy actions and diffusion steps of a loss come from."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from helpers import make_batch

from bdpo_jax import diffusion
from bdpo_jax.agents.draws import Visited, noisy_actions, path_points, visit


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


def test_rows_that_take_a_point_of_a_path_take_their_own_at_their_own_step():
    size, steps = 400, 3
    schedule = diffusion.variance_preserving(steps)
    rows = jnp.arange(1.0, size + 1)
    batch = make_batch(size=size, action_dim=1).replace(observations=-rows[:, None])
    actions = rows[None, :, None] + 1e4 * jnp.arange(steps + 1.0)[:, None, None]  # the row, and 10,000 n
    visited = Visited(rows[:, None], actions, (rows % 4 == 0).astype(jnp.float32), jnp.zeros(actions.shape[:2]))
    for share, stratified in ((1.0, True), (1.0, False), (0.5, True)):
        static = SimpleNamespace(schedule=schedule, diffusion_steps=steps, stratified=stratified, path_share=share)
        observations, noisy, n, _, _ = noisy_actions(static, batch, jax.random.key(1), visited)
        row = np.abs(observations[:, 0])
        own = np.asarray(observations[:, 0] > 0)  # paths are at s' > 0, data at s < 0
        np.testing.assert_array_equal(noisy[own, 0], row[own] + 1e4 * n[own])
        assert (np.abs(noisy[~own]) < 10).all() and not own[row % 4 == 0].any()
        # Of 300 rows with a path, a binomial share: four standard errors of .5; all of them at 1.
        np.testing.assert_allclose(own[row % 4 != 0].mean(), share, atol=4 * np.sqrt(share * (1 - share) / 300))


def test_points_of_paths_have_their_own_values_and_no_weight_where_the_path_is_missing():
    size, steps = 10, 3
    numbers = jnp.arange(4.0)
    actions = numbers[None, :, None] + 10 * jnp.arange(steps + 1.0)[:, None, None]  # the path, and 10 n
    visited = Visited(numbers[:, None], actions, jnp.array([0.0, 1.0, 0.0, 0.0]), 2 * actions[..., 0])
    static = SimpleNamespace(diffusion_steps=steps, stratified=True)
    points = path_points(static, visited, -actions[..., 0], size, jax.random.key(0))
    observations, noisy, n, weights, values, kls = (np.asarray(x) for x in points)
    path = observations[:, 0]
    np.testing.assert_array_equal(noisy[:, 0], path + 10 * n)
    np.testing.assert_array_equal(values, -noisy[:, 0])
    np.testing.assert_array_equal(kls, 2 * noisy[:, 0])
    assert sorted(path) == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3] and len(set(zip(path, n, strict=True))) > 4
    # n = 1, 2, 3 have 4, 3, 3 of 10 places.
    expected = np.array([10 / 3 / 4, 10 / 3 / 3, 10 / 3 / 3])[n - 1] * (path != 1)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_a_path_has_the_moments_of_its_chain_and_not_of_noised_actions():
    """A predictor that says 0 makes the chain a Gaussian recursion: a^{n-1} = a^n / sqrt(alpha_n) + sigma_n z."""
    steps, size = 3, 20_000
    schedule = diffusion.variance_preserving(steps)
    predictor = SimpleNamespace(apply=lambda params, observations, noisy, n: params * noisy)
    static = SimpleNamespace(schedule=schedule, noise_predictor=predictor, clip=None, diffusion_steps=steps)
    batch = make_batch(size=size, action_dim=1)
    visited = jax.jit(lambda key: visit(static, 0.0, batch, key))(jax.random.key(2))
    paths = -(-2 * size // steps)
    assert visited.actions.shape == (steps + 1, paths, 1)
    given = {tuple(row) for row in np.asarray(batch.observations)}
    assert len({tuple(row) for row in np.asarray(visited.observations)} & given) == paths  # some rows, none twice
    expected = 1.0
    for n in range(steps, 0, -1):
        # The standard error of a Gaussian's variance is sqrt(2 / size) of it; four of them.
        np.testing.assert_allclose(visited.actions[n].var(), expected, rtol=4 * np.sqrt(2 / paths))
        expected = expected / schedule.alphas[n] + schedule.variances[n] * (n > 1)
    # Rows share paths evenly: 3 rows of 6 take from each of 2 paths.
    actions = jnp.broadcast_to(jnp.array([[1.0], [2.0]]), (steps + 1, 2, 1))
    two = Visited(jnp.ones((2, 3)), actions, jnp.zeros(2), jnp.zeros((steps + 1, 2)))
    static = SimpleNamespace(schedule=schedule, diffusion_steps=steps, stratified=True, path_share=1.0)
    _, noisy, *_ = noisy_actions(static, make_batch(size=6, action_dim=1), jax.random.key(3), two)
    assert sorted(np.asarray(noisy)[:, 0]) == [1, 1, 1, 2, 2, 2]
    noised = schedule.alpha_bars[1] * np.var(batch.actions) + 1 - schedule.alpha_bars[1]
    assert visited.actions[1].var() > 2 * noised
