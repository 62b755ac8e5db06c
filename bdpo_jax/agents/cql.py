"""CQL: conservative Q-learning (Kumar et al., 2020), as pure functions.

    L_Q     = w E[ log sum_a exp Q_k(s, a) - Q_k(s, a_data) ]
              + E (r + gamma (1 - d) min_k Qbar_k(s', a') - Q_k(s, a))^2,  a' ~ pi(s')   ((4), its CQL(H))
    L_pi    = E[ alpha log pi(a | s) - min_k Q_k(s, a) ],  a ~ pi(s)
    L_alpha = -E[ log alpha (log pi(a | s) - A) ]                                        (soft actor-critic)

The sum over actions is estimated by importance sampling from `actor_samples` actions each of the uniform distribution
on the box, of pi(s) and of pi(s'), as in appendix F. The weight w is fixed, or, where `lagrange_threshold` is not
negative, the Lagrange multiplier of "the gap is at most the threshold" ((30) there). For the first `cloning_steps`
updates the policy maximises its entropy and the likelihood of the data instead of Q, while Q already learns, as in the
authors' code. The target has no entropy term. The squared error is without (4)'s factor 1/2, as in the authors' code.
The policy's mean acts, from the last checkpoint.

The authors' paper, code and later reruns disagree on settings (see `configs/methods.py`), and so do results.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from bdpo_jax import ensembles, networks
from bdpo_jax.agents import common
from bdpo_jax.agents.base import Metrics, Phase
from bdpo_jax.agents.common import Model
from bdpo_jax.agents.critics import check_batch, q_values, td_target
from bdpo_jax.agents.gaussian_head import SquashedGaussian, SquashedPolicy
from bdpo_jax.settings import number, read, read_traced, widths
from bdpo_jax.types import Batch

LARGEST_WEIGHT = 1e6  # of a learned w
LOG_STD_RANGE = (-20.0, 2.0)  # [rel]


@dataclasses.dataclass(frozen=True)
class Static:
    """Sizes: what changes shapes."""

    action_dim: int
    actor_widths: tuple[int, ...] = widths((256,) * 3, "hidden layers of the policy [rel]")
    value_widths: tuple[int, ...] = widths((256,) * 3, "hidden layers of each Q [rel]; antmaze five")
    ensemble_size: int = number(2, "Q networks, of which targets take the minimum [rel]", least=1)
    actor_samples: int = number(10, "proposals of each of the three kinds in the sum over actions [rel]", least=1)
    action_bound: float = number(1.0, "half-width of the action box", above=0)
    lagrange_threshold: float = number(-1.0, "bound of the gap, by which w is learned; below 0: w is fixed")

    @property
    def policy_network(self) -> Any:
        return SquashedPolicy(self.actor_widths, self.action_dim, self.action_bound, LOG_STD_RANGE)

    @property
    def q_network(self) -> Any:
        return networks.MLP(self.value_widths, 1)


class Hyper(struct.PyTreeNode):
    """The numbers that one sweeps."""

    weight: jax.Array = number(10.0, "w, of the gap; a learned one starts at 1 [rel]", least=0)
    discount: jax.Array = number(0.99, "per environment step [rel]", least=0, most=1)
    actor_lr: jax.Array = number(3e-5, "Adam, of policy and temperature [CORL]; [rel] 1e-4", least=0)
    value_lr: jax.Array = number(3e-4, "Adam, of Q and of a learned w [rel]", least=0)
    ema_rate: jax.Array = number(0.005, "of Q's average [rel]", least=0, most=1)


@dataclasses.dataclass(frozen=True)
class Budget:
    """Updates."""

    cloning_steps: int = number(40_000, "updates at first, in which the policy follows the data [rel]", least=0)
    train_steps: int = number(960_000, "updates after these [rel: a million in all]", least=0, may_change=True)


class State(struct.PyTreeNode):
    """Everything that training changes or depends on."""

    step: jax.Array  # number of updates done
    actor: Model
    q: Model
    temperature: Model  # log alpha
    multiplier: Model  # log w, where w is learned
    hyper: Hyper
    static: Static = struct.field(pytree_node=False)


def check(config: Any) -> None:
    """There are no relations between the settings."""


def phases(config: Any) -> tuple[Phase, ...]:
    """Returns cloning, and training."""
    return (
        Phase("clone", config.cloning_steps, update_cloning, score=("policy",)),
        Phase("train", config.train_steps, update, watch=("policy",), score=("policy",)),
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
    actor = static.policy_network.init(actor_key, observations)
    return State(
        step=jnp.int32(0),
        actor=common.create(actor, jnp.inf, average=False),
        q=common.create(q, jnp.inf),
        temperature=common.create({"log": jnp.float32(0)}, jnp.inf, average=False),
        multiplier=common.create({"log": jnp.float32(0)}, jnp.inf, average=False),
        hyper=hyper,
        static=static,
    )


def policy(state: State, params: Any, observations: jax.Array) -> SquashedGaussian:
    """Returns the distribution of the policy with some parameters."""
    return state.static.policy_network.apply(params, observations)


def draw(state: State, observations: jax.Array, key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Returns actions `[batch, count, A]` of the policy and their log densities `[batch, count]`."""
    noise = jax.random.normal(key, (len(observations), count, state.static.action_dim))
    return policy(state, state.actor.params, observations[:, None]).sample(noise)


def proposals(state: State, batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the actions of the estimated sum, `[batch, 3 count, A]`, and their log densities `[batch, 3 count]`."""
    static = state.static
    uniform_key, here_key, next_key = jax.random.split(key, 3)
    count, bound = static.actor_samples, static.action_bound
    shape = (len(batch.rewards), count, static.action_dim)
    uniform = jax.random.uniform(uniform_key, shape, minval=-bound, maxval=bound)
    density = jnp.full(shape[:-1], -static.action_dim * np.log(2 * bound), jnp.float32)
    here, here_density = draw(state, batch.observations, here_key, count)
    following, next_density = draw(state, batch.next_observations, next_key, count)
    actions = jnp.concatenate([uniform, here, following], axis=1)
    return actions, jnp.concatenate([density, here_density, next_density], axis=1)


def gap(values: jax.Array, log_densities: jax.Array, data_values: jax.Array) -> jax.Array:
    """Returns `log sum_a exp Q(s, a) - Q(s, a_data)`, `[batch]`, up to a constant.

    Args:
      values: of proposals, `[batch, proposals]`.
      log_densities: which they were drawn with, likewise.
      data_values: `[batch]`.
    """
    return jax.nn.logsumexp(values - log_densities, axis=-1) - data_values


def member_loss(member: Any, state: State, batch: Batch, actions, log_densities, target) -> tuple[jax.Array, Metrics]:
    """Returns the loss of one Q, and its parts."""
    network = state.static.q_network
    data_values = network.apply(member, batch.observations, batch.actions)[..., 0]
    values = network.apply(member, batch.observations[:, None], actions)[..., 0]
    conservative = gap(values, log_densities, data_values).mean()
    loss = jnp.square(data_values - target).mean()
    parts = {"q_loss": loss, "q_gap": conservative, "q_mean": data_values.mean()}
    return loss + _weight(state) * conservative, parts


def _weight(state: State) -> jax.Array:
    if state.static.lagrange_threshold < 0:
        return state.hyper.weight
    return jnp.minimum(jnp.exp(state.multiplier.params["log"]), LARGEST_WEIGHT)


def update_critics(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of Q, its average and, if it is learned, w."""
    static, hyper = state.static, state.hyper
    target_key, proposal_key = jax.random.split(key)
    following, _ = draw(state, batch.next_observations, target_key, 1)
    next_values = ensembles.apply(static.q_network, state.q.ema, batch.next_observations, following[:, 0]).min(axis=0)
    target = td_target(batch, hyper.discount, next_values)
    actions, log_densities = proposals(state, batch, proposal_key)
    gradient = jax.value_and_grad(member_loss, has_aux=True)
    (_, parts), gradients = ensembles.each_member(
        lambda member: gradient(member, state, batch, actions, log_densities, target),
        state.q.params,
        len(target) * (1 + actions.shape[1]),
    )
    metrics = {name: value.mean() for name, value in parts.items()} | {"q_weight": _weight(state)}
    # The members' losses are summed; Adam does not see the factor.
    state = state.replace(q=common.apply_gradients(state.q, gradients, jnp.inf, hyper.value_lr, hyper.ema_rate))
    if static.lagrange_threshold >= 0:
        excess = metrics["q_gap"] - static.lagrange_threshold
        slope = jax.grad(lambda p: -jnp.minimum(jnp.exp(p["log"]), LARGEST_WEIGHT) * excess)(state.multiplier.params)
        state = state.replace(multiplier=common.apply_gradients(state.multiplier, slope, jnp.inf, hyper.value_lr))
    return state, metrics


def actor_loss(params: Any, state: State, batch: Batch, key: jax.Array, cloning: bool) -> tuple[jax.Array, jax.Array]:
    """Returns the policy's loss, and the log density of its action `[batch]`; `cloning` follows the data, not Q."""
    found = policy(state, params, batch.observations)
    actions, log_prob = found.sample(jax.random.normal(key, batch.actions.shape))
    if cloning:
        value = found.log_prob(batch.actions)
    else:
        value = ensembles.apply_frozen(state.static.q_network, state.q.params, batch.observations, actions).min(axis=0)
    return (jnp.exp(state.temperature.params["log"]) * log_prob - value).mean(), log_prob


def _update(state: State, batch: Batch, key: jax.Array, cloning: bool) -> tuple[State, Metrics]:
    check_batch(batch, state.static.action_dim)
    hyper = state.hyper
    actor_key, critic_key = jax.random.split(jax.random.fold_in(key, state.step))
    gradient = jax.value_and_grad(actor_loss, has_aux=True)
    (loss, log_prob), gradients = gradient(state.actor.params, state, batch, actor_key, cloning)
    entropy = -log_prob.mean()
    # The target entropy is -A of actions in half-widths of their box; the gradient of -log alpha (log pi - A) in log
    # alpha.
    excess = entropy + state.static.action_dim * (1 - np.log(state.static.action_bound))
    slope = {"log": excess.astype(state.temperature.params["log"].dtype)}
    moved = state.replace(
        actor=common.apply_gradients(state.actor, gradients, jnp.inf, hyper.actor_lr),
        temperature=common.apply_gradients(state.temperature, slope, jnp.inf, hyper.actor_lr),
    )
    # Q's update draws from the policy before this step, as all losses are of the same state.
    critics, metrics = update_critics(state, batch, critic_key)
    metrics |= {"actor_loss": loss, "actor_grad_norm": optax.tree.norm(gradients), "entropy": entropy}
    return moved.replace(step=state.step + 1, q=critics.q, multiplier=critics.multiplier), metrics


def update(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of the policy, its temperature and Q, all from the same state.

    Args:
      state: the train state.
      batch: transitions, float32.
      key: PRNG key; `state.step` is folded in, so the same key may be passed at every step.

    Returns:
      The new state and scalar metrics.
    """
    return _update(state, batch, key, cloning=False)


def update_cloning(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """`update` of the first phase: the policy follows the data."""
    return _update(state, batch, key, cloning=True)


def act(state: State, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Returns the squashed mean `[..., action_dim]` for observations `[..., observation_dim]`; `key` is not used."""
    found = policy(state, state.actor.acting, observations)
    return found.bound * jnp.tanh(found.before.mean)


POLICIES = {"policy": act}
VIEWS = {"q": q_values}
