"""FQL where the answer is known: a linear velocity, a flow between Gaussians, a quadratic Q, a table, two states."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import TWO_STATE_VALUES, assert_trees, make_batch, two_state_values

from bdpo_jax import settings
from bdpo_jax.agents import common, fql
from configs import antmaze, locomotion

TINY = {"actor_widths": (8,), "value_widths": (8,)}
M, S = np.array([0.3, -0.6]), np.array([0.2, 0.5])  # of the data
WISH, CURVATURE = np.array([0.1, 0.2]), 3.0  # Q(a) = -curvature / 2 |a - wish|^2 + offset of a member
OFFSETS = np.array([0.5, -1.5])


def wide(x, like):
    return jnp.broadcast_to(jnp.asarray(x, jnp.float32), like.shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExactStatic(fql.Static):
    """A flow `gain x + shift + slope t`, a policy `gain z + shift`, a quadratic Q."""

    @property
    def velocity_network(self):
        return SimpleNamespace(
            apply=lambda p, s, x, t: wide(p["gain"], x) * x + wide(p["shift"], x) + wide(p["slope"], x) * t
        )

    @property
    def policy_network(self):
        return SimpleNamespace(apply=lambda p, s, z: wide(p["gain"], z) * z + wide(p["shift"], z))

    @property
    def q_network(self):
        def apply(p, s, a):
            square = jnp.square(a - wide(WISH, a)).sum(axis=-1, keepdims=True)
            return -CURVATURE / 2 * square + jnp.broadcast_to(p["offset"], square.shape)

        return SimpleNamespace(apply=apply)


def exact_state(flow=(0, 0, 0), policy=(0, 0), bound=9.0, **changes):
    state = fql.init(settings.make(fql, **TINY, action_bound=bound, **changes), jax.random.key(0), 3, 2)

    def model(average=False, **params):
        params = {name: jnp.asarray(value, jnp.float32) for name, value in params.items()}
        return common.create(params, jnp.inf, average=average)

    return state.replace(
        static=ExactStatic(**dataclasses.asdict(state.static)),
        flow=model(gain=flow[0], shift=flow[1], slope=flow[2]),
        actor=model(gain=policy[0], shift=policy[1]),
        q=model(average=True, offset=OFFSETS),
    )


def test_the_path_of_a_linear_velocity():
    """x_{i+1} = (1 + c / T) x_i + (shift + slope i / T) / T, from the noise, in T steps; then the clip."""
    gain, shift, slope, steps = -0.7, 0.2, 0.6, 5
    state = exact_state((gain, shift, slope), bound=0.6, flow_steps=steps)
    noise = jax.random.normal(jax.random.key(0), (7, 2))
    factor = 1 + gain / steps
    pushes = [factor ** (steps - 1 - i) * (shift + slope * i / steps) / steps for i in range(steps)]
    expected = factor**steps * np.asarray(noise) + sum(pushes)
    assert (np.abs(expected) > 0.6).any() and (np.abs(expected) < 0.6).any()
    found = fql.flow_end(state.static, state.flow.params, jnp.zeros((7, 3)), noise)
    np.testing.assert_allclose(found, expected.clip(-0.6, 0.6), rtol=1e-5)
    np.testing.assert_allclose(
        fql.act_as_behavior(state, jnp.zeros((7, 3)), jax.random.key(0)), expected.clip(-0.6, 0.6), rtol=1e-5
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class GaussianFlow(fql.Static):
    """The best velocity for data N(M, S^2): E[a - z | x_t = x], with a mistake `params [2]` in its shift and gain."""

    @property
    def velocity_network(self):
        def apply(params, observations, x, t):
            mean, variance = wide(M, x), wide(S**2, x)
            slope = (t * variance - (1 - t)) / ((1 - t) ** 2 + t**2 * variance)
            return mean + slope * (x - t * mean) + params[0] + params[1] * x

        return SimpleNamespace(apply=apply)


def test_cloning_is_best_at_the_flow_between_gaussians():
    """There its loss is the variance that is left of a - z, S^2 / ((1 - t)^2 + t^2 S^2), and its gradient 0."""
    rows = 100_000
    actions = M + S * np.random.default_rng(0).normal(size=(rows, 2))
    batch = make_batch(size=rows).replace(actions=jnp.asarray(actions, jnp.float32))
    static = GaussianFlow(action_dim=2, action_bound=9.0, flow_steps=400)
    loss, gradient = jax.value_and_grad(fql.flow_loss)(jnp.zeros(2), static, batch, jax.random.key(0))
    times = (np.arange(10_000)[:, None] + 0.5) / 10_000
    left = S**2 / ((1 - times) ** 2 + times**2 * S**2)
    # A term of the loss is left times a squared normal, one of the gradient at most 2 sqrt(left) times two normals.
    error = np.sqrt(3 * (left**2).mean() / rows)
    assert float(loss) == pytest.approx(left.mean(), abs=5 * error)
    np.testing.assert_allclose(gradient, 0, atol=5 * 2 * np.sqrt(left.mean() / rows))
    # And its path takes noise z to M + S z, but for Euler's error of about 1 / T.
    noise = jax.random.normal(jax.random.key(1), (50, 2))
    found = fql.flow_end(static, jnp.zeros(2), jnp.zeros((50, 3)), noise)
    np.testing.assert_allclose(found, M + S * np.asarray(noise), atol=0.01)


@pytest.mark.parametrize("normalize", [False, True])
def test_the_policy_s_optimum_under_a_quadratic_q(normalize):
    """Distillation pulls to z + shift with 2 alpha / A, Q to the wish with its curvature: for every z their mean."""
    shift, alpha = np.array([0.2, -0.3]), 2.0
    state = exact_state((0, shift, 0), alpha=alpha, normalize_q=normalize)
    key, observations = jax.random.key(3), jnp.zeros((6, 3))
    gradient = jax.jit(jax.grad(lambda p: fql.actor_loss(p, state, observations, key)[0]))
    weight = 1.0
    if normalize:  # of the policy that is looked at, all its values being below 0
        weight = 0.3
        state = state.replace(q=state.q.replace(params={"offset": jnp.full(2, -20.0)}))
    pull = weight * CURVATURE
    share = alpha / (alpha + pull)  # 2 alpha / A is alpha for two dimensions
    params = {"gain": jnp.float32(share), "shift": jnp.asarray(share * shift + (1 - share) * WISH, jnp.float32)}
    if not normalize:
        for slope in jax.tree.leaves(gradient(params)):
            np.testing.assert_allclose(slope, 0, atol=1e-5)
        return
    # Then the pull is divided by the mean magnitude: the gradient is that of the sum with this weight.
    noise = np.asarray(jax.random.normal(key, (6, 2)))
    actions = share * noise + np.asarray(params["shift"])
    values = -CURVATURE / 2 * np.square(actions - WISH).sum(axis=1) - 20
    slopes = alpha * (actions - noise - shift) + CURVATURE * (actions - WISH) / np.abs(values).mean()
    np.testing.assert_allclose(gradient(params)["shift"], slopes.mean(axis=0), rtol=1e-4)


def test_the_target_is_of_the_policy_itself_and_of_q_s_average():
    state = exact_state(policy=(0, WISH), bound=0.15)  # clipped in its second component
    state = state.replace(q=state.q.replace(params=jax.tree.map(lambda p: p * jnp.nan, state.q.params)))
    batch = make_batch(size=4).replace(terminals=jnp.array([0.0, 1.0, 0.0, 1.0]))
    cost = -CURVATURE / 2 * 0.05**2
    for aggregation, offset in (("mean", OFFSETS.mean()), ("min", OFFSETS.min())):
        one = state.replace(static=dataclasses.replace(state.static, aggregation=aggregation))
        expected = batch.rewards + 0.99 * (1 - batch.terminals) * (offset + cost)
        np.testing.assert_allclose(fql.q_target(one, batch, jax.random.key(0)), expected, rtol=1e-5)
    one_step = state.replace(static=dataclasses.replace(state.static, one_step=True))
    np.testing.assert_array_equal(fql.q_target(one_step, batch, jax.random.key(0)), batch.rewards)


def test_two_states_are_recovered_and_every_loss_is_of_the_state_before():
    sizes = {"actor_widths": (16,), "value_widths": (32,), "flow_steps": 2}
    config = settings.make(fql, **sizes, value_lr=0.01, ema_rate=0.05, discount=0.5)
    state = fql.init(config, jax.random.key(0), 2, 2)
    np.testing.assert_allclose(two_state_values(fql, state, 800), TWO_STATE_VALUES, atol=0.03)

    batch, key = make_batch(size=8, observation_dim=2), jax.random.key(5)
    moved, metrics = jax.jit(fql.update)(state, batch, key)
    _, flow_key, actor_key = jax.random.split(jax.random.fold_in(key, 0), 3)
    loss, _ = fql.actor_loss(state.actor.params, state, batch.observations, actor_key)
    assert float(metrics["actor_loss"]) == pytest.approx(float(loss), rel=1e-4)
    loss = fql.flow_loss(state.flow.params, state.static, batch, flow_key)
    assert float(metrics["flow_loss"]) == pytest.approx(float(loss), rel=1e-4)
    expected = jax.tree.map(lambda old, new: 0.95 * old + 0.05 * new, state.q.ema, moved.q.params)
    assert_trees(lambda a, b, **kw: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6, **kw), moved.q.ema, expected)


def test_the_released_values():
    for task, alpha in (("antmaze-umaze-v2", 10.0), ("antmaze-large-play-v2", 3.0)):
        found = antmaze.get_config(f"{task},fql")
        assert (found.alpha, found.reward_scaling, found.reward_shift) == (alpha, "none", -1.0)
        assert (found.train_steps, found.normalize_q) == (500_000, False)
    assert locomotion.get_config("hopper-medium-v2,fql").normalize_q
