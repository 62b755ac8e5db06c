"""DTQL: diffusion trusted Q-learning (Chen, Wang and Zhou, 2024), as pure functions.

    L_mu  = E ((D(a + sigma z | s) - a) / c_out)^2                                      behavior cloning, EDM's form
    L_pi  = E[ alpha ((D(b + sigma z | s) - b) / c_out)^2 - min_k Q_k(s, b) - h log pi(a | s) ],   b ~ pi(s)
    V, Q  : implicit Q-learning's (5) and (6), with min_k Q_k of the parameters, not of their average

The second loss's first term, the trust region, is the behavior's loss at the policy's own action, with a noise level
and noise of its own; the denoiser does not learn from it. The last is the likelihood of the data's action a; it leaves
out the squash's Jacobian, as in the authors' code. The policy is a squashed Gaussian, and acts in one step. V, Q and
the behavior model train in both phases, the policy and Q's average in the second. Each loss is of the state before the
update [ours]: the authors' policy sees the denoiser and Q after theirs.

Acting draws `greedy_candidates` actions, of which one is chosen by the softmax of min_k Qbar_k. The last checkpoint is
scored. The noise level enters the denoiser as a plain input [ours]; its first hidden layer has an activation [ours].
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from bdpo_jax import edm, ensembles, networks
from bdpo_jax.agents import common
from bdpo_jax.agents.base import Metrics, Phase
from bdpo_jax.agents.common import Model
from bdpo_jax.agents.critics import check_batch, q_values, softmax_of, update_implicit_q, update_implicit_v
from bdpo_jax.agents.gaussian_head import SquashedPolicy
from bdpo_jax.settings import number, read, read_traced, widths
from bdpo_jax.types import Batch

INSIDE = 1e-3  # by which the box is widened before the data's actions are unsquashed [rel]


@dataclasses.dataclass(frozen=True)
class Static:
    """Sizes: what changes shapes."""

    action_dim: int
    action_bound: float = number(1.0, "half-width of the action box", above=0)
    diffusion_steps: int = number(18, "steps of the sampler that draws from the behavior model [ours]", least=1)
    behavior_widths: tuple[int, ...] = widths((256,) * 4, "hidden layers of the denoiser, mish [rel]")
    actor_widths: tuple[int, ...] = widths((256,) * 3, "hidden layers of the policy [rel]")
    value_widths: tuple[int, ...] = widths((256,) * 3, "hidden layers of each Q, with layer norm, and of V [rel]")
    ensemble_size: int = number(2, "Q networks, of which the minimum is taken [rel]", least=1)
    greedy_candidates: int = number(1024, "actions drawn when acting, one of them chosen by Q [rel]", least=1)

    @property
    def denoiser(self) -> Any:
        """F, on observations, scaled noisy actions and log(sigma) / 4 `[..., 1]`."""
        return networks.MLP(self.behavior_widths, self.action_dim, networks.mish)

    @property
    def policy_network(self) -> Any:
        return SquashedPolicy(self.actor_widths, self.action_dim, self.action_bound)

    @property
    def q_network(self) -> Any:
        return networks.q_network(self.value_widths, True)

    @property
    def v_network(self) -> Any:
        return networks.MLP(self.value_widths, 1, networks.mish)


class Hyper(struct.PyTreeNode):
    """The numbers that one sweeps."""

    alpha: jax.Array = number(1.0, "weight of the trust region, per task [rel]", least=0)
    likelihood_weight: jax.Array = number(0.0, "h; antmaze 1 [rel]", least=0)
    expectile: jax.Array = number(0.7, "tau; antmaze 0.9 [rel]", above=0, most=1)
    discount: jax.Array = number(0.99, "per environment step [rel]", least=0, most=1)
    actor_lr: jax.Array = number(3e-4, "Adam, of policy and denoiser, per task [rel]", least=0)
    value_lr: jax.Array = number(3e-4, "Adam, of Q and V, decays with it [rel]", least=0)
    ema_rate: jax.Array = number(0.005, "of Q's average [rel]", least=0, most=1)
    decay_steps: jax.Array = number(0.0, "cosine horizon of all rates, updates of the policy; 0: constant", least=0)


@dataclasses.dataclass(frozen=True)
class Budget:
    """Updates of each phase."""

    pretrain_steps: int = number(50_000, "updates of denoiser and critics before the policy's [rel]", least=0)
    train_steps: int = number(1_000_000, "updates of all; antmaze 300,000 to 500,000 [rel]", least=0, may_change=True)


class State(struct.PyTreeNode):
    """Everything that training changes or depends on."""

    step: jax.Array  # number of updates done, of both phases
    behavior: Model  # F
    actor: Model
    q: Model
    v: Model
    hyper: Hyper
    static: Static = struct.field(pytree_node=False)


def check(config: Any) -> None:
    """There are no relations between the settings."""


def phases(config: Any) -> tuple[Phase, ...]:
    """Returns the behavior model and critics without the policy, then with it."""
    return (
        Phase("pretrain", config.pretrain_steps, pretrain, score=("behavior",)),
        Phase("train", config.train_steps, update, watch=("policy",), score=("policy", "behavior")),
    )


def init(config: Any, key: jax.Array, observation_dim: int, action_dim: int) -> State:
    """Returns the initial state, see `Agent.init`."""
    horizon = read(Hyper, config).decay_steps or common.FOREVER
    hyper = read_traced(Hyper, config, decay_steps=horizon)
    return _init_models(read(Static, config, action_dim=action_dim), key, observation_dim, hyper)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _init_models(static: Static, key: jax.Array, observation_dim: int, hyper: Hyper) -> State:
    observations, actions = jnp.zeros((1, observation_dim)), jnp.zeros((1, static.action_dim))
    behavior_key, actor_key, q_key, v_key = jax.random.split(key, 4)
    behavior = static.denoiser.init(behavior_key, observations, actions, jnp.zeros((1, 1)))
    q = ensembles.init(static.q_network, q_key, static.ensemble_size, observations, actions)
    return State(
        step=jnp.int32(0),
        behavior=common.create(behavior, jnp.inf, average=False),
        actor=common.create(static.policy_network.init(actor_key, observations), jnp.inf, average=False),
        q=common.create(q, jnp.inf),
        v=common.create(static.v_network.init(v_key, observations), jnp.inf, average=False),
        hyper=hyper,
        static=static,
    )


def behavior_loss(params: Any, static: Static, observations: jax.Array, actions: jax.Array, key: jax.Array):
    """Returns the denoiser's loss at actions, `[batch]`: L_mu at the data's, the trust region at the policy's."""
    return edm.loss(lambda x, t: static.denoiser.apply(params, observations, x, t), actions, key, static.action_bound)


def actor_loss(params: Any, state: State, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """Returns L_pi and its parts."""
    static, hyper, observations = state.static, state.hyper, batch.observations
    draw_key, trust_key = jax.random.split(key)
    found = static.policy_network.apply(params, observations)
    actions, _ = found.sample(jax.random.normal(draw_key, (len(observations), static.action_dim)))
    trust = behavior_loss(state.behavior.params, static, observations, actions, trust_key).mean()
    values = ensembles.apply_frozen(static.q_network, state.q.params, observations, actions).min(axis=0).mean()
    share = found.bound / (found.bound + INSIDE)  # which data may exceed: a 2D set's tails leave its box
    data = jnp.clip(batch.actions / (found.bound + INSIDE), -share, share)
    log_prob = found.before.log_prob(jnp.arctanh(data)).mean()
    loss = hyper.alpha * trust - values - hyper.likelihood_weight * log_prob
    return loss, {"trust_loss": trust, "actor_q": values}


def pretrain(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of the denoiser, V and Q; Q's average stays."""
    return _update(state, batch, key, ema_rate=0.0)


def _update(state: State, batch: Batch, key: jax.Array, ema_rate: jax.Array | float) -> tuple[State, Metrics]:
    check_batch(batch, state.static.action_dim)
    static, hyper = state.static, state.hyper
    key = jax.random.fold_in(jax.random.fold_in(key, 0), state.step)

    def mean_loss(params):
        return behavior_loss(params, static, batch.observations, batch.actions, key).mean()

    loss, gradients = jax.value_and_grad(mean_loss)(state.behavior.params)
    # The horizon counts the policy's updates: no decay while it has none.
    decay = common.cosine_decay(jnp.float32(1), state.actor.opt_state[1].count, hyper.decay_steps)
    v, v_metrics = update_implicit_v(state, state.q.params, batch, decay * hyper.value_lr)
    q, q_metrics = update_implicit_q(state, batch, decay * hyper.value_lr, ema_rate)
    behavior = common.apply_gradients(state.behavior, gradients, jnp.inf, decay * hyper.actor_lr)
    metrics = {"behavior_loss": loss, "behavior_grad_norm": optax.tree.norm(gradients), **v_metrics, **q_metrics}
    return state.replace(step=state.step + 1, behavior=behavior, v=v, q=q), metrics


def update(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of the denoiser, V, Q and the policy, each from the state before.

    Args:
      state: the train state.
      batch: transitions, float32.
      key: PRNG key; `state.step` is folded in, so the same key may be passed at every step.

    Returns:
      The new state and scalar metrics.
    """
    hyper = state.hyper
    actor_key = jax.random.fold_in(jax.random.fold_in(key, 1), state.step)
    gradient = jax.value_and_grad(actor_loss, has_aux=True)
    (loss, parts), gradients = gradient(state.actor.params, state, batch, actor_key)
    moved, metrics = _update(state, batch, key, hyper.ema_rate)
    actor = common.apply_gradients(state.actor, gradients, jnp.inf, hyper.actor_lr, decay_steps=hyper.decay_steps)
    metrics |= {"actor_loss": loss, "actor_grad_norm": optax.tree.norm(gradients), **parts}
    return moved.replace(actor=actor), metrics


def act(state: State, observations: jax.Array, key: jax.Array, candidates: int | None = None) -> jax.Array:
    """Returns one of several draws, by the softmax of least Qbar, `[..., action_dim]` for `[..., observation_dim]`.

    Without `candidates` these are `greedy_candidates`.
    """
    static = state.static
    draw_key, choice_key = jax.random.split(key)
    candidates = candidates or static.greedy_candidates
    noise = jax.random.normal(draw_key, (*observations.shape[:-1], candidates, static.action_dim))
    actions, _ = static.policy_network.apply(state.actor.acting, observations[..., None, :]).sample(noise)
    values = ensembles.apply(static.q_network, state.q.acting, observations[..., None, :], actions).min(axis=0)
    return softmax_of(actions, values, choice_key, 1.0)


def act_as_behavior(state: State, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Returns one draw of the diffusion model, `[..., action_dim]` for observations `[..., observation_dim]`."""
    static = state.static
    network = functools.partial(static.denoiser.apply, state.behavior.acting, observations)
    shape = (*observations.shape[:-1], static.action_dim)
    return edm.sample(network, key, shape, static.diffusion_steps, static.action_bound)


POLICIES = {"policy": act, "behavior": act_as_behavior}
VIEWS = {"q": q_values}
