"""DAC: diffusion actor-critic (Fang et al., 2024), as pure functions.

    L_pi(eps) = eta E mean (eps - z)^2 + E mean( sqrt(1 - abar_n) g eps )                                        (A)
    g         = sg( grad_{a^n} mean_k Qbar_k(s, a^n) / E mean_k |Qbar_k(s, a)| ),   eps = eps(s, a^n, n)         (B)
    eta      <- clip( eta + kappa clip(E mean (eps - z)^2 - b, -1, 1), 0.001, 100 )                              (C)
    y         = r + gamma (1 - d) lcb_k( mean_m Qbar_k(s', a'_m) ),   a'_m from the average actor                (D)

The inner means are over the action's dimensions, n is uniform on 1..N, z is the noise in a^n, sg stops gradients. The
letters are ours. The critic of clean actions is asked at noisy ones (B), so no gradient passes a path. The regression
(A) has its minimum at `eps = z - sqrt(1 - abar_n) g / (2 eta)`, were z known: cloning with a shift that leads uphill.
(C) is dual ascent on the constraint that the cloning loss, taken after the actor's step, is at most b; with kappa = 0
eta is fixed.

The critics, then the actor with the critics' new averages, then eta [rel]. The critics' loss is the mean over members
[rel]: Adam does not see the factor, the clip of the gradient does. Policies act by the parameters, not the average.
The last checkpoint is scored; the paper's scores are means of the last five evaluations. The time network is this
package's (64 wide); the authors' has widths 16, 32, 32.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from bdpo_jax import ensembles
from bdpo_jax.agents import common
from bdpo_jax.agents.base import Metrics, Phase
from bdpo_jax.agents.common import Model
from bdpo_jax.agents.critics import best_of, check_batch, fit_q, q_values, td_target, value_of_draws
from bdpo_jax.agents.denoiser import OnlineDenoiser, draw, draw_paths, noised
from bdpo_jax.settings import anything, number, read, read_traced
from bdpo_jax.types import Batch

SMALLEST_ETA, LARGEST_ETA = 1e-3, 100.0  # of the dual variable [rel]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Static(OnlineDenoiser):
    """Sizes and switches: what changes shapes or control flow."""

    actor_samples: int = number(10, "M, actions per state in targets [rel]", least=1)
    max_q_backup: bool = anything(False, "max instead of mean over the action samples at s'; antmaze True [rel]")
    one_step: bool = anything(False, "every transition is terminal: no path is sampled at s'")
    greedy_candidates: int = number(10, "actions drawn when acting, the one of highest Q is taken [rel]", least=1)
    ensemble_size: int = number(10, "K, members of Q [rel]", least=1)
    clip_norm: float = number(1.0, "global gradient norm, of actor and Q [rel]", above=0)


class Hyper(struct.PyTreeNode):
    """The numbers that one sweeps."""

    eta: jax.Array = number(
        1.0, "weight of cloning, at the start; antmaze 0.1 [rel]", least=SMALLEST_ETA, most=LARGEST_ETA
    )
    eta_lr: jax.Array = number(1e-3, "kappa, step of the dual ascent; antmaze 0: eta is fixed [rel]", least=0)
    cloning_target: jax.Array = number(1.0, "b, cloning loss per dimension that eta aims at, per task", least=0)
    rho: jax.Array = number(1.0, "pessimism: standard deviations below the ensemble's mean, per task", least=0)
    discount: jax.Array = number(0.99, "per environment step [rel]", least=0, most=1)
    actor_lr: jax.Array = number(3e-4, "Adam, cosine decay to 0 over the budget [rel]", least=0)
    value_lr: jax.Array = number(3e-4, "likewise, of Q; antmaze-large 1e-3 [rel]", least=0)
    ema_rate: jax.Array = number(0.005, "of both averages [rel]", least=0, most=1)
    decay_steps: jax.Array = number(0.0, "cosine horizon of both rates, updates; 0: train_steps", least=0)


@dataclasses.dataclass(frozen=True)
class Budget:
    """Updates."""

    train_steps: int = number(2_000_000, "updates [rel]", least=0, may_change=True)


class State(struct.PyTreeNode):
    """Everything that training changes or depends on."""

    step: jax.Array  # number of updates done
    eta: jax.Array  # the dual variable, which starts as `hyper.eta`
    actor: Model
    q: Model
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
    actor_key, q_key = jax.random.split(key)
    actor = static.noise_predictor.init(actor_key, observations, actions, jnp.ones((1,), jnp.int32))
    q = ensembles.init(static.q_network, q_key, static.ensemble_size, observations, actions)
    return State(
        step=jnp.int32(0),
        eta=hyper.eta,
        actor=common.create(actor, static.clip_norm, online=True),
        q=common.create(q, static.clip_norm),
        hyper=hyper,
        static=static,
    )


def q_target(state: State, batch: Batch, key: jax.Array) -> jax.Array:
    """Returns y `[batch]` of (D)."""
    static, hyper = state.static, state.hyper
    if static.one_step:
        return batch.rewards
    actions = draw(static, state.actor.ema, batch.next_observations, key, static.actor_samples)
    draws = (batch.next_observations, actions, static.max_q_backup)
    value = value_of_draws(static.q_network, state.q.ema, *draws, "lcb", hyper.rho)
    return td_target(batch, hyper.discount, value)


def guidance(state: State, batch: Batch, noisy: jax.Array, n: jax.Array) -> jax.Array:
    """Returns `sqrt(1 - abar_n) g` of (B) at noisy actions `[batch, action_dim]` with steps n `[batch]`."""
    network, params = state.static.q_network, state.q.ema

    def total(actions):
        return ensembles.apply_frozen(network, params, batch.observations, actions).mean(axis=0).sum()

    scale = jnp.abs(ensembles.apply(network, params, batch.observations, batch.actions)).mean()
    alpha_bar = jnp.asarray(state.static.schedule.alpha_bars)[n][:, None]
    return jax.lax.stop_gradient(jnp.sqrt(1 - alpha_bar) * jax.grad(total)(noisy) / scale)


def guided_loss(predicted: jax.Array, noise: jax.Array, guide: jax.Array, eta: jax.Array):
    """Returns (A) and its first term without eta, of arrays `[batch, action_dim]`."""
    cloning = jnp.square(predicted - noise).mean()
    return eta * cloning + (guide * predicted).mean(), cloning


def next_eta(eta: jax.Array, cloning: jax.Array, hyper: Hyper) -> jax.Array:
    """Returns the dual variable after a step of (C)."""
    moved = eta + hyper.eta_lr * jnp.clip(cloning - hyper.cloning_target, -1.0, 1.0)
    return jnp.clip(moved, SMALLEST_ETA, LARGEST_ETA).astype(eta.dtype)


def update_critics(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of Q and its average; moves no counter and folds no key."""
    static, hyper = state.static, state.hyper
    target = q_target(state, batch, key)
    q, metrics = fit_q(state, batch, target, (static.clip_norm, hyper.value_lr, hyper.ema_rate, hyper.decay_steps))
    return state.replace(q=q), metrics


def update_actor(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of the actor, its average and eta; moves no counter and folds no key."""
    static, hyper = state.static, state.hyper
    n, noise, noisy = noised(static, batch.actions, key)
    guide = guidance(state, batch, noisy, n)

    def loss(params):
        predicted = static.noise_predictor.apply(params, batch.observations, noisy, n)
        return guided_loss(predicted, noise, guide, state.eta)

    (loss_actor, _), gradients = jax.value_and_grad(loss, has_aux=True)(state.actor.params)
    rates = (hyper.actor_lr, static.average_rate(hyper.ema_rate, state.step), hyper.decay_steps)
    actor = common.apply_gradients(state.actor, gradients, static.clip_norm, *rates)
    _, cloning = loss(actor.params)
    eta = next_eta(state.eta, cloning, hyper)
    metrics = {
        "actor_loss": loss_actor,
        "actor_grad_norm": optax.tree.norm(gradients),
        "cloning_loss": cloning,
        "guidance_norm": jnp.linalg.norm(guide, axis=-1).mean(),
        "dual_eta": eta,
    }
    return state.replace(actor=actor, eta=eta), metrics


def update(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of Q, the actor and eta, in this order.

    Args:
      state: the train state.
      batch: transitions, float32.
      key: PRNG key; `state.step` is folded in, so the same key may be passed at every step.

    Returns:
      The new state and scalar metrics.
    """
    check_batch(batch, state.static.action_dim)
    critic_key, actor_key = jax.random.split(jax.random.fold_in(key, state.step))
    state, metrics = update_critics(state, batch, critic_key)
    state, actor_metrics = update_actor(state, batch, actor_key)
    return state.replace(step=state.step + 1), metrics | actor_metrics


def act(state: State, observations: jax.Array, key: jax.Array, candidates: int | None = None) -> jax.Array:
    """Returns of several draws the one of highest mean Qbar, `[..., action_dim]` for `[..., observation_dim]`.

    Without `candidates` these are `greedy_candidates`.
    """
    actions = draw(state.static, state.actor.acting, observations, key, candidates or state.static.greedy_candidates)
    return best_of(actions, q_values(state, observations[..., None, :], actions))


def sample_paths(state: State, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Returns paths of the actor, see `denoiser.draw_paths`."""
    return draw_paths(state.static, state.actor.acting, observations, key)


POLICIES = {"policy": act}
VIEWS = {"q": q_values, "path": sample_paths}
