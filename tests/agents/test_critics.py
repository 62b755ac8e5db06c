"""What critics share, on hand-made arrays."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import make_batch

from bdpo_jax import ensembles
from bdpo_jax.agents import critics
from bdpo_jax.data.dataset import Dataset

VALUES = np.float32([[1, 5], [3, 5], [8, 5]])  # three members, two rows


def test_aggregations_by_hand():
    # Row 0: mean 4, squared deviations 9, 1, 16, population variance 26/3. Row 1: all agree.
    deviation = np.sqrt(26 / 3)
    np.testing.assert_allclose(critics.aggregate(VALUES, "lcb", 0.5), [4 - 0.5 * deviation, 5], rtol=1e-6)
    np.testing.assert_allclose(critics.aggregate(VALUES, "lcb", 0.0), [4, 5], rtol=1e-6)
    np.testing.assert_allclose(critics.aggregate(VALUES, "min", 0.5), [1, 5])
    np.testing.assert_allclose(critics.aggregate(VALUES, "mean", 0.5), [4, 5])
    with pytest.raises(ValueError, match="'max'.*'lcb', 'min' or 'mean'"):
        critics.aggregate(VALUES, "max", 0.5)


def test_the_bound_has_a_gradient_where_members_differ_and_a_finite_one_where_they_agree():
    bound = jax.jit(jax.value_and_grad(lambda values, rho: critics.aggregate(values, "lcb", rho).sum(), argnums=(0, 1)))

    _, (gradient, slope) = bound(VALUES, 0.5)
    # d std / d x_k = (x_k - mean) / (K std).
    expected = 1 / 3 - 0.5 * np.array([-3, -1, 4]) / (3 * np.sqrt(26 / 3))
    np.testing.assert_allclose(gradient[:, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(gradient[:, 1], 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(slope, -np.sqrt(26 / 3), rtol=1e-6)  # pessimism itself
    # Nearly equal members.
    _, (gradient, _) = bound(np.float32([[1, 1], [1 + 1e-7, 1], [1, 1 - 1e-7]]), 0.5)
    assert np.isfinite(gradient).all()
    # One member never disagrees.
    value, (gradient, _) = bound(VALUES[:1], 2.0)
    assert value == 6
    np.testing.assert_array_equal(gradient, [[1, 1]])


def test_the_target_of_temporal_differences():
    batch = make_batch(size=3).replace(rewards=jnp.array([1.0, 2.0, 3.0]), terminals=jnp.array([0.0, 1.0, 0.0]))
    target = critics.td_target(batch, 0.5, jnp.array([10.0, 20.0, -4.0]))
    np.testing.assert_allclose(target, [6, 2, 1])


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_the_best_candidate_is_taken_for_each_observation(shape):
    rng = np.random.default_rng(0)
    actions, values = rng.normal(size=(*shape, 5, 2)), rng.normal(size=(*shape, 5))
    best = critics.best_of(jnp.asarray(actions), jnp.asarray(values))
    assert best.shape == (*shape, 2)
    for index in np.ndindex(*shape):
        np.testing.assert_array_equal(best[index], np.float32(actions[index][values[index].argmax()]))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_candidates_are_drawn_by_the_softmax_of_their_values(temperature):
    values, rows = jnp.array([0.0, 1.0, -0.5, 0.3]), 40_000
    candidates = jnp.broadcast_to(jnp.eye(4), (rows, 4, 4))
    drawn = critics.softmax_of(candidates, jnp.broadcast_to(values, (rows, 4)), jax.random.key(0), temperature)
    expected = jax.nn.softmax(values / temperature)
    # Five standard errors of a binomial share: one in a million draws of the seed exceeds them. The shares of the two
    # temperatures differ by thirty and more.
    error = np.sqrt(expected * (1 - expected) / rows)
    assert (np.abs(drawn.mean(axis=0) - expected) < 5 * error).all()
    assert set(np.unique(drawn)) == {0, 1}


def test_a_cold_softmax_takes_the_best_for_each_observation():
    rng = np.random.default_rng(0)
    actions, values = jnp.asarray(rng.normal(size=(2, 3, 5, 2))), jnp.asarray(rng.normal(size=(2, 3, 5)))
    drawn = critics.softmax_of(actions, values, jax.random.key(1), 1e-4)
    np.testing.assert_array_equal(drawn, critics.best_of(actions, values))


# Two members and actions 0, 1, 2, which are row numbers of a table.
TABLE = {"table": jnp.array([[0.0, 1.0, 2.0], [0.0, 3.0, -5.0]])}


def table_q(params, observations, actions):
    return params["table"][actions[..., 0].astype(int)][..., None]


def table_v(params, observations, noisy, n):
    return table_q(params, observations, noisy) + 10.0 * n[..., None]


@pytest.mark.parametrize(
    "maximum, how, expected",
    [(False, "min", [0.5, -1]), (True, "min", [1, 2]), (False, "lcb", [0.75, -0.375]), (True, "lcb", [1.5, 2.25])],
)
def test_the_value_of_draws_by_hand(maximum, how, expected):
    # Members' Q of the first state's draws 0, 1: (0, 1), (0, 3); of the second's 1, 2: (1, 2), (3, -5).
    draws = jnp.array([[[0.0], [1.0]], [[1.0], [2.0]]])
    inputs = (SimpleNamespace(apply=table_q), TABLE, jnp.zeros((2, 3)), draws)
    # Means .5, 1.5 and 1.5, -1: deviations .5 and 1.25. Maxima 1, 3 and 2, 3: deviations 1 and .5. rho is a half.
    found = critics.value_of_draws(*inputs, maximum, how, 0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("work", [0, np.inf])
def test_an_ensemble_s_regression_by_hand(monkeypatch, work):
    monkeypatch.setattr(ensembles, "TURNS_FROM", work)  # in turns, and as one batch
    observations, actions = jnp.zeros((2, 3)), jnp.array([[1.0], [2.0]])
    # Members' Q: 1, 2 and 3, -5; targets 2, 0: squares 1, 4, 1, 25.
    network, target = SimpleNamespace(apply=table_q), jnp.array([2.0, 0.0])
    loss, values, gradients = critics.regression(network, TABLE, (observations, actions), target)
    np.testing.assert_allclose(loss, 31 / 4, rtol=1e-6)
    np.testing.assert_array_equal(values, [[1, 2], [3, -5]])
    np.testing.assert_allclose(gradients["table"], np.array([[0, -1, 2], [0, 1, -5]]) * 2 / 4, rtol=1e-6)
    # V adds 10 n: 11, 22 and 13, 15; targets 12, 20: squares 1, 4, 1, 25, the second row weighing half.
    inputs, target = (observations, actions, jnp.array([1, 2])), jnp.array([12.0, 20.0])
    network = SimpleNamespace(apply=table_v)
    loss, values, gradients = critics.regression(network, TABLE, inputs, target, jnp.array([1.0, 0.5]))
    np.testing.assert_allclose(loss, (1 + 2 + 1 + 12.5) / 4, rtol=1e-6)
    np.testing.assert_array_equal(values, [[11, 22], [13, 15]])
    np.testing.assert_allclose(gradients["table"], np.array([[0, -1, 1], [0, 1, -2.5]]) * 2 / 4, rtol=1e-6)


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.9])
def test_the_expectile_of_a_uniform_distribution(expectile):
    """On [0, 1], tau (1 - e)^2 = (1 - tau) e^2."""
    values = (jnp.arange(10_000) + 0.5) / 10_000
    expected = np.sqrt(expectile) / (np.sqrt(expectile) + np.sqrt(1 - expectile))
    slope = jax.grad(lambda e: critics.expectile_loss(values - e, expectile).mean())
    assert float(slope(expected)) == pytest.approx(0, abs=1e-5)
    assert float(slope(expected - 0.05)) < -1e-3 and float(slope(expected + 0.05)) > 1e-3


def test_no_row_is_followed_beyond_its_episode():
    """Neither where a terminal's next observation, which means nothing, is that of the next row, as in D4RL's files...

    ...nor where episodes that begin and end alike are cut: there the source must say so.
    """
    states = jnp.array([0.0, 1, 0, 1, 0, 1])[:, None]
    terminals = jnp.array([0, 1.0, 0, 0, 0, 0])
    data = Dataset(states, states, jnp.ones(6), jnp.roll(states, -1, axis=0), terminals)
    np.testing.assert_array_equal(critics.followed(data), [1, 0, 1, 1, 1, 0])
    cut = data.replace(last=jnp.array([0, 0, 0, 1, 0, 1], bool))
    np.testing.assert_array_equal(critics.followed(cut), [1, 0, 1, 0, 1, 0])
    np.testing.assert_array_equal(critics.returns(cut, 1.0), [2, 1, 2, 1, 2, 1])


@pytest.mark.parametrize(
    "horizon, rewards, discounts, later",
    [
        (1, [1, 2, 3, 4, 5, 0], [0.5, 0.5, 0, 0.5, 0.5, 1], [1, 2, 2, 4, 5, 5]),
        (2, [2, 3.5, 3, 6.5, 5, 0], [0.25, 0, 0, 0.25, 0.5, 1], [2, 2, 2, 5, 5, 5]),
        (9, [2.75, 3.5, 3, 6.5, 5, 0], [0, 0, 0, 0.25, 0.5, 1], [2, 2, 2, 5, 5, 5]),
    ],
)
def test_rewards_ahead_by_hand(horizon, rewards, discounts, later):
    """Rewards 1 to 6, the first three rows end in a terminal, the others are cut off."""
    observations = jnp.arange(6.0)[:, None]
    data = Dataset(
        observations=observations,
        next_observations=observations + 1,
        actions=10 * observations,
        rewards=jnp.arange(1, 7.0),
        terminals=jnp.array([0, 0, 1.0, 0, 0, 0]),
    )
    found = critics.rewards_ahead(data, 0.5, horizon)
    np.testing.assert_allclose(found["rewards"], rewards)
    np.testing.assert_allclose(found["discounts"], discounts)
    np.testing.assert_array_equal(found["later_observations"][:, 0], later)
    np.testing.assert_array_equal(found["later_actions"][:, 0], 10 * np.array(later))
    np.testing.assert_array_equal(found["weights"], [1, 1, 1, 1, 1, 0])
