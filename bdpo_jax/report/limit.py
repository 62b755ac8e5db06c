"""python -m bdpo_jax.report.limit [--out=report/limit.png]

Appendix D in numbers: the KL of a path of N steps, and the integral that it tends to.
"""

import argparse
import sys

import numpy as np
from scipy import integrate

from bdpo_jax import diffusion, plotting
from bdpo_jax.errors import UserError
from bdpo_jax.text import tell

STEPS = (5, 10, 20, 50, 100, 200, 500, 1000)
KERNELS = {"variance beta_n": False, "posterior variance": True}


def path_kl(steps: int, mean: float, variance: float, reference_variance: float, posterior_variance: bool) -> float:
    """Returns the path's KL (34), in nats, of the chain of N(mean, variance) against that of N(0, reference_variance).

    Both noise predictors are exact, so that every `a^n` is Gaussian: nothing is sampled.

    Args:
      steps: N.
      mean, variance: of the actions that the first chain's predictor is made for.
      reference_variance: of those of the second's.
      posterior_variance: the reverse kernel's variance is that printed under (8), not `beta_n`.
    """
    schedule = diffusion.variance_preserving(steps, posterior_variance=posterior_variance)
    names = ("betas", "alphas", "alpha_bars", "variances", "kl_weights")
    betas, alphas, alpha_bars, variances, weights = (np.asarray(getattr(schedule, name), float) for name in names)
    centre, spread, total = 0.0, 1.0, 0.0  # of a^n, from the prior on
    for n in range(steps, 0, -1):
        root = np.sqrt(1 - alpha_bars[n])
        slope = root / (alpha_bars[n] * variance + 1 - alpha_bars[n])  # of the noise predicted from a^n
        offset = -slope * np.sqrt(alpha_bars[n]) * mean
        difference = slope - root / (alpha_bars[n] * reference_variance + 1 - alpha_bars[n])
        total += weights[n] * ((difference * centre + offset) ** 2 + difference**2 * spread)
        gain = (1 - betas[n] / root * slope) / np.sqrt(alphas[n])
        centre = gain * centre - betas[n] / root * offset / np.sqrt(alphas[n])
        spread = gain**2 * spread + variances[n]
    return float(total)


def integral(mean: float, variance: float, reference_variance: float) -> float:
    """Returns the integral (33) for the same two, in nats, with T = 1 and beta(t) = 0.1 + 9.9 t.

    The moments of the reverse equation, started from N(0, 1), come from an ODE solver.
    """

    def score(t, m, v):
        """The marginal's score at t as `offset - slope x`."""
        alpha_bar = np.exp(-0.1 * t - 4.95 * t**2)
        marginal = alpha_bar * v + 1 - alpha_bar
        return np.sqrt(alpha_bar) * m / marginal, 1 / marginal

    def derivative(reversed_time, moments):
        t = 1 - reversed_time
        centre, spread, _ = moments
        beta = 0.1 + 9.9 * t
        offset, slope = score(t, mean, variance)
        _, reference_slope = score(t, 0.0, reference_variance)
        difference = reference_slope - slope
        squared = (offset + difference * centre) ** 2 + difference**2 * spread
        return [
            beta * (offset + (0.5 - slope) * centre),
            beta * (2 * (0.5 - slope) * spread + 1),
            beta / 2 * squared,
        ]

    found = integrate.solve_ivp(derivative, (0, 1), [0.0, 1.0, 0.0], rtol=1e-9, atol=1e-11)
    return float(found.y[2, -1])


def main(arguments: list[str] | None = None) -> None:
    """Prints and draws the two for N(1, 0.25) against N(0, 0.49)."""
    parser = argparse.ArgumentParser(prog="python -m bdpo_jax.report.limit", description="Appendix D in numbers.")
    parser.add_argument("--out", default="report/limit.png", help="PNG file, with an SVG file beside it")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, help="numbers of diffusion steps N, rising")
    options = parser.parse_args(arguments)
    if min(options.steps) < 1:
        parser.error(f"--steps has {min(options.steps)}; each must be 1 or more")
    case = (1.0, 0.25, 0.49)
    found = integral(*case)
    sums = {name: [path_kl(steps, *case, posterior) for steps in options.steps] for name, posterior in KERNELS.items()}
    try:
        plotting.path_kl(options.out, options.steps, sums, found)
    except UserError as error:
        sys.exit(f"Error: {error}")
    tell(f"integral (33): {found:.5f} nats")
    for name, values in sums.items():
        listed = ", ".join(f"N = {steps}: {value:.5f}" for steps, value in zip(options.steps, values, strict=True))
        tell(f"sum (34), {name}: {listed}")
    tell(f"Picture: {options.out}")


if __name__ == "__main__":
    main()
