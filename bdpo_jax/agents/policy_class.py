"""BDPO's critics under a policy that is a plain network: the ablations of the policy class, paper B.3.

    y = r + gamma (1 - d) [ lcb_k(mean_m Qbar_k(s', a'_m)) - eta D(s') ]    for (19); a', D of the averaged actor
    max   lcb_k(mean_m Qbar_k(s, a_m)) - eta D(s)                           for (20); a_m reparameterised

The printed (19) leaves D outside the discount and drops its state, (20) has a stray gamma; this reading is BDPO's own
objective, (12) and (15), for a policy that has no steps. There is no V and no path.

A `Static` of this file is completed by a policy class: `policy_network`, observations -> a distribution; what is done
with distributions, `cloning_loss`, `draw` and `penalty`; and the numbers of draws that `Samples` names.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from bdpo_jax import ensembles, networks
from bdpo_jax.agents import common, regularized
from bdpo_jax.agents.base import Metrics, Phase
from bdpo_jax.agents.common import Model
from bdpo_jax.agents.critics import aggregate, ahead, best_of, check_batch, fit_q, q_values
from bdpo_jax.agents.regularized import (
    Critics,
    Hyper,
    check_ahead,
    look_ahead,
    read_hyper,
    start_actor,
    value_phase,
    value_rates,
)
from bdpo_jax.settings import number, read, widths
from bdpo_jax.types import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Static(Critics, abc.ABC):
    """Sizes and switches of any policy class."""

    action_dim: int
    action_bound: float = number(1.0, "half-width of the action box [T2]", above=0)
    actor_widths: tuple[int, ...] = widths((256,) * 4, "hidden layers of the policy [ours]; the paper does not say")

    @property
    @abc.abstractmethod
    def policy_network(self) -> Any:
        """Observations `[..., S]` -> a distribution over actions `[..., A]`."""

    @abc.abstractmethod
    def cloning_loss(self, found: Any, actions: jax.Array) -> jax.Array:
        """Returns the loss `[batch]` of the behavior model `found` where the data have `actions`."""

    @abc.abstractmethod
    def draw(self, found: Any, key: jax.Array, count: int) -> jax.Array:
        """Returns actions `[..., count, A]` in the box, differentiable in `found`."""

    @abc.abstractmethod
    def penalty(self, found: Any, reference: Any) -> jax.Array:
        """Returns D of the policy from the behavior model, `[...]`."""

    def reference(self, found: Any, batch: Batch, following: bool) -> Any:
        """Returns what D is the distance from, at s or `following` at s': `found`, what the behavior model says."""
        return found

    @property
    def q_network(self) -> Any:
        return networks.q_network(self.value_widths, self.q_layer_norm, frequencies=self.q_frequencies)


class State(struct.PyTreeNode):
    """Everything that training changes or depends on; `behavior.ema` is the reference of the penalty."""

    step: jax.Array  # number of critic updates done
    pretrain_step: jax.Array  # number of updates of the behavior model done
    actor: Model
    behavior: Model
    q: Model
    hyper: Hyper
    static: Any = struct.field(pytree_node=False)  # the policy class's `Static`


def check(config: Any) -> None:
    """Raises a `UserError` where settings do not fit together."""
    regularized.check(config)


def phases(config: Any, prepare: Callable | None = None) -> tuple[Phase, ...]:
    """Returns BDPO's phases: the behavior model, then, where need be after `prepare`, the critics and delayed actor."""
    return (
        Phase("pretrain", config.pretrain_steps, update_behavior, settle=start_actor, score=("behavior",)),
        *value_phase(config),
        Phase(
            "train",
            config.train_steps,
            update_critics,
            delayed=update_actor,
            interval=config.actor_update_interval,
            delayed_from=config.value_warmup_steps,
            prepare=look_ahead if config.n_step > 1 else prepare,
            check_data=check_ahead if config.n_step > 1 else None,
            watch=("policy",),
            score=("policy", "behavior"),
        ),
    )


def start(
    static_class: type, hyper_class: type, config: Any, key: jax.Array, observation_dim: int, action_dim: int
) -> State:
    """Returns the initial state of a policy class, given by its `Static` and `Hyper`; the rest is of `Agent.init`."""
    static = read(static_class, config, action_dim=action_dim)
    return _init_models(static, key, observation_dim, read_hyper(hyper_class, config))


@functools.partial(jax.jit, static_argnums=(0, 2))
def _init_models(static: Static, key: jax.Array, observation_dim: int, hyper: Hyper) -> State:
    observations, actions = jnp.zeros((1, observation_dim)), jnp.zeros((1, static.action_dim))
    behavior_key, q_key = jax.random.split(key)
    behavior = static.policy_network.init(behavior_key, observations)
    q = ensembles.init(static.q_network, q_key, static.ensemble_size, observations, actions)
    return State(
        step=jnp.int32(0),
        pretrain_step=jnp.int32(0),
        actor=common.create(jax.tree.map(jnp.copy, behavior), static.clip_norm),
        behavior=common.create(behavior, static.clip_norm),
        q=common.create(q, static.clip_norm),
        hyper=hyper,
        static=static,
    )


def behavior_loss(params: Any, static: Static, batch: Batch) -> jax.Array:
    """Returns the mean loss of the behavior model on a batch."""
    return static.cloning_loss(static.policy_network.apply(params, batch.observations), batch.actions).mean()


def update_behavior(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of the behavior model and its average; nothing here is random."""
    static, hyper = state.static, state.hyper
    check_batch(batch, static.action_dim)
    loss, gradients = jax.value_and_grad(behavior_loss)(state.behavior.params, static, batch)
    rates = (static.clip_norm, hyper.behavior_lr, hyper.ema_rate, hyper.behavior_decay_steps)
    behavior = common.apply_gradients(state.behavior, gradients, *rates)
    metrics = {"behavior_loss": loss, "behavior_grad_norm": optax.tree.norm(gradients)}
    return state.replace(behavior=behavior, pretrain_step=state.pretrain_step + 1), metrics


def soft_value(
    state: State, actor_params: Any, batch: Batch, key: jax.Array, following: bool, over_draws: Callable = jnp.mean
) -> tuple[jax.Array, jax.Array]:
    """Returns `lcb_k(mean_m Qbar_k(s, a_m)) - eta D(s)` and `D(s)`, each `[batch]`.

    Args:
      state: the train state; the averages of its critics and of its behavior model are read.
      actor_params: of the policy.
      batch: transitions.
      key: PRNG key of the draws.
      following: at s', or after the `n_step` next actions of the data, instead of s.
      over_draws: what is taken of the values of one member's draws.
    """
    static = state.static
    observations = ahead(batch, state.hyper.discount).observations if following else batch.observations
    found = static.policy_network.apply(actor_params, observations)
    actions = static.draw(found, key, static.actor_samples)
    values = ensembles.apply_frozen(static.q_network, state.q.ema, observations[:, None], actions)
    value = aggregate(over_draws(values, axis=-1), static.aggregation, state.hyper.rho)
    behavior = static.policy_network.apply(state.behavior.ema, observations)
    penalty = static.penalty(found, static.reference(behavior, batch, following))
    return value - state.hyper.eta * penalty, penalty


def q_target(state: State, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """Returns `y [batch]` of (19), with the averaged actor's actions and penalty at s'."""
    if state.static.one_step:
        return batch.rewards, {}
    over_draws = jnp.max if state.static.max_q_backup else jnp.mean
    value, penalty = soft_value(state, state.actor.ema, batch, key, True, over_draws)
    return ahead(batch, state.hyper.discount).target(value), {"next_penalty": penalty.mean()}


def update_critics(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of Q and its average; moves `state.step`."""
    check_batch(batch, state.static.action_dim)
    target, metrics = q_target(state, batch, jax.random.fold_in(jax.random.fold_in(key, 1), state.step))
    weights = ahead(batch, state.hyper.discount).weights
    q, q_metrics = fit_q(state, batch, target, value_rates(state), weights)
    return state.replace(step=state.step + 1, q=q), metrics | q_metrics | {"q_target": target.mean()}


def actor_loss(params: Any, state: State, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """Returns minus the mean of (20), and metrics."""
    objective, penalty = soft_value(state, params, batch, key, False)
    return -objective.mean(), {"actor_penalty": penalty.mean()}


def update_actor(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of the actor and its average, after `update_critics` of the same batch and key."""
    static, hyper = state.static, state.hyper
    key = jax.random.fold_in(jax.random.fold_in(key, 2), state.step)
    gradient = jax.value_and_grad(actor_loss, has_aux=True)
    (loss, metrics), gradients = gradient(state.actor.params, state, batch, key)
    rates = (static.clip_norm, hyper.actor_lr, hyper.ema_rate, hyper.actor_decay_steps)
    state = state.replace(actor=common.apply_gradients(state.actor, gradients, *rates))
    return state, metrics | {"actor_loss": loss, "actor_grad_norm": optax.tree.norm(gradients)}


def act_best_of(state: State, observations: jax.Array, key: jax.Array, candidates: int) -> jax.Array:
    """Returns actions `[..., A]` of the averaged policy for observations `[..., S]`.

    Of so many draws it is the one of highest ensemble-mean target Q.
    """
    found = state.static.policy_network.apply(state.actor.acting, observations)
    actions = state.static.draw(found, key, candidates)
    if candidates == 1:
        return actions[..., 0, :]
    return best_of(actions, q_values(state, observations[..., None, :], actions))


def act_as_behavior(state: State, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Returns one action `[..., A]` of the behavior model for observations `[..., S]`."""
    static = state.static
    return static.draw(static.policy_network.apply(state.behavior.acting, observations), key, 1)[..., 0, :]


VIEWS = {"q": q_values}
