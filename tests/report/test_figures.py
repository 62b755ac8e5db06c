"""The figures of a report: what they show is in the runs' own files, and what may not be compared is left out."""

from html import escape

import numpy as np
import pytest
from directories import make_run

from bdpo_jax import plotting, results
from bdpo_jax.report import command, contents, figures, limit
from configs import synthetic2d


@pytest.fixture
def drawn(monkeypatch):
    """The arguments of the pictures, by function; nothing is drawn."""
    found = {}
    for name in ("scores", "learning_curves", "profiles", "improvement", "temperatures"):
        monkeypatch.setattr(plotting, name, lambda path, *others, name=name: found.setdefault(name, []).append(others))
    return found


def progress(*scores):
    return "step,eval/policy/return\n" + "".join(f"{step},{value}\n" for step, value in scores)


def test_figures_show_the_numbers_of_the_runs(tmp_path, drawn):
    curves = [progress((6000, 0.0), (8000, 1.0), (13000, 2.0)), progress((6000, 2.0), (13000, 4.0))]
    for seed, (value, text) in enumerate(zip((2.0, 4.0), curves, strict=True)):
        make_run(tmp_path / f"a{seed}", value, seed=seed, progress=text)
        make_run(tmp_path / f"b{seed}", value - 1, 10**6, seed, text, agent="iql")
    make_run(tmp_path / "small", 9.0, dataset_size=10, agent="dac")
    (make_run(tmp_path / "broken", seed=2, progress=progress((6000, 1e9))) / "nonfinite").mkdir()
    pictures = figures.draw(contents.read([tmp_path]), tmp_path / "figures")
    assert [picture.path.name for picture in pictures["pointmass"]] == [
        f"pointmass-{kind}.svg" for kind in ("scores", "curves", "profiles", "improvement")
    ]
    ((_, metric, panels, _),) = drawn["scores"]
    assert metric == "return" and list(panels["pointmass"]) == ["bdpo", "iql"]  # without DAC, on other data
    np.testing.assert_array_equal(panels["pointmass"]["bdpo"], [2, 4])
    ((_, _, panels, _),) = drawn["learning_curves"]
    updates, values = panels["pointmass"]["bdpo"]  # at what both seeds have come to, without the diverged one
    np.testing.assert_array_equal(updates, [6000, 13000])
    np.testing.assert_array_equal(values, [[0, 2], [2, 4]])
    ((_, rows),) = drawn["improvement"]
    first, second, value, low, high = rows[0]
    # 2 and 4 against 1 and 3: three of four.
    assert (first, second, value) == ("bdpo", "iql", 0.75) and low <= 0.75 <= high
    ((_, _, thresholds, shares, _, lower),) = drawn["profiles"]
    middle = np.searchsorted(thresholds, 2.5)
    assert shares["bdpo"][0][middle] == 0.5 and shares["iql"][0][middle] == 0.5 and not lower


def test_a_diverged_run_still_tells_the_others_apart(tmp_path, drawn):
    """The usual end of a sweep: labels name what differs from it, though it is not drawn."""
    make_run(tmp_path / "fine", progress=progress((6000, 0.0), (13000, 1.0)))
    (make_run(tmp_path / "steep", value_lr=1e30, progress=progress((6000, 1e9))) / "nonfinite").mkdir()
    figures.draw(contents.read([tmp_path]), tmp_path / "figures")
    ((_, _, panels, colours),) = drawn["learning_curves"]
    assert list(panels["pointmass"]) == ["bdpo value_lr=0.001"] and set(panels["pointmass"]) <= set(colours)


def test_runs_without_a_common_update_have_no_curve(tmp_path):
    make_run(tmp_path / "a", progress=progress((1, 0.0))), make_run(tmp_path / "b", 1, 13_000, 1, progress((2, 0.0)))
    assert figures.series(results.find([tmp_path])[0]) is None


def test_tasks_together_are_drawn_of_two_algorithms_and_not_of_one(tmp_path, drawn):
    settings = {"step": 10**9, "headline": "sliced Wasserstein distance to its own truth"}
    for task in ("moons", "rings"):
        make_run(tmp_path / task, **settings, **synthetic2d.get_config(task).to_dict())
    alone = figures.draw(contents.read([tmp_path]), tmp_path / "figures")
    for task in ("moons", "rings"):
        make_run(tmp_path / f"{task}-dac", **settings, **synthetic2d.get_config(f"{task},dac").to_dict())
    both = figures.draw(contents.read([tmp_path]), tmp_path / "figures")
    assert len(alone[""]) == 0 and len(both[""]) == 2


def test_temperatures_are_those_of_the_runs_too(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(figures, "POINTS", 500)
    config = synthetic2d.get_config("moons").to_dict()
    make_run(tmp_path / "a", 1.0, step=10**9, headline="sliced Wasserstein distance to its own truth", **config)
    pictures = figures.draw(contents.read([tmp_path]), tmp_path / "figures")
    assert pictures["moons"][-1].path.name == "moons-temperatures.svg"
    ((rows, _),) = drawn["temperatures"]
    points, energies, samples = rows["moons"]
    assert list(samples) == ["η = 1", "η = 0.3", "η = 0.1", "η = 0.06"]
    assert len(points) == len(energies) == 500
    known = {tuple(point) for point in points}
    assert all(tuple(point) in known for point in samples["η = 0.06"])  # resampled, not new


def test_the_limit_is_printed_and_drawn(tmp_path, capsys):
    limit.main([f"--out={tmp_path / 'limit.png'}", "--steps", "5", "100"])
    said = capsys.readouterr().out
    assert "integral (33): " in said and "posterior variance: N = 5: " in said
    assert (tmp_path / "limit.png").exists() and (tmp_path / "limit.svg").exists()
    with pytest.raises(SystemExit, match="2"):
        limit.main([f"--out={tmp_path / 'none.png'}", "--steps", "0", "5"])
    assert "--steps has 0; each must be 1 or more" in capsys.readouterr().err


def test_a_report_s_figures_are_in_its_page(tmp_path):
    make_run(tmp_path / "runs" / "a"), make_run(tmp_path / "runs" / "b", 2.0, seed=1)
    command.main([str(tmp_path / "runs"), f"--out={tmp_path / 'report'}"])
    page = (tmp_path / "report" / "index.html").read_text("utf-8")
    found = contents.read([tmp_path / "runs"])
    pictures = figures.draw(found, tmp_path / "figures")
    assert [picture.path.stem for picture in pictures["pointmass"]] == ["pointmass-scores", "pointmass-curves"]
    for picture in pictures["pointmass"]:
        assert picture.path.read_text("utf-8").count("<svg") == 1 and picture.path.with_suffix(".png").exists()
        assert f"<figcaption>{escape(picture.caption)}</figcaption>" in page
