"""Variance-preserving diffusion in continuous time (Song et al., 2021), and a solver of its reverse flow.

`da = -beta(t) a / 2 dt + sqrt(beta(t)) dw` with `beta(t) = bmin + t (bmax - bmin)` on 0 <= t <= 1, so that

    a^t = alpha_t a + sigma_t z,   log alpha_t = -t^2 (bmax - bmin) / 4 - t bmin / 2,   sigma_t^2 = 1 - alpha_t^2.

The solver is DPM-Solver's second-order multistep one (Lu et al., 2022): in `lambda = log(alpha / sigma)` the flow is
exact but for the predicted noise, which it extrapolates from the last two steps, one evaluation each.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

T_MIN = 1e-3  # training draws no smaller t, and the solver ends there


@dataclasses.dataclass(frozen=True)
class VPSDE:
    """The process; `t` is in [0, 1]."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def log_alpha(self, t):
        """Returns `log alpha_t`, of the shape of t, NumPy's or JAX's."""
        return -t * t * (self.beta_max - self.beta_min) / 4 - t * self.beta_min / 2

    def marginal(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns `(alpha_t, sigma_t)`, of the shape of t."""
        log_alpha = self.log_alpha(t)
        return jnp.exp(log_alpha), jnp.sqrt(-jnp.expm1(2 * log_alpha))

    def grid(self, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns t, alpha and sigma `[steps + 1]` from t = 1 to `T_MIN`, equidistant in lambda; float64."""
        ends = self.log_alpha(np.array([1.0, T_MIN]))
        first, last = ends - np.log(-np.expm1(2 * ends)) / 2
        lambdas = np.linspace(first, last, steps + 1)
        twice = np.logaddexp(0, -2 * lambdas)  # -2 log alpha, of which t is the root of a quadratic
        slope = self.beta_max - self.beta_min
        t = 2 * twice / (self.beta_min + np.sqrt(self.beta_min**2 + 2 * slope * twice))
        return t, np.exp(-twice / 2), np.exp(-twice / 2 - lambdas)


def add_noise(sde: VPSDE, actions: jax.Array, t: jax.Array, noise: jax.Array) -> jax.Array:
    """Returns `a^t = alpha_t a + sigma_t z`; the axes of t are the leading ones of `actions [..., A]`."""
    alpha, sigma = sde.marginal(t)
    return alpha[..., None] * actions + sigma[..., None] * noise


def solve(
    sde: VPSDE,
    predict: Callable[[jax.Array, jax.Array], jax.Array],
    start: jax.Array,
    steps: int,
    trajectory: bool = False,
) -> tuple[jax.Array, jax.Array | None]:
    """Carries noise through the reverse flow from t = 1 to `T_MIN`.

    Args:
      sde: the process.
      predict: (noisy `[..., A]`, scalar t) -> predicted noise `[..., A]`.
      start: noise at t = 1, `[..., A]`.
      steps: evaluations of `predict`.
      trajectory: keep every step.

    Returns:
      What arrives, and the whole path `[steps + 1, ..., A]` from its end to its start, or None.
    """
    t, alpha, sigma = sde.grid(steps)
    growth = sigma[1:] * np.expm1(np.diff(np.log(alpha / sigma)))
    share = np.where(np.arange(steps), 0.5, 0.0)  # the first step has nothing to extrapolate from
    columns = (t[:-1], alpha[1:] / alpha[:-1], growth, share)

    def step(carry, column):
        noisy, before = carry
        now, shrink, growth, share = column
        predicted = predict(noisy, now)
        new = shrink * noisy - growth * (predicted + share * (predicted - before))
        return (new, predicted), (new if trajectory else None)

    arrays = tuple(jnp.asarray(column, jnp.float32) for column in columns)
    (end, _), visited = jax.lax.scan(step, (start, jnp.zeros_like(start)), arrays)
    return end, jnp.concatenate([start[None], visited])[::-1] if trajectory else None
