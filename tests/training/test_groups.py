"""Runs of a group against single runs: in threads, in waves, stopped, killed, broken."""

import json

import numpy as np
import pytest
from runs import (
    TRAINED,
    Killed,
    assert_same,
    bdpo_config,
    final_state,
    kill_at,
    logged,
    stop_at,
    toy_config,
)

from bdpo_jax import load_policy, plotting, training
from bdpo_jax.errors import Diverged, NonFinite, Stopped, UserError
from bdpo_jax.training import sweep
from bdpo_jax.training.run import accounting

NAMES = ["seed0-rate0.1", "seed0-rate0.5", "seed3-rate0.1", "seed3-rate0.5"]

pytestmark = pytest.mark.usefixtures("no_pictures")


def group(**changes):
    return toy_config(**{"seeds": (0, 3), "sweep.rate": (0.1, 0.5), **changes})


@pytest.fixture(scope="module")
def whole(no_pictures, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("group")
    return workdir, training.run(group(), workdir)


def assert_equal_runs(workdir, whole, config, names=NAMES):
    for name, one in sweep.expand(config).items():
        if name in names:
            assert_same(final_state(workdir / name, one), final_state(whole[0] / name, one))
            assert logged(workdir / name) == logged(whole[0] / name)


def test_a_run_of_a_group_equals_its_single_run_bit_for_bit(whole, tmp_path):
    workdir, results = whole
    assert list(results["runs"]) == NAMES
    config = sweep.expand(group())["seed3-rate0.5"]
    alone = training.run(config, tmp_path)
    assert_same(final_state(workdir / "seed3-rate0.5", config), final_state(tmp_path, config))
    assert json.loads((workdir / "seed3-rate0.5" / "results.json").read_text("utf-8"))["scores"] == alone["scores"]
    assert logged(workdir / "seed3-rate0.5") == logged(tmp_path)
    assert load_policy(workdir / "seed3-rate0.5")(np.zeros(2)).shape == (2,)


def test_the_same_of_bdpo(tmp_path):
    config = bdpo_config(**{"seeds": (0, 3), "sweep.eta": (5.0,), "train_steps": 12})
    training.run(config, tmp_path / "group")
    one = sweep.expand(config)["seed3-eta5"]
    training.run(one, tmp_path / "alone")
    assert_same(final_state(tmp_path / "group" / "seed3-eta5", one), final_state(tmp_path / "alone", one))


def test_a_group_says_what_its_seeds_come_to(whole):
    workdir, results = whole
    found = json.loads((workdir / "results.json").read_text("utf-8"))
    assert (found["agent"], found["task"], found["headline"]) == ("toy", "pointmass", "return")
    assert found["picture"] == str(workdir / "sweep.png")
    assert (workdir / "sweep.png").read_bytes()[:4] == b"\x89PNG"
    numbers = {name: found["runs"][name]["headline"]["value"] for name in NAMES}
    assert [(row["values"], row["seeds"], row["numbers"]) for row in found["aggregate"]] == [
        ({"rate": rate}, [0, 3], [numbers[f"seed0-rate{rate:g}"], numbers[f"seed3-rate{rate:g}"]])
        for rate in (0.1, 0.5)
    ]
    assert results["summary"].count("\n  rate=") == 2


def test_a_group_killed_between_two_runs_checkpoints_goes_on(whole, tmp_path):
    with pytest.raises(Killed):
        training.run(group(), tmp_path, kill_at(18, what="saved", times=2))  # two of the four
    with pytest.raises(Stopped):  # and stopped before it has caught up
        training.run(group(), tmp_path, stop_at(15))
    training.run(group(), tmp_path)
    assert_equal_runs(tmp_path, whole, group())


@pytest.mark.parametrize("memory", ["device", "host"])
def test_a_stopped_group_goes_on(whole, tmp_path, memory):
    with pytest.raises(Stopped):
        training.run(group(dataset_memory=memory), tmp_path, stop_at(15))
    training.run(group(), tmp_path)
    assert_equal_runs(tmp_path, whole, group())


def test_finished_runs_are_not_trained_again(whole, tmp_path):
    """Of runs that took turns in waves, one killed in the last must not cost the others their results."""
    with pytest.raises(Killed):
        training.run(group(runs_at_once=1), tmp_path, kill_at(0, only="seed3-rate0.5"))
    trained = set()
    training.run(group(), tmp_path, lambda event, name, done: trained.add(name) if event == "logged" else None)
    assert trained == {"seed3-rate0.5"}
    assert_equal_runs(tmp_path, whole, group())


def test_waves_give_the_same(whole, tmp_path):
    results = training.run(group(runs_at_once=3), tmp_path)
    assert list(results["runs"]) == NAMES
    assert_equal_runs(tmp_path, whole, group())


def test_runs_that_were_continued_alone_wait_in_a_wave_of_their_own(whole, tmp_path):
    with pytest.raises(Stopped):
        training.run(group(), tmp_path, stop_at(18))
    one = sweep.expand(group())["seed0-rate0.5"]
    training.run(one, tmp_path / "seed0-rate0.5")
    waves = sweep.waves(sweep.expand(group()), tmp_path, 33, 0)
    assert waves == [["seed0-rate0.1", "seed3-rate0.1", "seed3-rate0.5"], ["seed0-rate0.5"]]
    training.run(group(), tmp_path)
    assert_equal_runs(tmp_path, whole, group())


def test_a_broken_run_stops_alone(tmp_path, capsys):
    config = toy_config(**{"sweep.bad_loss_at": (-1.0, 13.0), "dataset_memory": "host"})
    with pytest.raises(NonFinite, match="run seed0-bad_loss_at13: loss became NaN or infinite at update 13"):
        training.run(config, tmp_path / "group")
    assert "Run seed0-bad_loss_at13 stops here" in capsys.readouterr().err
    good = sweep.expand(config)["seed0-bad_loss_at-1"]
    training.run(toy_config(dataset_seed=0), tmp_path / "alone")
    assert_same(final_state(tmp_path / "group" / "seed0-bad_loss_at-1", good), final_state(tmp_path / "alone", good))
    found = json.loads((tmp_path / "group" / "results.json").read_text("utf-8"))
    assert list(found["runs"]) == ["seed0-bad_loss_at-1"] and list(found["broken"]) == ["seed0-bad_loss_at13"]
    assert [row["seeds"] for row in found["aggregate"]] == [[0], []]
    with pytest.raises(NonFinite, match="see .*nonfinite"):
        training.run(config, tmp_path / "group")


def test_a_run_whose_policy_cannot_be_scored_stops_alone(whole, tmp_path, capsys):
    """Also one that is found so at the end, while another breaks."""
    bad = {"seed3-rate0.1": 21, "seed3-rate0.5": TRAINED}

    def observer(event, name, done):
        if event == "scoring" and bad.get(name) == done:
            raise Diverged("The policy's action is not finite.")

    with pytest.raises(NonFinite, match="run seed3-rate0.1: The policy's action is not finite: the state is saved"):
        training.run(group(), tmp_path, observer)
    assert all(f"Run {name} stops here" in capsys.readouterr().err for name in list(bad)[:1])
    assert_equal_runs(tmp_path, whole, group(), NAMES[:2])
    found = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert list(found["runs"]) == NAMES[:2] and list(found["broken"]) == list(bad)


def test_a_picture_that_fails_costs_a_group_no_numbers(whole, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("no ink")

    monkeypatch.setattr(plotting, "curves", fail)
    configs, found = sweep.expand(group()), json.loads((whole[0] / "results.json").read_text("utf-8"))
    for name in configs:
        (tmp_path / name).mkdir()
        (tmp_path / name / "progress.csv").touch()
    with pytest.raises(RuntimeError, match="no ink"):
        sweep.finish(group(), configs, tmp_path, found["runs"], {})
    assert json.loads((tmp_path / "results.json").read_text("utf-8"))["aggregate"] == found["aggregate"]


def test_a_groups_directory_names_its_runs(whole):
    with pytest.raises(UserError, match="holds several runs: name one of seed0-rate0.1, seed0-rate0.5"):
        load_policy(whole[0])


def test_a_group_is_no_single_run(whole):
    with pytest.raises(UserError, match="seeds"):
        training.run(toy_config(), whole[0])


def test_where_the_time_went_adds_up_what_each_run_did_for_itself():
    shared = {"copy": 3.0, "train": 40.0, "compilation": 5.0}
    own = {"waiting": 1.0, "checkpoints": 0.5, "logging": 0.25, "evaluation": 2.0, "pictures": 1.5}
    assert accounting([shared | own, shared | own]) == (
        "Time: copy 3.0 s, train 40.0 s, first chunks with their compilation 5.0 s, checkpoints 1.0 s, logging 0.5 s, "
        "waiting for evaluations 2.0 s (they took 4.0 s), pictures 3.0 s"
    )
