"""Ensembles of K networks with one scalar output each: parameters with a leading axis, on shared inputs."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

TURNS_FROM = 3e7  # multiply-adds of one member's forward pass, see `_take_turns`


def init(network: Any, key: jax.Array, members: int, *inputs: jax.Array) -> Any:
    """Returns parameters whose leaves have a leading axis `members`, each member from its own key."""
    return jax.lax.map(lambda k: network.init(k, *inputs), jax.random.split(key, members))


def apply(network: Any, params: Any, *inputs: jax.Array) -> jax.Array:
    """Returns the members' scalar outputs `[members, ...]` on shared inputs."""
    return jax.vmap(lambda p: network.apply(p, *inputs)[..., 0])(params)


def _take_turns(params: Any, rows: int) -> bool:
    """Whether the members run one after another: large ones on a CPU, `rows` inputs each.

    There a batched product over members runs at less than half the rate of a plain one, which small ones cannot reach.
    Exported for any batch size, `rows` is no number, and they never do.
    """
    if not isinstance(rows, int):
        return False
    leaves = jax.tree.leaves(params)
    work = rows * sum(leaf.size for leaf in leaves) / len(leaves[0])
    return jax.default_backend() == "cpu" and work >= TURNS_FROM


def each_member(function: Callable[[Any], Any], params: Any, rows: int) -> Any:
    """Returns `function` of each member's parameters, results stacked; in turns where that is faster.

    Args:
      function: what to do with one member; what it returns is all that is kept of it, so take gradients inside.
      params: of the ensemble, leaves `[members, ...]`.
      rows: how many inputs a member has.
    """
    return jax.lax.map(function, params) if _take_turns(params, rows) else jax.vmap(function)(params)


def apply_frozen(network: Any, params: Any, observations: jax.Array, actions: jax.Array, *n: jax.Array) -> jax.Array:
    """`apply` of members that are not trained here: a gradient reaches the actions alone.

    In turns, where they take them, a member leaves its slopes in the actions, a number for each, where it would have to
    keep its hidden layers or compute them again.
    """
    if _take_turns(params, math.prod(actions.shape[:-1])):
        return _in_turns(network, params, observations, actions, n)
    return apply(network, *jax.lax.stop_gradient((params, observations)), actions, *n)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _in_turns(network, params, observations, actions, n):
    return jax.lax.map(lambda p: network.apply(p, observations, actions, *n)[..., 0], params)


def _in_turns_forward(network, params, observations, actions, n):
    def member(p):
        values, pull = jax.vjp(lambda a: network.apply(p, observations, a, *n)[..., 0], actions)
        return values, pull(jnp.ones_like(values))[0]  # a value depends on its own row's action alone

    return jax.lax.map(member, params)


def _in_turns_backward(network, slopes, cotangents):
    return None, None, jnp.einsum("k...,k...a->...a", cotangents, slopes), None


_in_turns.defvjp(_in_turns_forward, _in_turns_backward)
