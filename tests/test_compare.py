"""Runs side by side: numbers of the table by hand, what is kept apart, and pictures."""

import json

import numpy as np
import pytest

from bdpo_jax import compare
from bdpo_jax.data import synthetic2d
from bdpo_jax.errors import Notice

CONFIG = {"agent": "bdpo", "family": "pointmass", "task": "pointmass", "eta": 0.1, "seed": 0, "temperature": 0.0}
CONFIG |= {
    "seeds": [],
    "dataset_seed": -1,
    "sweep": {},
    "pretrain_steps": 0,
    "train_steps": 10,
    "recipe": "pointmass/pointmass,bdpo,laptop",
}


def make_run(path, value, name="return", scores=None, **changes):
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(CONFIG | changes))
    (path / "sizes.json").write_text("{}")
    headline = {"name": name, "value": value, "interval": None}
    results = {"step": 10, "headline": headline, "scores": {"policy": {name: value, **(scores or {})}}}
    (path / "results.json").write_text(json.dumps(results))


@pytest.fixture
def group(tmp_path):
    """Two runs of BDPO and one of IQL, in a group's directory that has results of its own."""
    make_run(tmp_path / "g" / "seed0", 1.0, scores={"success": 1.0, "returns": [1, 2]})
    make_run(tmp_path / "g" / "seed1", 3.0, scores={"success": 0.5, "returns": [1, 2]}, seed=1)
    make_run(tmp_path / "iql", 2.5, scores={"success": 1.0}, agent="iql")
    (tmp_path / "g" / "results.json").write_text("{}")
    return tmp_path


def test_a_row_has_the_mean_and_deviation_of_its_runs(group):
    text = compare.write([group], group / "out")
    rows = compare.rows(compare.find([group]))
    assert [row["algorithm"] for row in rows] == ["iql", "bdpo"]  # 2.5 before the mean of 1 and 3
    assert rows[1] == {
        "algorithm": "bdpo", "runs": 2, "return": 2.0, "std": np.sqrt(2.0), "least": 1.0, "most": 3.0, "success": 0.75
    }  # fmt: skip
    assert rows[0]["std"] is None
    assert "| bdpo | 2 | 2 | 1.41 | 1 | 3 | 0.75 |" in text
    assert text == (group / "out" / "compare.md").read_text("utf-8")
    assert (group / "out" / "pointmass.png").stat().st_size > 1000
    assert "bdpo,2,2.0," in (group / "out" / "pointmass.csv").read_text("utf-8")


def test_what_only_some_runs_were_scored_by_has_no_mean(group):
    make_run(group / "g" / "seed2", 2.0, scores={"success": None}, seed=2)
    make_run(group / "g" / "seed3", 2.0, seed=3)
    (row,) = (row for row in compare.rows(compare.find([group])) if row["algorithm"] == "bdpo")
    assert row["runs"] == 4 and "success" not in row


def test_runs_of_other_settings_have_a_row_of_their_own(group):
    make_run(group / "other", 0.0, eta=0.3, checkpoint_every=7)
    names = [row["algorithm"] for row in compare.rows(compare.find([group]))]
    assert names == ["iql", "bdpo eta=0.1", "bdpo eta=0.3"]


def test_distances_are_best_when_least_and_samples_stand_beside_the_truth(tmp_path, monkeypatch):
    name = "sliced Wasserstein distance to its own truth"
    for agent, value in (("bdpo", 0.1), ("dac", 2.0)):
        changes = {"agent": agent, "family": "synthetic2d", "task": "8gaussians", "temperature": 0.06}
        make_run(tmp_path / agent, value, name, {"sliced_wasserstein": value}, **changes)
    points, energies = synthetic2d.generate("8gaussians", 20_000, 0)
    monkeypatch.setattr(compare, "_energies", lambda task: (points, energies))
    monkeypatch.setattr(compare, "SAMPLES", 2_000)
    truth = synthetic2d.boltzmann(points, energies, 0.06, 2_000, 0)
    policies = {"bdpo": truth, "dac": truth + np.array([1.0, 0.0], np.float32)}
    monkeypatch.setattr(compare, "load_policy", lambda path: lambda observations, key: policies[path.name])
    runs = compare.find([tmp_path])
    assert [row["algorithm"] for row in compare.rows(runs)] == ["bdpo", "dac"]
    (found,) = compare.planes(tmp_path / "planes.png", runs).values()
    # A shift by one unit is seen as its projection: the root mean square of a cosine is sqrt(1/2).
    np.testing.assert_allclose([found["bdpo"], found["dac"]], [0, np.sqrt(0.5)], atol=0.02)
    assert (tmp_path / "planes.png").stat().st_size > 1000


def test_each_temperature_has_a_picture_with_its_own_truth(tmp_path, monkeypatch):
    name = "sliced Wasserstein distance to its own truth"
    points, energies = synthetic2d.generate("8gaussians", 20_000, 0)
    monkeypatch.setattr(compare, "_energies", lambda task: (points, energies))
    monkeypatch.setattr(compare, "SAMPLES", 2_000)
    samples = {t: synthetic2d.boltzmann(points, energies, t, 2_000, 0) for t in (0.1, 0.5)}
    monkeypatch.setattr(compare, "load_policy", lambda path: lambda observations, key: samples[float(path.name)])
    for t in samples:
        changes = {"family": "synthetic2d", "task": "8gaussians", "temperature": t}
        make_run(tmp_path / f"{t}", t, name, {"sliced_wasserstein": t}, **changes)
    make_run(tmp_path / "mass", 1.0, family="pointmass", task="pointmass")
    text = compare.write([tmp_path], tmp_path / "out")
    pictures = [f"8gaussians-temperature{t}.png" for t in samples]
    assert all((tmp_path / "out" / picture).stat().st_size > 1000 and f"({picture})" in text for picture in pictures)
    assert "## pointmass" in text and not (tmp_path / "out" / "8gaussians.png").exists()
    found = compare.planes(
        tmp_path / "planes.png", [run for run in compare.find([tmp_path]) if run.task != "pointmass"]
    )
    assert all(distance < 1e-6 for own in found.values() for distance in own.values())


def test_a_directory_without_runs_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit, match="holds no run"):
        compare.main([str(tmp_path)])


def test_a_folder_that_cannot_be_written_is_one_sentence(group):
    (group / "file").touch()
    with pytest.raises(SystemExit, match="^Error: a part of the path is a file while writing .*file/tables: choose"):
        compare.main([str(group), f"--out={group / 'file' / 'tables'}"])


def test_what_is_compared_lies_in_the_directory_and_says_what_was_left_out(tmp_path, capsys):
    make_run(tmp_path / "a", 1.0), make_run(tmp_path / "again", 3.0), make_run(tmp_path / "b", 2.0, seed=1)
    with pytest.warns(Notice, match="again: it has the settings and the seed of"):
        compare.main([str(tmp_path)])
    said = capsys.readouterr()
    assert f"Tables and pictures: {tmp_path / 'compare'}" in said.out and "| bdpo | 2 | 1.5 |" in said.out


def test_a_file_in_the_place_of_the_output_is_named(tmp_path):
    make_run(tmp_path / "run", 1.0)
    (tmp_path / "out").write_text("kept")
    with pytest.raises(SystemExit, match="out cannot be written, there is a file or a broken link of that name"):
        compare.main([str(tmp_path / "run"), f"--out={tmp_path / 'out'}"])
