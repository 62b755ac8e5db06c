"""SfBC where the answer is known: planned returns of a chain of three states, values of a support, the choice."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from bdpo_jax import settings
from bdpo_jax.agents import sfbc
from bdpo_jax.data.dataset import Dataset

TINY = {"actor_widths": (8,), "value_widths": (8,), "diffusion_steps": 2}
GAMMA = 0.5


def chain():
    """Two episodes along the states 0, 1, 2: one ends at a terminal with reward 4, the other is cut after state 1."""
    rows = [(0, 1.0, 1, 0), (1, 2.0, 2, 0), (2, 4.0, 9, 1), (0, 0.0, 1, 0), (1, 0.0, 2, 0)]
    states, rewards, following, terminals = (np.array(column, np.float32) for column in zip(*rows, strict=True))
    data = Dataset(states[:, None], np.zeros((5, 1), np.float32), rewards, following[:, None], terminals)
    return jax.tree.map(jnp.asarray, data)


def test_the_first_iteration_has_the_returns_of_the_data():
    found = sfbc.returns(chain(), GAMMA, jnp.full(5, -jnp.inf))
    # 4; 2 + 4 / 2; 1 + 4 / 2. The cut episode earns nothing, and nothing is known of what follows it.
    np.testing.assert_allclose(found, [3, 4, 4, 0, 0])


def test_planned_returns_take_the_better_of_the_trajectory_and_the_value():
    """Values 3 and 5 of the states 1 and 2: the second episode is stitched to what the first has found there."""
    values = jnp.array([3.0, 5.0, 100.0, 3.0, 5.0])  # of the next states; that after the terminal does not count
    found = sfbc.returns(chain(), GAMMA, values)
    # 4; 2 + max(4, 5) / 2; 1 + max(4.5, 3) / 2. Cut: 0 + 5 / 2; then 0 + max(2.5, 3) / 2.
    np.testing.assert_allclose(found, [3.25, 4.5, 4, 1.5, 2.5])


def exact_state(table=(0.2, -0.1, 0.4), **changes):
    """A state whose behavior model draws -1, 0 and 1 in turn, and whose Q of them is a table."""
    state = sfbc.init(settings.make(sfbc, **TINY, **changes), jax.random.key(0), 1, 1)
    network = SimpleNamespace(apply=lambda p, s, a: jnp.asarray(table)[jnp.round(a + 1).astype(int)])
    static = type("Exact", (sfbc.Static,), {"q_network": property(lambda self: network)})
    return state.replace(static=static(**dataclasses.asdict(state.static)))


def three(static, params, observations, key, count):
    actions = jnp.resize(jnp.array([-1.0, 0.0, 1.0]), (count, 1))
    return jnp.broadcast_to(actions, (*observations.shape[:-1], count, 1)), None


def test_a_planned_value_is_the_softmax_mean_of_its_support_in_units_of_rewards(monkeypatch):
    monkeypatch.setattr(sfbc, "draw", three)
    state = exact_state(actor_samples=3, planning_inverse_temperature=2.0)
    state = state.replace(scales=state.scales.at[0].set(jnp.array([10.0, 3.0])))
    q = np.array([0.2, -0.1, 0.4])
    weights = np.exp(2 * q) / np.exp(2 * q).sum()
    found = sfbc.planned_values(state, 0, jnp.zeros((4, 1)), jax.random.key(0))
    np.testing.assert_allclose(found, 10 + 3 * (weights @ q), rtol=1e-5)


def test_candidates_are_chosen_by_the_softmax_of_q(monkeypatch):
    monkeypatch.setattr(sfbc, "draw", three)
    state, count = exact_state(selection_inverse_temperature=2.0, greedy_candidates=3), 20_000
    actions = np.asarray(sfbc.act(state, jnp.zeros((count, 1)), jax.random.key(1)))[:, 0]
    expected = np.exp(2 * np.array([0.2, -0.1, 0.4]))
    expected /= expected.sum()
    for action, share in zip((-1, 0, 1), expected, strict=True):
        # Four standard errors of a share.
        np.testing.assert_allclose((actions == action).mean(), share, atol=4 * np.sqrt(share * (1 - share) / count))
    mean = sfbc.act(exact_state(greedy_candidates=3), jnp.zeros((9, 1)), jax.random.key(1))
    np.testing.assert_array_equal(mean, 1)  # at the default alpha, 100 (.4 - .2) is 20 nats


def test_averages_are_of_different_candidates(monkeypatch):
    """Two of three, the second by the softmax of the rest; all of them where more are asked for."""
    monkeypatch.setattr(sfbc, "draw", three)
    changes, count = {"selection_inverse_temperature": 2.0, "greedy_candidates": 3}, 20_000
    found = np.asarray(sfbc.act(exact_state(averages=2, **changes), jnp.zeros((count, 1)), jax.random.key(1)))[:, 0]
    p = np.exp(2 * np.array([0.2, -0.1, 0.4]))
    p /= p.sum()
    for mean, (i, j) in {-0.5: (0, 1), 0.0: (0, 2), 0.5: (1, 2)}.items():
        share = p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j])
        # Four standard errors of a share.
        np.testing.assert_allclose((found == mean).mean(), share, atol=4 * np.sqrt(share * (1 - share) / count))
    np.testing.assert_array_equal(sfbc.act(exact_state(averages=9, **changes), jnp.zeros((5, 1)), jax.random.key(1)), 0)


def test_each_iteration_plans_with_the_q_before_and_standardises():
    state, data = sfbc.init(settings.make(sfbc, **TINY, discount=GAMMA), jax.random.key(0), 1, 1), chain()
    first = jax.jit(sfbc.plan_of(0))(state, data, jax.random.key(0))
    expected = np.array([3, 4, 4, 0, 0.0])
    np.testing.assert_allclose(first["returns"], (expected - expected.mean()) / expected.std(), rtol=1e-5)
    np.testing.assert_allclose(first["scale"][0], [expected.mean(), expected.std()], rtol=1e-5)
    moved = state.replace(q=(state.q[0], state.q[1].replace(params=jax.tree.map(jnp.ones_like, state.q[1].params))))
    plans = [jax.jit(sfbc.plan_of(1))(s, data, jax.random.key(0))["returns"] for s in (state, moved)]
    np.testing.assert_array_equal(*plans)  # of its own Q it reads nothing
    assert (plans[0] != first["returns"]).any()
    assert sfbc.update_of(1) is sfbc.update_of(1)
