"""The train state of BDPO: what is static, what is swept, what is learned; and its initial value."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from bdpo_jax import diffusion, networks
from bdpo_jax.agents import common
from bdpo_jax.agents.common import Model


@dataclasses.dataclass(frozen=True)
class Static:
    """Sizes and switches that change shapes or control flow; `bdpo_jax/defaults.py` says what each one is."""

    action_dim: int
    diffusion_steps: int
    beta_min: float
    beta_max: float
    posterior_variance: bool
    clip_denoised: bool
    action_bound: float
    actor_widths: tuple[int, ...]
    value_widths: tuple[int, ...]
    ensemble_size: int
    q_layer_norm: bool
    aggregation: str
    max_q_backup: bool
    actor_samples: int
    actor_update_interval: int
    stratified: bool
    one_step: bool
    behavior_finetune: bool
    greedy_candidates: int
    clip_norm: float
    dtype: str = "float32"

    @classmethod
    def from_config(cls, config: Any, action_dim: int) -> "Static":
        """Reads the fields of these names from any object with attributes."""
        names = [field.name for field in dataclasses.fields(cls) if field.name != "action_dim"]
        values = {name: getattr(config, name) for name in names if name != "dtype"}
        values["dtype"] = getattr(config, "dtype", "float32")  # which checkpoints of older runs do not name
        widths = {name: tuple(values[name]) for name in ("actor_widths", "value_widths")}
        return cls(action_dim=action_dim, **{**values, **widths})

    @property
    def schedule(self) -> diffusion.NoiseSchedule:
        return diffusion.variance_preserving(
            self.diffusion_steps, self.beta_min, self.beta_max, self.posterior_variance
        )

    @property
    def clip(self) -> float | None:
        return self.action_bound if self.clip_denoised else None

    @property
    def noise_predictor(self) -> networks.Network:
        return networks.noise_predictor(self.actor_widths, self.action_dim, self.diffusion_steps, self.dtype)

    @property
    def q_network(self) -> networks.Network:
        return networks.q_network(self.value_widths, self.q_layer_norm, self.dtype)

    @property
    def v_network(self) -> networks.Network:
        return networks.v_network(self.value_widths, self.diffusion_steps, self.dtype)


@struct.dataclass
class Hyper:
    """The numbers that one sweeps, as traced scalars: changing one never recompiles.

    `actor_decay_steps` and `value_decay_steps` are cosine horizons in optimizer steps of their networks.
    """

    eta: jax.Array
    rho: jax.Array
    discount: jax.Array
    behavior_lr: jax.Array
    actor_lr: jax.Array
    value_lr: jax.Array
    actor_decay_steps: jax.Array
    value_decay_steps: jax.Array
    ema_rate: jax.Array
    value_warmup_steps: jax.Array

    @classmethod
    def from_config(cls, config: Any) -> "Hyper":
        """Reads the fields of these names; a decay horizon of 0 means `config.train_steps`, -1 the actor's updates."""
        values = {field.name: getattr(config, field.name) for field in dataclasses.fields(cls)}
        for name in ("actor_decay_steps", "value_decay_steps"):
            values[name] = values[name] or max(config.train_steps, 1)
        if values["actor_decay_steps"] < 0:
            values["actor_decay_steps"] = max(config.train_steps // config.actor_update_interval, 1)
        return cls(**{name: jnp.float32(value) for name, value in values.items()})


@struct.dataclass
class TrainState:
    """Everything that training changes or depends on; `behavior.ema` is the reference of the penalty."""

    step: jax.Array  # number of `update`s done
    pretrain_step: jax.Array  # number of `pretrain`s done
    actor: Model
    behavior: Model
    q: Model
    v: Model
    hyper: Hyper
    static: Static = struct.field(pytree_node=False)


def init(config: Any, key: jax.Array, observation_dim: int, action_dim: int) -> TrainState:
    """Returns the initial state. `config` is any object with the attributes named by `Static` and `Hyper`."""
    models = _init_models(Static.from_config(config, action_dim), key, observation_dim)
    return models.replace(hyper=Hyper.from_config(config))


@functools.partial(jax.jit, static_argnums=(0, 2))
def _init_models(static: Static, key: jax.Array, observation_dim: int) -> TrainState:
    """Returns the initial state without its `hyper`."""
    observations, actions = jnp.zeros((1, observation_dim)), jnp.zeros((1, static.action_dim))
    n = jnp.ones((1,), jnp.int32)
    behavior_key, q_key, v_key = jax.random.split(key, 3)
    behavior = static.noise_predictor.init(behavior_key, observations, actions, n)
    q = networks.init_ensemble(static.q_network, q_key, static.ensemble_size, observations, actions)
    v = networks.init_ensemble(static.v_network, v_key, static.ensemble_size, observations, actions, n)
    return TrainState(
        step=jnp.int32(0),
        pretrain_step=jnp.int32(0),
        actor=common.create(jax.tree.map(jnp.copy, behavior), static.clip_norm),
        behavior=common.create(behavior, static.clip_norm),
        q=common.create(q, static.clip_norm),
        v=common.create(v, static.clip_norm),
        hyper=None,
        static=static,
    )
