"""Pictures of several runs: what is drawn is what was given, and an SVG file lies beside each PNG file."""

import numpy as np
from helpers import panels_of

from bdpo_jax import plotting

EXTENT = (-4.5, 4.5, -4.5, 4.5)
COLOURS = {"bdpo": "C0", "iql": "C1"}


def drawn(path):
    """Whether both files are there, and nothing else."""
    svg = path.with_suffix(".svg")
    names = sorted(file.name for file in path.parent.iterdir())
    return names == [path.name, svg.name] and path.read_bytes()[:4] == b"\x89PNG" and "<svg" in svg.read_text("utf-8")


def test_learning_curves_show_the_mean_and_one_deviation(tmp_path, figures):
    steps, values = np.array([10, 20]), np.array([[1.0, 2.0], [3.0, 6.0]])
    panels = {"hopper": {"bdpo": (steps, values)}, "maze": {"iql": (steps, values[:1])}}
    plotting.learning_curves(tmp_path / "a.png", "title", "score", panels, COLOURS)
    assert drawn(tmp_path / "a.png")
    panels = panels_of(figures[0])
    np.testing.assert_array_equal(panels["hopper"].lines[0].get_ydata(), [2, 4])
    band = panels["hopper"].collections[0].get_paths()[0].vertices
    np.testing.assert_allclose([band[:, 1].min(), band[:, 1].max()], [2 - np.sqrt(2), 4 + np.sqrt(8)])
    assert not panels["maze"].collections  # one run has no deviation
    assert [text.get_text() for text in figures[0].legends[0].texts] == ["bdpo", "iql"]


def test_scores_show_every_seed_and_the_mean(tmp_path, figures):
    panels = {"hopper": {"bdpo": np.array([1.0, 3.0]), "iql": np.array([5.0])}}
    plotting.scores(tmp_path / "a.png", "title", "score", panels, COLOURS)
    assert drawn(tmp_path / "a.png")
    axes = panels_of(figures[0])["hopper"]
    assert [line.get_xdata().tolist() for line in axes.lines if line.get_marker() == "x"] == [[1, 3], [5]]
    assert [line.get_xdata().tolist() for line in axes.lines if line.get_marker() == "o"] == [[2], [5]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["bdpo", "iql"]


def test_profiles_and_improvement_show_their_numbers(tmp_path, figures):
    thresholds, shares = np.array([0.0, 1.0]), np.array([1.0, 0.5])
    series = {"bdpo": (shares, shares - 0.1, shares)}
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    plotting.profiles(tmp_path / "a" / "a.png", "title", "score", thresholds, series, COLOURS, lower_is_better=True)
    plotting.improvement(tmp_path / "b" / "b.png", "title", [("bdpo", "iql", 0.8, 0.6, 1.0)])
    assert drawn(tmp_path / "a" / "a.png") and drawn(tmp_path / "b" / "b.png")
    profile, improvement = (figure.axes[0] for figure in figures)
    np.testing.assert_array_equal(profile.lines[0].get_ydata(), shares)
    assert profile.get_ylabel() == "share of runs below τ"
    assert improvement.get_yticklabels()[0].get_text() == "bdpo > iql"
    assert [list(line.get_xdata()) for line in improvement.lines[:2]] == [[0.6, 1.0], [0.8]]


def test_path_kl_shows_the_sums_and_their_distance_to_the_integral(tmp_path, figures):
    plotting.path_kl(tmp_path / "a.png", (5, 10), {"beta": [1.0, 1.5]}, 2.0)
    assert drawn(tmp_path / "a.png")
    left, right = figures[0].axes
    np.testing.assert_array_equal(left.lines[0].get_ydata(), [1, 1.5])
    np.testing.assert_array_equal(right.lines[0].get_ydata(), [0.5, 0.25])
    assert list(left.lines[1].get_ydata()) == [2, 2]


def test_sets_show_their_points_and_samples(tmp_path, figures):
    points = np.random.default_rng(0).normal(size=(20, 2))
    rows = {"moons": (points, np.linspace(0, 1, 20), {"η = 3": points[:5]})}
    plotting.temperatures(tmp_path / "a.png", rows, EXTENT)
    assert drawn(tmp_path / "a.png")
    panels = panels_of(figures[0])
    np.testing.assert_allclose(panels["moons: data"].collections[0].get_offsets(), points)
    np.testing.assert_allclose(panels["η = 3"].collections[0].get_offsets(), points[:5])
