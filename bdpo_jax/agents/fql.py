"""FQL: flow Q-learning (Park, Li and Levine, 2025), as pure functions.

    L_flow = E (v(s, x_t, t) - (a - z))^2,   x_t = (1 - t) z + t a,  t uniform on [0, 1]                            (A)
    L_pi   = alpha E (mu(s, z) - Euler_T(s, z))^2 - w E mean_k Q_k(s, clip mu(s, z))                                (B)
    L_Q    = sum_k E (y - Q_k(s, a))^2,   y = r + gamma (1 - d) mean_k Qbar_k(s', clip mu(s', z'))                  (C)

v is the velocity of a flow that clones the data, Euler_T its path from the noise z in T steps, clipped to the box; mu
is the policy: one step from the same z. Squares are means over the action's dimensions. w is 1, or 1 / sg(E |mean_k
Q_k|) where `normalize_q` says so; y may take the minimum of the members. The letters are ours.

The three are one loss in the authors' code: each gradient is that of the networks before the update, and none but its
own network sees it. Adam has no clip. mu has no average, so that y is of the policy itself.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from bdpo_jax import ensembles, networks
from bdpo_jax.agents import common
from bdpo_jax.agents.base import Metrics, Phase
from bdpo_jax.agents.common import Model
from bdpo_jax.agents.critics import aggregate, check_batch, fit_q, q_values, td_target
from bdpo_jax.settings import anything, choice, number, read, read_traced, widths
from bdpo_jax.types import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Static:
    """Sizes and switches: what changes shapes or control flow."""

    action_dim: int
    action_bound: float = number(1.0, "half-width of the action box", above=0)
    flow_steps: int = number(10, "T, steps of Euler's method [rel]", least=1)
    actor_widths: tuple[int, ...] = widths((512,) * 4, "hidden layers of the flow and of the policy, GELU [rel]")
    value_widths: tuple[int, ...] = widths((512,) * 4, "hidden layers of each Q, GELU, then layer norm [rel]")
    ensemble_size: int = number(2, "K, members of Q [rel]", least=1)
    aggregation: str = choice("mean", ("min",), "of the ensemble's values in targets; the paper has both")
    normalize_q: bool = anything(
        False, "divide the policy's Q by its mean magnitude; the authors' advice for new tasks"
    )
    one_step: bool = anything(False, "every transition is terminal: nothing is drawn at s'")

    @property
    def velocity_network(self) -> Any:
        """v, on observations, points and times `[..., 1]`."""
        return networks.MLP(self.actor_widths, self.action_dim, nn.gelu)

    @property
    def policy_network(self) -> Any:
        """mu, on observations and noise."""
        return networks.MLP(self.actor_widths, self.action_dim, nn.gelu)

    @property
    def q_network(self) -> Any:
        return networks.MLP(self.value_widths, 1, nn.gelu, layer_norm=True, norm_last=True)

    def clip(self, actions: jax.Array) -> jax.Array:
        return jnp.clip(actions, -self.action_bound, self.action_bound)


class Hyper(struct.PyTreeNode):
    """The numbers that one sweeps."""

    alpha: jax.Array = number(10.0, "weight of distillation against Q, per task [rel]", least=0)
    discount: jax.Array = number(0.99, "per environment step [rel]", least=0, most=1)
    actor_lr: jax.Array = number(3e-4, "Adam, of flow and policy, constant [rel]", least=0)
    value_lr: jax.Array = number(3e-4, "Adam, constant [rel]", least=0)
    ema_rate: jax.Array = number(0.005, "of Q's average [rel]", least=0, most=1)


@dataclasses.dataclass(frozen=True)
class Budget:
    """Updates."""

    train_steps: int = number(1_000_000, "updates; D4RL's antmaze 500,000 [rel]", least=0, may_change=True)


class State(struct.PyTreeNode):
    """Everything that training changes or depends on."""

    step: jax.Array  # number of updates done
    flow: Model
    actor: Model
    q: Model
    hyper: Hyper
    static: Static = struct.field(pytree_node=False)


def check(config: Any) -> None:
    """There are no relations between the settings."""


def phases(config: Any) -> tuple[Phase, ...]:
    """Returns the only phase."""
    return (Phase("train", config.train_steps, update, watch=("policy",), score=("policy", "behavior")),)


def init(config: Any, key: jax.Array, observation_dim: int, action_dim: int) -> State:
    """Returns the initial state, see `Agent.init`."""
    static = read(Static, config, action_dim=action_dim)
    return _init_models(static, key, observation_dim, read_traced(Hyper, config))


@functools.partial(jax.jit, static_argnums=(0, 2))
def _init_models(static: Static, key: jax.Array, observation_dim: int, hyper: Hyper) -> State:
    observations, actions = jnp.zeros((1, observation_dim)), jnp.zeros((1, static.action_dim))
    flow_key, actor_key, q_key = jax.random.split(key, 3)
    flow = static.velocity_network.init(flow_key, observations, actions, jnp.zeros((1, 1)))
    actor = static.policy_network.init(actor_key, observations, actions)
    q = ensembles.init(static.q_network, q_key, static.ensemble_size, observations, actions)
    return State(
        step=jnp.int32(0),
        flow=common.create(flow, jnp.inf, average=False),
        actor=common.create(actor, jnp.inf, average=False),
        q=common.create(q, jnp.inf),
        hyper=hyper,
        static=static,
    )


def flow_loss(params: Any, static: Static, batch: Batch, key: jax.Array) -> jax.Array:
    """Returns (A)."""
    noise_key, time_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, batch.actions.shape)
    times = jax.random.uniform(time_key, (len(noise), 1))
    points = (1 - times) * noise + times * batch.actions
    velocity = static.velocity_network.apply(params, batch.observations, points, times)
    return jnp.square(velocity - (batch.actions - noise)).mean()


def flow_end(static: Static, params: Any, observations: jax.Array, noise: jax.Array) -> jax.Array:
    """Returns where Euler's method takes noise `[..., A]` in `flow_steps` steps along the flow, `[..., A]` in the box.

    Args:
      static: of the state.
      params: of the flow.
      observations: `[..., S]`.
      noise: standard normal, where the paths begin.
    """

    def step(i, points):
        times = jnp.full((*points.shape[:-1], 1), i / static.flow_steps)
        return points + static.velocity_network.apply(params, observations, points, times) / static.flow_steps

    return static.clip(jax.lax.fori_loop(0, static.flow_steps, step, noise))


def actor_loss(params: Any, state: State, observations: jax.Array, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """Returns (B) and its two parts."""
    static = state.static
    noise = jax.random.normal(key, (len(observations), static.action_dim))
    actions = static.policy_network.apply(params, observations, noise)
    distillation = jnp.square(actions - flow_end(static, state.flow.params, observations, noise)).mean()
    clipped = static.clip(actions)
    values = ensembles.apply_frozen(static.q_network, state.q.params, observations, clipped).mean(axis=0)
    weight = 1 / jax.lax.stop_gradient(jnp.abs(values).mean()) if static.normalize_q else 1.0
    loss = state.hyper.alpha * distillation - weight * values.mean()
    return loss, {"distillation_loss": distillation, "actor_q": values.mean()}


def q_target(state: State, batch: Batch, key: jax.Array) -> jax.Array:
    """Returns y `[batch]` of (C)."""
    static = state.static
    if static.one_step:
        return batch.rewards
    actions = act(state, batch.next_observations, key)
    values = ensembles.apply(static.q_network, state.q.ema, batch.next_observations, actions)
    return td_target(batch, state.hyper.discount, aggregate(values, static.aggregation, 0.0))


def update(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of the flow, the policy and Q, each of them from the state before.

    Args:
      state: the train state.
      batch: transitions, float32.
      key: PRNG key; `state.step` is folded in, so the same key may be passed at every step.

    Returns:
      The new state and scalar metrics.
    """
    check_batch(batch, state.static.action_dim)
    static, hyper = state.static, state.hyper
    target_key, flow_key, actor_key = jax.random.split(jax.random.fold_in(key, state.step), 3)

    loss_flow, of_flow = jax.value_and_grad(flow_loss)(state.flow.params, static, batch, flow_key)
    gradient = jax.value_and_grad(actor_loss, has_aux=True)
    (loss_actor, parts), of_actor = gradient(state.actor.params, state, batch.observations, actor_key)
    rates = (jnp.inf, hyper.value_lr, hyper.ema_rate)
    q, metrics = fit_q(state, batch, q_target(state, batch, target_key), rates)

    metrics |= {"flow_loss": loss_flow, "actor_loss": loss_actor, **parts}
    for name, gradients in (("flow", of_flow), ("actor", of_actor)):
        metrics[f"{name}_grad_norm"] = optax.tree.norm(gradients)
    return state.replace(
        step=state.step + 1,
        flow=common.apply_gradients(state.flow, of_flow, jnp.inf, hyper.actor_lr),
        actor=common.apply_gradients(state.actor, of_actor, jnp.inf, hyper.actor_lr),
        q=q,
    ), metrics


def act(state: State, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Returns one action `[..., A]` of the policy for observations `[..., S]`."""
    static = state.static
    noise = jax.random.normal(key, (*observations.shape[:-1], static.action_dim))
    return static.clip(static.policy_network.apply(state.actor.acting, observations, noise))


def act_as_behavior(state: State, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Returns one action `[..., A]` of the flow for observations `[..., S]`."""
    noise = jax.random.normal(key, (*observations.shape[:-1], state.static.action_dim))
    return flow_end(state.static, state.flow.acting, observations, noise)


POLICIES = {"policy": act, "behavior": act_as_behavior}
VIEWS = {"q": q_values}
