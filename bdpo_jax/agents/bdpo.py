"""BDPO: behavior-regularized diffusion policy optimization (paper section 4), as pure functions.

    state = init(config, key, observation_dim, action_dim)
    state, metrics = pretrain(state, batch, key)            # behavior model, (9)
    state, metrics = update(state, batch, key)              # Q (12), V (14), every few steps the actor (15)
    actions = sample_actions(state, observations, key)

All of them can be jitted, vmapped, scanned, sharded and differentiated. The counters in the state are folded into
`key`, so one key serves for ever and a run is a function of (key, batches). `update` holds the delayed actor update
in a `lax.cond`, which under `vmap` runs both branches; `update_cycle` has no condition and is what a loop should scan.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from bdpo_jax import diffusion, networks
from bdpo_jax.agents import common
from bdpo_jax.agents.state import Static, TrainState, init
from bdpo_jax.types import Batch

__all__ = ["TrainState", "init", "pretrain", "sample_actions", "update", "update_cycle"]

Metrics = dict[str, jax.Array]


def _check(state: TrainState, batch: Batch) -> None:
    """Shapes and dtypes, at trace time."""
    size = batch.rewards.shape[0]
    chex.assert_shape([batch.actions], (size, state.static.action_dim))
    chex.assert_shape([batch.rewards, batch.terminals], (size,))
    chex.assert_rank(batch.observations, 2)
    chex.assert_shape([batch.observations, batch.next_observations], (size, batch.observations.shape[-1]))
    chex.assert_type(jax.tree.leaves(batch), jnp.float32)


def behavior_loss(params: Any, static: Static, batch: Batch, key: jax.Array) -> jax.Array:
    """Returns `E || eps(a^n, n, s) - z ||^2`, the simplified (9), n uniform on 1..N."""
    n_key, noise_key = jax.random.split(key)
    n = jax.random.randint(n_key, batch.rewards.shape, 1, static.diffusion_steps + 1)
    noise = jax.random.normal(noise_key, batch.actions.shape)
    noisy = diffusion.add_noise(static.schedule, batch.actions, n, noise)
    predicted = static.noise_predictor.apply(params, batch.observations, noisy, n)
    return jnp.sum(jnp.square(predicted - noise), axis=-1).mean()


def update_behavior(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
    """One Adam step of the behavior model alone; no counter moves and no key is folded."""
    static, hyper = state.static, state.hyper
    loss, gradients = jax.value_and_grad(behavior_loss)(state.behavior.params, static, batch, key)
    behavior = common.apply_gradients(state.behavior, gradients, static.clip_norm, hyper.behavior_lr, hyper.ema_rate)
    metrics = {"behavior_loss": loss, "behavior_grad_norm": optax.tree.norm(gradients)}
    return state.replace(behavior=behavior), metrics


def start_actor(state: TrainState) -> TrainState:
    """Makes the actor and its average copies of the behavior model's average (Algorithm 1, line 3)."""
    copy = jax.tree.map(jnp.copy, state.behavior.ema)
    return state.replace(actor=state.actor.replace(params=copy, ema=jax.tree.map(jnp.copy, copy)))


def pretrain_behavior(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
    """`pretrain` without the copy to the actor: for loops that call `start_actor` once, at their end."""
    _check(state, batch)
    key = jax.random.fold_in(jax.random.fold_in(key, 0), state.pretrain_step)
    state, metrics = update_behavior(state, batch, key)
    return state.replace(pretrain_step=state.pretrain_step + 1), metrics


def pretrain(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
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


def q_target(state: TrainState, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """Returns `y [batch]` of (12), (17): reward plus the discounted LCB of Q minus the path's penalty at s'."""
    static, hyper = state.static, state.hyper
    if static.one_step:
        return batch.rewards, {}
    observations = batch.next_observations[:, None]

    def predictor(params):
        return lambda noisy, n: static.noise_predictor.apply(params, observations, noisy, n)

    path = diffusion.sample(
        static.schedule,
        predictor(state.actor.ema),
        key,
        (batch.rewards.shape[0], static.actor_samples, static.action_dim),
        static.clip,
        reference=predictor(state.behavior.ema),
    )
    values = networks.apply_frozen(static.q_network, state.q.ema, observations, path.actions)
    values = values.max(axis=-1) if static.max_q_backup else values.mean(axis=-1)
    penalty = path.kl.mean(axis=-1)
    value = common.aggregate(values, static.aggregation, hyper.rho) - hyper.eta * penalty
    target = batch.rewards + hyper.discount * (1 - batch.terminals) * value
    return target, {"path_penalty": penalty.mean()}


def value_loss(network: Any, params: Any, inputs: tuple, target: jax.Array, weights: jax.Array | float = 1.0):
    """The loss of Q and of V, with its gradients: the mean over batch and members of `w (f_k(inputs) - y)^2` (18).

    Args:
      network: one member.
      params: of the ensemble, leaves `[members, ...]`.
      inputs: of the network, leading axis batch.
      target: `[batch]`.
      weights: w, `[batch]` or 1.

    Returns:
      loss, members' values `[members, batch]`, gradients like `params`.
    """

    def member_loss(member):
        values = network.apply(member, *inputs)[..., 0]
        return (weights * jnp.square(values - target)).mean(), values

    gradient = jax.value_and_grad(member_loss, has_aux=True)
    (losses, values), gradients = networks.each_member(gradient, params, len(target))
    return losses.mean(), values, jax.tree.map(lambda x: x / len(losses), gradients)


def noisy_actions(
    static: Static, batch: Batch, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, np.ndarray, int]:
    """Extends each row by n and `a^n ~ q(a^n | a)` (Algorithm 1, line 8).

    Which rows get which n is random: a caller's batch may be in any order.

    Returns:
      observations, `a^n`, n, weights, number of leading rows with n = 1 (see `diffusion.draw_steps`).
    """
    row_key, n_key, noise_key = jax.random.split(key, 3)
    size = batch.rewards.shape[0]
    observations, actions = batch.observations, batch.actions
    if static.stratified:
        rows = jax.random.permutation(row_key, size)
        observations, actions = observations[rows], actions[rows]
    n, weights, ones = diffusion.draw_steps(static.diffusion_steps, size, n_key, static.stratified)
    noisy = diffusion.add_noise(static.schedule, actions, n, jax.random.normal(noise_key, actions.shape))
    return observations, noisy, n, weights, ones


def continuation_value(
    state: TrainState,
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
        return networks.apply_frozen(static.q_network, state.q.ema, observations[rows], last)

    def values_n(rows):
        shape = (noisy[rows].shape[0], static.actor_samples, static.action_dim)
        inputs = (noisy[rows][:, None], n[rows][:, None], predicted[rows][:, None])
        noise = jax.random.normal(key, shape)
        previous = diffusion.denoise(static.schedule, *inputs, noise, static.clip)
        before = n[rows][:, None] - 1
        members = (static.v_network, state.v.ema, observations[rows][:, None], previous, before)
        return networks.apply_frozen(*members).mean(axis=-1)

    every = slice(None)
    if static.diffusion_steps == 1:
        values = values_0(every)
    elif ones:
        values = jnp.concatenate([values_0(slice(None, ones)), values_n(slice(ones, None))], axis=-1)
    else:
        values = jnp.where(n == 1, values_0(every), values_n(every))
    return common.aggregate(values, static.aggregation, state.hyper.rho), penalty


def v_target(state, observations, noisy, n, ones, key) -> tuple[jax.Array, jax.Array]:
    """Returns `y [batch]` of (14), (17) with the target actor's continuations, and the penalty `l_n [batch]`."""
    value, penalty = continuation_value(state, state.actor.ema, observations, noisy, n, ones, key)
    return value - state.hyper.eta * penalty, penalty


def update_critics(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
    """One update of Q and V and their averages (and of the behavior model where it goes on training).

    Moves `state.step`. Both targets are taken from the state before the update.
    """
    _check(state, batch)
    static, hyper = state.static, state.hyper
    key = jax.random.fold_in(jax.random.fold_in(key, 1), state.step)
    path_key, row_key, step_key, behavior_key = jax.random.split(key, 4)

    target, path_metrics = q_target(state, batch, path_key)
    inputs = (batch.observations, batch.actions)
    loss_q, q, q_gradients = value_loss(static.q_network, state.q.params, inputs, target)

    observations, noisy, n, weights, ones = noisy_actions(static, batch, row_key)
    v_targets, penalty = v_target(state, observations, noisy, n, ones, step_key)
    inputs = (observations, noisy, n)
    loss_v, v, v_gradients = value_loss(static.v_network, state.v.params, inputs, v_targets, weights)

    rates = (static.clip_norm, hyper.value_lr, hyper.ema_rate, hyper.value_decay_steps)
    state = state.replace(
        step=state.step + 1,
        q=common.apply_gradients(state.q, q_gradients, *rates),
        v=common.apply_gradients(state.v, v_gradients, *rates),
    )
    metrics = {
        "q_loss": loss_q,
        "v_loss": loss_v,
        "q_target": target.mean(),
        "step_penalty": (weights * penalty).mean(),
        "q_grad_norm": optax.tree.norm(q_gradients),
        "v_grad_norm": optax.tree.norm(v_gradients),
        "q_mean": q.mean(),
        "q_spread": q.std(axis=0).mean(),
        "v_mean": v.mean(),
        "v_spread": v.std(axis=0).mean(),
        **path_metrics,
    }
    if static.behavior_finetune:
        state, behavior_metrics = update_behavior(state, batch, behavior_key)
        metrics |= behavior_metrics
    return state, metrics


def actor_loss(params, state: TrainState, observations, noisy, n, weights, ones, key):
    """Returns minus the weighted mean of (15), and metrics; the gradient passes one reverse step, never a path."""
    value, penalty = continuation_value(state, params, observations, noisy, n, ones, key)
    objective = value - state.hyper.eta * penalty
    return -(weights * objective).mean(), {"actor_penalty": (weights * penalty).mean()}


def update_actor(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
    """One update of the actor and its average, after `update_critics` of the same batch and key (15)."""
    static, hyper = state.static, state.hyper
    key = jax.random.fold_in(jax.random.fold_in(key, 2), state.step)
    row_key, step_key = jax.random.split(key)
    inputs = noisy_actions(static, batch, row_key)
    gradient = jax.value_and_grad(actor_loss, has_aux=True)
    (loss, metrics), gradients = gradient(state.actor.params, state, *inputs, step_key)
    actor = common.apply_gradients(
        state.actor, gradients, static.clip_norm, hyper.actor_lr, hyper.ema_rate, hyper.actor_decay_steps
    )
    metrics |= {"actor_loss": loss, "actor_grad_norm": optax.tree.norm(gradients)}
    return state.replace(actor=actor), metrics


def actor_is_due(state: TrainState) -> jax.Array:
    """Returns whether the update that has just counted `state.step` is one that moves the actor."""
    due = state.step % state.static.actor_update_interval == 0
    return due & (state.step > state.hyper.value_warmup_steps)


def update(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
    """One training step: Q, V, and the actor where its turn has come (Algorithm 1, lines 5 to 13).

    Args:
      state: the train state.
      batch: transitions, float32.
      key: PRNG key; `state.step` is folded in, so the same key may be passed at every step.

    Returns:
      The new state and scalar metrics; those of the actor are NaN in steps without it.
    """
    state, metrics = update_critics(state, batch, key)
    shapes = jax.eval_shape(update_actor, state, batch, key)[1]

    def skip(state, batch, key):
        return state, jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), shapes)

    state, actor_metrics = jax.lax.cond(actor_is_due(state), update_actor, skip, state, batch, key)
    return state, metrics | actor_metrics


def update_cycle(state: TrainState, batches: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
    """`actor_update_interval` training steps, the last with the actor, without a condition.

    Equals that many `update`s where `state.step` is a multiple of the interval and the warm-up is over.

    Args:
      state: the train state.
      batches: a batch for each step, leaves `[actor_update_interval, batch, ...]`.
      key: PRNG key, as for `update`.

    Returns:
      The new state and metrics: the critics' per step `[actor_update_interval]`, the actor's as scalars.
    """
    chex.assert_axis_dimension(batches.rewards, 0, state.static.actor_update_interval)
    state, metrics = jax.lax.scan(lambda s, b: update_critics(s, b, key), state, batches)
    last = jax.tree.map(lambda x: x[-1], batches)
    state, actor_metrics = update_actor(state, last, key)
    return state, metrics | actor_metrics


def sample_actions(
    state: TrainState,
    observations: jax.Array,
    key: jax.Array,
    candidates: int | None = None,
    policy: str = "actor",
    solver: str = "ddpm",
) -> jax.Array:
    """Returns actions `[..., action_dim]` of the averaged policy for observations `[..., observation_dim]`.

    Args:
      state: the train state.
      observations: one or more observations.
      key: PRNG key.
      candidates: draw so many and take the one of highest ensemble-mean target Q; None: `greedy_candidates`.
      policy: "actor", or "behavior" for the behavior model.
      solver: "ddpm" or "ddim".
    """
    static = state.static
    candidates = candidates or static.greedy_candidates
    if policy not in ("actor", "behavior"):
        raise ValueError(f"policy is {policy!r}; it must be 'actor' or 'behavior'.")
    params = getattr(state, policy).ema
    states = observations[..., None, :]
    path = diffusion.sample(
        static.schedule,
        lambda noisy, n: static.noise_predictor.apply(params, states, noisy, n),
        key,
        (*observations.shape[:-1], candidates, static.action_dim),
        static.clip,
        solver=solver,
    )
    if candidates == 1:
        return path.actions[..., 0, :]
    values = networks.apply_frozen(static.q_network, state.q.ema, states, path.actions).mean(axis=0)
    best = jnp.argmax(values, axis=-1)[..., None, None]
    return jnp.take_along_axis(path.actions, best, axis=-2)[..., 0, :]
