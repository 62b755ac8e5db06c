"""The six two-dimensional sets of Lu et al. (2023), paper section B.2: points with an energy each.

As a task: the observation is a dummy, the point is the action, the energy is the reward, and every step is
terminal. The best policy at penalty strength eta is then known: the data resampled with weights exp(Q / eta).
"""

import numpy as np

from bdpo_jax.data.dataset import Dataset, unknown_name
from bdpo_jax.errors import UserError

BOUND = 4.5  # half-width of the action box

_DIAGONAL = 1 / np.sqrt(2)
_DIRECTIONS = np.array(
    [
        (0, 1),
        (-_DIAGONAL, _DIAGONAL),
        (-1, 0),
        (-_DIAGONAL, -_DIAGONAL),
        (0, -1),
        (_DIAGONAL, -_DIAGONAL),
        (1, 0),
        (_DIAGONAL, _DIAGONAL),
    ]
)
_EIGHT_GAUSSIANS_SCALE = 1.414  # the definition's own rounding of sqrt(2)


def _eight_gaussians(rng, size):
    mode = rng.integers(8, size=size)
    points = 4 * _DIRECTIONS[mode] + 0.5 * rng.standard_normal((size, 2))
    return points / _EIGHT_GAUSSIANS_SCALE, mode / 7


def _two_spirals(rng, size):
    angle = 3 * np.pi * np.sqrt(rng.random(size))
    arm = np.stack([-np.cos(angle) * angle, np.sin(angle) * angle], axis=1) + rng.random((size, 2)) / 2
    sign = rng.choice([-1.0, 1.0], size=(size, 1))
    return sign * arm / 3 + 0.1 * rng.standard_normal((size, 2)), np.clip(1 - angle / 10, 0, 1)


def _checkerboard(rng, size):
    first = rng.uniform(-2, 2, size)
    second = rng.random(size) - 2 * rng.integers(2, size=size) + np.floor(first) % 2
    points = 2 * np.stack([first, second], axis=1)
    x = points[:, 0]
    return points, ((x > 0) & (x <= 2)) | (x <= -2)


def _moons(rng, size):
    angle = np.pi * rng.random(size)
    lower = rng.integers(2, size=size).astype(bool)
    x = np.where(lower, 1 - np.cos(angle), np.cos(angle))
    y = np.where(lower, 0.5 - np.sin(angle), np.sin(angle))
    points = np.stack([x, y], axis=1) + 0.1 * rng.standard_normal((size, 2))
    return 2 * points + np.array([-1, -0.2]), lower


def _rings(rng, size):
    ring = rng.integers(4, size=size)  # counted from the outside
    angle = 2 * np.pi * rng.random(size)
    radius = 3 * np.array([1, 0.75, 0.5, 0.25])[ring]
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points + 0.08 * rng.standard_normal((size, 2)), np.array([0.667, 0.333, 1, 0])[ring]


def _swissroll(rng, size):
    angle = 1.5 * np.pi * (1 + 2 * rng.random(size))
    roll = angle[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = (roll + rng.standard_normal((size, 2))) / 5
    return points, np.sum(points**2, axis=1) / 9


_GENERATORS = {
    "8gaussians": _eight_gaussians,
    "2spirals": _two_spirals,
    "checkerboard": _checkerboard,
    "moons": _moons,
    "rings": _rings,
    "swissroll": _swissroll,
}
NAMES = tuple(_GENERATORS)


def generate(name: str, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws independent points of one set.

    Args:
      name: one of `NAMES`.
      size: how many points.
      seed: the same seed gives the same points.

    Returns:
      `(points [size, 2], energies [size])`, float32; points lie in [-4.5, 4.5]^2 but for rare tails of the
      noise, energies between 0 and 1 (swissroll: up to about 1.4).

    Raises:
      UserError: unknown name, or a size below 1.
    """
    if name not in _GENERATORS:
        raise unknown_name("synthetic 2D set", name, NAMES)
    if size < 1:
        raise UserError(f"The synthetic 2D set {name!r} was asked for {size} points; ask for at least 1.")
    points, energies = _GENERATORS[name](np.random.default_rng(seed), size)
    return points.astype(np.float32), energies.astype(np.float32)


def dataset(name: str, size: int, seed: int) -> Dataset:
    """The points of `generate` as one-step transitions: observation `[size, 1]` of zeros, reward = energy."""
    points, energies = generate(name, size, seed)
    zeros = np.zeros((size, 1), np.float32)
    return Dataset(
        observations=zeros,
        actions=points,
        rewards=energies,
        next_observations=zeros,
        terminals=np.ones(size, np.float32),
    )


def boltzmann(points: np.ndarray, energies: np.ndarray, eta: float, size: int, seed: int) -> np.ndarray:
    """Resamples points with probabilities proportional to exp(Q / eta), with replacement (paper section A).

    Args:
      points: `[n, 2]`.
      energies: `[n]`, the Q of every point.
      eta: the penalty's strength (temperature); infinity resamples uniformly.
      size: how many samples.
      seed: of the draws; independent of the seed of `generate`.

    Returns:
      `[size, 2]`, rows of `points`.

    Raises:
      UserError: eta is not positive.
    """
    if not eta > 0:
        raise UserError(f"The Boltzmann distribution needs eta > 0, not {eta}.")
    logits = np.asarray(energies, np.float64) / eta
    weights = np.exp(logits - logits.max())
    rng = np.random.default_rng([seed, 1])  # a stream of its own, even when the seed is the data's
    return points[rng.choice(len(points), size=size, p=weights / weights.sum())]


def centres(name: str) -> np.ndarray:
    """The modes' centres, `[modes, 2]` float32, in order of their energy; only 8gaussians has any.

    Raises:
      UserError: the set has no modes.
    """
    if name != "8gaussians":
        raise UserError(f"The set {name!r} has no mode centres; only '8gaussians' has.")
    return (4 * _DIRECTIONS / _EIGHT_GAUSSIANS_SCALE).astype(np.float32)
