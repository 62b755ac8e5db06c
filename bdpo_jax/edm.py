"""Diffusion in the form of EDM (Karras et al., 2022): a denoiser of actions with any noise level sigma > 0.

Every function broadcasts `sigma [...]` against actions `[..., A]`. `DATA_STD` is the deviation of actions assumed by
the preconditioning.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

DATA_STD = 0.5
SMALLEST, LARGEST = 0.002, 80.0  # noise levels
LOCATION, SCALE = np.log(0.5), 0.5  # of the logarithm of a training sigma, logistic

# (scaled noisy actions [..., A], log(sigma) / 4 [..., 1]) -> [..., A]
Network = Callable[[jax.Array, jax.Array], jax.Array]


def coefficients(sigma: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns `c_skip, c_out, c_in` of the preconditioning (their Table 1), `[...]`."""
    total = jnp.square(sigma) + DATA_STD**2
    return DATA_STD**2 / total, sigma * DATA_STD / jnp.sqrt(total), 1 / jnp.sqrt(total)


def denoise(network: Network, noisy: jax.Array, sigma: jax.Array, bound: float) -> jax.Array:
    """Returns `D(a + sigma z) = c_skip noisy + c_out F(c_in noisy, log(sigma) / 4)`, clipped to the box, `[..., A]`."""
    skip, out, scale = (c[..., None] for c in coefficients(sigma))
    found = skip * noisy + out * network(scale * noisy, jnp.log(sigma)[..., None] / 4)
    return jnp.clip(found, -bound, bound)


def draw_sigma(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws training noise levels: log-logistic, truncated to `[SMALLEST, LARGEST]`."""
    low, high = (1 / (1 + np.exp(-(np.log(limit) - LOCATION) / SCALE)) for limit in (SMALLEST, LARGEST))
    share = jax.random.uniform(key, shape, minval=low, maxval=high)
    return jnp.exp(LOCATION + SCALE * (jnp.log(share) - jnp.log1p(-share)))


def loss(network: Network, actions: jax.Array, key: jax.Array, bound: float) -> jax.Array:
    """Returns `((D(a + sigma z) - a) / c_out)^2`, mean over the components of each row's action, `[batch]`.

    Args:
      network: F.
      actions: a, `[batch, A]`.
      key: PRNG key of sigma and z.
      bound: half-width of the box that D is clipped to.
    """
    sigma_key, noise_key = jax.random.split(key)
    sigma = draw_sigma(sigma_key, actions.shape[:-1])
    noisy = actions + sigma[..., None] * jax.random.normal(noise_key, actions.shape)
    _, out, _ = coefficients(sigma)
    return jnp.square((denoise(network, noisy, sigma, bound) - actions) / out[..., None]).mean(axis=-1)


def levels(steps: int, exponent: float = 7.0) -> np.ndarray:
    """Returns the sampler's falling noise levels `[steps + 1]`, the last of them 0 (their equation (5))."""
    root = np.linspace(LARGEST ** (1 / exponent), SMALLEST ** (1 / exponent), steps)
    return np.append(root**exponent, 0.0).astype(np.float32)


def sample(network: Network, key: jax.Array, shape: tuple[int, ...], steps: int, bound: float) -> jax.Array:
    """Draws actions of `shape [..., A]` by Heun's deterministic method (their Algorithm 1), two evaluations a step."""
    sigmas = jnp.asarray(levels(steps))

    def slope(noisy, sigma):
        return (noisy - denoise(network, noisy, jnp.broadcast_to(sigma, noisy.shape[:-1]), bound)) / sigma

    def step(noisy, pair):
        now, following = pair
        first = slope(noisy, now)
        ahead = noisy + (following - now) * first
        second = slope(ahead, jnp.maximum(following, SMALLEST))
        corrected = noisy + (following - now) * (first + second) / 2
        return jnp.where(following > 0, corrected, ahead), None

    start = LARGEST * jax.random.normal(key, shape)
    return jnp.clip(jax.lax.scan(step, start, (sigmas[:-1], sigmas[1:]))[0], -bound, bound)
