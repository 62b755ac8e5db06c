"""Data from elsewhere: files of one's own, Minari's and OGBench's."""

import hashlib
import json
import os
import re

import gymnasium
import h5py
import numpy as np
import pytest

from bdpo_jax import settings, tasks, training
from bdpo_jax.data import custom, d4rl, inspect, spaces
from bdpo_jax.envs import contract, foreign
from bdpo_jax.errors import UserError
from bdpo_jax.training import values
from configs import custom as config_file

TINY = {
    "actor_widths": (8,), "value_widths": (8,), "ensemble_size": 2, "actor_samples": 2, "batch_size": 8,
    "pretrain_steps": 4, "train_steps": 5, "value_warmup_steps": 0, "log_every": 5, "eval_episodes": 2,
    "final_episodes": 0, "greedy_candidates": 2,
}  # fmt: skip


def pendulum_rows(rows=60, episode=20):
    random = np.random.default_rng(0)
    return {
        "observations": random.normal(size=(rows, 3)).astype(np.float32),
        "actions": random.uniform(-2, 2, (rows, 1)).astype(np.float32),
        "rewards": random.normal(size=rows),
        "terminals": np.zeros(rows, bool),
        "timeouts": np.arange(1, rows + 1) % episode == 0,
    }


def save(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for key, value in arrays.items():
                file[key] = value
    return str(path)


@pytest.mark.parametrize("name", ["own.npz", "own.hdf5"])
def test_a_file_of_ones_own_is_read_by_d4rls_rules(tmp_path, name):
    arrays = pendulum_rows()
    space = gymnasium.make("Pendulum-v1").action_space
    data = custom.load(save(tmp_path / name, arrays), "none", space)
    expected = d4rl.transitions({**arrays, "actions": arrays["actions"] / 2}, 1000)
    np.testing.assert_allclose(data.actions, expected.actions, atol=1.1e-5)
    np.testing.assert_array_equal(data.next_observations, expected.next_observations)
    returns = arrays["rewards"].reshape(3, 20).sum(axis=1)
    scaled = custom.load(str(tmp_path / name), "auto", space)
    np.testing.assert_allclose(scaled.rewards, data.rewards * 1000 / (returns.max() - returns.min()), rtol=1e-4)


def test_episodes_are_found_without_timeouts(tmp_path):
    """An episode that was cut off ends where the next row does not begin with its next observation."""
    arrays = pendulum_rows()
    arrays["actions"] /= 2
    with_timeouts = {**arrays, "next_observations": np.roll(arrays["observations"], -1, axis=0)}
    with_timeouts["next_observations"][19::20] += 1
    without = {key: value for key, value in with_timeouts.items() if key != "timeouts"}
    first = custom.load(save(tmp_path / "with.npz", with_timeouts))
    second = custom.load(save(tmp_path / "without.npz", without))
    np.testing.assert_array_equal(first.rewards, second.rewards)


def test_stored_next_observations_keep_every_row(tmp_path):
    arrays = pendulum_rows()
    arrays["next_observations"] = arrays["observations"] + 1
    arrays["actions"] /= 2
    data = custom.load(save(tmp_path / "own.npz", arrays), "none")
    assert data.size == 60
    np.testing.assert_array_equal(data.next_observations, arrays["observations"] + 1)


def test_a_terminal_that_also_timed_out_is_kept(tmp_path):
    """D4RL's rule would drop rows 19, 39 and 59: 60 - 3; each is terminal here and needs no next observation."""
    arrays = pendulum_rows() | {"terminals": pendulum_rows()["timeouts"]}
    arrays["actions"] /= 2
    data = custom.load(save(tmp_path / "own.npz", arrays), "none")
    assert data.size == 60
    np.testing.assert_array_equal(np.flatnonzero(data.terminals), [19, 39, 59])


def test_shuffled_rows_do_not_scale_rewards(tmp_path):
    arrays = pendulum_rows()
    arrays["actions"] /= 2
    arrays["next_observations"] = np.roll(arrays["observations"], -1, axis=0)
    arrays["next_observations"][19::20] += 1
    order = np.random.default_rng(0).permutation(60)
    for ends in ((), ("timeouts",)):  # whether or not a file says where its episodes end
        kept = {key: value[order] for key, value in arrays.items() if key != "timeouts" or ends}
        path = save(tmp_path / "own.npz", kept)
        with pytest.raises(UserError, match=r"of 5\d rows of .* as if the rows were shuffled"):
            custom.load(path)
        with pytest.warns(UserWarning, match="as if the rows were shuffled: what reads"):
            assert custom.load(path, "none").size == 60
        reading = custom.by_rules(custom.read(path), path)
        assert f"{reading.doubt}: put the rows in order" in inspect.facts(reading)["suspicious"]


def test_an_end_that_timeouts_miss_is_said(tmp_path):
    arrays = pendulum_rows()
    arrays["actions"] /= 2
    arrays["next_observations"] = np.roll(arrays["observations"], -1, axis=0)
    arrays["next_observations"][19::20] += 1
    path = save(tmp_path / "own.npz", arrays)
    assert not inspect.facts(custom.by_rules(custom.read(path), path))["suspicious"]
    path = save(tmp_path / "own.npz", arrays | {"timeouts": np.zeros(60, bool)})
    sentence = r"2 rows of .* end no episode, but the next row does not begin with their .* \(the first is row 19\)"
    with pytest.warns(UserWarning, match=sentence + ": tell in timeouts"):
        assert custom.load(path, "none").size == 60
    notes = inspect.facts(custom.by_rules(custom.read(path), path))["suspicious"]
    assert re.search(sentence, notes[0])


def test_a_spread_below_rounding_is_none_and_a_small_one_is_said(tmp_path):
    arrays = pendulum_rows()
    arrays["actions"] /= 2
    arrays["rewards"] = np.full(60, 0.1, np.float32)
    arrays["rewards"][5] = np.nextafter(np.float32(0.1), np.float32(1))  # returns differ by 7e-9: a factor of 1e11
    with pytest.raises(UserError, match="All 3 complete episodes of .* have the same return up to rounding"):
        custom.load(save(tmp_path / "own.npz", arrays))
    arrays["rewards"][5] = 1.1  # returns 2, 3, 2
    with pytest.warns(
        UserWarning, match=r"differ by 1 at most \(2 to 3\): reward_scaling='auto' multiplies rewards by 1000"
    ):
        data, scaling = custom.load_scaled(save(tmp_path / "own.npz", arrays))
    assert scaling.episodes == 3 and (scaling.lowest, scaling.highest) == pytest.approx((2, 3), rel=1e-6)
    np.testing.assert_allclose(data.rewards[5], 1100, rtol=1e-5)
    assert str(scaling).startswith("3 complete episodes, returns 2 to 3; rewards times 1000")


def test_scaled_rewards_are_checked(tmp_path):
    arrays = pendulum_rows()
    arrays["actions"] /= 2
    path = save(tmp_path / "own.npz", arrays)
    for factor, fault in ((1e39, "infinite"), (1e-60, "all zero")):
        with pytest.raises(UserError, match=f"are {fault} in float32; set reward_scaling"):
            custom.load(path, factor)


def test_a_run_on_ones_own_file_is_scored_in_ones_own_environment(tmp_path):
    config = config_file.get_config(save(tmp_path / "swing.npz", pendulum_rows()))
    settings.update(config, {**TINY, "env": "Pendulum-v1"})
    results = training.run(config, tmp_path / "run")
    assert results["task"] == "swing"
    for policy in ("policy", "behavior", "behavior_best_of"):
        scores = results["scores"][policy]
        assert list(scores["lengths"]) == [200, 200] and (np.array(scores["returns"]) < 0).all()
    assert results["headline"]["value"] == results["scores"]["policy"]["return"]


def test_without_an_environment_nothing_is_scored_and_the_run_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(values, "possible", lambda dataset, discount: values.Range(-1e-12, 0.0))  # left at once
    arrays = pendulum_rows()
    arrays["actions"] /= 2
    config = config_file.get_config(save(tmp_path / "swing.npz", arrays) + ",gaussian")
    settings.update(config, TINY)
    results = training.run(config, tmp_path / "run")
    assert "nothing was scored" in results["summary"] and results["scores"] == {}
    found = json.loads((tmp_path / "run" / "results.json").read_text("utf-8"))
    assert found["step"] == 9 and found["reward_scaling"]["episodes"] == 3
    checksum = hashlib.sha256((tmp_path / "swing.npz").read_bytes()).hexdigest()
    data = found["data"]  # of no file of D4RL's
    assert (data["file"], data["sha256"], data["d4rl_file"]) == ("swing.npz", checksum, None)
    assert len(data["arrays"]) == 64 and data["arrays"] != checksum
    captured = capsys.readouterr()
    assert "60 transitions" not in captured.out and "57 transitions (3 complete episodes, returns " in captured.out
    note, warning = found["warnings"]  # of the data, and of training
    assert "reward_scaling='auto' multiplies rewards by" in note
    assert warning.startswith("At update 9 q_mean is ") and captured.err.count(f"Warning: {warning}") == 1


def test_the_cited_policy_steps_its_environment_in_the_environments_own_units():
    env = custom.environment("Pendulum-v1")()
    assert env.action_space.low == -1 and env.action_space.high == 1
    env.reset(seed=0)
    bare = gymnasium.make("Pendulum-v1")
    bare.reset(seed=0)
    ours, theirs = env.step(np.array([0.5], np.float32)), bare.step(np.array([1.0], np.float32))
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6)


class Boxed(gymnasium.Env):
    """Tells the action that it was given."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)

    def __init__(self, space):
        self.action_space = space

    def step(self, action):
        return action, 0.0, False, False, {}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_actions_are_mapped_in_float64_whatever_the_boxs_dtype(dtype):
    """The sum of the bounds, 90,000, and their distance, 30,000, exceed what the smallest dtype holds, 65,504."""
    space = gymnasium.spaces.Box(30_000, 60_000, (1,), dtype)
    env = foreign.Fitted(Boxed(space))
    given = [env.step(np.array([action], np.float32))[0] for action in (-1, 0, 1)]
    np.testing.assert_allclose(np.ravel(given), [30_000, 45_000, 60_000], rtol=1e-3)
    back = spaces.unit_actions(np.array([[30_000.0], [45_000.0], [60_000.0]], np.float32), space)
    np.testing.assert_allclose(back, [[-1], [0], [1]], atol=2e-3)


def test_float32_actions_on_the_bounds_of_their_box_are_in_it(recwarn):
    """Float32's 100.3 lies above the bound, by 8e-8 of it, which is 3e-5 of half the box."""
    raw = pendulum_rows() | {"actions": np.tile(np.float32([100.1, 100.3]), 30)[:, None]}
    reading = custom.by_rules(raw, "own.npz", gymnasium.spaces.Box(100.1, 100.3, (1,), np.float64))
    assert np.abs(reading.raw["actions"]).max() <= 1 and not recwarn.list


def test_actions_outside_their_box_are_told_in_their_own_units():
    raw = pendulum_rows()
    raw["actions"][7] = 3.5
    with pytest.warns(
        UserWarning, match=r"1 of 57 .* outside their box \(column 0 has 3.5, its bounds are -2 and 2\); they"
    ):
        custom.by_rules(raw, "own.npz", gymnasium.spaces.Box(-2, 2, (1,)))


@pytest.mark.parametrize(
    ("low", "high", "dtype", "sentence"),
    [
        (0, 10, np.int64, "whole numbers"),
        (0, 255, np.uint8, "whole numbers"),
        (-3.4e38, 3.4e38, np.float32, "finite in name only"),
        (-1e10, 1e10, np.float64, "finite in name only"),
        (-65504, 65504, np.float16, "finite in name only"),
        (1, 1 + 1e-6, np.float64, "narrower than float32"),
        (0, np.inf, np.float32, "not a finite box"),
    ],
)
def test_boxes_that_mean_nothing_are_refused(low, high, dtype, sentence):
    space = gymnasium.spaces.Box(low, high, (1,), dtype)
    with pytest.raises(UserError, match=sentence):
        foreign.Fitted(Boxed(space))
    with pytest.raises(UserError, match=sentence):
        spaces.unit_actions(np.zeros((3, 1), np.float32), space)


class Endless(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (3,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))


def test_bad_files_and_environments_are_one_sentence(tmp_path):
    arrays = pendulum_rows()
    arrays["actions"] /= 2
    with pytest.raises(UserError, match="set dataset_path"):
        tasks.make(config_file.get_config())
    missing = {key: value for key, value in arrays.items() if key != "timeouts"}
    with pytest.raises(UserError, match="neither timeouts nor next_observations"):
        custom.load(save(tmp_path / "a.npz", missing))
    with pytest.raises(UserError, match="lacks the key rewards"):
        custom.load(save(tmp_path / "b.npz", {key: value for key, value in arrays.items() if key != "rewards"}))
    (tmp_path / "c.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:200])
    with pytest.raises(UserError, match="not a readable npz file"):
        custom.load(str(tmp_path / "c.npz"))
    with pytest.raises(UserError, match="environment 'Pendulam-v1' cannot be made, NameNotFound"):
        contract.trial(custom.environment("Pendulam-v1"), 0)
    gymnasium.register("bdpo-tests/Endless-v0", Endless)
    with pytest.raises(UserError, match="'bdpo-tests/Endless-v0' has no step limit"):
        contract.trial(custom.environment("bdpo-tests/Endless-v0"), 0)
    with pytest.raises(UserError, match="not a finite box"):
        contract.trial(custom.environment("CartPole-v1"), 0)
    with pytest.raises(UserError, match="observations and next_observations of .* have different widths, 3 and 4"):
        custom.load(save(tmp_path / "next.npz", {**arrays, "next_observations": np.ones((60, 4))}))
    config = config_file.get_config(save(tmp_path / "wide.npz", {**arrays, "observations": np.ones((60, 4))}))
    config.env = "Pendulum-v1"
    with pytest.raises(UserError, match="4 wide, those of Pendulum-v1 3"):
        tasks.make(config)


def test_names_of_configs():
    config = config_file.get_config("minari:mujoco/hopper/medium-v0,quick")
    assert (config.family, config.task, config.ensemble_size) == ("minari", "mujoco/hopper/medium-v0", 4)
    config = config_file.get_config("ogbench:antmaze-large-navigate-singletask-task1-v0")
    assert (config.family, config.max_q_backup) == ("ogbench", True)
    config = config_file.get_config("folder/mine.hdf5")
    assert (config.family, config.task, config.dataset_path) == ("file", "mine", "folder/mine.hdf5")
    assert config_file.get_config(os.fsdecode(b"m\xffne.npz")).task == "m\\udcffne"  # titles must be text


@pytest.fixture
def minari_folder(tmp_path, monkeypatch):
    pytest.importorskip("minari", reason="the extra minari is not installed")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    from bdpo_jax.data import minari

    minari._dataset.cache_clear()
    yield tmp_path
    minari._dataset.cache_clear()


@pytest.mark.filterwarnings("ignore")
def test_a_dataset_of_minaris_own_writer(minari_folder):
    import minari as package

    from bdpo_jax.data import minari

    collector = package.DataCollector(gymnasium.make("Pendulum-v1", max_episode_steps=30))
    collector.action_space.seed(0)
    seen = []
    for seed in range(3):
        observation, _ = collector.reset(seed=seed)
        done = False
        while not done:
            action = collector.action_space.sample()
            following, reward, terminated, truncated, _ = collector.step(action)
            seen.append((observation, action, reward, following))
            observation, done = following, terminated or truncated
    collector.create_dataset("tests/pendulum-v0", eval_env="Pendulum-v1")

    data = minari.load("tests/pendulum-v0", "none")
    observations, actions, rewards, following = (np.array(column) for column in zip(*seen, strict=True))
    assert data.size == 90 and not data.terminals.any()
    np.testing.assert_allclose(data.observations, observations, rtol=1e-6)
    np.testing.assert_allclose(data.next_observations, following, rtol=1e-6)
    np.testing.assert_allclose(data.actions, actions / 2, atol=2e-5)
    np.testing.assert_allclose(data.rewards, rewards, rtol=1e-6)
    config = config_file.get_config("minari:tests/pendulum-v0")
    settings.update(config, TINY)
    results = training.run(config, minari_folder / "run")
    assert list(results["scores"]["policy"]["lengths"]) == [200, 200]


def test_a_missing_minari_dataset_is_one_sentence(minari_folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from bdpo_jax.data import minari

    with pytest.raises(UserError, match="minari download no/such-v0"):
        minari.load("no/such-v0")


@pytest.fixture
def ogbench_file(tmp_path):
    """Two trajectories of five states in the layout of OGBench's files."""
    pytest.importorskip("ogbench", reason="the extra ogbench is not installed")
    random = np.random.default_rng(0)
    arrays = {
        "observations": random.normal(size=(10, 29)).astype(np.float32),
        "actions": random.uniform(-1, 1, (10, 8)).astype(np.float32),
        "terminals": np.array([0, 0, 0, 0, 1] * 2, bool),
        "qpos": random.normal(size=(10, 15)).astype(np.float32),
        "qvel": random.normal(size=(10, 14)).astype(np.float32),
    }
    for name in ("maze.npz", "maze-val.npz"):
        np.savez(tmp_path / name, **arrays)
    return tmp_path / "maze.npz", arrays


@pytest.mark.filterwarnings("ignore")
def test_a_file_in_ogbenchs_layout(ogbench_file):
    from bdpo_jax.data import ogbench

    path, arrays = ogbench_file
    name = "antmaze-medium-navigate-singletask-task1-v0"
    data = ogbench.load(name, str(path))
    rows = [0, 1, 2, 3, 5, 6, 7, 8]
    np.testing.assert_array_equal(data.observations, arrays["observations"][rows])
    np.testing.assert_array_equal(data.next_observations, arrays["observations"][[row + 1 for row in rows]])
    np.testing.assert_array_equal(data.rewards, -np.ones(8))
    np.testing.assert_array_equal(data.terminals, np.zeros(8))
    make = ogbench.environment(name)
    env, other = make(), make()
    observation, _ = env.reset(seed=0)
    assert observation.shape == (29,) and env.action_space.shape == (8,)
    # Its starts have noise of NumPy's global generator: a seed fixes them all the same.
    np.testing.assert_array_equal(other.reset(seed=0)[0], observation)
    assert (other.reset(seed=1)[0] != observation).any()
    other.close()
    assert make() is other
    assert "success" in env.step(env.action_space.sample())[4]


def test_ogbench_tasks_without_rewards_are_refused(ogbench_file):
    from bdpo_jax.data import ogbench

    with pytest.raises(UserError, match="single-task form"):
        ogbench.load("antmaze-medium-navigate-v0", str(ogbench_file[0]))
    with pytest.raises(UserError, match="OGBench cannot load"):
        ogbench.load("antmaze-medium-navigate-singletask-task1-v0", "/nowhere/maze.npz")
