"""BDPO: behavior-regularized diffusion policy optimization (Gao et al., 2025, section 4), as pure functions.

    state = init(config, key, observation_dim, action_dim)
    state, metrics = pretrain(state, batch, key)            # behavior model, (9)
    state, metrics = update(state, batch, key)              # Q (12), V (14), every few steps the actor (15)
    actions = sample_actions(state, observations, key)

All of them can be jitted, vmapped, scanned, sharded and differentiated. The counters in the state are folded into
`key`, so one key serves for ever and a run is a function of (key, batches). `update` holds the delayed actor update
in a `lax.cond`, which under `vmap` runs both branches; `update_cycle` has no condition and is what a loop should scan.
"""

import dataclasses
import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

from bdpo_jax import diffusion, ensembles, networks
from bdpo_jax.agents import common, regularized
from bdpo_jax.agents.base import Metrics, Phase
from bdpo_jax.agents.common import Model
from bdpo_jax.agents.critics import aggregate, ahead, best_of, check_batch, fit, fit_q, q_values, value_of_draws
from bdpo_jax.agents.denoiser import Denoiser, cloning_loss, draw, draw_paths
from bdpo_jax.agents.draws import Visited, noisy_actions, path_points, visit
from bdpo_jax.agents.regularized import (
    Budget,
    Critics,
    Hyper,
    Samples,
    check_ahead,
    look_ahead,
    read_hyper,
    start_actor,
    value_phase,
    value_rates,
)
from bdpo_jax.errors import UserError
from bdpo_jax.settings import anything, choice, number, read
from bdpo_jax.types import Batch

__all__ = ["Budget", "Hyper", "State", "Static", "init", "pretrain", "sample_actions", "update", "update_cycle"]

BEST_OF = 10  # candidates of the behavior model chosen by Q, where the algorithm's own policy selects none


# ------------------------------------------------------------------------------------------------ settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Static(Denoiser, Critics, Samples):
    """Sizes and switches: what changes shapes or control flow."""

    behavior_finetune: bool = anything(False, "one update of the behavior model after each of the actor ([rel] True)")
    stratified: bool = anything(True, "a fixed number of rows per n in the V and actor updates [ours]")
    draw: str = choice("data", ("path",), "where V and the actor are trained: noised data, or the actor's own paths")
    path_share: float = number(
        1.0, "share of rows that draw='path' takes from paths; the rest is data", least=0, most=1
    )
    path_lambda: float = number(
        0.0, "lambda of V's targets along those paths [ours]: 0 one step (14) .. 1 all that follows", least=0, most=1
    )

    @property
    def q_network(self) -> Any:
        return networks.q_network(self.value_widths, self.q_layer_norm, self.dtype, self.q_frequencies)

    @property
    def v_network(self) -> Any:
        return networks.v_network(self.value_widths, self.diffusion_steps, self.dtype)


def check(config: Any) -> None:
    """Raises a `UserError` where settings do not fit together."""
    regularized.check(config)
    if config.stratified and config.batch_size < config.diffusion_steps:
        raise UserError(
            f"config.batch_size is {config.batch_size}; it must be at least diffusion_steps "
            f"({config.diffusion_steps}) unless stratified=False."
        )
    if config.path_lambda and (config.draw != "path" or config.path_share < 1):
        raise UserError(
            f"config.path_lambda is {config.path_lambda}, but V is not trained on whole paths alone; "
            "set draw='path' and path_share=1, or path_lambda=0."
        )
    ends = config.behavior_decay_steps < 0 or 0 < config.behavior_decay_steps <= config.pretrain_steps
    if config.behavior_finetune and ends:
        raise UserError(
            "config.behavior_finetune trains the behavior model after pre-training, too, but with "
            f"behavior_decay_steps={config.behavior_decay_steps:g} its learning rate is 0 by then; set one to "
            "False or the other to 0."
        )


def phases(config: Any) -> tuple[Phase, ...]:
    """Returns what Algorithm 1 does: lines 1 to 3, then 4 to 13; between them, where asked for, a start for Q."""
    final = ("policy", "behavior") if config.one_step else tuple(POLICIES)  # of a bandit, samples are what matters
    return (
        Phase("pretrain", config.pretrain_steps, pretrain_behavior, settle=start_actor, score=("behavior",)),
        *value_phase(config),
        Phase(
            "train",
            config.train_steps,
            update_critics,
            delayed=update_actor,
            interval=config.actor_update_interval,
            delayed_from=config.value_warmup_steps,
            prepare=look_ahead if config.n_step > 1 else None,
            check_data=_data_check(config),
            watch=("policy",),
            score=final,
        ),
    )


def _data_check(config: Any):
    """Returns the `Phase.check_data` of training, or None."""
    if config.n_step > 1:
        return check_ahead
    return check_next if config.draw == "path" and not config.one_step else None


def check_next(dataset: Any) -> None:
    """Raises a `UserError` where no row leads to a state from which a path can start: a `Phase.check_data`."""
    if dataset.terminals.all():
        raise UserError(
            "Every row of the data is terminal, so that no path starts at a next state: set config.one_step=True, "
            "with which draw='path' starts them at the rows' own."
        )


# --------------------------------------------------------------------------------------------------- state


class State(struct.PyTreeNode):
    """Everything that training changes or depends on; `behavior.ema` is the reference of the penalty."""

    step: jax.Array  # number of `update`s done
    pretrain_step: jax.Array  # number of `pretrain`s done
    actor: Model
    behavior: Model
    q: Model
    v: Model
    hyper: Hyper
    static: Static = struct.field(pytree_node=False)


def init(config: Any, key: jax.Array, observation_dim: int, action_dim: int) -> State:
    """Returns the initial state.

    Args:
      config: any object with attributes of the names of `Static`, `Hyper` and `Budget`; what it lacks has its default.
      key: PRNG key.
      observation_dim: width of the observations.
      action_dim: width of the actions.
    """
    hyper = read_hyper(Hyper, config)
    return _init_models(read(Static, config, action_dim=action_dim), key, observation_dim, hyper)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _init_models(static: Static, key: jax.Array, observation_dim: int, hyper: Hyper) -> State:
    observations, actions = jnp.zeros((1, observation_dim)), jnp.zeros((1, static.action_dim))
    n = jnp.ones((1,), jnp.int32)
    behavior_key, q_key, v_key = jax.random.split(key, 3)
    behavior = static.noise_predictor.init(behavior_key, observations, actions, n)
    q = ensembles.init(static.q_network, q_key, static.ensemble_size, observations, actions)
    v = ensembles.init(static.v_network, v_key, static.ensemble_size, observations, actions, n)
    return State(
        step=jnp.int32(0),
        pretrain_step=jnp.int32(0),
        actor=common.create(jax.tree.map(jnp.copy, behavior), static.clip_norm),
        behavior=common.create(behavior, static.clip_norm),
        q=common.create(q, static.clip_norm),
        v=common.create(v, static.clip_norm),
        hyper=hyper,
        static=static,
    )


# ------------------------------------------------------------------------------------------------- updates


def update_behavior(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One Adam step of the behavior model alone; no counter moves and no key is folded."""
    static, hyper = state.static, state.hyper
    loss, gradients = jax.value_and_grad(cloning_loss)(state.behavior.params, static, batch, key)
    rates = (static.clip_norm, hyper.behavior_lr, hyper.ema_rate, hyper.behavior_decay_steps)
    behavior = common.apply_gradients(state.behavior, gradients, *rates)
    metrics = {"behavior_loss": loss, "behavior_grad_norm": optax.tree.norm(gradients)}
    return state.replace(behavior=behavior), metrics


def pretrain_behavior(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """`pretrain` without the copy to the actor: for loops that call `start_actor` once, at their end."""
    check_batch(batch, state.static.action_dim)
    key = jax.random.fold_in(jax.random.fold_in(key, 0), state.pretrain_step)
    state, metrics = update_behavior(state, batch, key)
    return state.replace(pretrain_step=state.pretrain_step + 1), metrics


def pretrain(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of the behavior model (9); the actor follows as its copy, ready for the first `update`.

    Args:
      state: the train state.
      batch: transitions; only observations and actions are read.
      key: PRNG key; `state.pretrain_step` is folded in.

    Returns:
      The new state and scalar metrics.
    """
    state, metrics = pretrain_behavior(state, batch, key)
    return start_actor(state), metrics


def q_target(state: State, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics, Visited | None]:
    """Returns `y [batch]` of (12), (17): reward plus the discounted LCB of Q minus the path's penalty at s'.

    The authors' code subtracts the penalty without the discount, and after terminal steps, too; (12) does neither.
    With `n_step` above 1 the data's own next steps come first: their rewards, and s' after them. Nothing corrects that
    these are the behavior policy's actions, from which the penalty keeps the actor near.

    And metrics, and with `draw="path"` one of each row's paths: at s', where the target needs them, so that they cost
    no evaluation of a network; at s if nothing follows s.
    """
    static, hyper = state.static, state.hyper
    if static.one_step:
        reference = state.behavior.ema if static.path_lambda else None
        visited = visit(static, state.actor.ema, batch, key, reference) if static.draw == "path" else None
        return batch.rewards, {}, visited
    found = ahead(batch, hyper.discount)
    observations = found.observations[:, None]

    def predictor(params):
        return lambda noisy, n: static.noise_predictor.apply(params, observations, noisy, n)

    path = diffusion.sample(
        static.schedule,
        predictor(state.actor.ema),
        key,
        (batch.rewards.shape[0], static.actor_samples, static.action_dim),
        static.clip,
        reference=predictor(state.behavior.ema),
        trajectory=static.draw == "path",
    )
    draws = (found.observations, path.actions, static.max_q_backup)
    value = value_of_draws(static.q_network, state.q.ema, *draws, static.aggregation, hyper.rho)
    penalty = path.kl.mean(axis=-1)
    target = found.target(value - hyper.eta * penalty)
    visited = None
    if path.trajectory is not None and path.kls is not None:
        missing = jnp.broadcast_to(found.missing, target.shape)
        visited = Visited(found.observations, path.trajectory[:, :, 0], missing, path.kls[:, :, 0])
    return target, {"path_penalty": penalty.mean()}, visited


def continuation_value(
    state: State,
    actor_params: Any,
    observations: jax.Array,
    noisy: jax.Array,
    n: jax.Array,
    ones: int,
    key: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Returns `lcb_k( mean_m Vbar_k(s, a^{n-1}_m, n-1) )`, `Vbar_0 = Qbar`, and the penalty `l_n`, each `[batch]`.

    The target of V (14) and the objective of the actor (15) are both this value minus `eta l_n`. The last step
    has no noise, so one continuation is exact at n = 1. The first `ones` rows are known to have n = 1 and the others
    n > 1, so each row goes to one of the two ensembles; with `ones = 0` every row goes to both.
    """
    static = state.static
    predicted = static.noise_predictor.apply(actor_params, observations, noisy, n)
    reference = static.noise_predictor.apply(state.behavior.ema, observations, noisy, n)
    penalty = diffusion.kl(static.schedule, n, predicted, reference)

    def values_0(rows):
        last = diffusion.reverse_mean(static.schedule, noisy[rows], n[rows], predicted[rows], static.clip)
        return ensembles.apply_frozen(static.q_network, state.q.ema, observations[rows], last)

    def values_n(rows):
        shape = (noisy[rows].shape[0], static.actor_samples, static.action_dim)
        inputs = (noisy[rows][:, None], n[rows][:, None], predicted[rows][:, None])
        noise = jax.random.normal(key, shape)
        previous = diffusion.denoise(static.schedule, *inputs, noise, static.clip)
        before = n[rows][:, None] - 1
        members = (static.v_network, state.v.ema, observations[rows][:, None], previous, before)
        return ensembles.apply_frozen(*members).mean(axis=-1)

    every = slice(None)
    if static.diffusion_steps == 1:
        values = values_0(every)
    elif ones:
        values = jnp.concatenate([values_0(slice(None, ones)), values_n(slice(ones, None))], axis=-1)
    else:
        values = jnp.where(n == 1, values_0(every), values_n(every))
    return aggregate(values, static.aggregation, state.hyper.rho), penalty


def v_target(state, observations, noisy, n, ones, key) -> tuple[jax.Array, jax.Array]:
    """Returns `y [batch]` of (14), (17) with the target actor's continuations, and the penalty `l_n [batch]`."""
    value, penalty = continuation_value(state, state.actor.ema, observations, noisy, n, ones, key)
    return value - state.hyper.eta * penalty, penalty


def path_returns(state: State, visited: Visited) -> jax.Array:
    """Returns the value `[N + 1, paths]` of every point of a path by what follows on it.

    `G_n = -eta l_n + (1 - lambda) lcb_k(Vbar_k(s, a^{n-1}, n-1)) + lambda G_{n-1}` and `G_0 = Vbar_0 = lcb_k(Qbar_k)`,
    lambda being `path_lambda`: at 0 (14)'s target of one step, the path's own; at 1 all of the path, no bootstrapping.
    """
    static, hyper, decay = state.static, state.hyper, state.static.path_lambda
    observations, actions = visited.observations, visited.actions
    values = ensembles.apply_frozen(static.q_network, state.q.ema, observations, actions[0])[:, None]
    if static.diffusion_steps > 1:
        n = jnp.arange(1, static.diffusion_steps)[:, None]
        inputs = (observations[None], actions[1:-1], n)
        later = ensembles.apply_frozen(static.v_network, state.v.ema, *inputs)
        values = jnp.concatenate([values, later], axis=1)
    values = aggregate(values, static.aggregation, hyper.rho)

    def back(following, step):
        value, penalty = step
        found = (1 - decay) * value + decay * following - hyper.eta * penalty
        return found, found

    kls = visited.kls[1:].astype(values.dtype)  # of 64 bits where JAX has them, other than the networks' values
    _, returns = jax.lax.scan(back, values[0], (values, kls))
    return jnp.concatenate([values[:1], returns])


def update_critics(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of Q and V and their averages; moves `state.step`.

    Both targets are taken from the state before the update.
    """
    check_batch(batch, state.static.action_dim)
    static, rates = state.static, value_rates(state)
    key = jax.random.fold_in(jax.random.fold_in(key, 1), state.step)
    path_key, row_key, step_key = jax.random.split(key, 3)

    target, path_metrics, visited = q_target(state, batch, path_key)
    q, q_metrics = fit_q(state, batch, target, rates, ahead(batch, state.hyper.discount).weights)

    if static.path_lambda:
        assert visited is not None, "path_lambda is of draw='path'"
        points = path_points(static, visited, path_returns(state, visited), len(target), row_key)
        observations, noisy, n, weights, v_targets, penalty = points
    else:
        observations, noisy, n, weights, ones = noisy_actions(static, batch, row_key, visited)
        v_targets, penalty = v_target(state, observations, noisy, n, ones, step_key)
    v, v_metrics = fit("v", state.v, static.v_network, (observations, noisy, n), v_targets, rates, weights)
    metrics = {"q_target": target.mean(), "step_penalty": (weights * penalty).mean(), **path_metrics}
    return state.replace(step=state.step + 1, q=q, v=v), q_metrics | v_metrics | metrics


def actor_loss(params, state: State, observations, noisy, n, weights, ones, key):
    """Returns minus the weighted mean of (15), and metrics; the gradient passes one reverse step, never a path."""
    value, penalty = continuation_value(state, params, observations, noisy, n, ones, key)
    objective = value - state.hyper.eta * penalty
    return -(weights * objective).mean(), {"actor_penalty": (weights * penalty).mean()}


def update_actor(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One update of the actor and its average, after `update_critics` of the same batch and key (15).

    With `draw="path"` it moves on paths of its average at the batch's observations, drawn here. With
    `behavior_finetune` one update of the behavior model follows, on the same batch.
    """
    static, hyper = state.static, state.hyper
    key = jax.random.fold_in(jax.random.fold_in(key, 2), state.step)
    row_key, step_key, behavior_key = jax.random.split(key, 3)
    path_key = jax.random.fold_in(key, 3)
    visited = visit(static, state.actor.ema, batch, path_key) if static.draw == "path" else None
    inputs = noisy_actions(static, batch, row_key, visited)
    gradient = jax.value_and_grad(actor_loss, has_aux=True)
    (loss, metrics), gradients = gradient(state.actor.params, state, *inputs, step_key)
    actor = common.apply_gradients(
        state.actor, gradients, static.clip_norm, hyper.actor_lr, hyper.ema_rate, hyper.actor_decay_steps
    )
    metrics |= {"actor_loss": loss, "actor_grad_norm": optax.tree.norm(gradients)}
    state = state.replace(actor=actor)
    if static.behavior_finetune:
        state, behavior_metrics = update_behavior(state, batch, behavior_key)
        metrics |= behavior_metrics
    return state, metrics


def actor_is_due(state: State) -> jax.Array:
    """Returns whether the update that has just counted `state.step` is one that moves the actor."""
    due = state.step % state.static.actor_update_interval == 0
    return due & (state.step > state.static.value_warmup_steps)


def update(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One training step: Q, V, and the actor where its turn has come (Algorithm 1, lines 5 to 13).

    Args:
      state: the train state.
      batch: transitions, float32.
      key: PRNG key; `state.step` is folded in, so the same key may be passed at every step.

    Returns:
      The new state and scalar metrics; those of `update_actor` are NaN in steps without it.
    """
    state, metrics = update_critics(state, batch, key)
    shapes = jax.eval_shape(update_actor, state, batch, key)[1]

    def skip(state, batch, key):
        return state, jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), shapes)

    state, actor_metrics = jax.lax.cond(actor_is_due(state), update_actor, skip, state, batch, key)
    return state, metrics | actor_metrics


def update_cycle(state: State, batches: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """`actor_update_interval` training steps, the last with the actor, without a condition.

    Equals that many `update`s where `state.step` is a multiple of the interval and the warm-up is over.

    Args:
      state: the train state.
      batches: a batch for each step, leaves `[actor_update_interval, batch, ...]`.
      key: PRNG key, as for `update`.

    Returns:
      The new state and metrics: the critics' per step `[actor_update_interval]`, those of `update_actor` as scalars.
    """
    chex.assert_axis_dimension(batches.rewards, 0, state.static.actor_update_interval)
    state, metrics = jax.lax.scan(lambda s, b: update_critics(s, b, key), state, batches)
    last = jax.tree.map(lambda x: x[-1], batches)
    state, actor_metrics = update_actor(state, last, key)
    return state, metrics | actor_metrics


def sample_actions(
    state: State,
    observations: jax.Array,
    key: jax.Array,
    candidates: int | None = None,
    policy: str = "policy",
    solver: str = "ddpm",
) -> jax.Array:
    """Returns actions `[..., action_dim]` of the averaged policy for observations `[..., observation_dim]`.

    Args:
      state: the train state.
      observations: one or more observations.
      key: PRNG key.
      candidates: draw so many and take the one of highest ensemble-mean target Q; None: `greedy_candidates`.
      policy: "policy", or "behavior" for the behavior model.
      solver: "ddpm" or "ddim".
    """
    static = state.static
    candidates = candidates or static.greedy_candidates
    if policy not in ("policy", "behavior"):
        raise ValueError(f"policy is {policy!r}; it must be 'policy' or 'behavior'.")
    params = (state.actor if policy == "policy" else state.behavior).ema
    actions = draw(static, params, observations, key, candidates, solver)
    if candidates == 1:
        return actions[..., 0, :]
    values = q_values(state, observations[..., None, :], actions)
    return best_of(actions, values)


def sample_behavior(state: State, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Returns one action of the behavior model for each observation, as `sample_actions`."""
    return sample_actions(state, observations, key, candidates=1, policy="behavior")


def sample_best_of_behavior(
    state: State, observations: jax.Array, key: jax.Array, candidates: int | None = None
) -> jax.Array:
    """Returns of several actions of the behavior model the one of highest Q, as `sample_actions`.

    Without `candidates` they are `greedy_candidates`, or `BEST_OF` where the algorithm's own policy selects none.
    """
    own = state.static.greedy_candidates
    return sample_actions(state, observations, key, candidates or (BEST_OF if own == 1 else own), "behavior")


def v_values(state: State, observations: jax.Array, noisy: jax.Array, n: jax.Array) -> jax.Array:
    """Returns the ensemble's mean of the averaged V at steps n > 0, `[...]`."""
    return ensembles.apply(state.static.v_network, state.v.ema, observations, noisy, n).mean(axis=0)


def sample_paths(state: State, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Returns paths of the averaged actor, see `denoiser.draw_paths`."""
    return draw_paths(state.static, state.actor.ema, observations, key)


POLICIES = {"policy": sample_actions, "behavior": sample_behavior, "behavior_best_of": sample_best_of_behavior}
VIEWS = {"q": q_values, "value": v_values, "path": sample_paths}
