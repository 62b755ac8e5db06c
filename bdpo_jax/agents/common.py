"""What every algorithm's networks share: parameters with their moving average, Adam, and the learning rate's decay."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

FOREVER = 1e30  # a horizon that no run comes near; an infinite one would count as a fault of the state


class Model(struct.PyTreeNode):
    """One network's parameters, their exponential moving average (the "bar" of the papers) and optimizer state.

    A policy acts by the average; by the parameters where there is none (`ema` None) or where `online` says so: then the
    average is what targets are taken from.
    """

    params: Any
    ema: Any
    opt_state: optax.OptState
    online: bool = struct.field(pytree_node=False, default=False)

    @property
    def acting(self) -> Any:
        """The parameters that a policy acts by."""
        return self.params if self.online or self.ema is None else self.ema


def optimizer(clip_norm: float) -> optax.GradientTransformation:
    """Returns Adam behind a global-norm clip, without a learning rate: that one is traced (`apply_gradients`).

    The tiny `eps_root` keeps an update differentiable where a gradient is 0.
    """
    return optax.chain(optax.clip_by_global_norm(clip_norm), optax.scale_by_adam(eps_root=1e-16))


def create(params: Any, clip_norm: float, average: bool = True, online: bool = False) -> Model:
    """Returns a model whose average, if it is to have one, equals its parameters.

    Args:
      params: of the network.
      clip_norm: of the optimizer.
      average: whether it has an average.
      online: whether policies act by the parameters although there is an average.
    """
    ema = jax.tree.map(jnp.copy, params) if average else None
    return Model(params=params, ema=ema, opt_state=optimizer(clip_norm).init(params), online=online)


def only_acting(state: Any) -> Any:
    """Returns a state without what only training reads: each `Model` keeps what it acts by."""

    def strip(node):
        if not isinstance(node, Model):
            return node
        by_params = node.online or node.ema is None
        kept = {"params": node.params, "ema": None} if by_params else {"params": None, "ema": node.ema}
        return node.replace(opt_state=None, **kept)

    return jax.tree.map(strip, state, is_leaf=lambda node: isinstance(node, Model))


def cosine_decay(learning_rate: jax.Array, count: jax.Array, decay_steps: jax.Array | float) -> jax.Array:
    """Returns the learning rate after `count` optimizer steps; constant where `decay_steps` is infinite."""
    fraction = jnp.minimum(count / decay_steps, 1.0)
    return learning_rate * 0.5 * (1.0 + jnp.cos(jnp.pi * fraction))


def apply_gradients(
    model: Model,
    gradients: Any,
    clip_norm: float,
    learning_rate: jax.Array,
    ema_rate: jax.Array | float = 1.0,
    decay_steps: jax.Array | float = jnp.inf,
) -> Model:
    """Returns the model after one Adam step, its average moved after it by `ema_rate`."""
    count = model.opt_state[1].count
    updates, opt_state = optimizer(clip_norm).update(gradients, model.opt_state)
    rate = cosine_decay(learning_rate, count, decay_steps)
    params = jax.tree.map(lambda p, u: p - rate * u, model.params, updates)
    ema = None if model.ema is None else optax.incremental_update(params, model.ema, ema_rate)
    return model.replace(params=params, ema=ema, opt_state=opt_state)
