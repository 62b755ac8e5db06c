"""What diffusion policies share; cloning and drawing are tested with BDPO."""

import jax.numpy as jnp
import numpy as np

from bdpo_jax.agents import denoiser


def test_an_average_moves_seldom_and_late():
    static = denoiser.OnlineDenoiser(action_dim=1, average_interval=3, average_from=6)
    rates = static.average_rate(jnp.float32(0.25), jnp.arange(13))
    np.testing.assert_array_equal(rates, [0, 0, 0, 0, 0, 0, 0.25, 0, 0, 0.25, 0, 0, 0.25])
