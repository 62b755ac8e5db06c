"""Densities and divergences against SciPy and numerical integration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from bdpo_jax.agents.gaussian_head import Gaussian, GaussianPolicy

POLICY = Gaussian(jnp.array([[0.3, -0.5]]), jnp.array([[-1.0, 0.2]]))
OTHER = Gaussian(jnp.array([[0.1, 0.4]]), jnp.array([[-0.5, -0.1]]))


def test_log_prob_is_the_density_s():
    actions = np.array([[0.2, 0.7], [-1.0, 0.0]])
    expected = scipy.stats.norm.logpdf(actions, POLICY.mean, np.exp(POLICY.log_std)).sum(axis=-1)
    np.testing.assert_allclose(POLICY.log_prob(actions), expected, rtol=1e-5)


def test_kl_is_the_integral():
    def integral(i):
        (m, s), (n, t) = ((np.float64(g.mean[0, i]), np.exp(np.float64(g.log_std[0, i]))) for g in (POLICY, OTHER))
        log_ratio = lambda x: scipy.stats.norm.logpdf(x, m, s) - scipy.stats.norm.logpdf(x, n, t)  # noqa: E731
        return scipy.integrate.quad(lambda x: scipy.stats.norm.pdf(x, m, s) * log_ratio(x), -12, 12, limit=200)[0]

    np.testing.assert_allclose(POLICY.kl(OTHER), [integral(0) + integral(1)], rtol=1e-4)
    np.testing.assert_allclose(POLICY.kl(POLICY), [0], atol=1e-6)


def test_samples_have_mean_and_deviation():
    samples = POLICY.sample(jax.random.normal(jax.random.key(0), (100_000, 2)))
    np.testing.assert_allclose(samples.mean(axis=0), POLICY.mean[0], atol=0.02)  # 5 standard errors of 100,000 draws
    np.testing.assert_allclose(samples.std(axis=0), np.exp(POLICY.log_std[0]), rtol=0.02)


@pytest.mark.parametrize("state_dependent_std", [False, True])
def test_the_network_s_mean_stays_in_the_box_and_its_deviation_in_its_range(state_dependent_std):
    network = GaussianPolicy((16,), 2, bound=0.5, state_dependent_std=state_dependent_std)
    observations = 100 * jax.random.normal(jax.random.key(0), (50, 3))
    found = network.apply(network.init(jax.random.key(1), observations), observations)
    assert found.mean.shape == found.log_std.shape == (50, 2)
    assert 0.4 < jnp.abs(found.mean).max() <= 0.5
    assert found.log_std.min() >= -5 and found.log_std.max() <= 2
    assert (len(np.unique(found.log_std)) > 2) == state_dependent_std
