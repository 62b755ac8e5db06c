"""DAC where the answer is known: the regression's minimum, the dual variable's steps, targets of a linear Q."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import make_batch, set_hyper

from bdpo_jax import settings
from bdpo_jax.agents import common, dac
from bdpo_jax.agents.denoiser import draw

SLOPES = np.array([[1.0, -0.5], [3.0, 0.5]])  # of two members' Q; the mean is (2, 0)
ACTION = np.array([0.6, -0.2])  # of all data: so the noise in a^n is known from a^n
TINY = {"actor_widths": (8,), "value_widths": (8,), "ensemble_size": 2, "actor_samples": 4, "diffusion_steps": 3}


@dataclasses.dataclass(frozen=True)
class LinearStatic(dac.Static):
    """Q(s, a) = slope . a."""

    @property
    def q_network(self):
        return SimpleNamespace(apply=lambda params, s, a: (a @ params["slope"])[..., None])


@dataclasses.dataclass(frozen=True)
class ShiftStatic(LinearStatic):
    """The exact noise of the constant action, and a shift for each n."""

    @property
    def noise_predictor(self):
        def apply(params, observations, noisy, n):
            alpha_bar = jnp.asarray(self.schedule.alpha_bars)[n][..., None]
            action = jnp.broadcast_to(jnp.float32(ACTION), noisy.shape)
            noise = (noisy - jnp.sqrt(alpha_bar) * action) / jnp.sqrt(1 - alpha_bar)
            return noise + jnp.broadcast_to(params["shift"][n], noisy.shape)

        return SimpleNamespace(apply=apply)


def linear_state(static=LinearStatic, **changes):
    state = dac.init(settings.make(dac, **TINY, **changes), jax.random.key(0), 3, 2)
    q = common.create({"slope": jnp.float32(SLOPES)}, 1.0)
    return state.replace(q=q, static=static(**dataclasses.asdict(state.static)))


def test_the_loss_is_least_where_the_noise_is_shifted_by_half_the_guidance_over_eta():
    """Both means are over all B A elements, so its slope is `(2 eta (eps - z) + guide) / (B A)`: A moves no minimum."""
    keys, eta = jax.random.split(jax.random.key(0), 3), 0.3
    noise, guide, direction = (jax.random.normal(key, (16, 3)) for key in keys)
    slope = jax.grad(lambda eps: dac.guided_loss(eps, noise, guide, eta)[0])
    least = noise - guide / (2 * eta)
    np.testing.assert_allclose(slope(least), 0, atol=1e-7)  # terms of .02 to .1 cancel in float32
    np.testing.assert_allclose(slope(least + direction), 2 * eta * direction / 48, rtol=1e-4, atol=1e-7)


def test_the_guidance_is_the_critics_slope_over_their_mean_size():
    state, batch, n = linear_state(), make_batch(size=6), jnp.array([1, 2, 3, 1, 2, 3])
    found = dac.guidance(state, batch, jax.random.normal(jax.random.key(0), (6, 2)), n)
    size = np.abs(np.asarray(batch.actions) @ SLOPES.T).mean()
    noise_share = 1 - np.asarray(state.static.schedule.alpha_bars)[n]
    np.testing.assert_allclose(found, np.sqrt(noise_share)[:, None] * SLOPES.mean(axis=0) / size, rtol=1e-5)


def test_training_the_actor_gets_to_the_shift():
    eta, updates = 2.0, 1_000
    state = linear_state(ShiftStatic, eta=eta, eta_lr=0.0, actor_lr=0.02, train_steps=updates)
    state = state.replace(actor=common.create({"shift": jnp.zeros((4, 2))}, 1.0, online=True))
    batch = make_batch(size=32).replace(actions=jnp.tile(jnp.float32(ACTION), (32, 1)))

    def step(state, key):
        return dac.update_actor(state, batch, key)

    state, _ = jax.jit(lambda s, keys: jax.lax.scan(step, s, keys))(state, jax.random.split(jax.random.key(1), updates))
    size = np.abs(SLOPES @ ACTION).mean()
    noise_share = 1 - np.asarray(state.static.schedule.alpha_bars)[1:, None]
    expected = -np.sqrt(noise_share) * SLOPES.mean(axis=0) / size / (2 * eta)
    # Given n all rows have the same minimum, so nothing is left of the draws' noise.
    np.testing.assert_allclose(state.actor.params["shift"][1:], expected, atol=2e-3)
    assert np.abs(expected).max() > 0.3 and state.eta == eta
    np.testing.assert_array_equal(state.actor.ema["shift"], 0)  # it begins to move after `average_from` updates


@pytest.mark.parametrize(
    "eta, cloning, expected",
    [
        (1.0, 0.7, 1.0002),  # too far from the data, by .2
        (1.0, 0.1, 0.9996),
        (1.0, 5.0, 1.001),  # steps end at 1
        (1.0, -5.0, 0.999),
        (0.0011, 0.0, 0.001),  # and at the range
        (99.9999, 9.0, 100.0),
    ],
)
def test_the_dual_variable_climbs_where_the_constraint_is_broken(eta, cloning, expected):
    hyper = settings.read_traced(dac.Hyper, SimpleNamespace(cloning_target=0.5))
    assert float(dac.next_eta(jnp.float32(eta), jnp.float32(cloning), hyper)) == pytest.approx(expected, rel=1e-6)


def test_the_dual_variable_starts_as_said_and_sees_the_loss_after_the_actor_s_step():
    state = linear_state(ShiftStatic, eta=0.5, eta_lr=1.0, cloning_target=0.0, actor_lr=0.1)
    state = state.replace(actor=common.create({"shift": jnp.full((4, 2), 0.5)}, 1.0, online=True))
    batch = make_batch().replace(actions=jnp.tile(jnp.float32(ACTION), (8, 1)))
    moved, metrics = jax.jit(dac.update_actor)(state, batch, jax.random.key(0))
    assert state.eta == 0.5
    # The first step of Adam is as long as its rate: the shifts fall to .4 where the cloning loss alone would be felt;
    # the guidance pulls them down, too, but for the second dimension, whose mean slope is 0.
    assert float(metrics["cloning_loss"]) == pytest.approx(0.4**2, rel=1e-3)
    assert float(moved.eta) == pytest.approx(0.5 + 0.4**2, rel=1e-3)


@pytest.mark.parametrize("maximum", [False, True])
def test_targets_are_the_bound_of_the_average_actor_s_actions(maximum):
    state, batch, key = linear_state(max_q_backup=maximum), make_batch(size=32), jax.random.key(3)
    state = set_hyper(state, rho=0.5, discount=0.9)
    state = state.replace(actor=state.actor.replace(params=jax.tree.map(lambda p: p * jnp.nan, state.actor.params)))
    actions = np.asarray(draw(state.static, state.actor.ema, batch.next_observations, key, 4))
    values = np.einsum("bma,ka->kbm", actions, SLOPES)
    values = values.max(axis=-1) if maximum else values.mean(axis=-1)
    bound = values.mean(axis=0) - 0.5 * values.std(axis=0)
    expected = batch.rewards + 0.9 * (1 - batch.terminals) * bound
    np.testing.assert_allclose(dac.q_target(state, batch, key), expected, rtol=1e-4, atol=1e-5)
    assert 0 < batch.terminals.sum() < 32


def test_one_step_tasks_sample_no_path():
    state, batch = linear_state(one_step=True), make_batch()
    np.testing.assert_array_equal(dac.q_target(state, batch, jax.random.key(0)), batch.rewards)


def test_the_policy_is_the_parameters_best_of_several():
    state, key = linear_state(greedy_candidates=5), jax.random.key(4)
    state = state.replace(actor=state.actor.replace(ema=jax.tree.map(lambda p: p * jnp.nan, state.actor.ema)))
    observations = make_batch(size=6).observations
    candidates = np.asarray(draw(state.static, state.actor.params, observations, key, 5))
    best = (candidates @ SLOPES.mean(axis=0)).argmax(axis=1)
    assert len(set(best)) > 1
    np.testing.assert_array_equal(dac.act(state, observations, key), candidates[np.arange(6), best])
