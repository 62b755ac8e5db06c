"""IDQL: implicit Q-learning as an actor-critic with a diffusion policy (Hansen-Estruch et al., 2023), pure functions.

    L_V  = E |tau - 1(u < 0)| u^2,  u = min_k Qbar_k(s, a) - V(s)                                             (A)
    L_Q  = E (r + gamma (1 - d) V(s') - Q_k(s, a))^2                                                          (B)
    L_mu = E || eps(s, a^n, n) - z ||^2                                                                       (C)
    pi(s) = argmax_m min_k Qbar_k(s, a_m),   a_m ~ mu(. | s)                                                  (D)

The letters are ours. (A) and (B) are those of IQL (Kostrikov et al., 2022, equations (5) and (6)), V first, then Q with
the new V, then Q's average. (C) is the cloning loss of denoising diffusion, n uniform on 1..N, z the noise in a^n: mu
sees no reward, so it is trained in a phase of its own before the critics. (D) is the greedy form of the paper's
implicit policy, which draws among the candidates by weights of Q and V; its results of D4RL are of the greedy one.
Each a^{n-1} of a path is clipped to the box, the implied clean action is not.

IDQL-A, the results that are usually quoted, chooses the number of candidates for each kind of task by its scores ("A":
128 in locomotion, 32 in antmaze; IDQL-1 has 64 everywhere), and has batches of 1,024 for mu and 256 for the critics.
Here both have the 512 of the released code. The released code's AdamW decays no weight, which is Adam. Always the last
checkpoint acts.
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
from bdpo_jax.agents.critics import best_of, check_batch, update_implicit_q, update_implicit_v
from bdpo_jax.agents.denoiser import Denoiser, cloning_loss, draw, draw_paths
from bdpo_jax.errors import UserError
from bdpo_jax.settings import anything, number, read, read_traced, widths
from bdpo_jax.types import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Static(Denoiser):
    """Sizes and switches: what changes shapes or control flow."""

    clip_denoised: bool = anything(False, "clip the implied clean action, beside each noisy one [rel]")
    actor_widths: tuple[int, ...] = widths((256,) * 3, "residual blocks of mu, all of one width [rel]")
    actor_layer_norm: bool = anything(True, "always: of each residual block [rel]")
    dropout: float = number(0.1, "share of a block's inputs left out in training mu [rel]", least=0, most=0.9)
    value_widths: tuple[int, ...] = widths((256, 256), "hidden layers of each Q and of V, ReLU [rel]")
    ensemble_size: int = number(2, "Q networks, of which the minimum is taken [rel]", least=1)
    greedy_candidates: int = number(128, "actions drawn, the one of highest Q is taken; antmaze 32", least=1)

    @property
    def clip_steps(self) -> float:
        return self.action_bound

    @property
    def noise_predictor(self) -> Any:
        width, blocks = self.actor_widths[0], len(self.actor_widths)
        return networks.ResidualNetwork(width, blocks, self.action_dim, self.diffusion_steps, self.dropout)

    @property
    def q_network(self) -> Any:
        return networks.MLP(self.value_widths, 1)

    @property
    def v_network(self) -> Any:
        return networks.MLP(self.value_widths, 1)


class Hyper(struct.PyTreeNode):
    """The numbers that one sweeps."""

    expectile: jax.Array = number(0.7, "tau; antmaze 0.9", above=0, most=1)
    discount: jax.Array = number(0.99, "per environment step [rel]", least=0, most=1)
    behavior_lr: jax.Array = number(3e-4, "Adam, of mu, cosine decay to 0 over its budget [rel]", least=0)
    value_lr: jax.Array = number(3e-4, "Adam, of Q and V, constant [rel]", least=0)
    behavior_ema_rate: jax.Array = number(0.001, "of mu's average, which acts [rel]", least=0, most=1)
    ema_rate: jax.Array = number(0.005, "of Q's average [rel]", least=0, most=1)
    decay_steps: jax.Array = number(0.0, "cosine horizon of mu's rate, updates; 0: pretrain_steps", least=0)


@dataclasses.dataclass(frozen=True)
class Budget:
    """Updates of each phase."""

    pretrain_steps: int = number(3_000_000, "updates of mu", least=0, may_change=True)
    train_steps: int = number(1_500_000, "updates of the critics", least=0, may_change=True)


class State(struct.PyTreeNode):
    """Everything that training changes or depends on."""

    step: jax.Array  # number of updates of the critics done
    pretrain_step: jax.Array  # likewise of mu
    behavior: Model  # mu
    q: Model
    v: Model
    hyper: Hyper
    static: Static = struct.field(pytree_node=False)


def check(config: Any) -> None:
    """Raises a `UserError` where the residual blocks cannot be added, or settings have no effect."""
    if len(set(config.actor_widths)) > 1:
        raise UserError(f"config.actor_widths is {config.actor_widths}; idql's residual blocks need one width for all.")
    for name, only in (("actor_layer_norm", True), ("actor_frequencies", ()), ("dtype", "float32")):
        if config[name] != only:
            raise UserError(f"config.{name} is {config[name]!r}; idql's residual network has only {only!r}.")


def phases(config: Any) -> tuple[Phase, ...]:
    """Returns the cloning of the data, then the critics."""
    return (
        Phase("pretrain", config.pretrain_steps, pretrain_behavior, score=("behavior",)),
        Phase("train", config.train_steps, update, watch=("policy",), score=("policy",)),
    )


def init(config: Any, key: jax.Array, observation_dim: int, action_dim: int) -> State:
    """Returns the initial state, see `Agent.init`."""
    horizon = read(Hyper, config).decay_steps or max(read(Budget, config).pretrain_steps, 1)
    hyper = read_traced(Hyper, config, decay_steps=horizon)
    return _init_models(read(Static, config, action_dim=action_dim), key, observation_dim, hyper)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _init_models(static: Static, key: jax.Array, observation_dim: int, hyper: Hyper) -> State:
    observations, actions = jnp.zeros((1, observation_dim)), jnp.zeros((1, static.action_dim))
    behavior_key, q_key, v_key = jax.random.split(key, 3)
    behavior = static.noise_predictor.init(behavior_key, observations, actions, jnp.ones((1,), jnp.int32))
    q = ensembles.init(static.q_network, q_key, static.ensemble_size, observations, actions)
    v = static.v_network.init(v_key, observations)
    return State(
        step=jnp.int32(0),
        pretrain_step=jnp.int32(0),
        behavior=common.create(behavior, jnp.inf),
        q=common.create(q, jnp.inf),
        v=common.create(v, jnp.inf, average=False),
        hyper=hyper,
        static=static,
    )


def pretrain_behavior(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One step of (C) and of mu's average; `state.pretrain_step` is folded into the key."""
    check_batch(batch, state.static.action_dim)
    static, hyper = state.static, state.hyper
    loss_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.pretrain_step))
    options = {"rngs": {"dropout": dropout_key}} if static.dropout else {}
    gradient = jax.value_and_grad(cloning_loss)
    loss, gradients = gradient(state.behavior.params, static, batch, loss_key, **options)
    rates = (hyper.behavior_lr, hyper.behavior_ema_rate, hyper.decay_steps)
    behavior = common.apply_gradients(state.behavior, gradients, jnp.inf, *rates)
    metrics = {"behavior_loss": loss, "behavior_grad_norm": optax.tree.norm(gradients)}
    return state.replace(pretrain_step=state.pretrain_step + 1, behavior=behavior), metrics


def update(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of V and Q, in this order.

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
    q, q_metrics = update_implicit_q(state, batch, hyper.value_lr, hyper.ema_rate)
    return state.replace(step=state.step + 1, q=q), metrics | q_metrics


def act(state: State, observations: jax.Array, key: jax.Array, candidates: int | None = None) -> jax.Array:
    """Returns of several draws of mu the one of highest least Qbar, (D), `[..., action_dim]` for `[..., S]`.

    Without `candidates` these are `greedy_candidates`.
    """
    candidates = candidates or state.static.greedy_candidates
    actions = draw(state.static, state.behavior.acting, observations, key, candidates)
    return best_of(actions, q_values(state, observations[..., None, :], actions))


def act_as_behavior(state: State, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Returns one draw of mu, `[..., action_dim]` for observations `[..., observation_dim]`."""
    return draw(state.static, state.behavior.acting, observations, key, 1)[..., 0, :]


def q_values(state: State, observations: jax.Array, actions: jax.Array) -> jax.Array:
    """Returns the minimum over members of the averaged Q, `[...]`."""
    return ensembles.apply(state.static.q_network, state.q.acting, observations, actions).min(axis=0)


def sample_paths(state: State, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Returns paths of mu, see `denoiser.draw_paths`."""
    return draw_paths(state.static, state.behavior.acting, observations, key)


POLICIES = {"policy": act, "behavior": act_as_behavior}
VIEWS = {"q": q_values, "path": sample_paths}
