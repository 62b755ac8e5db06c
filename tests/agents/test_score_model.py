"""Behavior models of continuous time: the regression's value for predictors that are known."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import make_batch

from bdpo_jax.agents import score_model
from bdpo_jax.vpsde import T_MIN


def test_a_row_of_actions_shares_its_time():
    """So that each row's `a^t` follows from its t, and z is the actions' own."""
    static = score_model.ScoreModel(action_dim=1)
    t, noise, noisy = score_model.noised(static, jnp.ones((4_000, 3, 1)), jax.random.key(0))
    assert t.shape == (4_000, 1) and float(t.min()) >= T_MIN
    assert float(t.mean()) == pytest.approx(0.5, abs=4 * np.sqrt(1 / 12 / 4_000))
    alpha, sigma = static.process.marginal(t)
    np.testing.assert_allclose(noisy, alpha[..., None] + sigma[..., None] * noise, rtol=1e-6)
    assert len(np.unique(noise)) > 0.99 * noise.size


def test_the_regression_of_a_predictor_that_says_zero():
    """It is E |z|^2, the number of action dimensions; its deviation over rows is sqrt(2 dimensions)."""

    class Zero(score_model.ScoreModel):
        @property
        def noise_predictor(self):
            return SimpleNamespace(apply=lambda params, observations, noisy, t: 0 * noisy)

    batch = make_batch(size=10_000)
    loss = score_model.score_loss({}, Zero(action_dim=2), batch, jax.random.key(0))
    assert float(loss) == pytest.approx(2, abs=4 * 2 / np.sqrt(10_000))
