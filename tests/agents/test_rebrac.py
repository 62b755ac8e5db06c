"""ReBRAC where the answer is known: next actions, a target by hand, the policy's optimum, what each update moves."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from helpers import make_batch

from bdpo_jax import settings
from bdpo_jax.agents import critics, rebrac
from bdpo_jax.data.dataset import Dataset

TINY = {"actor_widths": (8,), "value_widths": (8,)}


@dataclasses.dataclass(frozen=True)
class ExactStatic(rebrac.Static):
    """pi(s) = tanh(params), and Q_k(s, a) = offset_k + slope . a."""

    @property
    def policy_network(self):
        return SimpleNamespace(apply=lambda p, s: jnp.broadcast_to(p, (*s.shape[:-1], 2)))

    @property
    def q_network(self):
        def apply(p, s, a):
            return (p["offset"] + (a * p["slope"][None]).sum(axis=-1))[..., None]

        return SimpleNamespace(apply=apply)


def exact_state(action, **changes):
    state = rebrac.init(settings.make(rebrac, **TINY, **changes), jax.random.key(0), 3, 2)
    q = {"offset": jnp.array([5.0, 3.0]), "slope": jnp.array([[1.0, 2.0]] * 2)}
    raw = jnp.arctanh(jnp.asarray(action, jnp.float32))
    return state.replace(
        static=ExactStatic(**dataclasses.asdict(state.static)),
        actor=state.actor.replace(params=raw, ema=raw),
        q=state.q.replace(params=q, ema=q),
    )


def test_the_policy_and_q_start_near_0():
    """Their last layers are within .001 and .003."""
    state = rebrac.init(settings.make(rebrac), jax.random.key(0), 3, 2)
    batch = make_batch(size=64)
    assert 0 < jnp.abs(rebrac.act(state, batch.observations, jax.random.key(0))).max() < 0.05
    assert 0 < jnp.abs(rebrac.q_values(state, batch.observations, batch.actions)).max() < 0.2


def test_the_next_action_is_that_of_the_row_that_begins_at_the_next_observation():
    # Two steps and a time-out, then two steps and a terminal, whose next observation is of nobody.
    observations = np.array([0, 1, 2, 10, 11, 12.0])[:, None]
    following = np.array([1, 2, 3, 11, 12, 13.0])[:, None]
    data = Dataset(observations, np.arange(6.0)[:, None], np.zeros(6), following, np.array([0, 0, 0, 0, 0, 1.0]))
    found = critics.next_actions(None, jax.tree.map(jnp.asarray, data), None)
    np.testing.assert_array_equal(found["followed"], [1, 1, 0, 1, 1, 0])
    np.testing.assert_array_equal(np.asarray(found["next_actions"])[[0, 1, 3, 4], 0], [1, 2, 4, 5])


def test_a_target_by_hand():
    state = exact_state([0.5, -0.25], noise=0.0, critic_penalty=0.3, discount=0.9)
    batch = make_batch(size=3).replace(rewards=jnp.ones(3), terminals=jnp.array([0.0, 0.0, 1.0]))
    extra = {"next_actions": jnp.array([[0.5, 0.75]] * 3), "followed": jnp.array([1.0, 0.0, 1.0])}
    target, penalty = rebrac.q_target(state, batch.replace(extra=extra), jax.random.key(0))
    # The least Q at (.5, -.25) is 3 + .5 - .5; the distance to the data's action is 1.
    np.testing.assert_allclose(target, [1 + 0.9 * (3 - 0.3), 1 + 0.9 * 3, 1], rtol=1e-6)
    np.testing.assert_allclose(penalty, [1, 0, 1], rtol=1e-6)


def test_target_noise_is_clipped_and_stays_in_the_box():
    state = exact_state([0.0, 0.9], noise=5.0, noise_limit=0.5, critic_penalty=1.0, discount=1.0)
    batch = make_batch(size=4_000).replace(terminals=jnp.zeros(4_000))
    extra = {"next_actions": jnp.zeros((4_000, 2)), "followed": jnp.ones(4_000)}
    _, penalty = rebrac.q_target(state, batch.replace(extra=extra), jax.random.key(0))
    # The first component is almost always at its limit .5, the second at the box or at .4.
    assert float(penalty.max()) <= 0.25 + 1 + 1e-6
    for limit in (0.25 + 1, 0.25 + 0.16):
        assert np.isclose(penalty, limit, atol=1e-5).mean() > 0.3


def test_the_policy_s_gradient_balances_q_and_the_data():
    """With one action in the data, 2 b1 (pi - a) = slope / |min Q| at the optimum, |min Q| not differentiated."""
    action, b1 = np.array([0.2, -0.4]), 2.0
    value = 3 + action[0] + 2 * action[1]
    data = action - np.array([1.0, 2.0]) / value / (2 * b1)
    state = exact_state(action, actor_penalty=b1)
    batch = make_batch(size=4).replace(actions=jnp.broadcast_to(jnp.asarray(data, jnp.float32), (4, 2)))
    gradient = jax.grad(lambda p: rebrac.actor_loss(p, state, batch)[0])(state.actor.params)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_the_averages_move_with_the_policy():
    state = rebrac.init(settings.make(rebrac, **TINY), jax.random.key(0), 3, 2)
    batch = make_batch(size=12)
    batch = batch.replace(extra=critics.next_actions(state, Dataset(*jax.tree.leaves(batch)), None))
    new, _ = jax.jit(rebrac.update)(state, batch, jax.random.key(0))
    for old_leaf, leaf in zip(jax.tree.leaves(state.q.ema), jax.tree.leaves(new.q.ema), strict=True):
        np.testing.assert_array_equal(leaf, old_leaf)
    later, _ = jax.jit(rebrac.update_actor)(new, batch, jax.random.key(0))
    for old_leaf, param, leaf in zip(
        *(jax.tree.leaves(q) for q in (new.q.ema, new.q.params, later.q.ema)), strict=True
    ):
        np.testing.assert_allclose(leaf, 0.995 * old_leaf + 0.005 * param, rtol=1e-5, atol=1e-7)
