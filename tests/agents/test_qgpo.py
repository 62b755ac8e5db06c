"""QGPO where the answer is known: losses by hand, and guided sampling of a Gaussian, which stays one."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import make_batch

from bdpo_jax import settings
from bdpo_jax.agents import common, qgpo
from bdpo_jax.settings import read, read_traced
from bdpo_jax.vpsde import VPSDE

DEVIATION, SLOPE = 0.3, 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExactStatic(qgpo.Static):
    """One action dimension; behavior N(0, DEVIATION^2), beta Q = SLOPE a, and the exact noise and energy of both."""

    @property
    def noise_predictor(self):
        def noise(params, observations, noisy, t):
            alpha, sigma = self.process.marginal(t)
            return sigma * noisy / (jnp.square(alpha * DEVIATION) + jnp.square(sigma))

        return SimpleNamespace(apply=noise)

    @property
    def q_network(self):
        return SimpleNamespace(apply=lambda params, observations, actions: params * actions)


def exact_state(**changes):
    config = settings.make(qgpo, **changes)
    model = common.create({}, jnp.inf)
    return qgpo.State(
        step=jnp.int32(0),
        behavior=model,
        q=common.create(jnp.array([1.0, -0.5]), jnp.inf),  # members a and -a/2
        energy=model,
        hyper=read_traced(qgpo.Hyper, config),
        static=read(ExactStatic, config, action_dim=1),
    )


def exact_energy(state, params, observations, noisy, t):
    """`log E[exp(SLOPE a) | a^t]` but for a constant: SLOPE times the mean of a, Gaussian given a^t."""
    alpha, sigma = VPSDE().marginal(t)
    return SLOPE * (alpha * DEVIATION**2 / (jnp.square(alpha * DEVIATION) + jnp.square(sigma)) * noisy)[..., 0]


@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_guided_draws_are_the_tilted_gaussian(monkeypatch, guidance):
    """N(0, v) times exp(w c a) is N(w c v, v)."""
    monkeypatch.setattr(qgpo, "energies", exact_energy)
    state, size = exact_state(guidance=guidance, action_bound=9.0), 20_000
    actions = qgpo.act(state, jnp.zeros((size, 2)), jax.random.key(0))
    standard_error = DEVIATION / np.sqrt(size)
    assert float(actions.mean()) == pytest.approx(guidance * SLOPE * DEVIATION**2, abs=4 * standard_error + 0.01)
    assert float(actions.std()) == pytest.approx(DEVIATION, abs=0.01)


def test_the_energy_is_best_where_it_is_the_value_but_for_a_constant_of_the_state():
    """There the gradient is 0 and the loss the entropy of the values' softmax; elsewhere it is larger."""
    values = jax.random.normal(jax.random.key(0), (5, 4))
    best = values + jnp.arange(5.0)[:, None]
    loss, gradient = jax.value_and_grad(qgpo.contrastive_loss)(best, values)
    p = np.exp(np.float64(values)) / np.exp(np.float64(values)).sum(axis=1, keepdims=True)
    assert float(loss) == pytest.approx(-(p * np.log(p)).sum(axis=1).mean(), rel=1e-5)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
    assert float(qgpo.contrastive_loss(2 * best, values)) > float(loss)


def test_the_energy_s_loss_is_that_of_the_support_s_least_values_at_s(monkeypatch):
    """Members a and -a/2 at actions 1, -1 and 0: the least are -1/2, -1 and 0, times beta."""
    state = exact_state(inverse_temperature=2.0)
    batch = make_batch(size=2, action_dim=1).replace(
        extra={"support": jnp.tile(jnp.array([1.0, -1.0, 0.0])[None, :, None], (2, 1, 1))}
    )
    energies = np.array([[0.5, 0.0, -1.0], [0.2, 0.3, 0.4]])
    asked = []

    def energy(state, params, observations, noisy, t):
        asked.append((observations, noisy.shape, t.shape))
        return jnp.asarray(energies)

    monkeypatch.setattr(qgpo, "energies", energy)
    loss = qgpo.energy_loss({}, state, batch, jax.random.key(0))
    weights = np.exp([-1.0, -2.0, 0.0]) / np.exp([-1.0, -2.0, 0.0]).sum()
    expected = -(weights * (energies - np.log(np.exp(energies).sum(axis=1, keepdims=True)))).sum(axis=1).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    ((observations, shape, times),) = asked
    np.testing.assert_array_equal(observations[:, 0], batch.observations)
    assert shape == (2, 3, 1) and times == (2, 1)


def test_the_backup_is_the_softmax_of_the_least_values():
    """Members a and -a/2 at actions 1, -1 and 0: the least are -1/2, -1 and 0."""
    state = exact_state(backup_inverse_temperature=2.0, discount=0.9)
    batch = make_batch(size=2, action_dim=1).replace(rewards=jnp.array([1.0, 3.0]), terminals=jnp.array([0.0, 1.0]))
    support = jnp.tile(jnp.array([1.0, -1.0, 0.0])[None, :, None], (2, 1, 1))
    weights = np.exp([-1.0, -2.0, 0.0])
    value = (weights * [-0.5, -1.0, 0.0]).sum() / weights.sum()
    found = qgpo.q_target(state, batch.replace(extra={"next_support": support}))
    np.testing.assert_allclose(found, [1 + 0.9 * value, 3.0], rtol=1e-6)


def test_the_support_is_the_behavior_model_at_each_state():
    """Its deviation is known, its rows differ, and a row does not depend on the others."""
    state = exact_state(actor_samples=8, action_bound=9.0)
    dataset = make_batch(size=5_000)  # more than a chunk
    (support,) = qgpo.prepare_support(state, dataset, jax.random.key(0)).values()
    assert support.shape == (5_000, 8, 1)
    assert float(support.std()) == pytest.approx(DEVIATION, abs=0.01)
    assert len(np.unique(support)) > 0.99 * support.size
    first = qgpo.prepare_support(state, make_batch(size=3), jax.random.key(0))["support"]
    np.testing.assert_allclose(first, support[:3], rtol=1e-4, atol=1e-5)


def test_a_one_step_task_regresses_rewards():
    batch = make_batch(size=2, action_dim=1)
    np.testing.assert_array_equal(qgpo.q_target(exact_state(one_step=True), batch), batch.rewards)
    config = settings.make(qgpo, one_step=True)
    assert [phase.prepare for phase in qgpo.phases(config)] == [None, None, qgpo.prepare_support]
