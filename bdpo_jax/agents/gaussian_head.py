"""Diagonal Gaussian policies: the network, and what losses need of the distribution."""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from bdpo_jax.networks import MLP

LOG_STD_RANGE = (-5.0, 2.0)
INSIDE = 1 - 1e-5  # the share of the box whose actions have a finite inverse tanh in float32


class Gaussian(NamedTuple):
    """A diagonal Gaussian over actions; `mean` and `log_std` are `[..., A]` and broadcast against each other."""

    mean: jax.Array
    log_std: jax.Array

    def log_prob(self, actions: jax.Array) -> jax.Array:
        """Returns the log density of actions `[..., A]`, summed over their components, `[...]`."""
        standard = (actions - self.mean) * jnp.exp(-self.log_std)
        return (-0.5 * jnp.square(standard) - self.log_std - 0.5 * np.log(2 * np.pi)).sum(axis=-1)

    def kl(self, other: "Gaussian") -> jax.Array:
        """Returns `KL[self || other]` in closed form, summed over components, `[...]` (paper (22), per component)."""
        ratio = jnp.exp(2 * (self.log_std - other.log_std))
        distance = jnp.square((self.mean - other.mean) * jnp.exp(-other.log_std))
        return 0.5 * (ratio + distance - 1 - jnp.log(ratio)).sum(axis=-1)

    def sample(self, noise: jax.Array) -> jax.Array:
        """Returns `mean + std noise`; `noise` is standard normal, `[..., A]`."""
        return self.mean + jnp.exp(self.log_std) * noise


class SquashedGaussian(NamedTuple):
    """`bound tanh(u)` of a Gaussian u: the policy of soft actor-critic (Haarnoja et al., 2018, appendix C)."""

    before: Gaussian
    bound: float

    def sample(self, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns actions `[..., A]` and their log densities `[...]`; `noise` is standard normal, `[..., A]`."""
        u = self.before.sample(noise)
        return self.bound * jnp.tanh(u), self._log_prob_of(u)

    def log_prob(self, actions: jax.Array) -> jax.Array:
        """Returns the log density `[...]` of actions `[..., A]`; those on the border count as just inside."""
        return self._log_prob_of(jnp.arctanh(jnp.clip(actions / self.bound, -INSIDE, INSIDE)))

    def _log_prob_of(self, u: jax.Array) -> jax.Array:
        # log(1 - tanh(u)^2), written so that it does not round to log 0
        slope = 2 * (np.log(2) - u - jax.nn.softplus(-2 * u)) + np.log(self.bound)
        return self.before.log_prob(u) - slope.sum(axis=-1)


class SquashedPolicy(nn.Module):
    """Observations -> a squashed Gaussian, whose deviations depend on the observation.

    Attributes:
      widths: of the hidden layers, ReLU.
      action_dim: width of the actions.
      bound: half-width of the action box.
      log_std_range: limits of the log deviations.
    """

    widths: Sequence[int]
    action_dim: int
    bound: float = 1.0
    log_std_range: tuple[float, float] = LOG_STD_RANGE

    @nn.compact
    def __call__(self, observations: jax.Array) -> SquashedGaussian:
        """Returns the distribution of `[..., A]` for observations `[..., S]`."""
        mean, log_std = jnp.split(MLP(self.widths, 2 * self.action_dim, name="body")(observations), 2, axis=-1)
        return SquashedGaussian(Gaussian(mean, jnp.clip(log_std, *self.log_std_range)), self.bound)


class GaussianPolicy(nn.Module):
    """Observations -> a Gaussian whose mean is a tanh into the action box.

    Attributes:
      widths: of the hidden layers, ReLU.
      action_dim: width of the actions.
      bound: half-width of the action box.
      state_dependent_std: whether the deviations depend on the observation, or are parameters of their own.
    """

    widths: Sequence[int]
    action_dim: int
    bound: float = 1.0
    state_dependent_std: bool = False

    @nn.compact
    def __call__(self, observations: jax.Array) -> Gaussian:
        """Returns the distribution of `[..., A]` for observations `[..., S]`."""
        outputs = self.action_dim * (2 if self.state_dependent_std else 1)
        found = MLP(self.widths, outputs, name="body")(observations)
        mean = self.bound * jnp.tanh(found[..., : self.action_dim])
        if self.state_dependent_std:
            log_std = found[..., self.action_dim :]
        else:
            log_std = self.param("log_std", nn.initializers.zeros, (self.action_dim,), jnp.float32)
        return Gaussian(mean, jnp.broadcast_to(jnp.clip(log_std, *LOG_STD_RANGE), mean.shape))
