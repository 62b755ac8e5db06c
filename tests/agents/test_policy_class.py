"""The ablations of the policy class where the answer is known: a quadratic Q, two states, a target by hand."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import break_params, make_batch

from bdpo_jax import ensembles, settings
from bdpo_jax.agents import common, critics, deterministic, gaussian, policy_class
from bdpo_jax.agents.gaussian_head import Gaussian
from bdpo_jax.agents.regularized import read_hyper
from bdpo_jax.types import Batch
from configs import locomotion

# Q(a) = -C / 2 |a - T|^2 plus OFFSETS[k] of member k; the behavior model is N(M, S^2), or M.
C, T, M, S, OFFSETS = 2.0, np.array([0.6, -0.3]), np.array([-0.2, 0.1]), np.array([0.4, 0.2]), np.array([0.5, -0.1])
ETA, RHO, DISCOUNT = 0.5, 2.0, 0.9
BOTH = pytest.mark.parametrize("agent", [gaussian, deterministic], ids=["gaussian", "deterministic"])


def quadratic(params, observations, actions):
    target = jnp.broadcast_to(jnp.asarray(T, jnp.float32), actions.shape)
    return -C / 2 * jnp.square(actions - target).sum(axis=-1, keepdims=True) + params["offset"][0]


def constant_policy(agent):
    """The same distribution for every observation: its parameters, without a network."""

    def apply(params, observations):
        mean, log_std = (jnp.broadcast_to(x, (*observations.shape[:-1], 2)) for x in params)
        return Gaussian(mean, log_std) if agent is gaussian else mean

    return apply


def exact_state(agent, policy=None, behavior=None, q_network=None, **changes):
    """A state of constant policies with means and deviations `policy`, `behavior`; Q is quadratic unless given."""
    numbers = {"eta": ETA, "rho": RHO, "discount": DISCOUNT, "action_bound": 9.0, "ensemble_size": 2, "ema_rate": 0.1}
    config = settings.make(agent, **{**numbers, **changes})

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Static(agent.Static):
        @property
        def policy_network(self):
            return SimpleNamespace(apply=constant_policy(agent))

        @property
        def q_network(self):
            return SimpleNamespace(apply=quadratic) if q_network is None else super().q_network

    def model(moments):
        mean, std = (M, S) if moments is None else moments
        return common.create((jnp.asarray(mean, jnp.float32), jnp.log(jnp.asarray(std, jnp.float32))), config.clip_norm)

    q = {"offset": jnp.asarray(OFFSETS, jnp.float32)[:, None]} if q_network is None else q_network
    return policy_class.State(
        step=jnp.int32(0),
        pretrain_step=jnp.int32(0),
        actor=model(policy),
        behavior=model(behavior),
        q=common.create(q, config.clip_norm),
        hyper=read_hyper(agent.Hyper, config),
        static=settings.read(Static, config, action_dim=2),
    )


def repeat(update, state, batch, times):
    """The state after so many updates, and the last one's metrics."""
    return jax.jit(
        lambda state, batch: jax.lax.scan(lambda s, _: update(s, batch, jax.random.key(1)), state, None, length=times)
    )(state, batch)


def trained_actor(agent):
    steps = 800
    state = exact_state(agent, actor_lr=0.02, train_steps=steps)
    state, metrics = repeat(
        lambda *a: policy_class.update_actor(a[0].replace(step=a[0].step + 1), *a[1:]), state, make_batch(32), steps
    )
    return state.actor.ema, metrics["actor_penalty"][-1]


def test_a_gaussian_actor_gets_to_the_optimum():
    """Of E Q - eta KL over Gaussians: precisions add, that of Q being C / eta, and means are weighed by them."""
    (mean, log_std), penalty = trained_actor(gaussian)
    precision = 1 / S**2 + C / ETA
    best = (M / S**2 + T * C / ETA) / precision
    np.testing.assert_allclose(mean, best, atol=0.01)
    np.testing.assert_allclose(np.exp(log_std), precision**-0.5, rtol=0.02)
    kl = np.log(S * precision**0.5) + (1 / precision + (best - M) ** 2) / (2 * S**2) - 0.5
    np.testing.assert_allclose(penalty, kl.sum(), rtol=0.05)


def test_a_deterministic_actor_gets_to_the_optimum():
    (mean, _), penalty = trained_actor(deterministic)
    best = (C * T + ETA * M) / (C + ETA)
    np.testing.assert_allclose(mean, best, atol=1e-3)
    np.testing.assert_allclose(penalty, np.square(best - M).sum() / 2, rtol=0.01)


def test_the_critic_s_target_by_hand():
    """All is read from averages, and a terminal row is its reward."""
    mean, std = np.array([0.1, 0.5]), np.array([0.2, 0.2])
    batch = make_batch(size=4).replace(
        rewards=jnp.array([1.0, 2.0, -1.0, 0.0]), terminals=jnp.array([0.0, 1.0, 0.0, 1.0])
    )
    # Of two members the deviation is half of their distance: 0.2 - 2 * 0.3.
    lcb = OFFSETS.mean() - RHO * np.abs(OFFSETS[0] - OFFSETS[1]) / 2
    square, distance = np.square(mean - T).sum(), np.square(mean - M)
    assert (square, distance.sum(), lcb) == pytest.approx((0.89, 0.25, -0.4))
    kl = (np.log(S / std) + (std**2 + distance) / (2 * S**2) - 0.5).sum()
    values = {
        deterministic: lcb - C / 2 * square - ETA * 0.125,
        gaussian: lcb - C / 2 * (square + (std**2).sum()) - ETA * kl,
    }
    for agent, value in values.items():
        samples = {} if agent is deterministic else {"actor_samples": 20_000}
        state = break_params(exact_state(agent, (mean, std), **samples), "actor", "behavior", "q")
        target, metrics = jax.jit(policy_class.q_target)(state, batch, jax.random.key(0))
        expected = [1 + DISCOUNT * value, 2, -1 + DISCOUNT * value, 0]
        np.testing.assert_allclose(target, expected, atol=1e-5 if agent is deterministic else 0.02)
        np.testing.assert_allclose(metrics["next_penalty"], 0.125 if agent is deterministic else kl, rtol=1e-4)


def test_the_target_of_several_steps_by_hand():
    later = {"rewards": jnp.array([3.0, 4.0]), "discounts": jnp.array([0.25, 0.0]), "weights": jnp.array([1.0, 0.0])}
    later |= {"later_observations": jnp.zeros((2, 3)), "later_actions": jnp.full((2, 2), jnp.nan)}
    batch = make_batch(size=2).replace(next_observations=jnp.full((2, 3), jnp.nan), extra=later)
    state = exact_state(deterministic, (np.array([0.1, 0.5]), np.array([0.2, 0.2])), n_step=2)
    target, metrics = policy_class.q_target(state, batch, jax.random.key(0))
    value = -0.4 - C / 2 * 0.89 - ETA * 0.125  # of the test before
    np.testing.assert_allclose(target, [3 + 0.25 * value, 4], atol=1e-5)
    _, metrics = policy_class.update_critics(state, batch, jax.random.key(0))
    values = ensembles.apply(state.static.q_network, state.q.params, batch.observations, batch.actions)
    np.testing.assert_allclose(metrics["q_loss"], np.square(values[:, 0] - target[0]).mean() / 2, rtol=1e-5)


def test_the_data_s_actions_can_stand_for_nu():
    """By hand: D at s' is from the data's next action where there is one; the actor leans to the data's mean action."""
    mean, following = np.array([0.1, 0.5]), np.array([[0.5, 0.5], [0.9, 0.9], [0.1, -0.1], [0.0, 0.0]])
    batch = make_batch(size=4).replace(
        rewards=jnp.zeros(4),
        terminals=jnp.array([0.0, 0.0, 0.0, 1.0]),
        extra={"next_actions": jnp.asarray(following, jnp.float32), "followed": jnp.array([1.0, 0.0, 1.0, 1.0])},
    )
    state = exact_state(deterministic, (mean, S), nu="data")
    target, _ = policy_class.q_target(state, batch, jax.random.key(0))
    penalty = np.array([0.08, 0.125, 0.18])  # the second row's is from the regression
    value = OFFSETS.mean() - RHO * np.abs(OFFSETS[0] - OFFSETS[1]) / 2 - C / 2 * np.square(mean - T).sum()
    np.testing.assert_allclose(target, [*DISCOUNT * (value - ETA * penalty), 0], atol=1e-5)
    actions = np.array([[0.2, 0.4], [-0.6, 0.0], [0.1, 0.3], [0.3, 0.1]])
    batch = batch.replace(actions=jnp.asarray(actions, jnp.float32))
    gradient = jax.grad(lambda p: policy_class.actor_loss(p, state, batch, jax.random.key(0))[0])(state.actor.params)[0]
    np.testing.assert_allclose(gradient, C * (mean - T) + ETA * (mean - actions.mean(axis=0)), atol=1e-5)


def test_the_data_s_next_actions_are_prepared_where_they_are_read():
    for nu, prepare in (("regression", None), ("data", critics.next_actions)):
        assert [phase.prepare for phase in deterministic.phases(settings.make(deterministic, nu=nu))] == [None, prepare]


def test_max_q_backup_takes_the_best_draw():
    state = exact_state(gaussian, max_q_backup=True, actor_samples=2_000, rho=0.0, eta=0.0)
    batch = make_batch(size=4).replace(terminals=jnp.zeros(4))
    target, _ = policy_class.q_target(state, batch, jax.random.key(0))
    # One of 2,000 draws is about at T, two and two deviations from M.
    np.testing.assert_allclose((target - batch.rewards) / DISCOUNT, OFFSETS.mean(), atol=0.05)


@BOTH
def test_a_one_step_task_never_reads_the_next_observations(agent):
    state, batch = exact_state(agent, one_step=True), make_batch(size=4)
    state = state.replace(actor=state.actor.replace(ema=None))  # nor a policy
    target, _ = policy_class.q_target(state, batch, jax.random.key(0))
    np.testing.assert_array_equal(target, batch.rewards)


@BOTH
def test_a_two_state_task_is_recovered_by_the_critics(agent):
    """A -> B (reward 1); B (reward 2) -> A, or ends, half of the time each; actions do nothing but cost eta D."""
    a, b = np.eye(2)
    rows = [(a, 1, b, 0), (a, 1, b, 0), (b, 2, a, 0), (b, 2, b, 1)] * 8
    observations, rewards, following, terminals = (
        jnp.asarray(np.stack(x), jnp.float32) for x in zip(*rows, strict=True)
    )
    shift = np.array([0.3, 0.6])
    cost = ETA * 0.5 * np.square(shift / (S if agent is gaussian else 1)).sum()
    sizes = {"value_widths": (32, 32), "value_lr": 0.005, "ema_rate": 0.05, "aggregation": "mean", "discount": 0.5}
    sizes |= {"actor_samples": 2} if agent is gaussian else {}
    network = settings.read(agent.Static, settings.make(agent, **sizes), action_dim=2).q_network
    params = ensembles.init(network, jax.random.key(0), 2, jnp.zeros((1, 2)), jnp.zeros((1, 2)))
    state = exact_state(agent, (M + shift, S), q_network=params, **sizes)

    def update(state, observations, key):
        actions = jax.random.uniform(jax.random.fold_in(key, state.step), (32, 2), minval=-1.0)
        return policy_class.update_critics(state, Batch(observations, actions, rewards, following, terminals), key)

    state, _ = repeat(update, state, observations, 1_500)
    expected = np.linalg.solve([[1, -0.5], [-0.25, 1]], [1 - 0.5 * cost, 2 - 0.25 * cost])
    assert cost > 0.1
    grid = jnp.linspace(-0.9, 0.9, 7)[:, None] * jnp.ones((1, 2))
    found = policy_class.q_values(state, jnp.eye(2)[:, None], grid[None]).mean(axis=1)
    np.testing.assert_allclose(found, expected, atol=0.03)


@BOTH
def test_the_behavior_model_is_the_data_s(agent):
    """Two states, each with two actions equally often: the mean, and the Gaussian's deviation of each state."""
    actions = np.array([[0.5, -0.1], [-0.4, 0.0]])
    observations = np.repeat(np.eye(2), 16, axis=0)
    batch = make_batch(size=32, observation_dim=2, action_dim=1).replace(
        observations=jnp.asarray(observations, jnp.float32),
        actions=jnp.asarray(np.repeat(actions.ravel(), 8)[:, None], jnp.float32),
    )
    config = settings.make(agent, actor_widths=(32, 32), value_widths=(8,), behavior_lr=3e-3, ema_rate=0.05)
    state, _ = repeat(policy_class.update_behavior, agent.init(config, jax.random.key(0), 2, 1), batch, 1_500)
    assert int(state.pretrain_step) == 1_500
    state = policy_class.start_actor(state)
    found = state.static.policy_network.apply(state.actor.params, jnp.eye(2))
    mean = found.mean if agent is gaussian else found
    np.testing.assert_allclose(mean[:, 0], actions.mean(axis=1), atol=0.01)
    if agent is gaussian:
        np.testing.assert_allclose(np.exp(found.log_std[:, 0]), actions.std(axis=1), atol=0.01)


def test_a_gaussian_s_draws_are_clipped_to_the_box():
    state = exact_state(gaussian, (M, [0.01, 0.01]), action_bound=0.15)  # M is outside in one component
    params, key, observations = state.actor.params, jax.random.key(0), jnp.zeros((3, 2))

    def total(params):
        return state.static.draw(constant_policy(gaussian)(params, observations), key, 5).sum(axis=(0, 1))

    drawn = state.static.draw(constant_policy(gaussian)(params, observations), key, 5)
    assert drawn.shape == (3, 5, 2) and len(np.unique(drawn[..., 1])) > 5
    np.testing.assert_array_equal(drawn[..., 0], np.float32(-0.15))
    slopes = jax.jacobian(total)(params)[0]
    np.testing.assert_array_equal(slopes, [[0, 0], [0, 15]])


def test_acting_takes_the_best_draw_of_the_average():
    observations = jnp.zeros((5, 2))
    for agent, tolerance in ((gaussian, 0.1), (deterministic, None)):
        draws = {} if agent is deterministic else {"greedy_candidates": 2_000}
        state = break_params(exact_state(agent, **draws), "actor", "behavior", "q")
        found = agent.POLICIES["policy"](state, observations, jax.random.key(0))
        behavior = agent.POLICIES["behavior"](state, observations, jax.random.key(0))
        if agent is gaussian:
            np.testing.assert_allclose(found, np.tile(T, (5, 1)), atol=tolerance)
            assert np.abs(np.asarray(behavior) - T).max() > 0.3
        else:
            np.testing.assert_allclose(found, np.tile(M, (5, 1)), rtol=1e-6)
            np.testing.assert_array_equal(found, behavior)


@BOTH
def test_training_is_bdpo_s_but_for_the_path(agent):
    config = settings.make(agent, pretrain_steps=7, train_steps=20, value_warmup_steps=10)
    cloning, training = agent.phases(config)
    assert (cloning.updates, cloning.update, cloning.settle) == (
        7,
        policy_class.update_behavior,
        policy_class.start_actor,
    )
    assert (training.updates, training.interval, training.delayed_from) == (20, 5, 10)
    assert (training.update, training.delayed) == (policy_class.update_critics, policy_class.update_actor)


def test_table_4_and_what_is_bdpo_s():
    for task, agent, eta, rho in (
        ("halfcheetah-medium-expert-v2", "gaussian", 0.75, 0.5),
        ("walker2d-medium-v2", "gaussian", 0.25, 1.0),
        ("halfcheetah-medium-expert-v2", "deterministic", 10.0, 0.5),
        ("walker2d-medium-v2", "deterministic", 1.5, 1.0),
    ):
        for variant in ("released", "paper"):
            found = locomotion.get_config(f"{task},{agent},{variant}")
            assert (found.eta, found.rho) == (eta, rho)
            theirs = locomotion.get_config(f"{task},{variant}")
            for name in ("value_widths", "ensemble_size", "actor_lr", "value_warmup_steps", "train_steps", "ema_rate"):
                assert found[name] == theirs[name]
