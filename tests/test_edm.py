"""EDM's form of diffusion where the answer is known: limits of the preconditioning, and Gaussian data."""

import jax
import jax.numpy as jnp
import numpy as np

from bdpo_jax import edm


def exact(mean, std):
    """F of the best denoiser of N(mean, std^2): D(x) = (std^2 x + sigma^2 mean) / (std^2 + sigma^2)."""

    def network(scaled, time):
        sigma = jnp.exp(4 * time)
        skip, out, scale = edm.coefficients(sigma)
        noisy = scaled / scale
        best = (std**2 * noisy + sigma**2 * mean) / (std**2 + sigma**2)
        return (best - skip * noisy) / out

    return network


def test_small_noise_is_left_and_large_noise_is_all_the_network_s():
    noisy = jnp.array([[0.3, -0.7]])
    constant = lambda scaled, time: jnp.full_like(scaled, 0.9)  # noqa: E731
    np.testing.assert_allclose(edm.denoise(constant, noisy, jnp.array([1e-5]), 9.0), noisy, atol=1e-4)
    # c_skip vanishes and c_out becomes the data's deviation.
    np.testing.assert_allclose(edm.denoise(constant, noisy, jnp.array([1e5]), 9.0), 0.9 * edm.DATA_STD, rtol=1e-4)
    skip, out, scale = edm.coefficients(jnp.float32(edm.DATA_STD))
    np.testing.assert_allclose([skip, out, scale], [0.5, 0.5 / np.sqrt(2), np.sqrt(2)], rtol=1e-6)
    assert (jnp.abs(edm.denoise(constant, 5 * noisy, jnp.array([1e-5]), 1.0)) <= 1).all()


def test_training_noise_has_its_quantiles_and_limits():
    draws = edm.draw_sigma(jax.random.key(0), (40_000,))
    assert draws.min() >= edm.SMALLEST * 0.999 and draws.max() <= edm.LARGEST * 1.001
    # A logistic's quartiles are log 3 scales from its median; four standard errors of a share of 1/4 or 1/2.
    for share, shift in ((0.25, -np.log(3)), (0.5, 0.0), (0.75, np.log(3))):
        below = (draws < np.exp(edm.LOCATION + edm.SCALE * shift)).mean()
        np.testing.assert_allclose(below, share, atol=4 * np.sqrt(share * (1 - share) / 40_000))


def test_the_loss_of_the_best_denoiser_is_the_variance_that_is_left():
    """Given x it is std^2 sigma^2 / (std^2 + sigma^2); at std = DATA_STD that over c_out^2 is 1 for every sigma."""
    rows, std = 100_000, edm.DATA_STD
    actions = 0.2 + std * jax.random.normal(jax.random.key(1), (rows, 1))
    found = edm.loss(exact(0.2, std), actions, jax.random.key(2), 99.0)
    np.testing.assert_allclose(found.mean(), 1, atol=4 * np.sqrt(2 / rows))  # a squared normal has variance 2
    other = edm.loss(exact(0.5, std), actions, jax.random.key(2), 99.0)
    assert other.mean() > 1.05


def test_the_sampler_draws_the_gaussian_that_the_denoiser_knows():
    mean, std, count = 0.3, 0.2, 20_000
    draws = {n: edm.sample(exact(mean, std), jax.random.key(3), (count, 1), n, 9.0) for n in (30, 60, 240)}
    # Four standard errors; that 240 steps are enough is what the next lines show.
    np.testing.assert_allclose(draws[240].mean(), mean, atol=4 * std / np.sqrt(count))
    np.testing.assert_allclose(draws[240].std(), std, atol=4 * std / np.sqrt(2 * count))
    errors = [float(jnp.abs(draws[n] - draws[240]).mean()) for n in (30, 60)]
    assert errors[0] < 0.01 and errors[0] / errors[1] > 3.5  # of second order: four times less with twice the steps
    assert edm.levels(5)[0] == np.float32(edm.LARGEST) and edm.levels(5)[-1] == 0
