"""QGPO: Q-guided policy optimization by contrastive energy prediction (Lu et al., 2023), as pure functions.

    L_b = E || eps(s, a^t, t) - z ||^2, t uniform on (0, 1]                                                    (A)
    L_Q = E (y - Q_k(s, a))^2,   y = r + gamma (1 - d) sum_j softmax_j(beta_Q q'_j) q'_j                       (B)
    L_f = -E sum_j softmax_j(beta q_j) log softmax_j(f(s, a_j^t, t))                                           (C)

a_1..a_K are the support: actions that the behavior model draws once for every state of the data, at s for (C) and at s'
for (B), where q_j = min_k Qbar_k(s, a_j) and q'_j likewise. The K noised actions of (C) share their t. Its optimum is
`f = log E exp(beta Q(s, a)) + const` over the clean actions behind a^t, so that the policy, proportional to
`behavior exp(w beta Q)` for w = 1, is sampled with the noise `eps - w sigma_t grad f`; other w are a heuristic. The
letters are ours.

Three phases: the behavior model, Q, the energy f; each reads the ones before. Nothing but Q has an average. The support
is neither stored nor saved: a phase draws it when it begins, and again, the same, when a stopped run goes on.

What differs from the authors' code: all phases have the same batch size (the behavior model 4096 there), times are
embedded by fixed frequencies (random ones there), the solver extrapolates the noise (the clean action there), and the
noise predictor is built otherwise (`networks.UShapedMLP`).
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
from bdpo_jax.agents.critics import check_batch, fit_q, q_values, td_target
from bdpo_jax.agents.score_model import ScoreModel, act_as_behavior, draw, draw_support, noised, update_behavior
from bdpo_jax.settings import anything, frequencies, number, read, read_traced, widths
from bdpo_jax.types import Array, Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Static(ScoreModel):
    """Sizes and switches: what changes shapes or control flow."""

    actor_samples: int = number(16, "K, support actions per state; antmaze 32 [rel]", least=1)
    one_step: bool = anything(False, "every transition is terminal: Q is a regression of rewards")
    value_widths: tuple[int, ...] = widths((256,) * 3, "hidden layers of each Q [rel]")
    energy_widths: tuple[int, ...] = widths((256,) * 4, "hidden layers of the energy [rel]")
    ensemble_size: int = number(2, "members of Q, of which targets take the minimum [rel]", least=1)
    q_frequencies: tuple[float, ...] = frequencies("Q")

    @property
    def q_network(self) -> Any:
        return networks.MLP(self.value_widths, 1, frequencies=self.q_frequencies)

    @property
    def energy_network(self) -> Any:
        """`(s, a^t, features of t) -> [..., 1]`."""
        return networks.MLP(self.energy_widths, 1, activation=nn.silu)


class Hyper(struct.PyTreeNode):
    """The numbers that one sweeps."""

    guidance: jax.Array = number(1.0, "w, per task [quoted]; exact where 1", least=0)
    inverse_temperature: jax.Array = number(3.0, "beta of the energy, per unit of reward [rel]", least=0)
    # The paper's value; the authors' code has 3 unless told otherwise.
    backup_inverse_temperature: jax.Array = number(1.0, "beta_Q of the backup; antmaze 20 [quoted]", least=0)
    discount: jax.Array = number(0.99, "per environment step [rel]", least=0, most=1)
    behavior_lr: jax.Array = number(1e-4, "Adam, constant [rel]", least=0)
    value_lr: jax.Array = number(3e-4, "Adam, constant [rel]", least=0)
    energy_lr: jax.Array = number(3e-4, "Adam, constant [rel]", least=0)
    ema_rate: jax.Array = number(0.005, "of Q's average [rel]", least=0, most=1)


@dataclasses.dataclass(frozen=True)
class Budget:
    """Updates."""

    pretrain_steps: int = number(600_000, "updates of the behavior model [rel]", least=0, may_change=True)
    value_steps: int = number(500_000, "updates of Q [rel]", least=0, may_change=True)
    train_steps: int = number(1_000_000, "updates of the energy [rel]", least=0, may_change=True)


class State(struct.PyTreeNode):
    """Everything that training changes or depends on."""

    step: jax.Array  # number of updates done, of all phases
    behavior: Model
    q: Model
    energy: Model
    hyper: Hyper
    static: Static = struct.field(pytree_node=False)


def check(config: Any) -> None:
    """There are no relations between the settings."""


def phases(config: Any) -> tuple[Phase, ...]:
    """Returns the three phases."""
    score = ("policy",)
    next_support = None if config.one_step else prepare_next_support
    return (
        Phase("pretrain", config.pretrain_steps, update_behavior, score=("behavior",)),
        Phase("value", config.value_steps, update_q, prepare=next_support),
        Phase("train", config.train_steps, update_energy, prepare=prepare_support, watch=score, score=score),
    )


def init(config: Any, key: jax.Array, observation_dim: int, action_dim: int) -> State:
    """Returns the initial state, see `Agent.init`."""
    static = read(Static, config, action_dim=action_dim)
    return _init_models(static, key, observation_dim, read_traced(Hyper, config))


@functools.partial(jax.jit, static_argnums=(0, 2))
def _init_models(static: Static, key: jax.Array, observation_dim: int, hyper: Hyper) -> State:
    observations, actions, t = jnp.zeros((1, observation_dim)), jnp.zeros((1, static.action_dim)), jnp.ones((1,))
    behavior_key, q_key, energy_key = jax.random.split(key, 3)
    behavior = static.noise_predictor.init(behavior_key, observations, actions, t)
    q = ensembles.init(static.q_network, q_key, static.ensemble_size, observations, actions)
    energy = static.energy_network.init(energy_key, observations, actions, networks.time_features(t))
    return State(
        step=jnp.int32(0),
        behavior=common.create(behavior, jnp.inf, average=False),
        q=common.create(q, jnp.inf),
        energy=common.create(energy, jnp.inf, average=False),
        hyper=hyper,
        static=static,
    )


def prepare_support(state: State, dataset: Any, key: jax.Array) -> dict[str, Array]:
    """Returns `support [size, K, A]`: actions of the behavior model at s."""
    return {"support": _support(state, dataset.observations, key)}


def prepare_next_support(state: State, dataset: Any, key: jax.Array) -> dict[str, Array]:
    """Returns `next_support [size, K, A]`: actions of the behavior model at s'."""
    return {"next_support": _support(state, dataset.next_observations, key)}


def _support(state: State, observations: Array, key: jax.Array) -> jax.Array:
    return draw_support(state.static, state.behavior.params, observations, key, state.static.actor_samples)


def least_q(state: State, observations: jax.Array, support: jax.Array) -> jax.Array:
    """Returns `min_k Qbar_k(s, a_j)`, `[batch, K]`, for `[batch, S]` and `[batch, K, A]`."""
    return ensembles.apply_frozen(state.static.q_network, state.q.ema, observations[:, None], support).min(axis=0)


def q_target(state: State, batch: Batch) -> jax.Array:
    """Returns y `[batch]` of (B)."""
    if state.static.one_step:
        return batch.rewards
    assert batch.extra is not None
    q = least_q(state, batch.next_observations, batch.extra["next_support"])
    value = (jax.nn.softmax(state.hyper.backup_inverse_temperature * q) * q).sum(axis=-1)
    return td_target(batch, state.hyper.discount, value)


def contrastive_loss(energies: jax.Array, values: jax.Array) -> jax.Array:
    """Returns (C): the cross-entropy from softmax of `values [batch, K]`, beta q, to that of `energies [batch, K]`."""
    return optax.softmax_cross_entropy(energies, jax.nn.softmax(values)).mean()


def energies(state: State, params: Any, observations: jax.Array, noisy: jax.Array, t: jax.Array) -> jax.Array:
    """Returns `f(s, a^t, t)`, `[...]`; the leading axes broadcast."""
    return state.static.energy_network.apply(params, observations, noisy, networks.time_features(t))[..., 0]


def energy_loss(params: Any, state: State, batch: Batch, key: jax.Array) -> jax.Array:
    """Returns (C)."""
    assert batch.extra is not None
    support = batch.extra["support"]
    values = state.hyper.inverse_temperature * least_q(state, batch.observations, support)
    t, _, noisy = noised(state.static, support, key)
    return contrastive_loss(energies(state, params, batch.observations[:, None], noisy, t), values)


def update_q(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of Q, (B), and of its average; `key` is not used: nothing here is random."""
    check_batch(batch, state.static.action_dim)
    q, metrics = fit_q(state, batch, q_target(state, batch), (jnp.inf, state.hyper.value_lr, state.hyper.ema_rate))
    return state.replace(step=state.step + 1, q=q), metrics


def update_energy(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of the energy, (C)."""
    check_batch(batch, state.static.action_dim)
    key = jax.random.fold_in(key, state.step)
    loss, gradients = jax.value_and_grad(energy_loss)(state.energy.params, state, batch, key)
    energy = common.apply_gradients(state.energy, gradients, jnp.inf, state.hyper.energy_lr)
    metrics = {"energy_loss": loss, "energy_grad_norm": optax.tree.norm(gradients)}
    return state.replace(step=state.step + 1, energy=energy), metrics


def _guide(state: State, observations: jax.Array, noisy: jax.Array, t: jax.Array) -> jax.Array:
    """Returns `w grad f` in the noisy actions, of their shape."""
    gradient = jax.grad(lambda actions: energies(state, state.energy.acting, observations, actions, t).sum())(noisy)
    return state.hyper.guidance * gradient


def act(state: State, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Returns one guided draw, `[..., action_dim]` for observations `[..., observation_dim]`."""
    guide = functools.partial(_guide, state)
    return draw(state.static, state.behavior.acting, observations, key, 1, guide)[0][..., 0, :]


def sample_paths(state: State, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Returns guided paths `[diffusion_steps + 1, m, action_dim]` of m observations, from t = `T_MIN` to 1."""
    guide = functools.partial(_guide, state)
    path = draw(state.static, state.behavior.acting, observations, key, 1, guide, trajectory=True)[1]
    assert path is not None
    return path[..., 0, :]


POLICIES = {"policy": act, "behavior": act_as_behavior}
VIEWS = {"q": q_values, "path": sample_paths}
