"""Diffusion-QL: diffusion policies with a Q-gradient (Wang, Hunt and Zhou, 2023), as pure functions.

    L_pi = E mean (eps(s, a^n, n) - z)^2 - eta E Q_i(s, a^0) / sg(E |Q_j(s, a^0)|),   a^0 a path's end at s        (A)
    L_Q  = sum_k E (y - Q_k(s, a))^2,   y = r + gamma (1 - d) min_k max_m Qbar_k(s', a'_m)                          (B)

The mean is over the action's dimensions, (i, j) are two different members of Q drawn anew in each update (of two: a
coin), sg stops gradients, a'_m are paths' ends of the average actor: one, or ten on most of antmaze ("Max-Q"). The
letters are ours.

Q, then the actor with the new Q (not its average), then the averages. The gradient of (A) passes the whole path; in
each step the implied clean action is clipped to the box, outside of which its gradient is 0. The last step returns that
clean action, so a clip of the path's end would be left with rounding. Policies act by the parameters, not the average:
of 50 draws one is chosen with the probabilities `softmax(min_k Qbar_k)`.

Both gradients are clipped, then given to Adam. Adam does not see a constant factor of a loss (but for its tiny
epsilon), the clip does: (B) sums over members where this package takes their mean, so its gradient is clipped at the
norm over K. The time network is this package's (64 wide); the authors' has widths 16, 32, 16.
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
from bdpo_jax.agents.critics import check_batch, fit_q, q_values, softmax_of, td_target, value_of_draws
from bdpo_jax.agents.denoiser import OnlineDenoiser, cloning_loss, draw, draw_paths
from bdpo_jax.settings import anything, number, read, read_traced
from bdpo_jax.types import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Static(OnlineDenoiser):
    """Sizes and switches: what changes shapes or control flow."""

    posterior_variance: bool = anything(True, "reverse variance of the forward process's posterior [rel]")
    actor_samples: int = number(1, "draws at s', of which each member takes its maximum; Max-Q 10 [rel]", least=1)
    one_step: bool = anything(False, "every transition is terminal: no path is sampled at s'")
    greedy_candidates: int = number(50, "actions drawn when acting, one of them chosen by Q [rel]", least=1)
    ensemble_size: int = number(2, "K, members of Q [rel]", least=2)
    clip_norm: float = number(9.0, "global gradient norm, of actor and Q, per task [rel]", above=0)

    @property
    def q_clip_norm(self) -> float:
        """The clip of the mean over members that is `clip_norm` of their sum."""
        return self.clip_norm / self.ensemble_size


class Hyper(struct.PyTreeNode):
    """The numbers that one sweeps."""

    eta: jax.Array = number(1.0, "weight of Q against cloning, per task [rel]", least=0)
    selection_temperature: jax.Array = number(1.0, "of the choice among candidates, units of Q [rel]", above=0)
    discount: jax.Array = number(0.99, "per environment step [rel]", least=0, most=1)
    actor_lr: jax.Array = number(3e-4, "Adam, constant; antmaze-medium-play 1e-3 [rel]", least=0)
    value_lr: jax.Array = number(3e-4, "Adam, constant [rel]", least=0)
    ema_rate: jax.Array = number(0.005, "of both averages [rel]", least=0, most=1)


@dataclasses.dataclass(frozen=True)
class Budget:
    """Updates."""

    train_steps: int = number(2_000_000, "updates; antmaze 1,000,000 [rel]", least=0, may_change=True)


class State(struct.PyTreeNode):
    """Everything that training changes or depends on."""

    step: jax.Array  # number of updates done
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
    static = read(Static, config, action_dim=action_dim)
    return _init_models(static, key, observation_dim, read_traced(Hyper, config))


@functools.partial(jax.jit, static_argnums=(0, 2))
def _init_models(static: Static, key: jax.Array, observation_dim: int, hyper: Hyper) -> State:
    observations, actions = jnp.zeros((1, observation_dim)), jnp.zeros((1, static.action_dim))
    actor_key, q_key = jax.random.split(key)
    actor = static.noise_predictor.init(actor_key, observations, actions, jnp.ones((1,), jnp.int32))
    q = ensembles.init(static.q_network, q_key, static.ensemble_size, observations, actions)
    return State(
        step=jnp.int32(0),
        actor=common.create(actor, static.clip_norm, online=True),
        q=common.create(q, static.q_clip_norm),
        hyper=hyper,
        static=static,
    )


def q_target(state: State, batch: Batch, key: jax.Array) -> jax.Array:
    """Returns y `[batch]` of (B)."""
    static = state.static
    if static.one_step:
        return batch.rewards
    actions = draw(static, state.actor.ema, batch.next_observations, key, static.actor_samples)
    value = value_of_draws(static.q_network, state.q.ema, batch.next_observations, actions, True, "min")
    return td_target(batch, state.hyper.discount, value)


def actor_loss(params: Any, state: State, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """Returns (A) and its two parts."""
    static = state.static
    cloning_key, path_key, member_key = jax.random.split(key, 3)
    cloning = cloning_loss(params, static, batch, cloning_key) / static.action_dim
    actions = draw(static, params, batch.observations, path_key, 1)[:, 0]
    values = ensembles.apply_frozen(static.q_network, state.q.params, batch.observations, actions)
    i, j = jax.random.permutation(member_key, static.ensemble_size)[:2]
    guide = values[i].mean() / jax.lax.stop_gradient(jnp.abs(values[j]).mean())
    return cloning - state.hyper.eta * guide, {"cloning_loss": cloning, "relative_q": guide}


def update_critics(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of Q and its average; moves no counter and folds no key."""
    static, hyper = state.static, state.hyper
    rates = (static.q_clip_norm, hyper.value_lr, hyper.ema_rate)
    q, metrics = fit_q(state, batch, q_target(state, batch, key), rates)
    return state.replace(q=q), metrics


def update_actor(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of the actor and its average; moves no counter and folds no key."""
    static, hyper = state.static, state.hyper
    gradient = jax.value_and_grad(actor_loss, has_aux=True)
    (loss, parts), gradients = gradient(state.actor.params, state, batch, key)
    rate = static.average_rate(hyper.ema_rate, state.step)
    actor = common.apply_gradients(state.actor, gradients, static.clip_norm, hyper.actor_lr, rate)
    metrics = {"actor_loss": loss, "actor_grad_norm": optax.tree.norm(gradients), **parts}
    return state.replace(actor=actor), metrics


def update(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of Q and the actor, in this order.

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
    """Returns one of several draws, by the softmax of least Qbar, `[..., action_dim]` for `[..., observation_dim]`.

    Without `candidates` these are `greedy_candidates`.
    """
    draw_key, choice_key = jax.random.split(key)
    candidates = candidates or state.static.greedy_candidates
    actions = draw(state.static, state.actor.acting, observations, draw_key, candidates)
    values = ensembles.apply(state.static.q_network, state.q.acting, observations[..., None, :], actions).min(axis=0)
    return softmax_of(actions, values, choice_key, state.hyper.selection_temperature)


def sample_paths(state: State, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Returns paths of the actor, see `denoiser.draw_paths`."""
    return draw_paths(state.static, state.actor.acting, observations, key)


POLICIES = {"policy": act}
VIEWS = {"q": q_values, "path": sample_paths}
