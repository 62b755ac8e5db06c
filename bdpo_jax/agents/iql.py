"""IQL: implicit Q-learning (Kostrikov, Nair and Levine, 2022), as pure functions.

    L_V  = E |tau - 1(u < 0)| u^2,  u = min_k Qbar_k(s, a) - V(s)                 (5)
    L_Q  = E (r + gamma (1 - d) V(s') - Q_k(s, a))^2                              (6)
    L_pi = -E min(exp(beta u), 100) log pi(a | s)                                 (7)

V, then the policy with the new V, then Q with the new V, then Q's average, as in the authors' code. Q never sees an
action outside the data. The policy is a Gaussian with a tanh mean and deviations that do not depend on the state;
its mean acts.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from bdpo_jax import ensembles, networks
from bdpo_jax.agents import common
from bdpo_jax.agents.base import Metrics, Phase
from bdpo_jax.agents.common import Model
from bdpo_jax.agents.critics import advantages, check_batch, q_values, update_implicit_q, update_implicit_v
from bdpo_jax.agents.gaussian_head import GaussianPolicy
from bdpo_jax.settings import number, read, read_traced, widths
from bdpo_jax.types import Batch

LARGEST_WEIGHT = 100.0  # of a row in the policy's regression


@dataclasses.dataclass(frozen=True)
class Static:
    """Sizes: what changes shapes."""

    action_dim: int
    actor_widths: tuple[int, ...] = widths((256, 256), "hidden layers of the policy [rel]")
    value_widths: tuple[int, ...] = widths((256, 256), "hidden layers of each Q and of V [rel]")
    ensemble_size: int = number(2, "Q networks, of which targets take the minimum [rel]", least=1)
    action_bound: float = number(1.0, "half-width of the action box", above=0)

    @property
    def policy_network(self) -> Any:
        return GaussianPolicy(self.actor_widths, self.action_dim, self.action_bound)

    @property
    def q_network(self) -> Any:
        return networks.MLP(self.value_widths, 1)

    @property
    def v_network(self) -> Any:
        return networks.MLP(self.value_widths, 1)


class Hyper(struct.PyTreeNode):
    """The numbers that one sweeps."""

    expectile: jax.Array = number(0.7, "tau; antmaze 0.9 [rel]", above=0, most=1)
    inverse_temperature: jax.Array = number(3.0, "beta, per unit of reward; antmaze 10 [rel]", least=0)
    discount: jax.Array = number(0.99, "per environment step [rel]", least=0, most=1)
    actor_lr: jax.Array = number(3e-4, "Adam, cosine decay to 0 over the budget [rel]", least=0)
    value_lr: jax.Array = number(3e-4, "Adam, of Q and V, constant [rel]", least=0)
    ema_rate: jax.Array = number(0.005, "of Q's average [rel]", least=0, most=1)
    decay_steps: jax.Array = number(0.0, "cosine horizon of the policy's rate, updates; 0: train_steps", least=0)


@dataclasses.dataclass(frozen=True)
class Budget:
    """Updates."""

    train_steps: int = number(1_000_000, "updates [rel]", least=0, may_change=True)


class State(struct.PyTreeNode):
    """Everything that training changes or depends on."""

    step: jax.Array  # number of updates done
    actor: Model
    q: Model
    v: Model
    hyper: Hyper
    static: Static = struct.field(pytree_node=False)


def check(config: Any) -> None:
    """There are no relations between the settings."""


def phases(config: Any) -> tuple[Phase, ...]:
    """Returns the only phase."""
    return (Phase("train", config.train_steps, update, watch=("policy",), score=("policy",)),)


def init(config: Any, key: jax.Array, observation_dim: int, action_dim: int) -> State:
    """Returns the initial state.

    Args:
      config: any object with attributes of the names of `Static`, `Hyper` and `Budget`; what it lacks has its default.
      key: PRNG key.
      observation_dim: width of the observations.
      action_dim: width of the actions.
    """
    horizon = read(Hyper, config).decay_steps or max(read(Budget, config).train_steps, 1)
    hyper = read_traced(Hyper, config, decay_steps=horizon)
    return _init_models(read(Static, config, action_dim=action_dim), key, observation_dim, hyper)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _init_models(static: Static, key: jax.Array, observation_dim: int, hyper: Hyper) -> State:
    observations, actions = jnp.zeros((1, observation_dim)), jnp.zeros((1, static.action_dim))
    actor_key, q_key, v_key = jax.random.split(key, 3)
    actor = static.policy_network.init(actor_key, observations)
    q = ensembles.init(static.q_network, q_key, static.ensemble_size, observations, actions)
    v = static.v_network.init(v_key, observations)
    return State(
        step=jnp.int32(0),
        actor=common.create(actor, jnp.inf, average=False),
        q=common.create(q, jnp.inf),
        v=common.create(v, jnp.inf, average=False),
        hyper=hyper,
        static=static,
    )


def actor_loss(params: Any, state: State, batch: Batch) -> tuple[jax.Array, Metrics]:
    """Returns the weighted regression of the policy, (7), and the weights' mean."""
    weights = jnp.exp(state.hyper.inverse_temperature * advantages(state, state.q.ema, state.v.params, batch))
    weights = jnp.minimum(weights, LARGEST_WEIGHT)
    log_prob = state.static.policy_network.apply(params, batch.observations).log_prob(batch.actions)
    return -(weights * log_prob).mean(), {"weight": weights.mean()}


def update(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of V, the policy and Q, in this order.

    Args:
      state: the train state.
      batch: transitions, float32.
      key: not used: nothing here is random.

    Returns:
      The new state and scalar metrics.
    """
    check_batch(batch, state.static.action_dim)
    hyper = state.hyper
    v, metrics = update_implicit_v(state, state.q.ema, batch, hyper.value_lr)
    state = state.replace(v=v)

    gradient = jax.value_and_grad(actor_loss, has_aux=True)
    (loss_actor, weights), gradients = gradient(state.actor.params, state, batch)
    metrics |= {"actor_loss": loss_actor, "actor_grad_norm": optax.tree.norm(gradients), **weights}
    actor = common.apply_gradients(state.actor, gradients, jnp.inf, hyper.actor_lr, decay_steps=hyper.decay_steps)

    q, q_metrics = update_implicit_q(state, batch, hyper.value_lr, hyper.ema_rate)
    return state.replace(step=state.step + 1, actor=actor, q=q), metrics | q_metrics


def act(state: State, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Returns the policy's mean `[..., action_dim]` for observations `[..., observation_dim]`; `key` is not used."""
    return state.static.policy_network.apply(state.actor.acting, observations).mean


POLICIES = {"policy": act}
VIEWS = {"q": q_values}
