"""What every algorithm's networks share: parameters with their moving average and Adam, and value aggregation."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct


@struct.dataclass
class Model:
    """One network's parameters, their exponential moving average (the "bar" of the paper) and optimizer state."""

    params: Any
    ema: Any
    opt_state: optax.OptState


def optimizer(clip_norm: float) -> optax.GradientTransformation:
    """Returns Adam behind a global-norm clip, without a learning rate: that one is traced (`apply_gradients`).

    The tiny `eps_root` keeps an update differentiable where a gradient is 0.
    """
    return optax.chain(optax.clip_by_global_norm(clip_norm), optax.scale_by_adam(eps_root=1e-16))


def create(params: Any, clip_norm: float) -> Model:
    """Returns a model whose average equals its parameters."""
    return Model(params=params, ema=jax.tree.map(jnp.copy, params), opt_state=optimizer(clip_norm).init(params))


def cosine_decay(learning_rate: jax.Array, count: jax.Array, decay_steps: jax.Array) -> jax.Array:
    """Returns the learning rate after `count` optimizer steps; constant where `decay_steps` is infinite."""
    fraction = jnp.minimum(count / decay_steps, 1.0)
    return learning_rate * 0.5 * (1.0 + jnp.cos(jnp.pi * fraction))


def apply_gradients(
    model: Model,
    gradients: Any,
    clip_norm: float,
    learning_rate: jax.Array,
    ema_rate: jax.Array,
    decay_steps: jax.Array | float = jnp.inf,
) -> Model:
    """Returns the model after one Adam step, its average moved after it by `ema_rate`."""
    count = model.opt_state[1].count
    updates, opt_state = optimizer(clip_norm).update(gradients, model.opt_state)
    rate = cosine_decay(learning_rate, count, decay_steps)
    params = jax.tree.map(lambda p, u: p - rate * u, model.params, updates)
    return Model(params, optax.incremental_update(params, model.ema, ema_rate), opt_state)


def aggregate(values: jax.Array, how: str, rho: jax.Array) -> jax.Array:
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
