"""Continuous diffusion: coefficients in closed form, and the solver on a Gaussian, whose flow is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bdpo_jax.vpsde import T_MIN, VPSDE, add_noise, solve

MEAN, DEVIATION = 0.7, 0.3


def test_the_coefficients_in_closed_form():
    """`alpha_t^2` is exp of minus the integral of beta; at t = 1 that integral is (0.1 + 20) / 2."""
    sde = VPSDE()
    alpha, sigma = sde.marginal(jnp.array([0.0, 0.5, 1.0]))
    integrals = np.array([0.0, 0.1 * 0.5 + 19.9 * 0.125, 10.05])
    np.testing.assert_allclose(alpha, np.exp(-integrals / 2), rtol=1e-6)
    np.testing.assert_allclose(jnp.square(alpha) + jnp.square(sigma), 1, rtol=1e-6)
    t = np.float32(T_MIN)
    assert float(sde.marginal(t)[1]) == pytest.approx(np.sqrt(0.1 * T_MIN + 19.9 * T_MIN**2 / 2), rel=1e-4)


def test_the_grid_is_the_process_at_equal_steps_of_lambda():
    sde = VPSDE()
    t, alpha, sigma = sde.grid(7)
    assert (t[0], t[-1]) == (pytest.approx(1), pytest.approx(T_MIN))
    for found, expected in zip((alpha, sigma), sde.marginal(jnp.asarray(t, jnp.float32)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose(np.diff(np.log(alpha / sigma), 2), 0, atol=1e-9)


def test_noise_is_added_by_the_leading_axes():
    noisy = add_noise(VPSDE(), jnp.ones((2, 3)), jnp.array([0.0, 1.0]), jnp.full((2, 3), 2.0))
    alpha = np.exp(-10.05 / 2)
    np.testing.assert_allclose(noisy[:, 0], [1, alpha + 2 * np.sqrt(1 - alpha**2)], rtol=1e-5)


def exact(sde, noisy, t):
    """The noise predictor of N(MEAN, DEVIATION^2): minus sigma_t times the score of its noised marginal."""
    alpha, sigma = sde.marginal(t)
    return sigma * (noisy - alpha * MEAN) / (jnp.square(alpha * DEVIATION) + jnp.square(sigma))


def flow(sde, start):
    """Where the exact flow ends: it keeps the standardised value of every point of a Gaussian."""
    alpha, sigma = (np.float64(x[[0, -1]]) for x in sde.grid(1)[1:])
    means, deviations = alpha * MEAN, np.sqrt((alpha * DEVIATION) ** 2 + sigma**2)
    return means[1] + deviations[1] * (np.asarray(start, np.float64) - means[0]) / deviations[0]


def test_the_solver_meets_the_known_flow_at_second_order():
    """Twice the steps quarter the error (the exponent nears 2: within 0.3); what arrives is the known Gaussian."""
    sde, start = VPSDE(), jnp.linspace(-2, 2, 9)[:, None]
    errors = []
    for steps in (20, 40, 80):
        end, path = solve(sde, lambda noisy, t: exact(sde, noisy, t), start, steps, trajectory=True)
        errors.append(np.abs(np.asarray(end, np.float64) - flow(sde, start)).max())
        np.testing.assert_array_equal(path[0], end)
        np.testing.assert_array_equal(path[-1], start)
        assert path.shape == (steps + 1, 9, 1)
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders, 2, atol=0.3)
    noise = jax.random.normal(jax.random.key(0), (20_000, 1))
    end, _ = solve(sde, lambda noisy, t: exact(sde, noisy, t), noise, 15)
    standard_error = DEVIATION / np.sqrt(20_000)
    assert float(end.mean()) == pytest.approx(MEAN, abs=4 * standard_error + 0.01)
    assert float(end.std()) == pytest.approx(DEVIATION, abs=0.01)
