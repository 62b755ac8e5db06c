"""DTQL where the answer is known: the trust region at the data, what each phase moves, the values of two states."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import make_batch
from test_iql import DISCOUNT, TAU, two_states

from bdpo_jax import ensembles, settings
from bdpo_jax.agents import dtql
from bdpo_jax.agents.gaussian_head import Gaussian, SquashedGaussian

TINY = {"actor_widths": (8,), "value_widths": (8,), "behavior_widths": (8,)}


def start(**changes):
    return dtql.init(settings.make(dtql, **TINY | changes), jax.random.key(0), 3, 2)


def with_policy(monkeypatch, of):
    """Lets the policy be the squashed Gaussian of mean and log deviation `of(params, observations)`."""
    network = SimpleNamespace(apply=lambda p, s: SquashedGaussian(Gaussian(*of(p, s)), 1.0))
    monkeypatch.setattr(dtql.Static, "policy_network", network)


@pytest.mark.parametrize("alpha, slope, weight", [(2.0, 3.0, 0.0), (0.0, 0.0, 0.5)])
def test_the_policy_s_loss_by_hand(monkeypatch, alpha, slope, weight):
    """Its gradient in the mean and log deviation that both components share.

    Q is `slope` times the first component, the trust region `|c - b|^2`.
    """
    c, batch = 0.3, make_batch(size=64)
    state = start(alpha=alpha, likelihood_weight=weight)
    with_policy(monkeypatch, lambda p, s: jnp.broadcast_to(p[:, None, None], (2, len(s), 2)))
    monkeypatch.setattr(dtql, "behavior_loss", lambda params, static, s, b, key: jnp.square(b - c).sum(axis=-1))
    monkeypatch.setattr(dtql.Static, "q_network", SimpleNamespace(apply=lambda p, s, a: slope * a + p["x"]))
    state = state.replace(q=state.q.replace(params={"x": jnp.zeros(2)}))
    mean, log_std = 0.2, -12.0 if slope else -0.5  # so narrow that b = tanh(mean)
    found = jax.grad(lambda p: dtql.actor_loss(p, state, batch, jax.random.key(0))[0])(jnp.array([mean, log_std]))
    b, u = np.tanh(mean), np.arctanh(np.asarray(batch.actions, np.float64) / 1.001)
    z = (u - mean) / np.exp(log_std)
    expected = (4 * alpha * (b - c) - slope) * (1 - b**2) - weight * (z / np.exp(log_std)).sum(axis=1).mean()
    np.testing.assert_allclose(found, [expected, -weight * (z**2 - 1).sum(axis=1).mean()], rtol=1e-4, atol=1e-4)


def test_data_beyond_the_box_count_as_on_its_border():
    """Tails of the 2D sets lie there; unsquashed as they are, they would make the loss NaN, even with weight 0."""
    for weight in (0.0, 0.5):
        state = start(likelihood_weight=weight)

        def of(action, state=state):
            batch = make_batch(size=4).replace(actions=jnp.full((4, 2), action))
            return jax.value_and_grad(lambda p: dtql.actor_loss(p, state, batch, jax.random.key(0))[0])(
                state.actor.params
            )

        (loss, gradients), (expected, _) = of(1.5), of(1.0)
        np.testing.assert_allclose(loss, expected, rtol=1e-4)  # 500 roundings: the slope of the inverse tanh there
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradients))


def test_the_trust_region_at_the_data_is_the_behavior_s_loss(monkeypatch):
    """Where the policy gives the data's actions, with the same noise."""
    state, batch, key = start(), make_batch(size=16), jax.random.key(4)
    actions = 0.9 * batch.actions
    with_policy(monkeypatch, lambda params, observations: (jnp.arctanh(actions), jnp.full(actions.shape, -50.0)))
    _, parts = jax.jit(dtql.actor_loss)(state.actor.params, state, batch, key)
    trust_key = jax.random.split(key)[1]
    expected = dtql.behavior_loss(state.behavior.params, state.static, batch.observations, actions, trust_key).mean()
    assert float(parts["trust_loss"]) == pytest.approx(float(expected), rel=1e-5)
    values = ensembles.apply(state.static.q_network, state.q.params, batch.observations, actions)
    assert float(parts["actor_q"]) == pytest.approx(float(values.min(axis=0).mean()), rel=1e-5)


def moves(new, old):
    return any(bool((a != b).any()) for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True))


def test_the_first_phase_moves_neither_the_policy_nor_q_s_average():
    state, batch = start(), make_batch(size=16)
    for update, second in ((dtql.pretrain, False), (dtql.update, True)):
        new, _ = jax.jit(update)(state, batch, jax.random.key(0))
        assert moves(new.actor, state.actor) == moves(new.q.ema, state.q.ema) == second
        assert all(moves(getattr(new, name).params, getattr(state, name).params) for name in ("behavior", "q", "v"))


def test_all_rates_are_0_at_the_end_of_the_horizon():
    """Of one update of the policy: the second moves nothing."""
    batch, update = make_batch(size=16), jax.jit(dtql.update)
    first, _ = update(start(decay_steps=1.0), batch, jax.random.key(0))
    second, _ = update(first, batch, jax.random.key(0))
    for name in ("behavior", "actor", "q", "v"):
        assert not moves(getattr(second, name).params, getattr(first, name).params), name


def test_values_of_two_states_are_their_expectiles():
    config = settings.make(
        dtql, **TINY | {"value_widths": (32,)}, expectile=TAU, discount=DISCOUNT, value_lr=1e-2, ema_rate=0.05
    )
    state, batch = dtql.init(config, jax.random.key(0), 2, 1), two_states()
    state, _ = jax.jit(
        lambda state: jax.lax.scan(lambda s, _: dtql.update(s, batch, jax.random.key(1)), state, None, length=1_500)
    )(state)
    found = dtql.q_values(state, batch.observations, batch.actions)[::8]
    np.testing.assert_allclose(found, [DISCOUNT * TAU, 0.1, 1.0, 0.0], atol=0.03)
