"""IQL where the answer is known: two states, whose expectiles and weights can be worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bdpo_jax import settings
from bdpo_jax.agents import critics, iql
from bdpo_jax.types import Batch

TAU, BETA, DISCOUNT = 0.8, 2.0, 0.9

# (state, action, reward, next state, terminal), each as often as the others.
ROWS = [(0, 1, 0.0, 1, 0), (0, -1, 0.1, 0, 1), (1, 1, 1.0, 0, 1), (1, -1, 0.0, 0, 1)]


def two_states():
    one_hot, columns = np.eye(2), list(zip(*ROWS, strict=True))
    arrays = one_hot[list(columns[0])], np.array(columns[1])[:, None], columns[2], one_hot[list(columns[3])], columns[4]
    return Batch(*(jnp.asarray(np.repeat(array, 8, axis=0), jnp.float32) for array in arrays))


@pytest.fixture(scope="module")
def trained():
    sizes = {"actor_widths": (32, 32), "value_widths": (32, 32), "actor_lr": 1e-3, "value_lr": 3e-3, "ema_rate": 0.05}
    numbers = {"expectile": TAU, "inverse_temperature": BETA, "discount": DISCOUNT, "train_steps": 6_000}
    state = iql.init(settings.make(iql, **sizes, **numbers), jax.random.key(0), 2, 1)
    batch, key = two_states(), jax.random.key(1)
    state, metrics = jax.jit(
        lambda state, batch: jax.lax.scan(lambda s, _: iql.update(s, batch, key), state, None, length=6_000)
    )(state, batch)
    return state, metrics


def test_values_are_the_expectiles_and_their_backup(trained):
    """The tau-expectile of two equally likely values is tau max + (1 - tau) min."""
    state, _ = trained
    v_1 = TAU * 1.0
    q_0 = np.array([DISCOUNT * v_1, 0.1])
    v_0 = TAU * q_0.max() + (1 - TAU) * q_0.min()
    batch = two_states()
    found_q = iql.q_values(state, batch.observations, batch.actions)[::8]
    found_v = state.static.v_network.apply(state.v.params, jnp.eye(2))[:, 0]
    np.testing.assert_allclose(found_q, [*q_0, 1.0, 0.0], atol=0.02)
    np.testing.assert_allclose(found_v, [v_0, v_1], atol=0.02)


def test_the_policy_is_the_weighted_mean_of_the_data(trained):
    """The likelihood's best mean weighs actions 1 and -1 by exp(beta (Q - V)), in which V cancels."""
    state, _ = trained
    gaps = np.array([DISCOUNT * TAU - 0.1, 1.0])  # Q(s, 1) - Q(s, -1)
    expected = np.tanh(BETA * gaps / 2)
    found = iql.act(state, jnp.eye(2), jax.random.key(0))[:, 0]
    np.testing.assert_allclose(found, expected, atol=0.03)
    deviation = jnp.exp(state.static.policy_network.apply(state.actor.params, jnp.eye(2)).log_std)
    variances = 1 - expected**2  # of weighted actions 1 and -1, pooled over the states by their weights
    weights = [np.cosh(BETA * gap / 2) * np.exp(BETA * (TAU - 0.5) * -gap) for gap in gaps]
    np.testing.assert_allclose(jnp.square(deviation[0, 0]), np.average(variances, weights=weights), atol=0.03)


def test_large_advantages_are_capped(trained):
    state, _ = trained
    hot = state.replace(hyper=state.hyper.replace(inverse_temperature=jnp.float32(1e4)))
    _, metrics = iql.actor_loss(state.actor.params, hot, two_states())
    assert float(metrics["weight"]) == pytest.approx(iql.LARGEST_WEIGHT / 2, rel=1e-3), "half of the rows are better"


def test_the_order_of_the_updates_and_the_average():
    """The policy's and Q's losses are those of the new V; Q's average moves after Q."""
    state, batch = iql.init(settings.make(iql), jax.random.key(0), 2, 1), two_states()
    moved, metrics = jax.jit(iql.update)(state, batch, jax.random.key(0))
    new_v = state.replace(v=moved.v)
    loss_v = critics.implicit_v_loss(state.v.params, state, state.q.ema, batch)
    assert float(metrics["v_loss"]) == pytest.approx(float(loss_v), rel=1e-5)
    assert float(metrics["actor_loss"]) == pytest.approx(
        float(iql.actor_loss(state.actor.params, new_v, batch)[0]), rel=1e-5
    )
    for new, old, average in zip(
        *(jax.tree.leaves(q) for q in (moved.q.params, state.q.ema, moved.q.ema)), strict=True
    ):
        np.testing.assert_allclose(average, 0.995 * old + 0.005 * new, rtol=1e-5, atol=1e-7)
