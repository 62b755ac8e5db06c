import os
import subprocess
import sys

import numpy as np
import pytest

from bdpo_jax.data import synthetic2d
from bdpo_jax.distances import energy_distance, mode_mass, sliced_wasserstein
from bdpo_jax.errors import UserError


def column(*values):
    return np.array(values, float)[:, None]


def test_sliced_wasserstein_is_plain_wasserstein_in_one_dimension():
    # Sorted pairs (0, 1), (2, 5), (4, 4): gaps 1, 3, 0.
    assert sliced_wasserstein(column(4, 0, 2), column(5, 1, 4)) == pytest.approx(np.sqrt((1 + 4 + 1) / 3))


def test_sliced_wasserstein_couples_unequal_sizes_by_quantiles():
    # Mass 1/6 a step: 0 0 3 3 6 6 over thirds against 1 1 1 5 5 5 over halves.
    gaps = np.array([1, 1, 2, 2, 1, 1])
    expected = np.sqrt(np.mean(gaps**2))
    assert sliced_wasserstein(column(0, 3, 6), column(1, 5)) == pytest.approx(expected)
    assert sliced_wasserstein(column(1, 5), column(0, 3, 6)) == pytest.approx(expected)
    # A point against two: the mean of the squares.
    assert sliced_wasserstein(column(0), column(3, 4)) == pytest.approx(np.sqrt(12.5))


def test_sliced_wasserstein_of_a_repeated_sample_is_zero():
    x = np.random.default_rng(0).normal(size=(7, 3))
    assert sliced_wasserstein(x, x[::-1]) == pytest.approx(0, abs=1e-12)
    assert sliced_wasserstein(x, np.tile(x, (3, 1))) == pytest.approx(0, abs=1e-7)  # the root of a rounding error


def test_sliced_wasserstein_of_a_shift():
    # Every direction sees the shift's projection; its mean square over the circle is |shift|^2 / 2.
    x = np.random.default_rng(0).normal(size=(50, 2))
    distance = sliced_wasserstein(x, x + np.array([3, 4]), projections=20_000)
    assert distance == pytest.approx(5 / np.sqrt(2), rel=0.02)  # 20,000 directions: a deviation of .4%


def test_sliced_wasserstein_is_fixed_by_its_seed():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 2)), rng.normal(size=(40, 2))
    assert sliced_wasserstein(x, y) == sliced_wasserstein(x, y)
    assert sliced_wasserstein(x, y) != sliced_wasserstein(x, y, seed=1)


def test_only_a_distance_imports_its_libraries_and_none_of_pots_others(tmp_path):
    for name in ("torch", "tensorflow", "cupy"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name} was imported')")
    code = (
        "import sys; from bdpo_jax import distances\n"
        "assert not {'ot', 'scipy.spatial', 'scipy.stats'} & set(sys.modules)\n"
        "print(distances.sliced_wasserstein([[0.0]], [[3.0], [4.0]])); assert 'ot' in sys.modules"
    )
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    found = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, capture_output=True)
    assert found.returncode == 0, found.stderr.decode()
    assert float(found.stdout) == pytest.approx(np.sqrt(12.5))


def test_8gaussians_from_data_to_truth_and_the_floor():
    points, energies = synthetic2d.generate("8gaussians", 100_000, seed=0)
    truth = synthetic2d.boltzmann(points, energies, eta=0.06, size=10_000, seed=0)
    other = synthetic2d.boltzmann(points, energies, eta=0.06, size=10_000, seed=1)
    # 2.44 to 2.50 over seeds of the 200 directions and of the data.
    assert sliced_wasserstein(points[:10_000], truth) == pytest.approx(2.46, abs=0.06)
    # .024, made by chance differences of the modes' masses.
    assert 0.01 < sliced_wasserstein(truth, other) < 0.05


def test_energy_distance_of_two_points():
    assert energy_distance(np.zeros((1, 2)), np.array([[3.0, 4.0]])) == pytest.approx(10)


def test_energy_distance_by_hand():
    # E|X-Y| = (1 + 3 + 1 + 1) / 4, E|X-X'| = 2 / 2, E|Y-Y'| = 2 / 2.
    assert energy_distance(column(0, 2), column(1, 3)) == pytest.approx(2 * 1.5 - 1 - 1)


def test_energy_distance_agrees_with_all_pairs_across_chunks():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(600, 3)) + 100, rng.normal(size=(300, 3)) + 100.5

    def mean(a, b):
        return np.linalg.norm(a[:, None] - b, axis=-1).mean()

    assert energy_distance(x, y) == pytest.approx(2 * mean(x, y) - mean(x, x) - mean(y, y), rel=1e-9)
    assert energy_distance(x, x) == 0


def test_mode_mass_counts_nearest_centres():
    centres = np.array([[0, 0], [10, 0], [0, 10]])
    samples = np.array([[1, 0], [4, 1], [6, 1], [9, 9.5]])
    np.testing.assert_allclose(mode_mass(samples, centres), [0.5, 0.25, 0.25])
    np.testing.assert_allclose(mode_mass(centres[:1], centres), [1, 0, 0])


def test_mode_mass_of_the_truth_of_8gaussians():
    points, energies = synthetic2d.generate("8gaussians", 100_000, seed=0)
    truth = synthetic2d.boltzmann(points, energies, eta=0.06, size=100_000, seed=0)
    mass = mode_mass(truth, synthetic2d.centres("8gaussians"))
    # By nearest centre; the data's mode shares move it by .0008 (one deviation).
    assert mass[7] == pytest.approx(0.906, abs=0.004)
    assert mass.sum() == pytest.approx(1)


@pytest.mark.parametrize("distance", [sliced_wasserstein, energy_distance, mode_mass])
def test_bad_samples_are_named(distance):
    good, bad = np.zeros((4, 2)), np.zeros((4, 2))
    bad[2, 1] = np.nan
    with pytest.raises(UserError, match="Sample 2 of 4 is not finite"):
        distance(bad, good)
    with pytest.raises(UserError, match=r"not \(4, 2\) and \(4, 3\)"):
        distance(good, np.zeros((4, 3)))
    with pytest.raises(UserError, match="non-empty"):
        distance(np.zeros((0, 2)), good)
