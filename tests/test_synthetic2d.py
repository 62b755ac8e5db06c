import numpy as np
import pytest

from bdpo_jax.data import synthetic2d
from bdpo_jax.errors import UserError

SIZE = 40_000


@pytest.fixture(scope="module")
def sets():
    return {name: synthetic2d.generate(name, SIZE, seed=0) for name in synthetic2d.NAMES}


def radii(points):
    return np.linalg.norm(points, axis=1)


def test_the_six_sets_fill_the_action_box(sets):
    assert set(sets) == {"8gaussians", "2spirals", "checkerboard", "moons", "rings", "swissroll"}
    for name, (points, energies) in sets.items():
        assert points.shape == (SIZE, 2) and energies.shape == (SIZE,)
        assert points.dtype == energies.dtype == np.float32
        assert np.mean(np.abs(points).max(axis=1) > 4.5) < 1e-3, name  # tails of the noise
        assert np.abs(points).max() > 2.5, name
        assert energies.min() >= 0
        assert energies.max() <= (1.6 if name == "swissroll" else 1), name


def test_one_seed_gives_one_set():
    first, second, other = (synthetic2d.generate("moons", 50, seed)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_8gaussians_energy_names_the_nearest_centre(sets):
    points, energies = sets["8gaussians"]
    centres = synthetic2d.centres("8gaussians")
    assert centres.shape == (8, 2)
    np.testing.assert_allclose(centres[0], [0, 4 / 1.414], rtol=1e-6)
    np.testing.assert_allclose(centres[3], [-2 * np.sqrt(2) / 1.414] * 2, rtol=1e-6)
    mode = np.round(7 * energies).astype(int)
    np.testing.assert_allclose(energies, mode / 7, atol=1e-6)
    offsets = points - centres[mode]
    # Means and deviations of 320,000 / 8 numbers a mode: errors of .002, allowed five times that.
    for index in range(8):
        np.testing.assert_allclose(offsets[mode == index].mean(axis=0), 0, atol=0.025)
        np.testing.assert_allclose(offsets[mode == index].std(axis=0), 0.5 / 1.414, atol=0.02)
    # A share is 1/8 with a deviation of .0017.
    np.testing.assert_allclose(np.bincount(mode) / SIZE, 1 / 8, atol=0.01)


def test_2spirals_follow_their_energy(sets):
    points, energies = sets["2spirals"]
    angle = 10 * (1 - energies.astype(np.float64))
    arm = np.stack([-np.cos(angle) * angle + 0.25, np.sin(angle) * angle + 0.25], axis=1) / 3
    distance = np.minimum(radii(points - arm), radii(points + arm))
    # Uniform(0, 1/2) / 3 and noise of .1 leave .12 at most diagonally, plus five deviations.
    assert distance.max() < 0.12 + 0.55
    assert distance.mean() < 0.2
    assert energies.min() >= 1 - 3 * np.pi / 10 - 1e-6
    assert abs(np.mean(radii(points - arm) < radii(points + arm)) - 0.5) < 0.02
    np.testing.assert_allclose(np.mean(angle**2), 4.5 * np.pi**2, rtol=0.02)  # angle^2 is uniform


def test_checkerboard_fills_alternate_squares_whose_column_sets_the_energy(sets):
    points, energies = sets["checkerboard"]
    column, row = np.floor(points / 2).astype(int).T
    assert set(zip(column.tolist(), row.tolist(), strict=True)) == {
        (-2, -2), (-2, 0), (-1, -1), (-1, 1), (0, -2), (0, 0), (1, -1), (1, 1),
    }  # fmt: skip
    assert set(np.unique(energies)) == {0, 1}
    np.testing.assert_array_equal(energies == 1, (column == 0) | (column == -2))


def test_moons_are_half_circles_and_the_lower_pays(sets):
    points, energies = sets["moons"]
    unscaled = (points - np.array([-1, -0.2])) / 2
    lower = energies == 1
    assert set(np.unique(energies)) == {0, 1} and abs(lower.mean() - 0.5) < 0.02
    np.testing.assert_allclose(radii(unscaled[~lower]).mean(), 1, atol=0.02)
    np.testing.assert_allclose(radii(unscaled[lower] - np.array([1, 0.5])).mean(), 1, atol=0.02)
    assert unscaled[~lower, 1].min() > -0.55 and unscaled[lower, 1].max() < 1.05
    assert points[lower, 1].mean() < points[~lower, 1].mean()


def test_rings_pay_by_radius(sets):
    points, energies = sets["rings"]
    expected = {3.0: 0.667, 2.25: 0.333, 1.5: 1.0, 0.75: 0.0}
    for radius, energy in expected.items():
        on_ring = np.isclose(energies, energy)
        assert abs(on_ring.mean() - 0.25) < 0.02
        assert np.abs(radii(points[on_ring]) - radius).max() < 0.08 * 6
    assert sum(np.isclose(energies, energy).sum() for energy in expected.values()) == SIZE


def test_swissroll_pays_by_squared_radius(sets):
    points, energies = sets["swissroll"]
    np.testing.assert_allclose(energies, radii(points) ** 2 / 9, rtol=1e-5)
    # |roll|^2 is t^2 with t uniform on (1.5 pi, 4.5 pi), the noise adds 2.
    expected = ((4.5 * np.pi) ** 3 - (1.5 * np.pi) ** 3) / (9 * np.pi) + 2
    np.testing.assert_allclose(np.mean(radii(5 * points) ** 2), expected, rtol=0.02)
    assert 1.3 < energies.max() < 1.6


def test_dataset_is_a_one_step_task():
    points, energies = synthetic2d.generate("rings", 30, seed=5)
    data = synthetic2d.dataset("rings", 30, seed=5)
    assert (data.size, data.observation_dim, data.action_dim) == (30, 1, 2)
    np.testing.assert_array_equal(data.actions, points)
    np.testing.assert_array_equal(data.rewards, energies)
    assert np.all(data.terminals == 1) and not data.observations.any() and not data.next_observations.any()


def test_boltzmann_draws_with_exact_weights():
    points = np.array([[0, 0], [1, 0], [2, 0]], np.float32)
    energies = np.array([0, 0.5, 1])
    samples = synthetic2d.boltzmann(points, energies, eta=0.5, size=100_000, seed=0)
    shares = np.bincount(samples[:, 0].astype(int)) / 100_000
    # Deviations of a share are at most .0016.
    np.testing.assert_allclose(shares, np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum(), atol=0.008)


def test_boltzmann_masses_of_8gaussians(sets):
    points, energies = sets["8gaussians"]
    samples = synthetic2d.boltzmann(points, energies, eta=0.06, size=50_000, seed=0)
    index = {point.tobytes(): energy for point, energy in zip(points, energies, strict=True)}
    drawn = np.array([index[sample.tobytes()] for sample in samples])
    weights = np.exp(np.arange(8) / 7 / 0.06)
    assert round(weights[-1] / weights.sum(), 4) == 0.9075
    # The data's own top-mode share of 1/8 has a deviation of .0017, which moves the mass by .0012.
    np.testing.assert_allclose(np.mean(drawn == 1), 0.9075, atol=0.01)


def test_boltzmann_is_safe_at_both_ends(sets):
    points, energies = sets["8gaussians"]
    cold = synthetic2d.boltzmann(points, energies, eta=1e-5, size=100, seed=0)
    assert np.all(radii(cold - synthetic2d.centres("8gaussians")[7]) < 2)
    hot = synthetic2d.boltzmann(points, energies, eta=np.inf, size=20_000, seed=0)
    np.testing.assert_allclose(hot.mean(axis=0), points.mean(axis=0), atol=0.1)  # deviation .014


def test_boltzmann_draws_are_independent_of_the_data_seed():
    points, energies = np.arange(1000, dtype=np.float32)[:, None], np.zeros(1000)
    first = synthetic2d.boltzmann(points, energies, 1.0, 500, seed=0)
    second = synthetic2d.boltzmann(points, energies, 1.0, 500, seed=1)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, synthetic2d.boltzmann(points, energies, 1.0, 500, seed=0))


def test_bad_arguments_are_named():
    with pytest.raises(UserError, match="no synthetic 2D set '8gausians'; the nearest known one is '8gaussians'"):
        synthetic2d.generate("8gausians", 10, seed=0)
    with pytest.raises(UserError, match="asked for 0 points"):
        synthetic2d.generate("rings", 0, seed=0)
    with pytest.raises(UserError, match="eta > 0, not 0"):
        synthetic2d.boltzmann(np.zeros((2, 2)), np.zeros(2), 0, 5, seed=0)
    with pytest.raises(UserError, match="'moons' has no mode centres"):
        synthetic2d.centres("moons")
