"""Many updates in one compiled program: the dataset on the device, batches drawn inside, the state donated.

A dataset too large for that is replaced by the batches that the stretch will use (`data.host.Drawn`).

The delay of the actor is structure here: whole cycles are scanned, and only the ragged ends of a stretch that does
not begin or end with a cycle take single updates. Each step's batch is a function of (key, step).

With a mesh of devices (`devices.make_mesh`), a batch is drawn in parts, members are spread, and XLA adds what the parts
must tell each other; a single device's program has none of it.
"""

import functools
import inspect

import jax
import jax.numpy as jnp

from bdpo_jax import devices
from bdpo_jax.agents import bdpo


def _batch(dataset, key, step, batch_size, mesh, phase):
    return devices.constrain(dataset.batch(key, phase, step, batch_size), mesh, devices.BATCH)


def _compiled(function):
    """`function(state, dataset, key, *sizes, mesh)` compiled, and the same over a leading axis of states and keys.

    That axis the dataset has, too, where it is batches drawn for each member (`member_axis`).

    States keep their places; metrics are copied to all devices, so that any process can read them.
    """

    @functools.wraps(function)
    def single(state, dataset, key, *static):
        state, metrics = function(state, dataset, key, *static)
        metrics = metrics | {"finite": _finite(state)}
        return devices.constrain(state, static[-1]), devices.constrain(metrics, static[-1])

    @functools.wraps(function)
    def over_members(states, dataset, keys, *static):
        axis = None if static[-1] is None else devices.MEMBER
        one = lambda state, data, key: function(state, data, key, *static)  # noqa: E731
        mapped = jax.vmap(one, in_axes=(0, dataset.member_axis, 0), spmd_axis_name=axis)
        states, metrics = mapped(states, dataset, keys)
        metrics = metrics | {"finite": jax.vmap(_finite)(states)}
        return devices.constrain(states, static[-1], devices.MEMBER), devices.constrain(metrics, static[-1])

    static = tuple(range(3, len(inspect.signature(function).parameters)))
    compiled = functools.partial(jax.jit, static_argnums=static, donate_argnums=0)
    return {False: compiled(single), True: compiled(over_members)}


def _finite(state) -> jax.Array:
    """Whether all parameters are numbers."""
    params = [getattr(state, name).params for name in ("actor", "behavior", "q", "v")]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]).all()


@_compiled
def _pretrain(state, dataset, key, length, batch_size, mesh):
    def body(state, _):
        batch = _batch(dataset, key, state.pretrain_step, batch_size, mesh, "pretrain")
        return bdpo.pretrain_behavior(state, batch, key)

    state, metrics = jax.lax.scan(body, state, None, length=length)
    return bdpo.start_actor(state), metrics


@_compiled
def _critics(state, dataset, key, length, batch_size, mesh):
    def body(state, _):
        return bdpo.update_critics(state, _batch(dataset, key, state.step, batch_size, mesh, "train"), key)

    return jax.lax.scan(body, state, None, length=length)


@_compiled
def _cycles(state, dataset, key, cycles, batch_size, mesh):
    steps = jnp.arange(state.static.actor_update_interval)

    def body(state, _):
        batches = jax.vmap(lambda i: _batch(dataset, key, state.step + i, batch_size, mesh, "train"))(steps)
        return bdpo.update_cycle(state, batches, key)

    return jax.lax.scan(body, state, None, length=cycles)


@_compiled
def _single(state, dataset, key, batch_size, mesh):
    return bdpo.update(state, _batch(dataset, key, state.step, batch_size, mesh, "train"), key)


def pretrain(state, dataset, key, length: int, batch_size: int, members: bool = False, mesh=None):
    """Returns the state after `length` updates of the behavior model, and a list of metrics of them in order.

    With `members`, `state` and `key` have a leading axis, and so have the new state and the metrics. `mesh` is that of
    their devices, None for a single one.
    """
    state, metrics = _pretrain[members](state, dataset, key, length, batch_size, mesh)
    return state, [metrics]


def train(state, dataset, key, start: int, length: int, warmup: int, batch_size: int, members: bool = False, mesh=None):
    """Returns the state after the `length` training updates that follow update `start`, and a list of metrics.

    Args:
      state: with `state.step == start`.
      dataset: on the device, or what was drawn from it for these updates.
      key: the run's key.
      start: updates done.
      length: updates to do; a stretch does not pass the end of the warm-up.
      warmup: updates without the actor.
      batch_size: transitions an update.
      members: whether `state` and `key` have a leading axis, as the new state and the metrics then have.
      mesh: of their devices; None for a single one.
    """
    interval = state.static.actor_update_interval
    if start + length <= warmup:
        state, metrics = _critics[members](state, dataset, key, length, batch_size, mesh)
        return state, [metrics]
    collected = []
    lead = min(-start % interval, length)
    cycles, rest = divmod(length - lead, interval)
    for step in range(start + 1, start + lead + 1):
        state, metrics = _single[members](state, dataset, key, batch_size, mesh)
        collected.append(_of_update(metrics, step % interval == 0))
    if cycles:
        state, metrics = _cycles[members](state, dataset, key, cycles, batch_size, mesh)
        collected.append(metrics)
    for _ in range(rest):  # a rest is shorter than a cycle, so the actor does not move in it
        state, metrics = _single[members](state, dataset, key, batch_size, mesh)
        collected.append(_of_update(metrics, False))
    return state, collected


def _of_update(metrics: dict, with_actor: bool) -> dict:
    """Leaves out the actor's metrics of an update in which it did not move: there they only say NaN."""
    return {name: value for name, value in metrics.items() if with_actor or not name.startswith("actor_")}
