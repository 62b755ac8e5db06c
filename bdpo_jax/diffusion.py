"""Discrete variance-preserving diffusion over actions (paper section 3 and 4.1).

`n` is the diffusion step: 0 is the clean action, N is nearly pure noise. Every function broadcasts: `n` is an
integer array whose shape broadcasts against the leading axes of the actions `[..., action_dim]`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from bdpo_jax.errors import UserError

# (noisy actions [..., action_dim], n) -> predicted noise [..., action_dim]
Predict = Callable[[jax.Array, jax.Array], jax.Array]


class NoiseSchedule(struct.PyTreeNode):
    """The schedule as arrays `[N + 1]`; index 0 is the identity (`beta_0 = 0`, `abar_0 = 1`).

    Attributes:
      betas, alphas, alpha_bars: as in (5) and (6).
      variances: `sigma_n^2` of the reverse kernel (8), for sampling.
      kl_weights: `w_n` of `kl`; index 0 is 0.
    """

    betas: np.ndarray
    alphas: np.ndarray
    alpha_bars: np.ndarray
    variances: np.ndarray
    kl_weights: np.ndarray

    @property
    def steps(self) -> int:
        """N, the number of diffusion steps."""
        return len(self.betas) - 1


def variance_preserving(
    steps: int, beta_min: float = 0.1, beta_max: float = 10.0, posterior_variance: bool = False
) -> NoiseSchedule:
    """Returns the schedule `alpha_n = exp(-bmin / N - (bmax - bmin) (2n - 1) / (2 N^2))`, n = 1..N.

    The reverse kernel's variance is `beta_n`, or with `posterior_variance` the one printed under (8),
    `beta_n (1 - abar_{n-1}) / (1 - abar_n)`. That is 0 at n = 1, where the penalty would be infinite, so the value
    of n = 2 stands in there (of n = 1's `beta` if N = 1).
    """
    n = np.arange(1, steps + 1, dtype=np.float64)
    alphas = np.exp(-beta_min / steps - (beta_max - beta_min) * (2 * n - 1) / (2 * steps**2))
    return _schedule(alphas, posterior_variance)


def cosine(steps: int, posterior_variance: bool = True) -> NoiseSchedule:
    """Returns the schedule `abar_n = f(n / N) / f(0), f(t) = cos^2((t + .008) / 1.008 pi / 2)`, `beta_n` at most .999.

    Nichol and Dhariwal (2021), equation (17). Variances as of `variance_preserving`.
    """
    alpha_bars = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
    return _schedule(np.maximum(alpha_bars[1:] / alpha_bars[:-1], 0.001), posterior_variance)


def _schedule(alphas: np.ndarray, posterior_variance: bool) -> NoiseSchedule:
    """The schedule of `alpha_n`, n = 1..N."""
    steps = len(alphas)
    alphas = np.concatenate([[1.0], alphas])
    betas = 1.0 - alphas
    alpha_bars = np.cumprod(alphas)
    variances = betas.copy()
    if posterior_variance and steps > 1:
        variances[1:] = betas[1:] * (1 - alpha_bars[:-1]) / (1 - alpha_bars[1:])
        variances[1] = variances[2]
    # ||mu^pi - mu^nu||^2 = (beta_n^2 / (alpha_n (1 - abar_n))) ||eps^pi - eps^nu||^2
    kl_weights = np.zeros(steps + 1)
    with np.errstate(all="ignore"):  # what is not finite is refused
        kl_weights[1:] = betas[1:] ** 2 / (2 * variances[1:] * alphas[1:] * (1 - alpha_bars[1:]))
        arrays = [array.astype(np.float32) for array in (betas, alphas, alpha_bars, variances, kl_weights)]
    if not all(np.isfinite(array).all() for array in arrays):
        raise UserError(
            f"A noise schedule of {steps} steps leaves float32's range: lower beta_max, or take more steps."
        )
    return NoiseSchedule(*arrays)


def _at(values: np.ndarray, n: jax.Array) -> jax.Array:
    """`values[n]`, to broadcast against actions: with a trailing axis, or a scalar where n is one."""
    chosen = jnp.asarray(values)[n]
    return chosen[..., None] if chosen.ndim else chosen


def add_noise(schedule: NoiseSchedule, actions: jax.Array, n: jax.Array, noise: jax.Array) -> jax.Array:
    """Returns `a^n = sqrt(abar_n) a + sqrt(1 - abar_n) z`, the forward process (6)."""
    alpha_bar = _at(schedule.alpha_bars, n)
    return jnp.sqrt(alpha_bar) * actions + jnp.sqrt(1 - alpha_bar) * noise


def reverse_mean(
    schedule: NoiseSchedule, noisy: jax.Array, n: jax.Array, predicted: jax.Array, clip: float | None
) -> jax.Array:
    """Returns `mu_n` of the reverse kernel (8) for the predicted noise.

    With `clip` the implied clean action is clipped to `[-clip, clip]` first; `None` leaves it as it is.
    """
    beta, alpha, alpha_bar = (_at(a, n) for a in (schedule.betas, schedule.alphas, schedule.alpha_bars))
    if clip is None:
        return (noisy - beta / jnp.sqrt(1 - alpha_bar) * predicted) / jnp.sqrt(alpha)
    previous = _at(schedule.alpha_bars, n - 1)
    clean = (noisy - jnp.sqrt(1 - alpha_bar) * predicted) / jnp.sqrt(alpha_bar)
    clean = jnp.clip(clean, -clip, clip)
    return (jnp.sqrt(previous) * beta * clean + jnp.sqrt(alpha) * (1 - previous) * noisy) / (1 - alpha_bar)


def denoise(
    schedule: NoiseSchedule,
    noisy: jax.Array,
    n: jax.Array,
    predicted: jax.Array,
    noise: jax.Array,
    clip: float | None,
) -> jax.Array:
    """Returns `a^{n-1} = mu_n + sigma_n z`, one reverse step (8); no noise is added in the last one (n = 1)."""
    sigma = jnp.sqrt(_at(schedule.variances, n)) * (_at(np.arange(schedule.steps + 1), n) > 1)
    return reverse_mean(schedule, noisy, n, predicted, clip) + sigma * noise


def ddim(
    schedule: NoiseSchedule, noisy: jax.Array, n: jax.Array, predicted: jax.Array, clip: float | None
) -> jax.Array:
    """Returns `a^{n-1}` of the deterministic DDIM step.

    With `clip` the implied clean action is clipped, the noise direction is kept.
    """
    alpha_bar, previous = _at(schedule.alpha_bars, n), _at(schedule.alpha_bars, n - 1)
    clean = (noisy - jnp.sqrt(1 - alpha_bar) * predicted) / jnp.sqrt(alpha_bar)
    if clip is not None:
        clean = jnp.clip(clean, -clip, clip)
    return jnp.sqrt(previous) * clean + jnp.sqrt(1 - previous) * predicted


def kl(schedule: NoiseSchedule, n: jax.Array, predicted: jax.Array, reference: jax.Array) -> jax.Array:
    """Returns `l_n = ||mu^pi_n - mu^nu_n||^2 / (2 sigma_n^2)` of unclipped means (16), shape `[...]`.

    In terms of the predicted noises, `w_n ||eps^pi - eps^nu||^2`.
    """
    squares = jnp.square(predicted - reference)
    # By hand, because XLA's CPU reductions along so short an axis would take 3% of an update.
    total = sum(squares[..., i] for i in range(squares.shape[-1]))
    return jnp.asarray(schedule.kl_weights)[n] * total


def draw_steps(steps: int, size: int, key: jax.Array, stratified: bool) -> tuple[jax.Array, np.ndarray, int]:
    """Draws n ~ U[1, steps] for each of `size` rows.

    Stratified: ascending, with a fixed count c_n of rows for each n, counts differing by at most one where `steps`
    does not divide `size`; the weights (size / steps) / c_n keep a weighted mean over rows the expectation under U.

    Returns:
      n `[size]` int32, weights `[size]`, and how many leading rows have n = 1 for certain (0: n is independent).
    """
    if not stratified:
        return jax.random.randint(key, (size,), 1, steps + 1), np.ones(size, np.float32), 0
    if size < steps:
        raise ValueError(f"A batch of {size} cannot be stratified over {steps} steps; set stratified=False.")
    counts = np.full(steps, size // steps)
    counts[: size % steps] += 1
    n = np.repeat(np.arange(1, steps + 1, dtype=np.int32), counts)
    weights = np.repeat(size / steps / counts, counts).astype(np.float32)
    return jnp.asarray(n), weights, int(counts[0])


class Path(NamedTuple):
    """A reverse path: `actions [..., action_dim]` at n = 0, its summed penalty (10) `[...]`, and every `a^n`.

    `kl` is 0 without a reference. `trajectory` is `[N + 1, ..., action_dim]`, indexed by n, or None; `kls` likewise
    `[N + 1, ...]`, the step's own penalty `l_n(a^n)`, 0 at n = 0.
    """

    actions: jax.Array
    kl: jax.Array
    trajectory: jax.Array | None = None
    kls: jax.Array | None = None


def sample(
    schedule: NoiseSchedule,
    predict: Predict,
    key: jax.Array,
    shape: tuple[int, ...],
    clip: float | None,
    reference: Predict | None = None,
    solver: str = "ddpm",
    trajectory: bool = False,
    clip_steps: float | None = None,
    temperature: jax.Array | float = 1.0,
    hold: Callable[[jax.Array], jax.Array] | None = None,
) -> Path:
    """Draws reverse paths `a^N ~ N(0, I), a^{n-1} ~ p(. | a^n)` (8).

    Args:
      schedule: the noise schedule.
      predict: the policy's noise predictor.
      key: PRNG key.
      shape: `[..., action_dim]` of the actions.
      clip: bound of the clean action, or None.
      reference: the behavior model's noise predictor; adds `sum_n l_n(a^n)` along the path (10).
      solver: "ddpm" (the chain of (8)) or "ddim" (deterministic given `a^N`; for pictures).
      trajectory: keep every `a^n`.
      clip_steps: bound of every `a^{n-1}`, clean or noisy, or None.
      temperature: factor of the deviation of a^N and of every step's noise.
      hold: what is done to `a^N` and to every `a^{n-1}`: puts back what is known of them.

    Returns:
      A `Path`.
    """
    if solver not in ("ddpm", "ddim"):
        raise ValueError(f"solver is {solver!r}; it must be 'ddpm' or 'ddim'.")
    key, prior_key = jax.random.split(key)
    prior = temperature * jax.random.normal(prior_key, shape)
    prior = prior if hold is None else hold(prior)

    def step(carry, n):
        noisy, penalty = carry
        predicted = predict(noisy, n)
        own = jnp.zeros(shape[:-1]) if reference is None else kl(schedule, n, predicted, reference(noisy, n))
        if solver == "ddim":
            new = ddim(schedule, noisy, n, predicted, clip)
        else:
            noise = temperature * jax.random.normal(jax.random.fold_in(key, n), shape)
            new = denoise(schedule, noisy, n, predicted, noise, clip)
        if clip_steps is not None:
            new = jnp.clip(new, -clip_steps, clip_steps)
        new = new if hold is None else hold(new)
        return (new, penalty + own), ((new, own) if trajectory else None)

    carry = (prior, jnp.zeros(shape[:-1]))
    (actions, penalty), visited = jax.lax.scan(step, carry, jnp.arange(schedule.steps, 0, -1))
    if not trajectory:
        return Path(actions, penalty)
    points, kls = visited
    return Path(
        actions,
        penalty,
        trajectory=jnp.concatenate([prior[None], points])[::-1],
        kls=jnp.concatenate([kls, jnp.zeros_like(penalty)[None]])[::-1],
    )
