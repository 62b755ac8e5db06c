"""CQL where the answer is known: the penalty on a table of two actions, a policy's density, two states."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import make_batch
from test_iql import two_states

from bdpo_jax import settings
from bdpo_jax.agents import cql
from bdpo_jax.agents.gaussian_head import Gaussian, SquashedGaussian

TABLE = SimpleNamespace(apply=lambda table, _, actions: jnp.where(actions > 0, table[1], table[0]))


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_the_penalty_s_gradient_on_two_actions_is_softmax_minus_the_data(weight):
    """One proposal of each action, equally likely: the gradient of the gap is pi_Q(a) - 1(a = a_data)."""
    static = SimpleNamespace(q_network=TABLE, lagrange_threshold=-1.0)
    state = SimpleNamespace(static=static, hyper=SimpleNamespace(weight=jnp.float32(weight)))
    batch = make_batch(size=4, action_dim=1).replace(actions=jnp.ones((4, 1)))
    actions = jnp.broadcast_to(jnp.array([[-0.5], [0.5]]), (4, 2, 1))
    table, target = jnp.array([0.3, -0.4]), 0.1
    gradient = jax.grad(lambda q: cql.member_loss(q, state, batch, actions, jnp.zeros((4, 2)), target)[0])(table)
    chosen = np.exp(table) / np.exp(table).sum()
    regression = np.array([0.0, 2 * (-0.4 - target)])
    np.testing.assert_allclose(gradient, weight * (chosen - [0.0, 1.0]) + regression, rtol=1e-5)


@pytest.mark.parametrize("cloning", [False, True])
def test_the_policy_s_loss_by_hand(monkeypatch, cloning):
    """Q's members are 3 a and 4 a + 0.1; the temperature is 1, so that the first term is the log density itself."""
    found = SquashedGaussian(Gaussian(jnp.full((4, 1), 0.3), jnp.full((4, 1), -1.0)), 1.0)
    monkeypatch.setattr(cql, "policy", lambda state, params, observations: found)
    state = cql.init(settings.make(cql, actor_widths=(8,)), jax.random.key(0), 3, 1)
    monkeypatch.setattr(cql.Static, "q_network", SimpleNamespace(apply=lambda p, s, a: p["slope"] * a + p["offset"]))
    q = {"slope": jnp.array([3.0, 4.0]), "offset": jnp.array([0.0, 0.1])}
    state = state.replace(q=state.q.replace(params=q))
    batch, key = make_batch(size=4, action_dim=1), jax.random.key(1)
    loss, log_prob = cql.actor_loss({}, state, batch, key, cloning)
    u = 0.3 + np.exp(-1) * np.asarray(jax.random.normal(key, (4, 1)), np.float64)[:, 0]
    data = np.arctanh(np.asarray(batch.actions, np.float64)[:, 0])

    def density(u):
        return -0.5 * ((u - 0.3) / np.exp(-1)) ** 2 + 1 - 0.5 * np.log(2 * np.pi) - np.log(1 - np.tanh(u) ** 2)

    value = density(data) if cloning else np.minimum(3 * np.tanh(u), 4 * np.tanh(u) + 0.1)
    np.testing.assert_allclose(log_prob, density(u), rtol=1e-4)
    np.testing.assert_allclose(loss, (density(u) - value).mean(), rtol=1e-4)


def test_importance_weights_make_the_sum_that_of_the_box(monkeypatch):
    """log of the integral of exp(q a) over [-1, 1], from uniform proposals and from those of a wide policy."""
    wide = SquashedGaussian(Gaussian(jnp.zeros((1, 1, 1)), jnp.zeros((1, 1, 1))), 1.0)
    monkeypatch.setattr(cql, "policy", lambda state, params, observations: wide)
    slope, count = 1.5, 200_000
    expected = np.log(2 * np.sinh(slope) / slope)
    config = settings.make(cql, actor_widths=(8,), value_widths=(8,), actor_samples=count)
    state = cql.init(config, jax.random.key(0), 3, 1)
    actions, densities = cql.proposals(state, make_batch(size=1, action_dim=1), jax.random.key(1))
    for part in range(3):
        rows = slice(part * count, (part + 1) * count)
        values = slope * actions[:, rows, 0]
        found = cql.gap(values, densities[:, rows], jnp.zeros(1)) - np.log(count)
        weights = np.exp(values - densities[:, rows] - expected)  # of mean 1
        np.testing.assert_allclose(found, expected, atol=4 * weights.std() / np.sqrt(count))
        assert weights.std() < 2  # so that this is a narrow interval


def test_the_squashed_density_integrates_to_one_and_is_that_of_its_samples():
    found = SquashedGaussian(Gaussian(jnp.array([[0.4]]), jnp.array([[-0.5]])), 2.0)
    grid = jnp.linspace(-2 + 1e-4, 2 - 1e-4, 20_001)[:, None]
    density = jnp.exp(found.log_prob(grid))
    np.testing.assert_allclose(jnp.trapezoid(density, grid[:, 0]), 1, atol=1e-3)
    actions, log_prob = found.sample(jnp.linspace(-2, 2, 9)[:, None])
    np.testing.assert_allclose(log_prob, found.log_prob(actions), rtol=1e-3)


def test_without_the_penalty_q_is_that_of_the_policy_on_two_states():
    """Q(1, .) is the reward; Q(0, 1) the discounted value of the policy's own draws at state 1."""
    sizes = {"actor_widths": (32,), "value_widths": (32, 32), "actor_lr": 3e-3, "value_lr": 3e-3, "ema_rate": 0.05}
    config = settings.make(cql, **sizes, weight=0.0, discount=0.9, actor_samples=1)
    state, batch = cql.init(config, jax.random.key(0), 2, 1), two_states()
    state, metrics = jax.jit(
        lambda state: jax.lax.scan(lambda s, _: cql.update(s, batch, jax.random.key(1)), state, None, length=3_000)
    )(state)
    q = cql.q_values(state, batch.observations, batch.actions)[::8]
    np.testing.assert_allclose(q[1:], [0.1, 1.0, 0.0], atol=0.03)
    draws, _ = cql.draw(state, jnp.eye(2)[1:], jax.random.key(2), 4_000)
    following = cql.q_values(state, jnp.broadcast_to(jnp.eye(2)[1], (4_000, 2)), draws[0]).mean()
    np.testing.assert_allclose(q[0], 0.9 * following, atol=0.03)
    # The temperature holds the entropy at -A.
    np.testing.assert_allclose(metrics["entropy"][-500:].mean(), -1, atol=0.15)


@pytest.mark.parametrize("bound", [1.0, 4.5])
def test_the_temperature_rests_at_an_entropy_of_minus_a_in_half_widths_of_the_box(monkeypatch, bound):
    state = cql.init(
        settings.make(cql, actor_widths=(8,), value_widths=(8,), action_bound=bound), jax.random.key(0), 3, 2
    )
    batch, target = make_batch(size=8), -2 * (1 - np.log(bound))
    for above, direction in ((0.1, -1), (0.0, 0), (-0.1, 1)):
        found = jnp.full(8, -(target + above), jnp.float32)
        monkeypatch.setattr(cql, "actor_loss", lambda *_, found=found: (jnp.zeros(()), found))
        moved, _ = cql.update(state, batch, jax.random.key(0))
        assert np.sign(np.round(moved.temperature.params["log"], 6)) == direction


def test_a_policy_may_be_as_narrow_as_the_authors():
    state = cql.init(settings.make(cql, actor_widths=(8,)), jax.random.key(0), 3, 1)
    params = jax.tree.map(jnp.zeros_like, state.actor.params)
    params["params"]["body"]["output"]["bias"] = jnp.array([0.0, -30.0])
    np.testing.assert_array_equal(cql.policy(state, params, jnp.zeros((1, 3))).before.log_std, -20)


def test_a_learned_weight_rises_while_the_gap_is_above_the_threshold():
    for threshold, direction in ((1e3, -1), (0.0, 1)):
        config = settings.make(cql, actor_widths=(8,), value_widths=(8,), lagrange_threshold=threshold)
        state = cql.init(config, jax.random.key(0), 3, 2)
        moved, metrics = jax.jit(cql.update)(state, make_batch(size=8), jax.random.key(0))
        assert np.sign(moved.multiplier.params["log"]) == direction and metrics["q_weight"] == 1
