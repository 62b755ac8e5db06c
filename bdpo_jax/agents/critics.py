"""What critics share: aggregation of an ensemble, its regression, temporal differences, the choice of one of N."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from bdpo_jax import ensembles
from bdpo_jax.agents import common
from bdpo_jax.agents.base import Metrics
from bdpo_jax.types import Array, Batch


def check_batch(batch: Batch, action_dim: int) -> None:
    """Looks at a batch's shapes and dtypes when it is traced.

    Raises:
      AssertionError: they are not those of `Batch`.
    """
    size = batch.rewards.shape[0]
    chex.assert_shape([batch.actions], (size, action_dim))
    chex.assert_shape([batch.rewards, batch.terminals], (size,))
    chex.assert_rank(batch.observations, 2)
    chex.assert_shape([batch.observations, batch.next_observations], (size, batch.observations.shape[-1]))
    chex.assert_type(jax.tree.leaves(batch), jnp.float32)


def aggregate(values: jax.Array, how: str, rho: jax.Array | float) -> jax.Array:
    """Returns one value from the ensemble's, over axis 0: `mean - rho std` (17) for "lcb", "min" or "mean".

    The standard deviation is the population's; where all members agree it is 0 and so is its gradient.
    """
    if how == "mean":
        return values.mean(axis=0)
    if how == "min":
        return values.min(axis=0)
    if how != "lcb":
        raise ValueError(f"aggregation is {how!r}; it must be 'lcb', 'min' or 'mean'.")
    variance = values.var(axis=0)
    agreed = variance == 0
    std = jnp.where(agreed, 0.0, jnp.sqrt(jnp.where(agreed, 1.0, variance)))
    return values.mean(axis=0) - rho * std


def value_of_draws(
    network: Any,
    params: Any,
    observations: jax.Array,
    actions: jax.Array,
    maximum: bool,
    how: str,
    rho: jax.Array | float = 0.0,
) -> jax.Array:
    """Returns the value `[batch]` of states by draws of a policy: each member's mean over the draws, then `aggregate`.

    Args:
      network: one member of Q.
      params: of the ensemble.
      observations: `[batch, observation_dim]`.
      actions: the draws, `[batch, draws, action_dim]`.
      maximum: each member's maximum over the draws instead.
      how: as in `aggregate`.
      rho: likewise; of "lcb" alone.
    """
    values = ensembles.apply_frozen(network, params, observations[:, None], actions)
    return aggregate(values.max(axis=-1) if maximum else values.mean(axis=-1), how, rho)


def followed(dataset: Any) -> jax.Array:
    """Returns whether the row after each one is the next of its episode, `[size]`; none is of a terminal row.

    It begins at the row's next observation, and the source does not say otherwise.

    Args:
      dataset: transitions in the order of their episodes.
    """
    ends = dataset.terminals > 0
    if dataset.last is not None:
        ends = ends | dataset.last
    same = (dataset.next_observations[:-1] == dataset.observations[1:]).all(axis=-1)
    return jnp.append(same, False) & ~ends


def next_actions(state: Any, dataset: Any, key: jax.Array) -> dict[str, jax.Array]:
    """Returns `next_actions [size, A]`, the data's action at s', and `followed [size]`, 0 where the data has none.

    It has one where the next row is of the same episode. A `Phase.prepare`; `state` and `key` are not used.
    """
    following = jnp.roll(dataset.actions, -1, axis=0)
    return {"next_actions": following, "followed": followed(dataset).astype(jnp.float32)}


def rewards_ahead(dataset: Any, discount: jax.Array | float, horizon: int) -> dict[str, jax.Array]:
    """Returns the data's own rewards from each row on, up to the row that a value of it is still needed of.

    That is the row `horizon` steps later, the last one of an episode that is cut off before, and none after a terminal.

    Args:
      dataset: transitions in the order of their episodes.
      discount: per step.
      horizon: rewards, 1 or more.

    Returns:
      `rewards [size]`, their discounted sums; `discounts [size]`, of the later row's value, 0 after a terminal;
      `later_observations [size, S]`, `later_actions [size, A]`; `weights [size]`, 0 where there is no reward before
      that row: a row that is neither terminal nor followed.
    """
    rows, follows, ends = jnp.arange(dataset.size), followed(dataset), dataset.terminals > 0

    def on(_, found):
        row, total, factor = found
        last, goes_on = ends[row], follows[row]
        total = total + jnp.where(last | goes_on, factor * dataset.rewards[row], 0.0)
        factor = jnp.where(last, 0.0, jnp.where(goes_on, factor * discount, factor))
        return jnp.where(goes_on, row + 1, row), total, factor

    start = (rows, jnp.zeros_like(dataset.rewards), jnp.ones_like(dataset.rewards))
    later, total, factor = jax.lax.fori_loop(0, horizon, on, start)
    return {
        "rewards": total,
        "discounts": factor,
        "later_observations": dataset.observations[later],
        "later_actions": dataset.actions[later],
        "weights": ((later != rows) | ends).astype(jnp.float32),
    }


class Ahead(NamedTuple):
    """What a target of Q is made of.

    Attributes:
      rewards: `[batch]`, what is paid before the value, discounted.
      discounts: `[batch]`, of the value, 0 after a terminal.
      observations: `[batch, S]`, where the value is taken.
      weights: `[batch]` or 1, 0 of rows of which neither is known.
      missing: `[batch]` or 0, 1 where nobody acts at these observations: what a terminal step leads to.
    """

    rewards: jax.Array
    discounts: jax.Array
    observations: jax.Array
    weights: Array | float
    missing: Array | float

    def target(self, values: jax.Array) -> jax.Array:
        """Returns the targets `[batch]` with those values `[batch]`."""
        return self.rewards + self.discounts * values


def ahead(batch: Batch, discount: jax.Array) -> Ahead:
    """Returns what lies ahead of a batch's rows: of one step, or what `rewards_ahead` prepared."""
    extra = batch.extra or {}
    if "later_observations" not in extra:
        discounts = discount * (1 - batch.terminals)
        return Ahead(batch.rewards, discounts, batch.next_observations, 1.0, batch.terminals)
    return Ahead(extra["rewards"], extra["discounts"], extra["later_observations"], extra["weights"], 0.0)


def returns(dataset: Any, discount: jax.Array, next_values: Array | float = -np.inf) -> jax.Array:
    """Returns `R_n = r_n + discount (1 - d_n) max(R_{n+1}, V_{n+1})` along the data's own trajectories, `[size]`.

    R_{n+1} is that of the next row of the episode. What is cut off, and has no V, is taken as 0.

    Args:
      dataset: transitions in the order of their episodes.
      discount: per step.
      next_values: `V_{n+1}` `[size]`, minus infinity where there is none; without, the discounted sums of rewards.
    """

    def back(following, row):
        reward, terminal, follows, value = row
        best = jnp.maximum(jnp.where(follows, following, -jnp.inf), value)
        best = jnp.where(jnp.isfinite(best), best, 0.0)
        found = reward + discount * (1 - terminal) * best
        return found, found

    values = jnp.broadcast_to(next_values, dataset.rewards.shape).astype(dataset.rewards.dtype)
    rows = (dataset.rewards, dataset.terminals, followed(dataset), values)
    return jax.lax.scan(back, jnp.zeros((), values.dtype), rows, reverse=True)[1]


def td_target(batch: Batch, discount: jax.Array, next_values: jax.Array) -> jax.Array:
    """Returns `r + discount (1 - d) next_values`, `[batch]`."""
    return batch.rewards + discount * (1 - batch.terminals) * next_values


def regression(
    network: Any, params: Any, inputs: tuple[jax.Array, ...], target: jax.Array, weights: Array | float = 1.0
) -> tuple[jax.Array, jax.Array, Any]:
    """The loss of an ensemble, with its gradients: the mean over batch and members of `w (f_k(inputs) - y)^2` (18).

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
    (losses, values), gradients = ensembles.each_member(gradient, params, len(target))
    return losses.mean(), values, jax.tree.map(lambda x: x / len(losses), gradients)


def fit(
    name: str,
    model: common.Model,
    network: Any,
    inputs: tuple[jax.Array, ...],
    target: jax.Array,
    rates: tuple,
    weights: Array | float = 1.0,
) -> tuple[common.Model, Metrics]:
    """Returns an ensemble after one step of its `regression`, its average moved, and metrics.

    Some authors sum the members' losses where this takes their mean; Adam does not see the factor.

    Args:
      name: begins the metrics': loss, gradients' norm, mean value, and standard deviation between members.
      model: the ensemble.
      network: one member.
      inputs: of the network, leading axis batch.
      target: `[batch]`.
      rates: of `common.apply_gradients`, after the gradients.
      weights: of the rows, `[batch]` or 1.
    """
    loss, values, gradients = regression(network, model.params, inputs, target, weights)
    return common.apply_gradients(model, gradients, *rates), {
        f"{name}_loss": loss,
        f"{name}_grad_norm": optax.tree.norm(gradients),
        f"{name}_mean": values.mean(),
        f"{name}_spread": values.std(axis=0).mean(),
    }


def fit_q(state: Any, batch: Batch, target: jax.Array, rates: tuple, weights: Array | float = 1.0):
    """Returns `state.q` after a step of `fit` towards the target `[batch]` at the batch's pairs, and metrics."""
    return fit("q", state.q, state.static.q_network, (batch.observations, batch.actions), target, rates, weights)


def expectile_loss(difference: jax.Array, expectile: jax.Array) -> jax.Array:
    """Returns `|tau - 1(u < 0)| u^2` of differences u `[...]`: its minimum over a constant is their tau-expectile.

    Implicit Q-learning (Kostrikov et al., 2022), equation (5).
    """
    return jnp.abs(expectile - (difference < 0)) * jnp.square(difference)


def advantages(state: Any, q_params: Any, v_params: Any, batch: Batch) -> jax.Array:
    """Returns `u = min_k Q_k(s, a) - V(s)` of the batch's actions, `[batch]`.

    Args:
      state: with `static.q_network` and `static.v_network`.
      q_params: of the ensemble, Q's parameters or their average.
      v_params: of V.
      batch: transitions.
    """
    q = ensembles.apply(state.static.q_network, q_params, batch.observations, batch.actions).min(axis=0)
    return q - state.static.v_network.apply(v_params, batch.observations)[..., 0]


def implicit_v_loss(v_params: Any, state: Any, q_params: Any, batch: Batch) -> jax.Array:
    """Returns the expectile regression of V on Q in the data, `state.hyper.expectile`: IQL's (5)."""
    return expectile_loss(advantages(state, q_params, v_params, batch), state.hyper.expectile).mean()


def update_implicit_v(state: Any, q_params: Any, batch: Batch, rate: jax.Array) -> tuple[common.Model, Metrics]:
    """Returns `state.v` after a step of `implicit_v_loss`, and metrics."""
    loss, gradients = jax.value_and_grad(implicit_v_loss)(state.v.params, state, q_params, batch)
    metrics = {"v_loss": loss, "v_grad_norm": optax.tree.norm(gradients)}
    return common.apply_gradients(state.v, gradients, jnp.inf, rate), metrics


def update_implicit_q(
    state: Any, batch: Batch, rate: jax.Array, ema_rate: jax.Array | float
) -> tuple[common.Model, Metrics]:
    """Returns `state.q` after a step towards `r + gamma (1 - d) V(s')`, IQL's (6), its average moved, and metrics."""
    next_values = state.static.v_network.apply(state.v.params, batch.next_observations)[..., 0]
    target = td_target(batch, state.hyper.discount, next_values)
    return fit_q(state, batch, target, (jnp.inf, rate, ema_rate))


def q_values(state: Any, observations: jax.Array, actions: jax.Array) -> jax.Array:
    """Returns the ensemble's mean of the averaged Q, `[...]`: the view "q" of most algorithms.

    Args:
      state: with `q` and `static.q_network`.
      observations: `[..., S]`.
      actions: `[..., A]`.
    """
    return ensembles.apply_frozen(state.static.q_network, state.q.acting, observations, actions).mean(axis=0)


def best_of(actions: jax.Array, values: jax.Array) -> jax.Array:
    """Returns of the candidates `actions [..., candidates, A]` the one of highest value, `[..., A]`.

    Args:
      actions: the candidates.
      values: `[..., candidates]`.
    """
    return pick(actions, jnp.argmax(values, axis=-1))


def softmax_of(actions: jax.Array, values: jax.Array, key: jax.Array, temperature: jax.Array | float) -> jax.Array:
    """Returns of the candidates one drawn with probability proportional to `exp(values / temperature)`, `[..., A]`.

    Args:
      actions: the candidates, `[..., candidates, A]`.
      values: `[..., candidates]`.
      key: PRNG key; observations draw independently.
      temperature: in units of the values.
    """
    return pick(actions, jax.random.categorical(key, values / temperature, axis=-1))


def pick(actions: jax.Array, which: jax.Array) -> jax.Array:
    """Returns of `actions [..., candidates, A]` those with the indices `which [...]`, `[..., A]`."""
    return jnp.take_along_axis(actions, which[..., None, None], axis=-2)[..., 0, :]
