"""Diffusion policies: the settings and networks that their algorithms share, behavior cloning, and drawing actions."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from bdpo_jax import diffusion, networks
from bdpo_jax.settings import anything, choice, frequencies, number, widths
from bdpo_jax.types import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Denoiser:
    """A noise predictor and its chain: the part of a `Static` that describes a diffusion policy."""

    action_dim: int
    diffusion_steps: int = number(5, "N, diffusion steps [T2]", least=1)
    beta_min: float = number(0.1, "of the variance-preserving schedule [rel]", least=0)
    beta_max: float = number(10.0, "of the variance-preserving schedule [rel]", above=0)
    posterior_variance: bool = anything(False, "reverse variance as printed under (8) instead of beta_n [rel]")
    clip_denoised: bool = anything(True, "clip the implied clean action to the action box in each reverse step [T2]")
    action_bound: float = number(1.0, "half-width of the action box [T2]", above=0)
    actor_widths: tuple[int, ...] = widths((512,) * 4, "hidden layers of noise predictors [T2]; often 256x4 [rel]")
    actor_layer_norm: bool = anything(False, "layer norm in noise predictors [ours]; none [rel]")
    actor_frequencies: tuple[float, ...] = frequencies("each noise predictor")
    dtype: str = choice("float32", ("bfloat16",), "of hidden layers; parameters, targets and sums stay float32")

    @property
    def schedule(self) -> diffusion.NoiseSchedule:
        return diffusion.variance_preserving(
            self.diffusion_steps, self.beta_min, self.beta_max, self.posterior_variance
        )

    @property
    def clip(self) -> float | None:
        return self.action_bound if self.clip_denoised else None

    @property
    def clip_steps(self) -> float | None:
        """The bound of every noisy action of a path, if it has one."""
        return None

    @property
    def noise_predictor(self) -> Any:
        sizes = (self.actor_widths, self.action_dim, self.diffusion_steps)
        return networks.noise_predictor(*sizes, self.actor_layer_norm, self.dtype, self.actor_frequencies)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnlineDenoiser(Denoiser):
    """A diffusion policy that acts by its parameters, and its Q; its average, which targets draw from, moves seldom.

    Diffusion-QL and DAC have it so.
    """

    actor_widths: tuple[int, ...] = widths((256,) * 3, "hidden layers of the noise predictor [released]")
    value_widths: tuple[int, ...] = widths((256,) * 3, "hidden layers of each Q [rel]")
    q_frequencies: tuple[float, ...] = frequencies("Q")
    average_interval: int = number(5, "updates between two steps of the actor's average [released]", least=1)
    average_from: int = number(1_000, "updates before the actor's average begins to move [released]", least=0)

    @property
    def q_network(self) -> Any:
        return networks.q_network(self.value_widths, False, self.dtype, self.q_frequencies)

    def average_rate(self, rate: jax.Array, step: jax.Array) -> jax.Array:
        """Returns the rate of the actor's average in the update that follows `step` others: `rate`, mostly 0."""
        return jnp.where((step >= self.average_from) & (step % self.average_interval == 0), rate, 0.0)


def noised(static: Denoiser, actions: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns n `[batch]`, uniform on 1..N, noise z and `a^n ~ q(a^n | a)`, both `[batch, action_dim]`; all random."""
    n_key, noise_key = jax.random.split(key)
    n = jax.random.randint(n_key, actions.shape[:-1], 1, static.diffusion_steps + 1)
    noise = jax.random.normal(noise_key, actions.shape)
    return n, noise, diffusion.add_noise(static.schedule, actions, n, noise)


def cloning_loss(params: Any, static: Denoiser, batch: Batch, key: jax.Array, **options: Any) -> jax.Array:
    """Returns `E || eps(a^n, n, s) - z ||^2`, the simplified (9), n uniform on 1..N: behavior cloning by diffusion.

    Args:
      params: of the noise predictor.
      static: of the policy.
      batch: transitions; only observations and actions are read.
      key: PRNG key.
      options: of the predictor's `apply`, such as the keys of its dropout.
    """
    n, noise, noisy = noised(static, batch.actions, key)
    predicted = static.noise_predictor.apply(params, batch.observations, noisy, n, **options)
    return jnp.sum(jnp.square(predicted - noise), axis=-1).mean()


def draw(
    static: Denoiser, params: Any, observations: jax.Array, key: jax.Array, candidates: int, solver: str = "ddpm"
) -> jax.Array:
    """Returns actions `[..., candidates, action_dim]` for observations `[..., observation_dim]`.

    Args:
      static: of the policy.
      params: of its noise predictor.
      observations: one or more observations.
      key: PRNG key.
      candidates: how many independent actions for each.
      solver: "ddpm" or "ddim".
    """
    states = observations[..., None, :]
    return diffusion.sample(
        static.schedule,
        lambda noisy, n: static.noise_predictor.apply(params, states, noisy, n),
        key,
        (*observations.shape[:-1], candidates, static.action_dim),
        static.clip,
        solver=solver,
        clip_steps=static.clip_steps,
    ).actions


def draw_paths(static: Denoiser, params: Any, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Returns deterministic (DDIM) paths `[N + 1, m, action_dim]`, by diffusion step, of m observations."""
    path = diffusion.sample(
        static.schedule,
        lambda noisy, n: static.noise_predictor.apply(params, observations, noisy, n),
        key,
        (len(observations), static.action_dim),
        static.clip,
        solver="ddim",
        trajectory=True,
        clip_steps=static.clip_steps,
    )
    assert path.trajectory is not None
    return path.trajectory
