"""Many updates in one compiled program: the dataset on the device, batches drawn inside, the state donated.

The delay of the actor is structure here: whole cycles are scanned, and only the ragged ends of a stretch that does
not begin or end with a cycle take single updates. Each step's batch is a function of (key, step).
"""

import functools

import jax
import jax.numpy as jnp

from bdpo_jax.agents import bdpo


def _batch(dataset, key, step, batch_size, phase):
    return dataset.sample(jax.random.fold_in(jax.random.fold_in(key, 10 + phase), step), batch_size)


@functools.partial(jax.jit, static_argnames=("length", "batch_size"), donate_argnums=0)
def _pretrain(state, dataset, key, length, batch_size):
    def body(state, _):
        batch = _batch(dataset, key, state.pretrain_step, batch_size, 0)
        return bdpo.pretrain_behavior(state, batch, key)

    state, metrics = jax.lax.scan(body, state, None, length=length)
    return bdpo.start_actor(state), metrics


@functools.partial(jax.jit, static_argnames=("length", "batch_size"), donate_argnums=0)
def _critics(state, dataset, key, length, batch_size):
    def body(state, _):
        return bdpo.update_critics(state, _batch(dataset, key, state.step, batch_size, 1), key)

    return jax.lax.scan(body, state, None, length=length)


@functools.partial(jax.jit, static_argnames=("cycles", "batch_size"), donate_argnums=0)
def _cycles(state, dataset, key, cycles, batch_size):
    steps = jnp.arange(state.static.actor_update_interval)

    def body(state, _):
        batches = jax.vmap(lambda i: _batch(dataset, key, state.step + i, batch_size, 1))(steps)
        return bdpo.update_cycle(state, batches, key)

    return jax.lax.scan(body, state, None, length=cycles)


@functools.partial(jax.jit, static_argnames=("batch_size",), donate_argnums=0)
def _single(state, dataset, key, batch_size):
    return bdpo.update(state, _batch(dataset, key, state.step, batch_size, 1), key)


def pretrain(state, dataset, key, length: int, batch_size: int):
    """Returns the state after `length` updates of the behavior model, and a list of metrics of them in order."""
    state, metrics = _pretrain(state, dataset, key, length, batch_size)
    return state, [metrics]


def train(state, dataset, key, start: int, length: int, warmup: int, batch_size: int):
    """Returns the state after the `length` training updates that follow update `start`, and a list of metrics.

    Args:
      state: with `state.step == start`.
      dataset: on the device.
      key: the run's key.
      start: updates done.
      length: updates to do; a stretch does not pass the end of the warm-up.
      warmup: updates without the actor.
      batch_size: transitions an update.
    """
    interval = state.static.actor_update_interval
    if start + length <= warmup:
        state, metrics = _critics(state, dataset, key, length, batch_size)
        return state, [metrics]
    collected = []
    lead = min(-start % interval, length)
    cycles, rest = divmod(length - lead, interval)
    for step in range(start + 1, start + lead + 1):
        state, metrics = _single(state, dataset, key, batch_size)
        collected.append(_of_update(metrics, step % interval == 0))
    if cycles:
        state, metrics = _cycles(state, dataset, key, cycles, batch_size)
        collected.append(metrics)
    for _ in range(rest):  # a rest is shorter than a cycle, so the actor does not move in it
        state, metrics = _single(state, dataset, key, batch_size)
        collected.append(_of_update(metrics, False))
    return state, collected


def _of_update(metrics: dict, with_actor: bool) -> dict:
    """Leaves out the actor's metrics of an update in which it did not move: there they only say NaN."""
    return {name: value for name, value in metrics.items() if with_actor or not name.startswith("actor_")}
