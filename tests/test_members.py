"""Members of a group against their own single runs."""

import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_training import TINY, assert_same, final_state, logged, tiny

from bdpo_jax import chunks, load_policy, loop, members, suites, training
from bdpo_jax.types import UserError

SHORT = {**TINY, "train_steps": 12, "eval_episodes": 2}
GROUP = {"seeds": (0, 3), "sweep.eta": (0.1, 5.0)}
NAMES = ["seed0-eta0.1", "seed0-eta5", "seed3-eta0.1", "seed3-eta5"]

pytestmark = pytest.mark.usefixtures("no_pictures")


def group(**changes):
    config = tiny(**SHORT)
    config.update_from_flattened_dict({**GROUP, **changes})
    return config


@pytest.fixture(scope="module")
def whole(no_pictures, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("group")
    return workdir, training.run(group(), workdir)


def test_members_are_every_seed_with_every_value():
    configs = members.expand(group())
    assert list(configs) == NAMES
    assert [(c.seed, c.eta, c.dataset_seed) for c in configs.values()] == [
        (0, 0.1, 0), (0, 5.0, 0), (3, 0.1, 0), (3, 5.0, 0)
    ]  # fmt: skip
    assert all(members.expand(config) == {} for config in configs.values()), "a member is a single run"


def test_a_member_equals_its_single_run_bit_for_bit(whole, tmp_path):
    workdir, results = whole
    assert list(results["members"]) == NAMES
    config = members.expand(group())["seed3-eta5"]
    alone = training.run(config, tmp_path)
    assert_same(final_state(workdir / "seed3-eta5", config), final_state(tmp_path, config))
    scores = json.loads((workdir / "seed3-eta5" / "results.json").read_text())["scores"]["bdpo"]["returns"]
    assert scores == alone["scores"]["bdpo"]["returns"]
    assert sorted(logged(workdir / "seed3-eta5")) == sorted(logged(tmp_path))
    assert load_policy(workdir / "seed3-eta5")(np.zeros(2)).shape == (2,)


def test_a_group_says_what_its_seeds_come_to(whole):
    workdir, results = whole
    found = json.loads((workdir / "results.json").read_text())
    assert found["metric"] == "return" and found["picture"] == str(workdir / "sweep.png")
    assert (workdir / "sweep.png").read_bytes()[:4] == b"\x89PNG"
    numbers = {name: found["members"][name]["bdpo_return"] for name in NAMES}
    assert [(row["values"], row["seeds"], row["numbers"]) for row in found["aggregate"]] == [
        ({"eta": eta}, [0, 3], [numbers[f"seed0-eta{eta:g}"], numbers[f"seed3-eta{eta:g}"]]) for eta in (0.1, 5.0)
    ]
    assert results["summary"].count("\n  eta=") == 2


def test_one_vmapped_program_gives_each_members_numbers(tmp_path):
    """To rounding: a batched product sums in another order, and a few updates do not amplify that much."""
    runs = [loop.Run(config, tmp_path, suites.make(config)) for config in list(members.expand(group()).values())[1:3]]
    keys = jnp.stack([run.key for run in runs])
    for phase, length, start in (("pretrain", 3, 0), ("train", 6, 4)):  # ragged ends and whole cycles
        for run in runs:
            run.done = start and run.config.pretrain_steps + start
            run.state = run.state.replace(step=jnp.int32(start))
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(run.state for run in runs))
        stacked, metrics = loop.run_stretch(runs[0], phase, length, stacked, keys, members=True)
        for i, run in enumerate(runs):
            run.state, expected = loop.run_stretch(run, phase, length, run.state, run.key)
            for a, b in zip(jax.tree.leaves(stacked), jax.tree.leaves(run.state), strict=True):
                np.testing.assert_allclose(a[i], b, rtol=1e-3, atol=1e-4)
            assert [sorted(part) for part in metrics] == [sorted(part) for part in expected]
            for part, single in zip(metrics, expected, strict=True):
                for name in single.keys() & {"behavior_loss", "q_loss", "v_loss"}:
                    np.testing.assert_allclose(part[name][i], single[name], rtol=1e-3)


def test_a_group_killed_between_two_members_checkpoints_goes_on(whole, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    original, saves = loop.Run.save, []

    def save(run):
        original(run)
        saves.append(run.done)
        if saves.count(16) == 2:  # two of the four
            run.checkpoints.wait()
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop.Run, "save", save)
        training.run(group(), tmp_path)

    def write(run, *inputs):  # and stopped before it has caught up
        found = original_write(run, *inputs)
        if run.done == 11:
            os.kill(os.getpid(), signal.SIGTERM)
        return found

    original_write = loop.Run.write
    with monkeypatch.context() as patch, pytest.raises(training.Stopped):
        patch.setattr(loop.Run, "write", write)
        training.run(group(), tmp_path)
    training.run(group(), tmp_path)
    for name, config in members.expand(group()).items():
        assert_same(final_state(tmp_path / name, config), final_state(whole[0] / name, config))
        assert sorted(logged(tmp_path / name)) == sorted(logged(whole[0] / name))


def test_finished_members_are_not_trained_again(whole, tmp_path, monkeypatch):
    """Of members that took turns in waves, one killed in the last must not cost the others their results."""

    class Killed(BaseException):
        pass

    def write(run, *inputs):
        if run.path.name == "seed3-eta5":
            raise Killed
        return original(run, *inputs)

    def watched(run, *inputs):
        trained.append(run.path.name)
        return original(run, *inputs)

    original, trained = loop.Run.write, []
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop.Run, "write", write)
        training.run(group(members_at_once=1), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, "write", watched)
        training.run(group(), tmp_path)
    assert set(trained) == {"seed3-eta5"}
    config = members.expand(group())["seed3-eta5"]
    assert_same(final_state(tmp_path / "seed3-eta5", config), final_state(whole[0] / "seed3-eta5", config))


def test_a_stopped_group_goes_on(whole, tmp_path, monkeypatch):
    original = loop.Run.write

    def write(run, *inputs):
        found = original(run, *inputs)
        if run.done >= 11:
            os.kill(os.getpid(), signal.SIGTERM)
        return found

    with monkeypatch.context() as patch, pytest.raises(training.Stopped):
        patch.setattr(loop.Run, "write", write)
        training.run(group(), tmp_path)
    training.run(group(), tmp_path)
    config = members.expand(group())["seed0-eta5"]
    assert_same(final_state(tmp_path / "seed0-eta5", config), final_state(whole[0] / "seed0-eta5", config))


def test_a_broken_member_stops_alone(whole, tmp_path, monkeypatch, capsys):
    original = chunks.train

    def broken(state, *inputs):
        spoiled = float(state.hyper.eta) == 5.0
        q = state.q.replace(params=jax.tree.map(lambda x: x * np.nan if spoiled else x, state.q.params))
        return original(state.replace(q=q), *inputs)

    config = group(**{"seeds": (0,), "dataset_memory": "host"})
    with monkeypatch.context() as patch, pytest.raises(training.NonFinite, match="member seed0-eta5: q_loss became"):
        patch.setattr(chunks, "train", broken)
        training.run(config, tmp_path)
    assert "Member seed0-eta5 stops here" in capsys.readouterr().err
    good = members.expand(config)["seed0-eta0.1"]
    assert_same(final_state(tmp_path / "seed0-eta0.1", good), final_state(whole[0] / "seed0-eta0.1", good))
    found = json.loads((tmp_path / "results.json").read_text())
    assert list(found["members"]) == ["seed0-eta0.1"] and list(found["broken"]) == ["seed0-eta5"]
    assert [row["seeds"] for row in found["aggregate"]] == [[0], []]
    with pytest.raises(training.NonFinite, match="see .*nonfinite"):
        training.run(config, tmp_path)


def test_waves_give_the_same(whole, tmp_path):
    results = training.run(group(members_at_once=3), tmp_path)
    assert list(results["members"]) == NAMES
    for name, config in members.expand(group()).items():
        assert_same(final_state(tmp_path / name, config), final_state(whole[0] / name, config))


def test_a_mistake_in_the_task_leaves_no_directories(tmp_path):
    with pytest.raises(UserError, match="pointmas"):
        training.run(group(task="pointmas"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_groups_directory_names_its_members(whole):
    with pytest.raises(UserError, match="holds several runs: name one of seed0-eta0.1, seed0-eta5"):
        load_policy(whole[0])


def test_a_group_is_no_single_run(whole):
    with pytest.raises(UserError, match="seeds"):
        training.run(tiny(**SHORT), whole[0])
