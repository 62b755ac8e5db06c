"""Distances between two sets of samples, on the host in float64."""

import os

import numpy as np

from bdpo_jax.errors import Diverged, UserError

_CHUNK = 256  # rows of a distance matrix held at once: 20 MB against 10,000 points
_DIRECTIONS = 20  # projected at once: POT then holds 42 MB for two sets of 10,000 points


def sliced_wasserstein(x: np.ndarray, y: np.ndarray, projections: int = 200, seed: int = 0) -> float:
    """Sliced Wasserstein distance of order 2: the root of the mean of W2^2 over random directions.

    POT couples the projections by quantiles; the numbers of samples may differ. Its weights are sums of 1 / n, so that
    unequal numbers of samples at distance 0 give about 1e-8 of their extent in place of 0.

    Args:
      x: `[n, dim]`.
      y: `[m, dim]`.
      projections: how many directions, uniform on the sphere.
      seed: of the directions; one seed makes distances comparable.

    Returns:
      The distance, in the unit of the points.

    Raises:
      UserError: empty, not finite, or of different widths.
    """
    x, y = _samples(x, y)
    # Not at the module's head: the import takes most of a second, and longer where POT finds one of these libraries,
    # each of which it imports. It needs none of them for NumPy's arrays.
    for backend in ("PYTORCH", "JAX", "TENSORFLOW", "CUPY"):
        os.environ.setdefault(f"POT_BACKEND_DISABLE_{backend}", "1")
    from ot.sliced import sliced_wasserstein_distance

    directions = np.random.default_rng(seed).standard_normal((projections, x.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    total = 0.0
    for start in range(0, projections, _DIRECTIONS):
        some = directions[start : start + _DIRECTIONS]
        total += len(some) * sliced_wasserstein_distance(x, y, projections=some.T) ** 2
    return float(np.sqrt(total / projections))


def energy_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Energy distance `2 E|X - Y| - E|X - X'| - E|Y - Y'|` with the Euclidean norm (Szekely and Rizzo, 2013).

    Not its square root. Expectations are over all pairs, a point with itself included, so that the result is
    never negative and is 0 for equal samples; two independent sets of n samples give about `2 E|X - X'| / n`.

    Args:
      x: `[n, dim]`.
      y: `[m, dim]`.

    Returns:
      The distance, in the unit of the points.

    Raises:
      UserError: empty, not finite, or of different widths.
    """
    x, y = _samples(x, y)
    return max(0.0, 2 * _mean_distance(x, y) - _mean_distance(x, x) - _mean_distance(y, y))


def mode_mass(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The share of samples nearest to each centre.

    Args:
      x: `[n, dim]`.
      centres: `[modes, dim]`.

    Returns:
      `[modes]`, float64, summing to 1.

    Raises:
      UserError: empty, not finite, or of different widths.
    """
    x, centres = _samples(x, centres)
    squared = np.sum((x[:, None, :] - centres) ** 2, axis=-1)
    return np.bincount(squared.argmin(axis=1), minlength=len(centres)) / len(x)


def _samples(x, y) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or not x.size or not y.size:
        raise UserError(f"A distance needs two non-empty arrays of points of one width, not {x.shape} and {y.shape}.")
    for samples in (x, y):
        finite = np.isfinite(samples).all(axis=1)
        if not finite.all():
            raise Diverged(f"Sample {np.argmin(finite)} of {len(samples)} is not finite; distances need finite ones.")
    return x, y


def _mean_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Mean Euclidean distance over all pairs."""
    from scipy.spatial.distance import cdist  # a third of a second, which most programs need not spend

    total = sum(cdist(x[start : start + _CHUNK], y).sum() for start in range(0, len(x), _CHUNK))
    return float(total) / (len(x) * len(y))
