import os
import pkgutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import panels_of
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.image import imread

from bdpo_jax import plotting
from bdpo_jax.errors import UserError

EXTENT = (-4.5, 4.5, -4.5, 4.5)


def bars_of(figure):
    """The labels of the colour bars."""
    return [axes.get_ylabel() for axes in figure.axes if not axes.get_title()]


def offsets(axes):
    return [item.get_offsets() for item in axes.collections if isinstance(item, PathCollection)]


def is_png(path):
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def draw_synthetic2d(path, **changes):
    random = np.random.default_rng(0)
    points = random.normal(size=(200, 2))
    arguments = {
        "title": "8gaussians",
        "data": points,
        "data_energies": np.linspace(0, 1, 200),
        "truth": points[:50],
        "samples": points[50:90],
        "paths": np.cumsum(random.normal(size=(51, 30, 2)), axis=0),
        "values": {n: np.full((9, 9), n / 50) for n in (50, 30, 5, 0)},
        "caption": "distance 0.1",
    }
    arguments |= changes
    plotting.synthetic2d(path, **arguments)
    return arguments


def test_synthetic2d_shows_each_interval_from_its_start_to_its_end(tmp_path, figures):
    arguments = draw_synthetic2d(tmp_path / "new" / "picture.png")
    assert is_png(tmp_path / "new" / "picture.png") and os.listdir(tmp_path / "new") == ["picture.png"]
    panels = panels_of(figures[0])
    paths = arguments["paths"]
    for start, end in [(50, 30), (30, 15), (15, 5), (5, 0)]:
        axes = panels[f"n = {start} to {end}"]
        green, red = offsets(axes)
        np.testing.assert_allclose(green, paths[start])
        np.testing.assert_allclose(red, paths[end])
        (lines,) = [item for item in axes.collections if isinstance(item, LineCollection)]
        np.testing.assert_allclose(lines.get_segments()[3], paths[end : start + 1, 3])
        backgrounds = [image.get_array().max() for image in axes.get_images()]
        assert backgrounds == ([] if start == 15 else [start / 50])
    np.testing.assert_allclose(offsets(panels["the actions"])[0], paths[0])
    np.testing.assert_allclose(offsets(panels["policy's samples"])[0], arguments["samples"])
    assert panels["policy's samples"].get_xlabel() == "distance 0.1"
    for axes in panels.values():
        assert axes.get_xlim() == axes.get_ylim() == (-4.5, 4.5) and axes.get_aspect() == 1


def test_values_lie_with_their_rows_upwards_on_the_scale_of_the_energies(tmp_path, figures):
    values = np.zeros((9, 9))
    values[8, 0] = 1  # second coordinate high, first low: the upper left corner
    draw_synthetic2d(tmp_path / "a.png", values={50: values}, intervals=(50, 0))
    image = panels_of(figures[0])["n = 50 to 0"].get_images()[0]
    assert image.origin == "lower" and tuple(image.get_extent()) == EXTENT
    assert image.get_array()[8, 0] == 1 and (image.norm.vmin, image.norm.vmax) == (0, 1)


def test_synthetic2d_without_paths_is_its_upper_row(tmp_path, figures):
    draw_synthetic2d(tmp_path / "whole.png")
    arguments = draw_synthetic2d(tmp_path / "upper.png", paths=None, values=None)
    draw_synthetic2d(tmp_path / "values.png", paths=None)  # without paths there is no panel for values
    whole, *uppers = figures
    assert bars_of(whole) == ["energy", "value"]
    for upper in uppers:
        assert list(panels_of(upper)) == list(panels_of(whole))[:3]
        assert bars_of(upper) == ["energy"] and not upper.subfigs
        assert upper.get_figwidth() == whole.get_figwidth() and upper.get_figheight() < 0.6 * whole.get_figheight()
    panels = panels_of(uppers[0])
    np.testing.assert_allclose(offsets(panels["policy's samples"])[0], arguments["samples"])
    assert panels["policy's samples"].get_xlabel() == "distance 0.1"


@pytest.mark.parametrize("values", [None, {}])
def test_synthetic2d_without_values_shows_the_paths_on_white(values, tmp_path, figures):
    paths = draw_synthetic2d(tmp_path / "white.png", values=values)["paths"]
    panels = panels_of(figures[0])
    assert len(panels) == 8 and bars_of(figures[0]) == ["energy"]
    for start, end in [(50, 30), (30, 15), (15, 5), (5, 0)]:
        axes = panels[f"n = {start} to {end}"]
        np.testing.assert_allclose(offsets(axes), [paths[start], paths[end]])
    for axes in panels.values():
        assert not axes.get_images() and "background" not in axes.get_xlabel()


def test_synthetic2d_names_only_the_backgrounds_that_it_draws(tmp_path, figures):
    draw_synthetic2d(tmp_path / "a.png")
    panels = panels_of(figures[0])
    names = {title: axes.get_xlabel() for title, axes in panels.items() if "background" in axes.get_xlabel()}
    assert names == {
        "n = 50 to 30": "background: $V_{50}$",
        "n = 30 to 15": "background: $V_{30}$",
        "n = 5 to 0": "background: $V_{5}$",
        "the actions": "background: $V_0 = Q$",
    }


def draw_pointmass(path, **changes):
    random = np.random.default_rng(0)
    paths = [np.cumsum(0.05 * random.normal(size=(length, 2)), axis=0) for length in (5, 9, 2)]
    arguments = {
        "title": "point mass",
        "data": paths,
        "data_returns": np.array([1.0, -5.0, 3.0]),
        "rollouts": {"behavior model": (paths[:2], [0.0, 1.0]), "BDPO": (paths[2:], [4.0])},
        "values": np.arange(16.0).reshape(4, 4),
        "obstacle": np.array([[-0.6, 0], [0, 0.4], [0.6, 0], [0, -0.4]]),
        "goal": (0.8, 0.0, 0.1),
        "captions": {"BDPO": "success 100%"},
    }
    plotting.pointmass(path, **(arguments | changes))
    return paths


def test_pointmass_colours_all_panels_by_return_on_one_scale(tmp_path, figures):
    paths = draw_pointmass(tmp_path / "pointmass.png")
    assert is_png(tmp_path / "pointmass.png")
    panels = panels_of(figures[0])
    assert list(panels) == ["data", "behavior model", "BDPO", "values"]
    for name in ("data", "behavior model", "BDPO"):
        lines = next(item for item in panels[name].collections if isinstance(item, LineCollection))
        assert (lines.norm.vmin, lines.norm.vmax) == (-5, 4)
        returns = lines.get_array()
        for segment, value in zip(lines.get_segments(), returns, strict=True):
            if name == "data":
                np.testing.assert_allclose(segment, paths[[1.0, -5.0, 3.0].index(value)])
        assert len(panels[name].patches) == 2
    assert panels["BDPO"].get_xlabel() == "success 100%"
    (image,) = panels["values"].get_images()
    assert (image.norm.vmin, image.norm.vmax) == (0, 15) and bars_of(figures[0]) == ["return", "value"]


def test_pointmass_without_values_leaves_their_panel_out(tmp_path, figures):
    caption = "return 2.69, success 96% (data: mean -0.72, best quartile 3.01; shortest path 3.20)"
    draw_pointmass(tmp_path / "all.png")
    draw_pointmass(tmp_path / "three.png", values=None, captions={"BDPO": caption})
    draw_pointmass(tmp_path / "one.png", values=None, rollouts={}, captions={"data": caption})
    whole, three, one = figures
    assert list(panels_of(three)) == ["data", "behavior model", "BDPO"] and list(panels_of(one)) == ["data"]
    for figure, name in [(three, "BDPO"), (one, "data")]:
        panels = panels_of(figure)
        assert bars_of(figure) == ["return"]
        assert not any(axes.get_images() for axes in panels.values())
        assert figure.get_figwidth() / len(panels) == pytest.approx(whole.get_figwidth() / 4, abs=0.5)
        assert panels[name].get_xlabel().replace("\n", " ") == caption
    for name in ("three", "one"):  # the caption has no panel beside its own to go on under
        pixels = imread(tmp_path / f"{name}.png")
        assert all((edge == 1).all() for edge in (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]))


def test_curves_skip_the_rows_without_a_score(tmp_path, figures):
    (tmp_path / "progress.csv").write_text("step,loss,score\n10,0.5,\n20,0.25,70.0\n30,nan,\n40,,80.0\n")
    columns = plotting.read_progress(tmp_path / "progress.csv")
    np.testing.assert_array_equal(columns["loss"], [[10, 20, 30], [0.5, 0.25, np.nan]])
    np.testing.assert_array_equal(columns["score"], [[20, 40], [70, 80]])
    (tmp_path / "other.csv").write_text("step,loss\n10,1.0\n")
    runs = {"seed 0": tmp_path / "progress.csv", "seed 1": tmp_path / "other.csv"}
    plotting.curves(tmp_path / "curves.png", "hopper", runs)
    plotting.curves(tmp_path / "curves.png", "hopper", {"seed 0": runs["seed 0"]}, columns=["score"])
    assert is_png(tmp_path / "curves.png")
    assert list(panels_of(figures[0])) == ["loss", "score"] and list(panels_of(figures[1])) == ["score"]
    np.testing.assert_array_equal(figures[1].axes[0].lines[0].get_ydata(), [70, 80])


def test_an_empty_log_makes_an_empty_picture(tmp_path):
    (tmp_path / "progress.csv").write_text("step\n")
    plotting.curves(tmp_path / "curves.png", "nothing yet", {"run": tmp_path / "progress.csv"})
    assert is_png(tmp_path / "curves.png")


def test_a_picture_that_cannot_be_written_is_one_sentence_and_the_old_one_stays(tmp_path, monkeypatch):
    (tmp_path / "picture.png").write_bytes(b"old")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(UserError, match="the disk is full while writing .*picture.png"):
        draw_synthetic2d(tmp_path / "picture.png")
    assert os.listdir(tmp_path) == ["picture.png"] and (tmp_path / "picture.png").read_bytes() == b"old"


def test_no_module_hides_a_function():
    modules = {module.name for module in pkgutil.iter_modules(plotting.__path__)}
    assert "canvas" in modules and modules.isdisjoint(plotting.__all__)
    assert all(callable(getattr(plotting, name)) for name in plotting.__all__)


def test_importers_keep_their_own_pyplot():
    code = "import sys, bdpo_jax.plotting; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_sweep_shows_means_spreads_and_seeds(tmp_path, figures):
    numbers = {(0.1, 0.5): [1.0, 3.0], (1.0, 0.5): [4.0], (0.1, 1.0): [0.0, 0.0], (1.0, 1.0): []}
    rows = [
        {
            "values": {"eta": eta, "rho": rho},
            "numbers": some,
            "mean": np.mean(some) if some else None,
            "std": np.std(some, ddof=1) if len(some) > 1 else None,
        }
        for (eta, rho), some in numbers.items()
    ]
    plotting.sweep(tmp_path / "sweep.png", "task", "score", rows)
    assert is_png(tmp_path / "sweep.png")
    (axes,) = figures[0].axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.1", "1"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("η", "score")
    drawn = {bar.get_label(): list(bar.lines[0].get_ydata()) for bar in axes.containers}
    assert drawn == {"rho = 0.5": [2.0, 4.0], "rho = 1": [0.0]}
    spread = axes.containers[0].lines[2][0].get_segments()[0]
    np.testing.assert_allclose(spread[:, 1], [2 - np.sqrt(2), 2 + np.sqrt(2)])
