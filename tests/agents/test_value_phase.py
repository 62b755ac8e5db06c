"""The start of Q on the data's own next actions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees, config, exact_state, make_batch, random_state

from bdpo_jax.agents import bdpo, deterministic, gaussian
from bdpo_jax.agents.regularized import look_ahead, update_data_q
from bdpo_jax.data.dataset import Dataset
from bdpo_jax.errors import UserError
from bdpo_jax.settings import make

SETTINGS = {"rho": 0.4, "discount": 0.5, "value_steps": 100}


def linear_q(params, observations, actions):
    """One number of each member times the action."""
    return params["slope"] * actions


def ahead(rewards, discounts, later_actions, weights, later_observations):
    """What `look_ahead` prepares for the rows of a batch."""
    found = {"rewards": rewards, "discounts": discounts, "weights": weights}
    found |= {"later_observations": later_observations, "later_actions": later_actions}
    return {name: jnp.asarray(values, jnp.float32) for name, values in found.items()}


def test_the_loss_by_hand():
    """Q's two members are the action and three times it: 2 a' in the mean, |a'| the deviation, 1.6 the LCB of 1."""
    slopes = {"slope": jnp.array([1.0, 3.0])}
    state = exact_state(config(**SETTINGS), 1, {"q": slopes}, predict=None, q=linear_q, v=None)
    state = state.replace(q=state.q.replace(params={"slope": jnp.array([0.0, 0.0])}))  # targets are of the average
    batch = make_batch(size=4, action_dim=1).replace(
        rewards=jnp.array([1.0, 2.0, 3.0, 4.0]),
        terminals=jnp.array([0.0, 1.0, 0.0, 0.0]),
        # Row 1 ends its episode; nothing is known of what followed row 3. Row 2 has two rewards ahead, 3 and 4.
        extra=ahead(
            rewards=[1.0, 2.0, 3 + 0.5 * 4, 0.0],
            discounts=[0.5, 0.0, 0.25, 1.0],
            later_actions=[[1.0], [99.0], [-0.5], [99.0]],
            weights=[1.0, 1.0, 1.0, 0.0],
            later_observations=np.zeros((4, 3)),
        ),
    )
    _, metrics = update_data_q(state, batch, jax.random.key(0))
    targets = np.array([1 + 0.5 * 1.6, 2, 5 + 0.25 * (-1.0 - 0.4 * 0.5)])
    np.testing.assert_allclose(metrics["q_loss"], np.square(targets).sum() / 4, rtol=1e-6)


def test_q_alone_moves_and_its_own_rate_has_not_decayed_when_training_begins():
    state = random_state(config(**SETTINGS), 3, 2)
    batch = make_batch(size=8)
    batch = batch.replace(
        extra=ahead(batch.rewards, jnp.full(8, 0.5), batch.actions[::-1], jnp.ones(8), batch.next_observations)
    )
    after, _ = jax.jit(update_data_q)(state, batch, jax.random.key(0))
    assert_trees(np.testing.assert_array_equal, after.replace(q=state.q), state)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), after.q.params, state.q.params)
    # Adam's first step is the learning rate in every coordinate whose gradient is not 0.
    assert 0.9e-3 < max(jax.tree.leaves(moved)) < 1.01e-3
    # With 500 of these updates behind it, half of `train_steps`, Q still takes its first steps of training at 1e-3.
    count = after.q.opt_state[1]._replace(count=jnp.int32(500))
    late = after.replace(q=after.q.replace(opt_state=(after.q.opt_state[0], count)))
    trained, _ = jax.jit(bdpo.update_critics)(late, batch.replace(extra=None), jax.random.key(0))
    moments = trained.q.opt_state[1]
    scale = jax.tree.map(lambda m, v: np.abs(m / np.sqrt(v / (1 - 0.999**501) + 1e-16)).max(), moments.mu, moments.nu)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), trained.q.params, late.q.params)
    np.testing.assert_allclose(jax.tree.leaves(moved), 1e-3 * np.array(jax.tree.leaves(scale)), rtol=1e-3, atol=1e-7)


def test_the_phase_is_there_where_it_is_asked_for():
    for agent in (bdpo, gaussian):
        names = [phase.name for phase in agent.phases(make(agent, value_steps=100))]
        assert names == ["pretrain", "value", "train"], agent
        assert [phase.name for phase in agent.phases(make(agent))] == ["pretrain", "train"]
        with pytest.raises(UserError, match="value_steps is 100, but no action follows"):
            agent.check(make(agent, value_steps=100, one_step=True))


def test_training_looks_ahead_where_it_is_asked_for():
    for agent in (bdpo, gaussian, deterministic):
        assert [phase.prepare for phase in agent.phases(make(agent))] == [None, None], agent
        assert agent.phases(make(agent, n_step=3))[-1].prepare is look_ahead
        with pytest.raises(UserError, match="n_step is 3, but no action follows"):
            agent.check(make(agent, n_step=3, one_step=True))
    with pytest.raises(UserError, match="n_step is 3, but with nu='data'"):
        deterministic.check(make(deterministic, n_step=3, nu="data"))


@pytest.mark.parametrize("agent", [bdpo, gaussian, deterministic])
def test_data_without_a_step_ahead_are_refused(agent):
    """Episodes of two rows that were cut off, whose last row is no transition; Q would keep what it was made with."""
    observations = np.arange(12.0, dtype=np.float32).reshape(6, 2)
    zeros = np.zeros(6, np.float32)
    data = Dataset(observations, np.zeros((6, 1), np.float32), zeros, observations + 1, zeros)
    for changes, name in (({"value_steps": 3, "n_step": 1}, "value"), ({"value_steps": 0, "n_step": 2}, "train")):
        phases = {phase.name: phase for phase in agent.phases(make(agent, **changes))}
        with pytest.raises(UserError, match="No row of the data is terminal or followed .*value_steps=0 and n_step=1"):
            phases[name].check_data(data)
        phases[name].check_data(dataclasses.replace(data, terminals=np.eye(6, dtype=np.float32)[3]))
    assert all(phase.check_data is None for phase in agent.phases(make(agent, value_steps=0, n_step=1)))
