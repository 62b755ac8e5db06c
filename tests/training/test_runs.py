"""Whole runs, tiny: phases, resuming bit for bit, stopping, refusing, scoring beside training."""

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pictures
import pytest
import toy
from runs import (
    SIZES,
    TRAINED,
    Killed,
    assert_same,
    bdpo_config,
    final_state,
    kill_at,
    logged,
    rows,
    stop_at,
    toy_config,
)

from bdpo_jax import devices, evaluation, load_policy, load_q, score, settings, tasks, training
from bdpo_jax.agents.base import Phase
from bdpo_jax.checkpoint import Checkpointer
from bdpo_jax.errors import NonFinite, Stopped, UserError
from bdpo_jax.training import scoring, sources
from bdpo_jax.training.run import Run
from bdpo_jax.training.scoring import Evaluator
from bdpo_jax.workdir import read_config, write_json
from configs import pointmass, synthetic2d

ALL = ["policy", "behavior"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of BDPO that was never stopped, with its pictures whatever else asks for none."""
    workdir = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        pictures.put_back(patch)
        return workdir, training.run(bdpo_config(), workdir)


@pytest.fixture(scope="module")
def toy_whole(tmp_path_factory, no_pictures):
    """The same of the toy algorithm."""
    workdir = tmp_path_factory.mktemp("toy")
    return workdir, training.run(toy_config(), workdir)


@pytest.fixture
def evaluations(monkeypatch):
    """What was scored: (policies, episodes)."""
    asked, original = [], tasks.PointMass.evaluate

    def evaluate(task, acting, policies, episodes, key, before_step):
        asked.append((list(policies), episodes))
        return original(task, acting, policies, episodes, key, before_step)

    monkeypatch.setattr(tasks.PointMass, "evaluate", evaluate)
    return asked


def test_a_run_leaves_results_progress_and_a_policy(whole):
    workdir, results = whole
    found = json.loads((workdir / "results.json").read_text("utf-8"))
    assert found["step"] == TRAINED == results["step"]
    assert (found["agent"], found["task"]) == ("bdpo", "pointmass")
    returns = found["scores"]["policy"]["returns"]
    assert len(returns) == 2 and list(found["scores"]) == ["policy", "behavior", "behavior_best_of"]
    assert found["headline"]["name"] == "return" and found["headline"]["value"] == pytest.approx(np.mean(returns))
    assert found["headline"]["interval"] == found["scores"]["policy"]["return_interval"]
    assert found["references"]["data_return"] < found["references"]["optimal_return"]
    # The warm-up ends at 9 + 6; rows at 9 + 3k, checkpoints at 9 + 9k, evaluations at 9 + 12k, and the ends.
    steps = sorted({int(row["step"]) for row in rows(workdir)})
    assert steps == [*range(3, 34, 3)]
    by_step = {int(row["step"]): row for row in rows(workdir) if row["steps_per_second"]}
    assert by_step[9]["behavior_loss"] and not by_step[9]["q_loss"]
    assert by_step[15]["q_loss"] and not by_step[15]["actor_loss"], "the actor waits for the warm-up"
    assert by_step[18]["actor_loss"]
    scored = {int(row["step"]) for row in rows(workdir) if row["eval/policy/return"]}
    assert scored == {21, 33} and any(row["eval/behavior/return"] for row in rows(workdir) if row["step"] == "9")
    for picture in ("pointmass.png", "curves.png"):
        assert (workdir / picture).read_bytes().startswith(b"\x89PNG")


def test_its_policies_can_be_loaded(whole):
    workdir, _ = whole
    policy = load_policy(workdir)
    single, batch = policy(np.zeros(2)), policy(np.zeros((5, 2)))
    assert single.shape == (2,) and batch.shape == (5, 2)
    assert np.all(np.abs(batch) <= 1)
    key = jax.random.key(1)
    others = {name: load_policy(workdir, policy=name)(np.zeros((5, 2)), key) for name in ("policy", "behavior")}
    assert (others["policy"] != others["behavior"]).any()
    assert (load_policy(workdir, candidates=1)(np.zeros((5, 2)), key) != others["policy"]).any()
    with pytest.raises(UserError, match="has no policy 'actor'; it has policy, behavior, behavior_best_of"):
        load_policy(workdir, policy="actor")
    with pytest.raises(UserError, match="'behavior' of bdpo draws one action"):
        load_policy(workdir, policy="behavior", candidates=3)
    with pytest.raises(UserError, match="candidates is 0; it must be 1 or more"):
        load_policy(workdir, candidates=0)
    for wrong in (np.zeros(3), np.zeros((5, 1)), 0.0):
        with pytest.raises(UserError, match=r"observations have the shape .*; this run's are \[..., 2\]"):
            policy(wrong)


def test_its_values_can_be_loaded(whole):
    """The policy takes of its candidates the one of highest Q, so by Q more candidates are better on average."""
    workdir, _ = whole
    q, observations, key = load_q(workdir), np.random.default_rng(0).normal(size=(64, 2)), jax.random.key(0)
    one, many = (load_policy(workdir, candidates=count)(observations, key) for count in (1, 50))
    assert q(observations, one).shape == (64,) and q(observations[0], one[0]).shape == ()
    assert q(observations, many).mean() > q(observations, one).mean()
    with pytest.raises(UserError, match=r"actions have the shape \[64\]; this run's are \[..., 2\]"):
        q(observations, one[:, 0])


def test_the_score_command(whole, capsys, tmp_path):
    workdir, _ = whole
    score.main([str(workdir), "--episodes", "3", "--seed", "5"])
    first = capsys.readouterr().out
    score.main([str(workdir), "--episodes", "3", "--seed", "5", "--policy", "behavior"])
    second = capsys.readouterr().out
    for text, name in ((first, "policy"), (second, "behavior")):
        trained = f"{name} of {workdir} after 33 of 33 updates"
        assert text.startswith(f"{trained}, in pointmass, 3 episodes, seed 5\nreturn -")
        assert "success" in text and "ms per environment step" in text
        found = evaluation.evaluate(load_policy(workdir, policy=name), "pointmass", 3, 5)
        assert f"return {found.returns.mean():.2f}," in text and f"mean length {found.lengths.mean():.0f};" in text
    with pytest.raises(SystemExit, match=f"Error: .*{re.escape(str(tmp_path))}"):
        score.main([str(tmp_path)])


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("updates", [6, 15, 21])
def test_a_stopped_run_goes_on_bit_for_bit(whole, tmp_path, updates):
    with pytest.raises(Stopped) as stopped:
        training.run(bdpo_config(), tmp_path, stop_at(updates))
    assert stopped.value.code == 143
    results = training.run(bdpo_config(), tmp_path)
    assert_same(final_state(tmp_path, bdpo_config()), final_state(whole[0], bdpo_config()))
    assert results["scores"] == whole[1]["scores"]
    assert logged(tmp_path) == logged(whole[0])


def test_data_on_the_host_give_the_same_run(toy_whole, tmp_path, capsys, monkeypatch):
    """Also where it is stopped and goes on, and "auto" is the host where the device's memory is small."""
    config = toy_config(dataset_memory="host")
    with pytest.raises(Stopped):
        training.run(config, tmp_path, stop_at(21))
    said = capsys.readouterr().out
    assert " MB, which stay on the host: at most 0.0 MB of batches at a time on the device; state" in said
    data = tasks.make(config).dataset
    for memory, kind in (
        (None, sources.OnDevice),
        (2 * devices.size_of(data), sources.OnDevice),
        (2 * devices.size_of(data) - 1, sources.OnHost),
    ):
        monkeypatch.setattr(devices, "memory", lambda memory=memory: memory)
        source = sources.make(toy_config(), data, None)
        source.close()
        assert isinstance(source, kind)
    training.run(toy_config(), tmp_path)  # with the last of these memories
    assert_same(final_state(toy_whole[0], config), final_state(tmp_path, config))
    assert logged(tmp_path) == logged(toy_whole[0])


def test_an_interrupted_run_goes_on(toy_whole, tmp_path):
    with pytest.raises(Stopped) as stopped:
        training.run(toy_config(), tmp_path, stop_at(18, signal.SIGINT))
    assert stopped.value.code == 130
    training.run(toy_config(), tmp_path)
    assert_same(final_state(tmp_path, toy_config()), final_state(toy_whole[0], toy_config()))


@pytest.mark.parametrize("updates", [6, 15, 21, 33])
def test_a_killed_run_goes_on_from_its_last_checkpoint(toy_whole, tmp_path, updates):
    with pytest.raises(Killed):
        training.run(toy_config(), tmp_path, kill_at(updates))
    results = training.run(toy_config(), tmp_path)
    assert_same(final_state(tmp_path, toy_config()), final_state(toy_whole[0], toy_config()))
    assert results["scores"] == toy_whole[1]["scores"]
    assert logged(tmp_path) == logged(toy_whole[0])


@pytest.mark.parametrize("updates", [15, 24, 30, 33])
def test_a_killed_run_logs_no_scores_twice(tmp_path, updates):
    """Also where several evaluations lie between two checkpoints."""
    config = toy_config(evaluate_every=3, checkpoint_every=9)
    training.run(config, tmp_path / "whole")
    with pytest.raises(Killed):
        training.run(config, tmp_path / "killed", kill_at(updates))
    training.run(config, tmp_path / "killed")
    assert logged(tmp_path / "killed") == logged(tmp_path / "whole")


def test_a_run_killed_by_the_system_goes_on(no_pictures, tmp_path):
    """SIGKILL closes nothing; what is left is the last whole checkpoint."""
    changes = {**SIZES, "actor_widths": (8,), "value_widths": (8,), "train_steps": 45}
    changes |= {"log_every": 1, "checkpoint_every": 3, "evaluate_every": 30}
    config = pointmass.get_config("pointmass,iql")
    settings.update(config, changes)
    command = [
        sys.executable,
        "launch.py",
        "--config=configs/pointmass.py:pointmass,iql",
        f"--workdir={tmp_path / 'run'}",
    ]
    command += [f"--config.{key}={value}" for key, value in changes.items()]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not any(path.name.isdigit() for path in tmp_path.glob("run/checkpoints/*")):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    assert process.wait() < 0, "it had come to its end"
    training.run(config, tmp_path / "run")
    training.run(config, tmp_path / "whole")
    assert_same(final_state(tmp_path / "run", config), final_state(tmp_path / "whole", config))
    assert logged(tmp_path / "run") == logged(tmp_path / "whole")


@pytest.mark.parametrize("scored_before", [False, True])
def test_an_evaluation_cut_short_by_a_stop_is_begun_again(toy_whole, tmp_path, monkeypatch, scored_before):
    """The evaluation after update 21 only begins to run when the stop at update 27 ends it.

    Also where a process that was killed later had scored the same update: its row is gone with the rows after the
    checkpoint.
    """
    if scored_before:
        with pytest.raises(Stopped):
            training.run(toy_config(), tmp_path, stop_at(15))
        lost = {"step": 21, "policies": ["policy"], "episodes": 2, "scores": {}}
        (tmp_path / "scores.json").write_text(json.dumps(lost))
    stop_while_scoring(toy_config(), tmp_path, monkeypatch, 21)
    assert not any(row["step"] == "21" and row.get("eval/policy/return") for row in rows(tmp_path))
    training.run(toy_config(), tmp_path)
    assert_same(final_state(tmp_path, toy_config()), final_state(toy_whole[0], toy_config()))
    assert logged(tmp_path) == logged(toy_whole[0])


def stop_while_scoring(config, workdir, monkeypatch, update):
    """Stops a run at update 27, while the policy of an earlier one is scored."""
    stopped, original = threading.Event(), Evaluator.store
    stop = stop_at(27)

    def observer(event, name, done):
        if event == "scoring" and done == update:
            stopped.wait(60)
        stop(event, name, done)

    def store(evaluator):
        original(evaluator)
        if evaluator.step == update and evaluator._pending.is_stored:
            stopped.set()

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Evaluator, "store", store)
        training.run(config, workdir, observer)


def test_an_evaluation_that_was_begun_again_is_never_without_its_snapshot(toy_whole, tmp_path, monkeypatch):
    """It is still under way when the next checkpoint is saved; a kill then finds what the stop had stored."""
    stop_while_scoring(toy_config(), tmp_path, monkeypatch, 21)
    saved = threading.Event()

    def observer(event, name, done):
        if event == "scoring" and done == 21:
            assert saved.wait(60)
        if event == "saved":
            assert list((tmp_path / "evaluating" / "21").iterdir())
            saved.set()

    deleting = SimpleNamespace(rmtree=lambda *_, **__: pytest.fail("the only snapshot is deleted"))
    monkeypatch.setattr(scoring, "shutil", deleting)
    training.run(toy_config(checkpoint_every=3), tmp_path, observer)
    scored = [[row["step"] for row in rows(path) if row.get("eval/policy/return")] for path in (tmp_path, toy_whole[0])]
    assert sorted(scored[0]) == sorted(scored[1])


@pytest.mark.parametrize("update, evaluate_every", [(21, 12), (18, 9)])
def test_a_damaged_snapshot_of_an_unfinished_evaluation_loses_no_score(
    toy_whole, tmp_path, monkeypatch, capsys, update, evaluate_every
):
    """There is a checkpoint of update 18, whose policy is the snapshot's; none of 21: the run goes back to 18."""
    config = toy_config(evaluate_every=evaluate_every)
    stop_while_scoring(config, tmp_path, monkeypatch, update)
    capsys.readouterr()
    for file in (tmp_path / "evaluating").rglob("d/*"):
        file.write_bytes(b"0" * file.stat().st_size)
    training.run(config, tmp_path)
    assert ("Going back to update 18" in capsys.readouterr().err) == (update == 21)
    assert_same(final_state(tmp_path, config), final_state(toy_whole[0], toy_config()))
    scored = [int(row["step"]) for row in rows(tmp_path) if row.get("eval/policy/return")]
    assert sorted(scored) == sorted({update, *range(9 + evaluate_every, TRAINED, evaluate_every), TRAINED})


def test_training_goes_on_while_the_policy_is_scored(toy_whole, tmp_path):
    """Scores that come late are logged under their update, and are those of its policy."""
    last, waited = threading.Event(), []

    def observer(event, name, done):
        if event == "scoring" and done == 21:
            waited.append(last.wait(60))
        if event == "logged" and done == 33:
            last.set()

    training.run(toy_config(), tmp_path, observer)
    assert waited == [True], "training waits for an evaluation"
    steps = [row["step"] for row in rows(tmp_path)]
    assert steps.index("33") < len(steps) - 1 - steps[::-1].index("21"), "the scores came as early as ever"
    assert logged(tmp_path) == logged(toy_whole[0])


def test_an_error_in_an_evaluation_ends_the_run(tmp_path):
    def observer(event, name, done):
        if event == "scoring":
            raise UserError("the policy is ill")

    with pytest.raises(UserError, match="is ill"):
        training.run(toy_config(), tmp_path, observer)


def test_a_finished_run_can_be_extended_and_repeated(tmp_path):
    training.run(toy_config(train_steps=12), tmp_path / "a")
    training.run(toy_config(train_steps=18, log_every=3), tmp_path / "a")
    again = training.run(toy_config(train_steps=18, log_every=3), tmp_path / "a")
    assert again["step"] == 27
    training.run(toy_config(train_steps=18), tmp_path / "b")
    states = [final_state(tmp_path / name, toy_config()) for name in "ab"]
    for a, b in zip(*states, strict=True):  # other chunks are other programs: equal to rounding
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_finished_run_is_not_scored_again_unless_asked_otherwise(tmp_path, evaluations):
    training.run(toy_config(), tmp_path)
    before, evaluations[:] = logged(tmp_path), []
    training.run(toy_config(), tmp_path)
    assert evaluations == [] and logged(tmp_path) == before
    results = training.run(toy_config(final_episodes=5), tmp_path)
    assert evaluations == [(ALL, 5)]
    assert len(results["scores"]["policy"]["returns"]) == 5
    assert training.run(toy_config(final_episodes=5), tmp_path)["scores"] == results["scores"]
    assert len(evaluations) == 1


def test_what_a_run_repeated_elsewhere_says_is_what_it_said(tmp_path, monkeypatch):
    """Its warnings, and the machine that computed."""

    def warn(run, done, scalars, write=Run.write):
        if done == 15:
            run._warnings.append("At update 15 the values diverge.")
        write(run, done, scalars)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "write", warn)
        first = training.run(toy_config(), tmp_path)
    monkeypatch.setattr(devices, "processor", lambda: "another, 2 cores")
    again = training.run(toy_config(), tmp_path)
    assert first["warnings"] and first["processor"] != "another, 2 cores"
    assert all(again[key] == first[key] for key in ("warnings", "versions", "device", "processor"))
    further = training.run(toy_config(train_steps=27), tmp_path)
    assert further["processor"] == "another, 2 cores" and further["warnings"] == first["warnings"]


def test_every_end_of_a_phase_is_scored(tmp_path, evaluations):
    training.run(toy_config(), tmp_path / "a")
    assert evaluations == [(["behavior"], 2), (["policy"], 2), (ALL, 2)]
    evaluations.clear()
    results = training.run(toy_config(train_steps=0, warmup_steps=0), tmp_path / "b")
    assert evaluations == [(ALL, 2)] and results["headline"]["name"] == "return"


def test_a_refused_continuation_leaves_everything_as_it_was(tmp_path):
    with pytest.raises(Stopped):
        training.run(toy_config(), tmp_path, stop_at(15))
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path.name[0] != "."}
    with pytest.raises(UserError, match="9 updates of copy and 6 updates of train, which a budget of 6 updates"):
        training.run(toy_config(copy_steps=6), tmp_path)
    assert files == {path: path.stat().st_mtime_ns for path in files}
    with pytest.raises(UserError, match="cannot begin with"):
        training.run(toy_config(train_steps=3, warmup_steps=6), tmp_path)


def test_a_phase_that_has_not_begun_may_be_added_or_left_out(toy_whole, tmp_path, monkeypatch):
    """As BDPO's start of Q, which is a phase only where it has updates."""

    def with_another(config, phases=toy.phases):
        first, last = phases(config)
        return first, Phase("another", 3, toy.copy_update), last

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(toy, "phases", with_another)
        training.run(toy_config(), tmp_path, stop_at(6))
    training.run(toy_config(), tmp_path)
    assert_same(final_state(tmp_path, toy_config()), final_state(toy_whole[0], toy_config()))
    monkeypatch.setattr(toy, "phases", with_another)
    with pytest.raises(UserError, match="cannot begin with"):
        training.run(toy_config(), tmp_path)


def test_a_run_that_breaks_is_not_saved_though_another_run_fails_at_the_same_time(tmp_path):
    """A full disk while the first run's row is written, in the chunk in which the second becomes NaN."""

    def full(event, name, done):
        if event == "logged" and done == 27:
            raise UserError("the disk is full")

    config = toy_config(**{"sweep.bad_state_at": (-1.0, 13.0)})
    with pytest.raises(UserError, match="disk is full"):
        training.run(config, tmp_path, full)
    broken = tmp_path / "seed0-bad_state_at13"
    assert (broken / "nonfinite").is_dir()
    with Checkpointer(broken / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.latest_step() == 18


def test_another_run_or_dataset_is_refused(toy_whole, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="rate is 0.1 there and 5.0 here"):
        training.run(toy_config(rate=5.0), toy_whole[0])
    training.run(toy_config(train_steps=0, warmup_steps=0), tmp_path)
    load = tasks.PointMass.load
    for name in ("rewards", "terminals", "next_observations"):

        def changed(task, name=name):
            load(task)
            array = getattr(task.dataset, name).copy()
            array[3] += 1
            task.dataset = task.dataset.replace(**{name: array})

        monkeypatch.setattr(tasks.PointMass, "load", changed)
        with pytest.raises(UserError, match="dataset has changed"):
            training.run(toy_config(train_steps=0, warmup_steps=0), tmp_path)


@pytest.mark.parametrize(
    ("changes", "sentence", "last"),
    [
        ({"bad_loss_at": 8.0}, "^loss became NaN or infinite at update 8 of the phase 'train'", 9),
        # A cycle of three ends at 12; the warm-up is over after 6.
        ({"bad_slow_at": 12.0}, "^slow_loss became NaN or infinite at update 12 of the phase 'train'", 18),
        ({"bad_state_at": 6.0}, "^a number of the state became NaN or infinite by update 6 of the phase 'train'", 9),
    ],
)
def test_what_became_nan_is_named_and_never_saved_as_good(tmp_path, changes, sentence, last):
    with pytest.raises(NonFinite, match=f"{sentence}.*the last good checkpoint is of update {last}"):
        training.run(toy_config(**changes), tmp_path)
    assert (tmp_path / "nonfinite").is_dir()
    with Checkpointer(tmp_path / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.latest_step() == last
    with pytest.raises(NonFinite, match="became NaN or infinite earlier, see .*nonfinite"):
        training.run(toy_config(**changes), tmp_path)


def test_one_program_is_traced_for_each_kind_of_chunk(tmp_path):
    toy.TRACES["update"] = 0
    jax.clear_caches()
    training.run(toy_config(train_steps=48, checkpoint_every=6), tmp_path)
    assert toy.TRACES["update"] == 2, "the warm-up's program and that of whole cycles"
    training.run(toy_config(train_steps=96, checkpoint_every=6), tmp_path)
    assert toy.TRACES["update"] == 2, "a longer run has the same programs"


def test_updates_can_be_profiled(tmp_path, capsys):
    training.run(toy_config(profile_updates=6, train_steps=36), tmp_path)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    assert f"Profile: {tmp_path / 'profile'}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("eta", -1.0),
        ("batch_size", 2),
        ("aggregation", "median"),
        ("discount", 1.5),
        ("task", "pointmas"),
        ("agent", "bdqo"),
        ("family", "pointmas"),
        ("seeds", (1, 1)),
        ("seeds", ("a",)),
        ("seeds", (-1,)),
        ("seed", -1),
        ("dtype", "float16"),
        ("env", "Pendulum-v1"),
        ("runs_at_once", -1),
        ("log_every", 7),
        ("action_bound", 0.0),
        ("beta_max", 1e5),
        ("actor_widths", (0,)),
        ("actor_widths", ()),
    ],
)
def test_values_that_make_no_sense_are_named(tmp_path, key, value):
    config = bdpo_config(**{key: value, "recipe": ""})
    with pytest.raises(UserError, match=str(value) if key in ("task", "agent") else rf"\b{key}\b"):
        training.run(config, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("key", "value"), [("task", "hopper-medium-v2"), ("family", "d4rl"), ("agent", "iql")])
def test_what_the_other_settings_were_made_for_cannot_be_changed_alone(tmp_path, key, value):
    with pytest.raises(UserError, match="name the (task and the )?algorithm in the config file's argument"):
        training.run(bdpo_config(**{key: value}), tmp_path)


def test_a_missing_accelerator_is_one_sentence(tmp_path, monkeypatch):
    def devices_of_jax():
        raise RuntimeError("Unknown backend cuda\nmore")

    monkeypatch.setattr(jax, "devices", devices_of_jax)
    with pytest.raises(UserError, match="^JAX finds no device .*Unknown backend cuda.: install") as error:
        devices.require()
    assert "\n" not in str(error.value)


def test_a_damaged_checkpoint_is_passed_over_and_said(toy_whole, tmp_path, capsys):
    with pytest.raises(Killed):
        training.run(toy_config(), tmp_path, kill_at(30))
    steps = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    for path in (tmp_path / "checkpoints" / str(steps[-1]) / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    results = training.run(toy_config(), tmp_path)
    assert results["scores"] == toy_whole[1]["scores"]
    assert f"Going back to update {steps[-2]}: the checkpoint at" in capsys.readouterr().err
    assert_same(final_state(tmp_path, toy_config()), final_state(toy_whole[0], toy_config()))


def test_going_back_over_a_damaged_checkpoint_keeps_the_scores_in_the_log(tmp_path, no_pictures):
    """The evaluation of update 15 ends after checkpoint 18; when 27 is saved, that of 21 has taken its place."""
    config, kill = toy_config(evaluate_every=6), kill_at(30)
    training.run(config, tmp_path / "whole")
    saved = {18: threading.Event(), 27: threading.Event()}
    held = {15: saved[18], 21: saved[27]}

    def observer(event, name, done):
        if event == "scoring" and done in held:
            held[done].wait(60)
        if event == "saved" and done in saved:
            saved[done].set()
        kill(event, name, done)

    with pytest.raises(Killed):
        training.run(config, tmp_path / "killed", observer)
    for path in (tmp_path / "killed" / "checkpoints" / "27" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    training.run(config, tmp_path / "killed")
    assert logged(tmp_path / "killed") == logged(tmp_path / "whole")


def test_other_random_numbers_are_refused(tmp_path):
    with pytest.raises(Stopped):
        training.run(toy_config(), tmp_path, stop_at(15))
    refused = pytest.raises(UserError, match="jax_threefry_partitionable=.* gives other random numbers")
    with jax.threefry_partitionable(not jax.config.jax_threefry_partitionable), refused:
        training.run(toy_config(), tmp_path)


def test_a_damaged_scores_file_is_one_sentence(tmp_path):
    with pytest.raises(Stopped):
        training.run(toy_config(), tmp_path, stop_at(15))
    for content in ("broken", "[1]", "{}"):
        (tmp_path / "scores.json").write_text(content)
        with pytest.raises(UserError, match=r"scores\.json is damaged .*delete it"):
            training.run(toy_config(), tmp_path)
    (tmp_path / "scores.json").unlink()
    assert training.run(toy_config(), tmp_path)["step"] == TRAINED


def test_swept_values_that_make_no_sense_are_named(tmp_path):
    for values, sentence in (
        ((0.1, 0.1), r"config\.sweep\.eta is \(0\.1, 0\.1\)"),
        ((0.1, "a"), r"config\.sweep\.eta is \(0\.1, 'a'\)"),
        ((0.1, -1.0), r"config\.eta is -1\.0; it must be zero or more"),
        ((0.9999999, 1.0), "Two runs would be named seed0-eta1"),
    ):
        with pytest.raises(UserError, match=sentence):
            training.run(bdpo_config(**{"sweep.eta": values}), tmp_path)


def test_env_may_be_dropped_and_added_while_a_run_goes_on(toy_whole, tmp_path):
    """Without scores the updates are the same: the states agree bit for bit, and what is scored late is, too."""
    workdir, results = toy_whole
    with pytest.raises(Stopped):
        training.run(toy_config(), tmp_path, stop_at(18))
    found = training.run(toy_config(env="none"), tmp_path)
    assert found["headline"] is None and "there is no environment" in found["summary"]
    assert all(sum(bool(value) for value in row.values()) > 1 for row in rows(tmp_path))
    assert_same(final_state(workdir, toy_config()), final_state(tmp_path, toy_config()))
    assert training.run(toy_config(), tmp_path)["headline"] == results["headline"]
    with pytest.raises(UserError, match="leave it empty"):
        training.run(toy_config(env="Pendulum-v1"), tmp_path)


def test_a_run_that_was_begun_with_settings_without_effect_goes_on_without_them(tmp_path, toy_whole):
    """What such a run did is what it does now."""
    workdir = shutil.copytree(toy_whole[0], tmp_path / "run")
    write_json(workdir / "config.json", toy_config().to_dict() | {"reward_scaling": "none", "temperature": 0.5})
    assert training.run(toy_config(), workdir)["step"] == TRAINED
    assert read_config(workdir)["reward_scaling"] == "auto"


def test_data_beyond_all_memory_are_one_sentence(tmp_path):
    """A 2D set of 10^17 points: more bytes than a processor can address."""
    config = synthetic2d.get_config()
    config.dataset_size = 10**17
    with pytest.raises(UserError, match="not enough memory .*smaller batch_size"):
        training.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("update", [9, 15])
def test_a_directory_that_is_moved_while_it_is_written_is_one_sentence_and_goes_on(toy_whole, tmp_path, update):
    """At update 9 while a checkpoint may be on its way, at 15 before the next one."""

    def observer(event, name, done):
        if event == ("saved" if update == 9 else "logged") and done == update:
            shutil.move(tmp_path / "run", tmp_path / "moved")

    with pytest.raises(UserError, match="run is gone, it was moved or deleted while its run went on"):
        training.run(toy_config(), tmp_path / "run", observer)
    training.run(toy_config(), tmp_path / "moved")
    assert_same(final_state(tmp_path / "moved", toy_config()), final_state(toy_whole[0], toy_config()))


@pytest.mark.parametrize("name", ["progress.csv", "scores.json", "tensorboard", "checkpoints"])
def test_a_file_in_the_place_of_a_folder_or_the_reverse_is_one_sentence(toy_whole, tmp_path, name):
    place = shutil.copytree(toy_whole[0], tmp_path / "run") / name
    if place.is_dir():
        shutil.rmtree(place)
        place.write_text("")
    else:
        place.unlink()
        place.mkdir()
    with pytest.raises(UserError, match=f"{name} (is damaged|cannot be written, there is a file)"):
        training.run(toy_config(), tmp_path / "run")
