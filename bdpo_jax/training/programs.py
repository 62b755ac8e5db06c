"""A chunk of any phase as one compiled program; the dataset is an argument, the state is donated.

The delay of an actor is structure here, not a condition: whole cycles of updates are scanned. Each update's batch is a
function of the run's key, the phase and the update's number.
"""

import functools

import jax
import jax.numpy as jnp

from bdpo_jax import devices
from bdpo_jax.agents.base import Metrics, Phase, State
from bdpo_jax.data.dataset import Dataset, Prepared, batch_key, single
from bdpo_jax.data.host import Drawn


@functools.partial(
    jax.jit, donate_argnums=0, static_argnames=("phase", "length", "cycles", "batch_size", "mesh", "stacked")
)
def advance(
    state: State,
    data: Dataset | Prepared | Drawn,
    key: jax.Array,
    start: jax.Array,
    *,
    phase: Phase,
    length: int,
    cycles: bool,
    batch_size: int,
    mesh=None,
    stacked: bool = False,
) -> tuple[State, Metrics]:
    """Returns the state after the `length` updates that follow the first `start` of a phase, and their metrics.

    Args:
      state: of a run, or `stacked` ones with a leading axis.
      data: the dataset, with what the phase has prepared, or the batches drawn from it for this chunk.
      key: of the run, or `stacked` ones `[runs]`.
      start: updates of the phase before.
      phase: what to do.
      length: updates.
      cycles: whether these are cycles with the phase's delayed update.
      batch_size: transitions per update.
      mesh: of the devices, None for a single one.
      stacked: whether there is a leading axis of runs, in what is returned, too.

    Returns:
      The state, and metrics `[entries]`, one per update or per cycle, with "finite": whether every number of the state
      is one.
    """

    def batch(data, key, step):
        return devices.constrain(data.batch(key, phase.name, step, batch_size), mesh, devices.BATCH)

    def one_update(data, key, state, step):
        return phase.update(state, batch(data, key, step), key)

    def one_cycle(data, key, state, step):
        batches = jax.vmap(lambda i: batch(data, key, step + i))(jnp.arange(phase.interval))
        state, metrics = jax.lax.scan(lambda s, b: phase.update(s, b, key), state, batches)
        last = jax.tree.map(lambda x: x[-1], batches)
        state, of_delayed = phase.delayed(state, last, key) if phase.delayed else (state, {})
        return state, metrics | of_delayed

    def run(state, data, key):
        body, stride = (one_cycle, phase.interval) if cycles else (one_update, 1)
        steps = start + stride * jnp.arange(length // stride)
        state, metrics = jax.lax.scan(functools.partial(body, data, key), state, steps)
        state = phase.settle(state) if phase.settle else state
        return state, {name: jnp.ravel(values) for name, values in metrics.items()} | {"finite": _finite(state)}

    axes: tuple[str, ...] = ()
    if stacked:
        axes = (devices.RUN,)
        run = jax.vmap(run, in_axes=(0, data.run_axis, 0), spmd_axis_name=devices.RUN if mesh else None)
    state, metrics = run(state, data, key)
    # Metrics are copied to all devices, so that any process can read them.
    return devices.constrain(state, mesh, *axes), devices.constrain(metrics, mesh)


@functools.partial(jax.jit, static_argnames=("phase", "mesh", "stacked"))
def prepare(state: State, data: Dataset, key: jax.Array, *, phase: Phase, mesh=None, stacked: bool = False) -> Prepared:
    """Returns the dataset with what `phase.prepare` makes for it, a function of (state, data, key).

    Args:
      state: of a run, or `stacked` ones with a leading axis, which what is prepared has, too.
      data: the dataset.
      key: of the run, or `stacked` ones `[runs]`.
      phase: with a `prepare`.
      mesh: of the devices, None for a single one.
      stacked: whether there is a leading axis of runs.
    """

    def run(state, data, key):
        assert phase.prepare is not None
        return single(phase.prepare(state, data, batch_key(key, f"{phase.name}, prepare", 0)))

    axes: tuple[str, ...] = ()
    if stacked:
        axes = (devices.RUN,)
        run = jax.vmap(run, in_axes=(0, None, 0), spmd_axis_name=devices.RUN if mesh else None)
    return Prepared(data, devices.constrain(run(state, data, key), mesh, *axes), phase.gather)


def _finite(state: State) -> jax.Array:
    """Whether no number in the state is NaN or infinite."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()
