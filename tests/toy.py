"""A small algorithm for the tests of the trainer: two phases, a delayed update, and faults on demand."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from bdpo_jax.agents import common
from bdpo_jax.agents.base import Phase
from bdpo_jax.settings import number, read, read_traced

TRACES = {"update": 0}


@dataclasses.dataclass(frozen=True)
class Static:
    action_dim: int
    cycle: int = number(3, "updates per delayed update", least=1)
    warmup_steps: int = number(6, "updates of training without the delayed one", least=0)


class Hyper(struct.PyTreeNode):
    rate: jax.Array = number(0.1, "learning rate", least=0, most=10)
    bad_loss_at: jax.Array = number(-1.0, "the update of training whose loss is NaN")
    bad_slow_at: jax.Array = number(-1.0, "the same of the delayed update's loss")
    bad_state_at: jax.Array = number(-1.0, "the update of training after which a parameter is NaN, though no loss is")


@dataclasses.dataclass(frozen=True)
class Budget:
    copy_steps: int = number(9, "updates of the first phase", least=0, may_change=True)
    train_steps: int = number(24, "updates of the second", least=0, may_change=True)


class State(struct.PyTreeNode):
    step: jax.Array
    behavior: common.Model
    actor: common.Model
    slow: jax.Array
    hyper: Hyper
    static: Static = struct.field(pytree_node=False)


def init(config, key, observation_dim, action_dim):
    static = read(Static, config, action_dim=action_dim)
    kernel = jax.random.normal(key, (observation_dim, action_dim))
    models = [common.create({"kernel": kernel + i}, 1.0) for i in range(2)]
    return State(jnp.int32(0), *models, jnp.float32(0), read_traced(Hyper, config), static)


def _step(model, batch, key, rate):
    def loss(params):
        noise = 0.1 * jax.random.normal(key, batch.actions.shape)
        return jnp.square(jnp.tanh(batch.observations @ params["kernel"]) + noise - batch.actions).mean()

    value, gradients = jax.value_and_grad(loss)(model.params)
    return common.apply_gradients(model, gradients, 1.0, rate, 0.5), value


def copy_update(state, batch, key):
    model, loss = _step(state.behavior, batch, key, state.hyper.rate)
    return state.replace(behavior=model), {"copy_loss": loss}


def update(state, batch, key):
    TRACES["update"] += 1
    hyper, step = state.hyper, state.step + 1
    model, loss = _step(state.actor, batch, jax.random.fold_in(key, state.step), hyper.rate)
    spoiled = jax.tree.map(lambda p: jnp.where(step == hyper.bad_state_at, jnp.nan, p), model.params)
    state = state.replace(step=step, actor=model.replace(params=spoiled))
    return state, {"loss": jnp.where(step == hyper.bad_loss_at, jnp.nan, loss)}


def slow_update(state, batch, key):
    value = state.slow + batch.rewards.mean()
    bad = state.step == state.hyper.bad_slow_at
    return state.replace(slow=value), {"slow_loss": jnp.where(bad, jnp.nan, value)}


def start_actor(state):
    return state.replace(actor=state.actor.replace(params=state.behavior.ema, ema=state.behavior.ema))


def act(state, observations, key):
    return jnp.tanh(observations @ state.actor.acting["kernel"])


def act_as_behavior(state, observations, key):
    return jnp.tanh(observations @ state.behavior.acting["kernel"])


POLICIES = {"policy": act, "behavior": act_as_behavior}
VIEWS = {}


def check(config):
    pass


def phases(config):
    train = dict(delayed=slow_update, interval=config.cycle, delayed_from=config.warmup_steps, watch=("policy",))
    return (
        Phase("copy", config.copy_steps, copy_update, settle=start_actor, score=("behavior",)),
        Phase("train", config.train_steps, update, **train, score=("policy", "behavior")),
    )
