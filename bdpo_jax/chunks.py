"""Many updates in one compiled program: the dataset on the device, batches drawn inside, the state donated.

The delay of the actor is structure here: whole cycles are scanned, and only the ragged ends of a stretch that does
not begin or end with a cycle take single updates. Each step's batch is a function of (key, step).
"""

import functools
import inspect

import jax
import jax.numpy as jnp

from bdpo_jax.agents import bdpo


def _batch(dataset, key, step, batch_size, phase):
    return dataset.sample(jax.random.fold_in(jax.random.fold_in(key, 10 + phase), step), batch_size)


def _compiled(function):
    """`function(state, dataset, key, *sizes)` compiled, and the same over a leading axis of states and keys."""

    def over_members(states, dataset, keys, *sizes):
        return jax.vmap(lambda state, key: function(state, dataset, key, *sizes))(states, keys)

    sizes = tuple(range(3, len(inspect.signature(function).parameters)))
    compiled = functools.partial(jax.jit, static_argnums=sizes, donate_argnums=0)
    return {False: compiled(function), True: compiled(over_members)}


@_compiled
def _pretrain(state, dataset, key, length, batch_size):
    def body(state, _):
        batch = _batch(dataset, key, state.pretrain_step, batch_size, 0)
        return bdpo.pretrain_behavior(state, batch, key)

    state, metrics = jax.lax.scan(body, state, None, length=length)
    return bdpo.start_actor(state), metrics


@_compiled
def _critics(state, dataset, key, length, batch_size):
    def body(state, _):
        return bdpo.update_critics(state, _batch(dataset, key, state.step, batch_size, 1), key)

    return jax.lax.scan(body, state, None, length=length)


@_compiled
def _cycles(state, dataset, key, cycles, batch_size):
    steps = jnp.arange(state.static.actor_update_interval)

    def body(state, _):
        batches = jax.vmap(lambda i: _batch(dataset, key, state.step + i, batch_size, 1))(steps)
        return bdpo.update_cycle(state, batches, key)

    return jax.lax.scan(body, state, None, length=cycles)


@_compiled
def _single(state, dataset, key, batch_size):
    return bdpo.update(state, _batch(dataset, key, state.step, batch_size, 1), key)


def pretrain(state, dataset, key, length: int, batch_size: int, members: bool = False):
    """Returns the state after `length` updates of the behavior model, and a list of metrics of them in order.

    With `members`, `state` and `key` have a leading axis, and so have the new state and the metrics.
    """
    state, metrics = _pretrain[members](state, dataset, key, length, batch_size)
    return state, [metrics]


def train(state, dataset, key, start: int, length: int, warmup: int, batch_size: int, members: bool = False):
    """Returns the state after the `length` training updates that follow update `start`, and a list of metrics.

    Args:
      state: with `state.step == start`.
      dataset: on the device.
      key: the run's key.
      start: updates done.
      length: updates to do; a stretch does not pass the end of the warm-up.
      warmup: updates without the actor.
      batch_size: transitions an update.
      members: whether `state` and `key` have a leading axis, as the new state and the metrics then have.
    """
    interval = state.static.actor_update_interval
    if start + length <= warmup:
        state, metrics = _critics[members](state, dataset, key, length, batch_size)
        return state, [metrics]
    collected = []
    lead = min(-start % interval, length)
    cycles, rest = divmod(length - lead, interval)
    for step in range(start + 1, start + lead + 1):
        state, metrics = _single[members](state, dataset, key, batch_size)
        collected.append(_of_update(metrics, step % interval == 0))
    if cycles:
        state, metrics = _cycles[members](state, dataset, key, cycles, batch_size)
        collected.append(metrics)
    for _ in range(rest):  # a rest is shorter than a cycle, so the actor does not move in it
        state, metrics = _single[members](state, dataset, key, batch_size)
        collected.append(_of_update(metrics, False))
    return state, collected


def _of_update(metrics: dict, with_actor: bool) -> dict:
    """Leaves out the actor's metrics of an update in which it did not move: there they only say NaN."""
    return {name: value for name, value in metrics.items() if with_actor or not name.startswith("actor_")}
