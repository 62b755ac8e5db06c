"""ReBRAC: behavior-regularized actor-critic, revisited (Tarasov et al., 2023), as pure functions.

    L_pi = E[ b1 ||pi(s) - a||^2 - min_k Q_k(s, pi(s)) / sg(E |min_k Q_k(s, pi(s))|) ]
    L_Q  = E (y - Q_k(s, a))^2,
    y    = r + gamma (1 - d) (min_k Qbar_k(s', a') - b2 ||a' - a'_data||^2),  a' = pibar(s') + clipped noise

TD3's noise and delay: policy and averages move in every second update. `a'_data` is the data's action at s', which is
that of the next row where the next row begins at s'. The last row of an episode that was cut has none, and no penalty
(the authors' data has one there). The policy acts without noise, from the last checkpoint.

Differs from the authors' code: the policy's average moves towards the new parameters, not those before the step; hidden
layers start orthogonal and without biases, theirs uniform with biases of .1.
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
from bdpo_jax.agents.critics import check_batch, fit_q, next_actions, q_values, td_target
from bdpo_jax.settings import number, read, read_traced, widths
from bdpo_jax.types import Batch


@dataclasses.dataclass(frozen=True)
class Static:
    """Sizes: what changes shapes or control flow."""

    action_dim: int
    action_bound: float = number(1.0, "half-width of the action box", above=0)
    actor_widths: tuple[int, ...] = widths((256,) * 3, "hidden layers of the policy [rel]")
    value_widths: tuple[int, ...] = widths((256,) * 3, "hidden layers of each Q, with layer norm [rel]")
    ensemble_size: int = number(2, "Q networks, of which the minimum is taken [rel]", least=1)
    actor_update_interval: int = number(2, "updates of Q per update of the policy and the averages [rel]", least=1)

    @property
    def policy_network(self) -> Any:
        return networks.MLP(self.actor_widths, self.action_dim, output_range=1e-3)  # [rel]: it starts near 0

    @property
    def q_network(self) -> Any:
        return networks.MLP(self.value_widths, 1, layer_norm=True, norm_last=True, output_range=3e-3)  # [rel]


class Hyper(struct.PyTreeNode):
    """The numbers that one sweeps."""

    actor_penalty: jax.Array = number(0.01, "b1, per task [rel]", least=0)
    critic_penalty: jax.Array = number(0.01, "b2, reward per squared action, per task [rel]", least=0)
    noise: jax.Array = number(0.2, "deviation of the target's action noise, half boxes [rel]", least=0)
    noise_limit: jax.Array = number(0.5, "where it is clipped, half boxes [rel]", least=0)
    discount: jax.Array = number(0.99, "per environment step; antmaze .999 [rel]", least=0, most=1)
    actor_lr: jax.Array = number(1e-3, "Adam, constant; antmaze 3e-4 [rel]", least=0)
    value_lr: jax.Array = number(1e-3, "Adam, constant; antmaze 5e-5 [rel]", least=0)
    ema_rate: jax.Array = number(0.005, "of both averages [rel]", least=0, most=1)


@dataclasses.dataclass(frozen=True)
class Budget:
    """Updates."""

    train_steps: int = number(1_000_000, "updates of Q [rel]", least=0, may_change=True)


class State(struct.PyTreeNode):
    """Everything that training changes or depends on."""

    step: jax.Array  # number of updates of Q done
    actor: Model
    q: Model
    hyper: Hyper
    static: Static = struct.field(pytree_node=False)


def check(config: Any) -> None:
    """There are no relations between the settings."""


def phases(config: Any) -> tuple[Phase, ...]:
    """Returns the only phase."""
    return (
        Phase(
            "train",
            config.train_steps,
            update,
            delayed=update_actor,
            interval=config.actor_update_interval,
            prepare=next_actions,
            watch=("policy",),
            score=("policy",),
        ),
    )


def init(config: Any, key: jax.Array, observation_dim: int, action_dim: int) -> State:
    """Returns the initial state, see `Agent.init`."""
    static = read(Static, config, action_dim=action_dim)
    return _init_models(static, key, observation_dim, read_traced(Hyper, config))


@functools.partial(jax.jit, static_argnums=(0, 2))
def _init_models(static: Static, key: jax.Array, observation_dim: int, hyper: Hyper) -> State:
    observations, actions = jnp.zeros((1, observation_dim)), jnp.zeros((1, static.action_dim))
    actor_key, q_key = jax.random.split(key)
    q = ensembles.init(static.q_network, q_key, static.ensemble_size, observations, actions)
    return State(
        step=jnp.int32(0),
        # Its average is what targets draw from.
        actor=common.create(static.policy_network.init(actor_key, observations), jnp.inf, online=True),
        q=common.create(q, jnp.inf),
        hyper=hyper,
        static=static,
    )


def policy(static: Static, params: Any, observations: jax.Array) -> jax.Array:
    """Returns `pi(s)`, a tanh into the box, `[..., A]`."""
    return static.action_bound * jnp.tanh(static.policy_network.apply(params, observations))


def q_target(state: State, batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns y `[batch]`, and the penalty `||a' - a'_data||^2 [batch]`; `batch.extra` is that of `next_actions`."""
    static, hyper = state.static, state.hyper
    assert batch.extra is not None, "a batch of ReBRAC has next actions"
    noise = hyper.noise * jax.random.normal(key, batch.actions.shape)
    noise = static.action_bound * jnp.clip(noise, -hyper.noise_limit, hyper.noise_limit)
    actions = policy(static, state.actor.ema, batch.next_observations) + noise
    actions = jnp.clip(actions, -static.action_bound, static.action_bound)
    values = ensembles.apply(static.q_network, state.q.ema, batch.next_observations, actions).min(axis=0)
    penalty = batch.extra["followed"] * jnp.square(actions - batch.extra["next_actions"]).sum(axis=-1)
    return td_target(batch, hyper.discount, values - hyper.critic_penalty * penalty), penalty


def actor_loss(params: Any, state: State, batch: Batch) -> tuple[jax.Array, Metrics]:
    """Returns L_pi and its parts."""
    static = state.static
    actions = policy(static, params, batch.observations)
    penalty = jnp.square(actions - batch.actions).sum(axis=-1).mean()
    values = ensembles.apply_frozen(static.q_network, state.q.params, batch.observations, actions).min(axis=0)
    scale = jax.lax.stop_gradient(jnp.abs(values).mean())
    loss = state.hyper.actor_penalty * penalty - values.mean() / scale
    return loss, {"cloning_loss": penalty, "actor_q": values.mean()}


def update(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of Q; the averages stay.

    Args:
      state: the train state.
      batch: transitions, float32, with `extra` of `next_actions`.
      key: PRNG key; `state.step` is folded in, so the same key may be passed at every step.

    Returns:
      The new state and scalar metrics.
    """
    check_batch(batch, state.static.action_dim)
    hyper = state.hyper
    target, penalty = q_target(state, batch, jax.random.fold_in(key, state.step))
    q, metrics = fit_q(state, batch, target, (jnp.inf, hyper.value_lr, 0.0))
    return state.replace(step=state.step + 1, q=q), metrics | {"next_penalty": penalty.mean()}


def update_actor(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of the policy, then both averages; nothing here is random."""
    hyper = state.hyper
    gradient = jax.value_and_grad(actor_loss, has_aux=True)
    (loss, parts), gradients = gradient(state.actor.params, state, batch)
    actor = common.apply_gradients(state.actor, gradients, jnp.inf, hyper.actor_lr, hyper.ema_rate)
    q = state.q.replace(ema=optax.incremental_update(state.q.params, state.q.ema, hyper.ema_rate))
    metrics = {"actor_loss": loss, "actor_grad_norm": optax.tree.norm(gradients), **parts}
    return state.replace(actor=actor, q=q), metrics


def act(state: State, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Returns `pi(s)`, `[..., action_dim]` for observations `[..., observation_dim]`; `key` is not used."""
    return policy(state.static, state.actor.acting, observations)


POLICIES = {"policy": act}
VIEWS = {"q": q_values}
