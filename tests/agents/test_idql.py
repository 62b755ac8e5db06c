"""IDQL where the answer is known: the best candidate of a known Q, two states' values, the shared cloning loss."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees, make_batch
from test_iql import DISCOUNT, TAU, two_states

from bdpo_jax import settings
from bdpo_jax.agents import idql
from bdpo_jax.agents.denoiser import cloning_loss, draw
from bdpo_jax.errors import UserError

TINY = {"actor_widths": (8,), "value_widths": (8,), "diffusion_steps": 2}


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnownQ(idql.Static):
    """Two members of Q: their minimum is `-|a_0 - 0.3|`, either of them alone has no maximum inside the box."""

    @property
    def q_network(self):
        return SimpleNamespace(apply=lambda params, s, a: params["sign"] * (a[..., :1] - 0.3))


def tiny(**changes):
    return idql.init(settings.make(idql, **{**TINY, **changes}), jax.random.key(0), 3, 2)


def test_the_policy_takes_the_candidate_of_highest_least_q():
    state, key = tiny(greedy_candidates=7), jax.random.key(3)
    state = state.replace(
        static=KnownQ(**dataclasses.asdict(state.static)),
        q=state.q.replace(ema={"sign": jnp.array([1.0, -1.0])}, params=None),
        behavior=state.behavior.replace(params=None),  # averages act
    )
    observations = jax.random.normal(jax.random.key(1), (5, 3))
    candidates = np.asarray(draw(state.static, state.behavior.ema, observations, key, 7))
    nearest = np.abs(candidates[..., 0] - 0.3).argmin(axis=1)
    assert len(set(nearest)) > 1
    np.testing.assert_array_equal(idql.act(state, observations, key), candidates[np.arange(5), nearest])


def test_values_are_the_expectiles_and_their_backup():
    """As of IQL: the tau-expectile of two equally likely values is tau max + (1 - tau) min."""
    numbers = {"expectile": TAU, "discount": DISCOUNT, "value_lr": 3e-3, "ema_rate": 0.05}
    state = idql.init(settings.make(idql, **{**TINY, "value_widths": (32, 32)}, **numbers), jax.random.key(0), 2, 1)
    batch, key = two_states(), jax.random.key(1)
    train = jax.jit(lambda state: jax.lax.scan(lambda s, _: idql.update(s, batch, key), state, None, length=6_000)[0])
    trained = train(state)
    q_0 = np.array([DISCOUNT * TAU, 0.1])
    found_q = idql.q_values(trained, batch.observations, batch.actions)[::8]
    found_v = trained.static.v_network.apply(trained.v.params, jnp.eye(2))[:, 0]
    np.testing.assert_allclose(found_q, [*q_0, 1.0, 0.0], atol=0.02)
    np.testing.assert_allclose(found_v, [TAU * q_0.max() + (1 - TAU) * q_0.min(), TAU], atol=0.02)
    assert_trees(np.testing.assert_array_equal, trained.behavior, state.behavior)


def test_the_behavior_model_clones_by_the_shared_loss_and_sees_no_reward():
    state, batch, key = tiny(dropout=0.0), make_batch(), jax.random.key(2)
    moved, metrics = jax.jit(idql.pretrain_behavior)(state, batch, key)
    loss_key, _ = jax.random.split(jax.random.fold_in(key, 0))
    expected = cloning_loss(state.behavior.params, state.static, batch, loss_key)
    assert float(metrics["behavior_loss"]) == pytest.approx(float(expected), rel=1e-5)
    other = batch.replace(rewards=5 - batch.rewards, terminals=1 - batch.terminals)
    assert_trees(np.testing.assert_array_equal, jax.jit(idql.pretrain_behavior)(state, other, key)[0], moved)


def test_dropout_is_of_training_alone():
    """Half of a block's inputs are 0: two keys' losses differ, and a draw is the one without dropout."""
    state, plain = tiny(dropout=0.5), tiny(dropout=0.0)
    assert_trees(np.testing.assert_array_equal, state.behavior, plain.behavior)
    inputs = (state.static, make_batch(), jax.random.key(2))
    losses = [
        float(cloning_loss(state.behavior.params, *inputs, rngs={"dropout": jax.random.key(seed)})) for seed in (0, 1)
    ]
    assert losses[0] != losses[1]
    assert float(cloning_loss(state.behavior.params, *inputs)) not in losses
    observations, key = jnp.ones((4, 3)), jax.random.key(0)
    np.testing.assert_array_equal(*(jax.jit(idql.act)(s, observations, key) for s in (state, plain)))
    (_, with_dropout), (_, without) = (jax.jit(idql.pretrain_behavior)(s, *inputs[1:]) for s in (state, plain))
    assert float(with_dropout["behavior_loss"]) != float(without["behavior_loss"])


def test_every_noisy_action_of_a_path_is_in_the_box():
    """A predictor's path leaves the box when nothing clips it: the prior is N(0, I), of 64 draws many are outside."""
    state = tiny(action_bound=0.5)
    path = idql.sample_paths(state, jnp.zeros((64, 3)), jax.random.key(0))
    assert float(jnp.abs(path[-1]).max()) > 1, "the prior is not clipped"
    for actions in path[:-1]:
        assert float(jnp.abs(actions).max()) <= 0.5
    assert float(jnp.abs(path[1]).max()) == pytest.approx(0.5)


def test_blocks_of_different_widths_are_refused():
    with pytest.raises(UserError, match="actor_widths.*one width"):
        idql.check(settings.make(idql, actor_widths=(8, 16)))
    with pytest.raises(UserError, match="actor_layer_norm is False"):
        idql.check(settings.make(idql, actor_layer_norm=False))
    with pytest.raises(UserError, match=r"actor_frequencies is \(1.0,\)"):
        idql.check(settings.make(idql, actor_frequencies=(1.0,)))
