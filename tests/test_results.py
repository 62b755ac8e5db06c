"""What a directory of runs says: runs, curves, and each thing that may be missing or broken."""

import json
import os

import numpy as np
import pytest
from directories import make_group, make_run

from bdpo_jax import agents, results
from bdpo_jax.errors import UserError


def said(problems):
    return {(problem.path.name, problem.kind): problem.sentence for problem in problems}


def test_a_finished_run_is_read(tmp_path):
    make_run(tmp_path / "run")
    (run,), problems = results.find([tmp_path])
    assert not problems
    assert (run.task, run.agent, run.variant, run.metric) == ("pointmass", "bdpo", "laptop", "return")
    assert (run.value, run.episodes, run.seconds) == (1.0, 4, 63.0)
    np.testing.assert_array_equal(run.curve, [[6000, 8000, 13000], [0.5, 2.5, 1.0]])  # though 6,000 came late
    assert run.best == 2.5  # of the curve, not the last
    assert (run.launched, run.launched_in) == (run.config, run.path)
    assert agents.budget(run.config) == 13_000


def test_what_is_missing_or_broken_is_said(tmp_path):
    group = make_group(tmp_path / "group", seeds=(0, 1, 2))
    make_run(group / "seed0")
    make_run(group / "seed1", step=None, seed=1)
    (make_run(tmp_path / "broken") / "nonfinite" / "9000").mkdir(parents=True)
    make_run(tmp_path / "extended", train_steps=10_000)
    make_run(tmp_path / "nan", value=None)
    (make_run(tmp_path / "cut") / "results.json").write_text("{")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{")
    runs, problems = results.find([tmp_path])
    found = said(problems)
    assert found["seed2", "missing"] == "a run of its group that has not begun."
    assert found["seed1", "unfinished"].startswith("13,000 of 13,000 updates; last written at 20")
    assert found["broken", "diverged"] == "its numbers became NaN or infinite after 9,000 of 13,000 updates."
    assert found["extended", "unfinished"].startswith(
        "it goes on: the results of 13,000 of 15,000 updates are left out"
    )
    assert found["nan", "diverged"] == "its score is NaN or infinite."
    assert "results.json cannot be read" in found["cut", "unreadable"]
    assert "cannot be read" in found["damaged", "unreadable"]
    assert [run.path.name for run in runs if run.value is not None] == ["seed0"]
    assert {run.launched_in for run in runs if run.path.parent == group} == {group}


def test_a_run_of_a_group_named_alone_knows_its_group(tmp_path):
    group = make_group(tmp_path / "group")
    make_run(group / "seed0")
    ((run,), problems), (again, _) = results.find([group / "seed0"]), results.find([group, group / "seed0"])
    assert run.launched_in == group and not problems
    assert [other.path for other in again] == [run.path]  # named twice, read once


def test_directories_without_runs_are_refused(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        results.find([tmp_path])
    with pytest.raises(UserError, match="no directory"):
        results.find([tmp_path / "absent"])


def test_labels_tell_variants_then_settings_then_files_apart(tmp_path):
    make_run(tmp_path / "a"), make_run(tmp_path / "b", seed=1, log_every=7)
    make_run(tmp_path / "c", eta=0.5), make_run(tmp_path / "d", recipe="pointmass/pointmass,bdpo,quick", rho=0.0)
    runs, _ = results.find([tmp_path])
    own = ["bdpo laptop eta=0.1", "bdpo laptop eta=0.1", "bdpo laptop eta=0.5", "bdpo quick"]
    assert results.labels(runs) == own
    assert [len(group) for group in results.by_label(runs).values()] == [2, 1, 1]


def test_files_are_known_by_their_bytes_where_those_are_on_record(tmp_path):
    sources = [("a.hdf5", "11" * 32, "D4RL.hdf5"), ("b.hdf5", "11" * 32, "D4RL.hdf5"), ("b.hdf5", "22" * 32, None)]
    for number, (file, sha256, name) in enumerate(sources):
        path = make_run(tmp_path / str(number), seed=number, dataset_path=f"/data/{number}/{file}")
        found = json.loads((path / "results.json").read_text("utf-8"))
        found["data"] = {"file": file, "sha256": sha256, "d4rl_file": name}
        (path / "results.json").write_text(json.dumps(found))
    make_run(tmp_path / "running", step=None, seed=3)
    runs, _ = results.find([tmp_path])
    assert results.labels(runs) == ["bdpo data=D4RL.hdf5"] * 2 + ["bdpo data=b.hdf5 (22222222)", "bdpo"]


def test_a_seed_that_was_run_twice_counts_once_and_is_told(tmp_path):
    """Of runs that were scored, with the same settings, known or not, variant and seed; what decides no score apart."""
    make_run(tmp_path / "a", step=None), make_run(tmp_path / "b", None), make_run(tmp_path / "c", log_every=7)
    make_run(tmp_path / "d"), make_run(tmp_path / "e", seed=1), make_run(tmp_path / "f", eta=0.5)
    make_run(tmp_path / "g", recipe=""), make_run(tmp_path / "h", of_an_older_version=1)
    runs, problems = results.find([tmp_path])
    assert [run.path.name for run in runs] == ["a", "b", "c", "e", "f", "g", "h"]
    (repeated,) = (one for one in problems if one.kind == "repeated")
    assert repeated.path.name == "d"
    assert repeated.sentence == f"it has the settings and the seed of {tmp_path / 'c'} and is left out."


def test_a_seed_counts_once_however_its_run_was_launched_and_by_whichever_version(tmp_path):
    """A run of a group notes the seed of its data, a run of its own -1 for the run's."""
    make_run(tmp_path / "alone", seed=3), make_run(tmp_path / "of a group", seed=3, dataset_seed=3)
    newer = make_run(tmp_path / "newer", seed=3) / "results.json"
    newer.write_text(json.dumps(json.loads(newer.read_text("utf-8")) | {"versions": {"bdpo_jax": "9", "numpy": "9"}}))
    older = make_run(tmp_path / "older", seed=3) / "config.json"  # which did not know a setting yet
    config = json.loads(older.read_text("utf-8"))
    assert config.pop("behavior_decay_steps") == 0
    older.write_text(json.dumps(config))
    make_run(tmp_path / "other data", seed=3, dataset_seed=4)
    runs, problems = results.find([tmp_path])
    assert [run.path.name for run in runs] == ["alone", "other data"]
    assert {one.path.name for one in problems if one.kind == "repeated"} == {"of a group", "newer", "older"}


def test_a_file_called_as_a_task_is_no_run_of_it(tmp_path):
    make_run(tmp_path / "a", family="file", task="hopper-medium-v2")
    make_run(tmp_path / "b", family="d4rl", task="hopper-medium-v2")
    make_run(tmp_path / "c", family="file", task="own")
    found = results.by_task(results.find([tmp_path])[0])
    names = {name: [run.path.name for run in runs] for name, runs in found.items()}
    assert names == {"hopper-medium-v2 (file)": ["a"], "hopper-medium-v2": ["b"], "own": ["c"]}


def test_no_two_texts_have_the_same_file_name():
    texts = ["a b", "a_b", "a/b", "..", "", "数据", "测试", "runs", "hopper-medium-v2", "normalized score", "\udcff"]
    names = [results.file_name(text, "runs") for text in texts]
    assert len(set(names)) == len(texts) and not any("/" in name or name.startswith(".") for name in names)
    assert names[1] == "a_b" and names[5] == "数据" and names[8] == "hopper-medium-v2"
    long = [results.file_name("数" * 80 + end) for end in "ab"]
    assert long[0] != long[1] and max(len(name.encode()) for name in long) < 200
    assert names[7].startswith("runs-") and results.file_name("runs") == "runs"


def test_a_run_s_own_folders_are_not_searched(tmp_path):
    path = make_run(tmp_path / "run")
    os.symlink(path, tmp_path / "run" / "checkpoints")
    make_run(tmp_path / "run" / "evaluating" / "inner")
    assert len(results.find([tmp_path])[0]) == 1
    make_run(tmp_path / "profile", seed=1)  # a run of that name is one
    assert len(results.find([tmp_path])[0]) == 2


@pytest.mark.parametrize("key", ["agent", "dataset_seed", "sweep"])
def test_a_config_of_another_version_is_said(tmp_path, key):
    path = make_group(tmp_path / "group")
    config = json.loads((path / "config.json").read_text("utf-8"))
    del config[key]
    (path / "config.json").write_text(json.dumps(config))
    found, problems = results.find([tmp_path])
    assert not found and f"has no {key!r}: it is of another version" in said(problems)["group", "unreadable"]


@pytest.mark.parametrize(
    "content",
    [[], 3, {"headline": "x", "step": "y"}, {"headline": {"name": "return"}, "step": 13_000}, {"step": 13_000}],
)
def test_results_of_another_form_are_left_out(tmp_path, content):
    (make_run(tmp_path / "run") / "results.json").write_text(json.dumps(content))
    (run,), problems = results.find([tmp_path])
    assert run.value is None and "of another version" in said(problems)["run", "unreadable"]


@pytest.mark.parametrize("name", ["results.json", "progress.csv"])
def test_a_folder_in_the_place_of_a_file_is_said(tmp_path, name):
    path = make_run(tmp_path / "run") / name
    path.unlink()
    path.mkdir()
    _, problems = results.find([tmp_path])
    assert f"{name} cannot be read" in said(problems)["run", "unreadable"]


@pytest.mark.parametrize("key", ["agent", "family", "task", "seed"])
def test_a_config_without_what_every_run_has_is_said(tmp_path, key):
    path = make_run(tmp_path / "run") / "config.json"
    config = json.loads(path.read_text("utf-8"))
    del config[key]
    path.write_text(json.dumps(config))
    runs, problems = results.find([tmp_path])
    assert not runs and f"has no {key!r}" in said(problems)["run", "unreadable"]


def test_a_directory_may_lie_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    make_run(tmp_path / "run")
    assert len(results.find(["~/run"])[0]) == 1
