"""Whole runs, tiny: phases, resuming bit for bit, stopping, refusing."""

import csv
import json
import os
import signal
import threading

import jax
import numpy as np
import pytest

from bdpo_jax import chunks, devices, load_policy, loop, score, suites, training
from bdpo_jax.background import Evaluator
from bdpo_jax.checkpoint import Checkpointer
from bdpo_jax.types import UserError
from configs import pointmass

TINY = {
    "actor_widths": (8,),
    "value_widths": (8,),
    "ensemble_size": 2,
    "batch_size": 16,
    "actor_samples": 2,
    "diffusion_steps": 3,
    "greedy_candidates": 2,
    "dataset_size": 20,
    "pretrain_steps": 7,
    "train_steps": 23,
    "value_warmup_steps": 4,
    "evaluate_every": 11,
    "eval_episodes": 3,
    "log_every": 7,
    "actor_update_interval": 3,
    "checkpoint_every": 9,
}


def tiny(**changes):
    config = pointmass.get_config()
    config.update({**TINY, **changes})
    return config


def final_state(workdir, config):
    """The leaves of the last checkpoint."""
    run = loop.Run(config, workdir, suites.make(config))
    with Checkpointer(workdir / "checkpoints", read_only=True) as checkpoints:
        state, _ = checkpoints.restore(run.state)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def assert_same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def rows(workdir):
    with open(workdir / "progress.csv") as file:
        return list(csv.DictReader(file))


def logged(workdir):
    """What the rows say, but for the time: (update, losses, scores)."""
    names = ("step", "behavior_loss", "q_loss", "v_loss", "actor_loss", "eval/behavior/return", "eval/bdpo/return")
    return [tuple(row[name] for name in names) for row in rows(workdir)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, training.run(tiny(), workdir)


def test_a_run_leaves_results_progress_and_a_policy(whole):
    workdir, results = whole
    assert json.loads((workdir / "results.json").read_text())["step"] == 30 == results["step"]
    assert len(results["scores"]["bdpo"]["returns"]) == 3
    assert {"bdpo", "behavior", "behavior_best_of"} == results["scores"].keys()
    logged = rows(workdir)
    steps = [int(row["step"]) for row in logged]
    # warm-up ends at 7 + 4; logs at 7 + 7k, checkpoints at 7 + 9k, evaluations at 7 + 11k, and the ends
    assert sorted(set(steps)) == [7, 11, 14, 16, 18, 21, 25, 28, 29, 30]
    assert any(row["eval/behavior/return"] for row in logged)
    policy = load_policy(workdir)
    single, batch = policy(np.zeros(2)), policy(np.zeros((5, 2)))
    assert single.shape == (2,) and batch.shape == (5, 2)
    assert np.all(np.abs(batch) <= 1)


def test_the_score_command(whole, capsys, tmp_path):
    workdir, _ = whole
    score.main([str(workdir), "--episodes", "3", "--seed", "5"])
    first = capsys.readouterr().out
    score.main([str(workdir), "--episodes", "3", "--seed", "5", "--policy", "behavior", "--candidates", "1"])
    second = capsys.readouterr().out
    for text, name in ((first, "actor"), (second, "behavior")):
        assert text.startswith(f"{name} of {workdir} in pointmass, 3 episodes, seed 5\nreturn -")
        assert "success" in text and "ms per environment step" in text
    assert first.splitlines()[1] != second.splitlines()[1]
    with pytest.raises(SystemExit, match=f"Error: .*{tmp_path}"):
        score.main([str(tmp_path)])


def test_data_on_the_host_give_the_same_run(whole, tmp_path, capsys, monkeypatch):
    """Also where it is stopped and goes on, and "auto" is the host where the device's memory is small."""
    config = tiny(dataset_memory="host")
    with monkeypatch.context() as patch, pytest.raises(training.Stopped):
        StopAfter(patch, 21)
        training.run(config, tmp_path)
    assert (
        " MB, which stay on the host: at most 0.0 MB of batches at a time on the device; state"
        in capsys.readouterr().out
    )
    data = suites.make(config).dataset
    bytes_of_data = sum(leaf.nbytes for leaf in jax.tree.leaves(data))
    for memory, stays in ((None, False), (2 * bytes_of_data, False), (2 * bytes_of_data - 1, True)):
        monkeypatch.setattr(devices, "memory", lambda memory=memory: memory)
        assert bool(loop.Run(tiny(), tmp_path, suites.make(config)).gatherer) is stays
    training.run(tiny(), tmp_path)  # with the last of these memories
    assert_same(final_state(whole[0], tiny()), final_state(tmp_path, config))
    assert sorted(logged(tmp_path)) == sorted(logged(whole[0]))


class StopAfter:
    """In the place of the signal check: stops once `updates` are done."""

    def __init__(self, monkeypatch, updates):
        original = loop.Run.write

        def write(run, *inputs):
            found = original(run, *inputs)
            if run.done >= updates:
                os.kill(os.getpid(), signal.SIGTERM)
            return found

        monkeypatch.setattr(loop.Run, "write", write)


@pytest.mark.parametrize("updates", [7, 11, 21])
def test_a_stopped_run_goes_on_bit_for_bit(whole, tmp_path, monkeypatch, updates):
    with monkeypatch.context() as patch, pytest.raises(training.Stopped) as stopped:
        StopAfter(patch, updates)
        training.run(tiny(), tmp_path)
    assert stopped.value.code == 143
    results = training.run(tiny(), tmp_path)
    assert_same(final_state(tmp_path, tiny()), final_state(whole[0], tiny()))
    assert results["scores"]["bdpo"]["returns"] == whole[1]["scores"]["bdpo"]["returns"]
    assert sorted(logged(tmp_path)) == sorted(logged(whole[0]))


@pytest.mark.parametrize("scored_before", [False, True])
def test_an_evaluation_cut_short_by_a_stop_is_begun_again(whole, tmp_path, monkeypatch, scored_before):
    """The evaluation after update 18 only begins to run when the stop at update 21 ends it.

    Also where a process that was killed later had scored the same update: its row is gone with the rows after the
    checkpoint.
    """
    if scored_before:
        with monkeypatch.context() as patch, pytest.raises(training.Stopped):
            StopAfter(patch, 14)
            patch.setattr(Evaluator, "finished", lambda evaluator: evaluator.step is not None)  # so that it is taken
            training.run(tiny(), tmp_path)
        lost = {"step": 18, "policies": ["bdpo"], "episodes": 3, "scores": {}}
        (tmp_path / "scores.json").write_text(json.dumps(lost))
    original, stop = suites.PointMass.evaluate, threading.Event()

    def evaluate(suite, state, key, policies, episodes, before_step):
        if policies == ["bdpo"]:
            stop.wait(60)
        return original(suite, state, key, policies, episodes, before_step)

    def saved(run):
        original_save(run)
        if run.done >= 21:
            stop.set()

    original_save = loop.Run.save
    with monkeypatch.context() as patch, pytest.raises(training.Stopped):
        StopAfter(patch, 21)
        patch.setattr(suites.PointMass, "evaluate", evaluate)
        patch.setattr(loop.Run, "save", saved)
        training.run(tiny(), tmp_path)
    assert not any(row["step"] == "18" and row.get("eval/bdpo/return") for row in rows(tmp_path))
    training.run(tiny(), tmp_path)
    assert_same(final_state(tmp_path, tiny()), final_state(whole[0], tiny()))
    assert sorted(logged(tmp_path)) == sorted(logged(whole[0]))


def test_training_goes_on_while_the_policy_is_scored(whole, tmp_path, monkeypatch):
    """Scores that come late are logged under their update, and are those of its policy."""
    original, last = suites.PointMass.evaluate, threading.Event()

    def evaluate(suite, state, key, policies, episodes, before_step):
        if policies == ["bdpo"]:
            assert last.wait(60), "training waits for an evaluation"
        return original(suite, state, key, policies, episodes, before_step)

    def write(run, *inputs):
        original_write(run, *inputs)
        if run.done == 28:
            last.set()

    original_write = loop.Run.write
    monkeypatch.setattr(suites.PointMass, "evaluate", evaluate)
    monkeypatch.setattr(loop.Run, "write", write)
    results = training.run(tiny(), tmp_path)
    assert logged(tmp_path) != logged(whole[0]), "the scores came as early as ever"
    assert sorted(logged(tmp_path)) == sorted(logged(whole[0]))
    assert results["seconds"]["waiting"] < results["seconds"]["evaluation"]


def test_an_error_in_an_evaluation_ends_the_run(tmp_path, monkeypatch):
    def evaluate(*_):
        raise UserError("the policy is ill")

    monkeypatch.setattr(suites.PointMass, "evaluate", evaluate)
    with pytest.raises(UserError, match="is ill"):
        training.run(tiny(), tmp_path)


def test_a_killed_run_goes_on_from_its_last_checkpoint(whole, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def write(run, *inputs):
        original(run, *inputs)
        if run.done >= 21:
            raise Killed

    original = loop.Run.write
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop.Run, "write", write)
        training.run(tiny(), tmp_path)
    training.run(tiny(), tmp_path)
    assert_same(final_state(tmp_path, tiny()), final_state(whole[0], tiny()))


def test_a_finished_run_can_be_extended_and_repeated(whole, tmp_path):
    steady = {"actor_decay_steps": 100, "value_decay_steps": 100}
    training.run(tiny(train_steps=10, **steady), tmp_path / "a")
    training.run(tiny(train_steps=16, log_every=4, **steady), tmp_path / "a")
    again = training.run(tiny(train_steps=16, log_every=4, **steady), tmp_path / "a")
    assert again["step"] == 23
    training.run(tiny(train_steps=16, **steady), tmp_path / "b")
    states = [final_state(tmp_path / name, tiny(train_steps=16, **steady)) for name in "ab"]
    for a, b in zip(*states, strict=True):  # other stretches are other programs: equal to rounding
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_a_finished_run_is_not_scored_again_unless_asked_otherwise(whole, tmp_path, monkeypatch):
    config = {"train_steps": 6, "checkpoint_every": 6, "evaluate_every": 6, "log_every": 6}
    training.run(tiny(**config), tmp_path)
    before = logged(tmp_path)
    original, asked = suites.PointMass.evaluate, []

    def evaluate(suite, state, key, policies, episodes, before_step):
        asked.append((policies, episodes))
        return original(suite, state, key, policies, episodes, before_step)

    monkeypatch.setattr(suites.PointMass, "evaluate", evaluate)
    training.run(tiny(**config), tmp_path)
    assert asked == [] and logged(tmp_path) == before
    results = training.run(tiny(**config, final_episodes=5), tmp_path)
    assert asked == [(["bdpo", "behavior", "behavior_best_of"], 5)]
    assert len(results["scores"]["bdpo"]["returns"]) == 5


def test_a_refused_continuation_leaves_everything_as_it_was(tmp_path):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(training.Stopped):
        StopAfter(patch, 7)
        training.run(tiny(pretrain_steps=9), tmp_path)
    config = (tmp_path / "config.json").read_text()
    with pytest.raises(UserError, match="pretrain_steps=5"):
        training.run(tiny(pretrain_steps=5), tmp_path)
    assert (tmp_path / "config.json").read_text() == config


def test_an_extended_run_goes_on_learning():
    """-1 lets the actor's learning rate end at nothing with the budget, whatever that is."""
    state = loop.Hyper.from_config(tiny(actor_decay_steps=-1, train_steps=30))
    longer = loop.Hyper.from_config(tiny(actor_decay_steps=-1, train_steps=60))
    assert (float(state.actor_decay_steps), float(longer.actor_decay_steps)) == (10.0, 20.0)


def test_parameters_that_are_no_numbers_end_a_run_before_they_are_saved(tmp_path, monkeypatch):
    """Also where the losses before the last update were well."""
    original = chunks.train

    def broken(state, *inputs):
        state, collected = original(state, *inputs)
        spoiled = jax.tree.map(lambda x: x * np.nan, state.actor.params)
        return state.replace(actor=state.actor.replace(params=spoiled)), [
            part | {"finite": part["finite"] & False} for part in collected
        ]

    monkeypatch.setattr(chunks, "train", broken)
    with pytest.raises(
        training.NonFinite, match="a network's parameter became non-finite at update 11.*is of update 7"
    ):
        training.run(tiny(checkpoint_every=7), tmp_path)
    with Checkpointer(tmp_path / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.steps() == [7]


def test_another_run_is_refused(whole, tmp_path):
    with pytest.raises(UserError, match="eta"):
        training.run(tiny(eta=5.0), whole[0])
    training.run(tiny(train_steps=0), tmp_path)
    training.run(tiny(), tmp_path)
    with pytest.raises(UserError, match="pretrain_steps=9"):
        training.run(tiny(pretrain_steps=9), tmp_path)


def test_a_non_finite_loss_names_term_and_update_and_saves(tmp_path, monkeypatch):
    original = chunks.train

    def broken(state, *inputs):
        q = state.q.replace(params=jax.tree.map(lambda x: x * np.nan, state.q.params))
        return original(state.replace(q=q), *inputs)

    monkeypatch.setattr(chunks, "train", broken)
    with pytest.raises(training.NonFinite, match="q_loss became non-finite at update 8"):
        training.run(tiny(), tmp_path)
    assert (tmp_path / "nonfinite").is_dir()


def test_a_non_finite_actor_is_found_though_the_critics_are_well(tmp_path, monkeypatch):
    original = chunks.train

    def broken(state, *inputs):
        state, collected = original(state, *inputs)
        for metrics in collected:
            if "actor_loss" in metrics:
                metrics["actor_loss"] = metrics["actor_loss"] * np.nan
        return state, collected

    monkeypatch.setattr(chunks, "train", broken)
    # After 7 pre-training and 4 warm-up updates, the first multiple of 3 is training update 6.
    with pytest.raises(training.NonFinite, match="actor_loss became non-finite at update 13"):
        training.run(tiny(), tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("eta", -1.0),
        ("batch_size", 2),
        ("aggregation", "median"),
        ("discount", 1.5),
        ("task", "pointmas"),
        ("seeds", (1, 1)),
        ("seeds", ("a",)),
        ("seeds", (-1,)),
        ("seed", -1),
        ("dtype", "float16"),
        ("env", "Pendulum-v1"),
        ("members_at_once", -1),
    ],
)
def test_values_that_make_no_sense_are_named(tmp_path, key, value):
    with pytest.raises(UserError, match=str(value) if key == "task" else key):
        training.run(tiny(**{key: value}), tmp_path)


def test_swept_values_that_make_no_sense_are_named(tmp_path):
    config = tiny()
    config.sweep.eta = (0.1, -1.0)
    with pytest.raises(UserError, match=r"config\.sweep\.eta is \(0\.1, -1\.0\)"):
        training.run(config, tmp_path)
    config.sweep.eta = ()
    config.sweep.discount = (0.9, 1.5)
    with pytest.raises(UserError, match="discount is 1.5"):
        training.run(config, tmp_path)
    config.sweep.discount = (0.9999999, 1.0)
    with pytest.raises(UserError, match="Two members would be named seed0-discount1"):
        training.run(config, tmp_path)
