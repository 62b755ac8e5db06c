"""Facts about datasets whose facts are known."""

import hashlib
import importlib
import os

import gymnasium
import h5py
import numpy as np
import pytest

from bdpo_jax import plotting, tasks
from bdpo_jax.data import d4rl, inspect
from configs import antmaze, custom, locomotion


def walk(episodes=6, length=20, width=3):
    """Random walks with small steps, each from its own start, the last cut by the file's end."""
    random = np.random.default_rng(0)
    size = episodes * length - 5
    starts = np.repeat(random.normal(scale=50, size=(episodes, width)), length, axis=0)
    steps = random.normal(scale=0.1, size=(episodes, length, width)).cumsum(axis=1).reshape(-1, width)
    return {
        "observations": (starts + steps)[:size].astype(np.float32),
        "actions": random.uniform(-0.9, 0.9, (size, 2)).astype(np.float32),
        "rewards": random.uniform(size=size).astype(np.float32),
        "terminals": np.zeros(size, bool),
        "timeouts": (np.arange(1, size + 1) % length == 0),
    }


def facts(raw, task="hopper-medium-v2"):
    return inspect.facts(d4rl.by_rules(raw, task), d4rl.TASKS[task].family)


def test_counts():
    raw = walk()
    raw["actions"][:10, 0] = 1
    found = facts(raw)
    assert (found["rows"], found["transitions"], found["timeouts"], found["terminals"]) == (115, 109, 5, 0)
    np.testing.assert_array_equal(found["lengths"], [20] * 5)
    np.testing.assert_allclose(found["returns"][0], raw["rewards"][:20].sum(), rtol=1e-6)
    assert found["saturated"] == pytest.approx(10 / 230) and found["outside"] == 0
    assert found["suspicious"] == []


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda raw: raw.update(rewards=np.ones(115, np.float32)), "all rewards are 1"),
        (lambda raw: raw["actions"].__setitem__((3, 0), 1.5), "0.87% of the rows have actions outside"),
        (lambda raw: raw.pop("timeouts"), "no key timeouts"),
        (
            lambda raw: raw["observations"].__setitem__((slice(None), 1), -1001),
            "1 columns of the observations are large, the first is column 1 (up to 1001): networks want",
        ),
        (lambda raw: raw["terminals"].__setitem__(19, True), "1 rows are terminal and timed out"),
        (lambda raw: raw["timeouts"].__setitem__(39, False), "1 steps inside episodes"),
        (lambda raw: [raw[key].__setitem__(5, raw[key][4]) for key in ("observations", "actions")], "1 rows repeat"),
    ],
)
def test_what_is_suspicious(spoil, sentence):
    raw = walk()
    spoil(raw)
    assert any(sentence in note for note in facts(raw)["suspicious"])


def test_the_spread_of_actions_is_that_in_like_states():
    """Actions follow the state with noise of .1, so that they spread by .1 in like states but by .58 over all.

    The states of 20 neighbours among 4000 on a line of length 2 differ by about .01. The last kernel's variance is
    1 - exp(-.1 / N - 9.9 / (2 N^2)): .0104 at N = 27, .0098 at 28; the noise's .01 lies between.
    """
    random = np.random.default_rng(0)
    raw = walk(episodes=201)
    states = random.uniform(-1, 1, (len(raw["rewards"]), 1)).astype(np.float32)
    raw["observations"] = states
    raw["actions"] = (states + 0.1 * random.normal(size=states.shape)).astype(np.float32)
    found = facts(raw)
    assert found["spread"] == pytest.approx(0.1, rel=0.05)
    printed = inspect.report("walk", found | {"spread": 0.1}, None)
    assert "last kernel is that narrow from 28 steps on (0.44 with 5)" in printed


def test_a_robot_that_rests_and_then_moves_is_not_suspicious():
    """A swing of 100 steps from rest, as in a swing-up's log: its steps are far above the median, none is alone."""
    raw = walk(episodes=21)
    size = len(raw["rewards"])
    time = np.clip(np.arange(size) - 250, 0, 100) / 100
    raw["observations"] = 1e-5 * raw["observations"] % 1e-5 + (10 * np.sin(np.pi * time / 2) ** 2)[:, None]
    raw["observations"] = raw["observations"].astype(np.float32)
    raw["timeouts"][:-1] = False
    leaps = np.linalg.norm(np.diff(raw["observations"], axis=0), axis=1)
    assert (leaps > inspect.JUMP * np.median(leaps)).sum() > 50
    assert not [note for note in facts(raw)["suspicious"] if "median" in note]


def test_the_origin_of_a_file_is_told_by_its_bytes(tmp_path, monkeypatch):
    path = tmp_path / "hopper_medium-v2.hdf5"
    path.write_bytes(b"observations")
    assert inspect.origin(path) == (
        "it is not D4RL's hopper_medium-v2.hdf5: that has 152756557 bytes and another SHA-256 (here 12)"
    )
    known = {"hopper": (12, hashlib.sha256(b"observations").hexdigest())}
    monkeypatch.setattr(d4rl, "known_files", lambda: known)
    assert inspect.origin(path) == "this is D4RL's hopper, byte for byte"
    path.write_bytes(b"Observations")
    assert inspect.origin(path) == "it is not a file of D4RL's"


def test_time_outs_out_of_step_in_antmaze():
    raw = walk()
    assert facts(raw, "antmaze-umaze-v0")["suspicious"] == []
    raw["timeouts"] = np.roll(raw["timeouts"], 2)
    (note,) = facts(raw, "antmaze-umaze-v0")["suspicious"]
    assert note.startswith("5 jumps of the position lie inside episodes, 5 of 5 time-outs have none")


def test_the_command_prints_and_draws(tmp_path, capsys):
    with h5py.File(tmp_path / "own.hdf5", "w") as file:
        for key, value in walk().items():
            file[key] = value
    inspect.main([str(tmp_path / "own.hdf5"), "--picture", str(tmp_path / "facts.png")])
    printed = capsys.readouterr().out
    assert "rows         115, of which 109 are transitions" in printed and "nothing found" in printed
    assert (tmp_path / "facts.png").read_bytes().startswith(b"\x89PNG")
    inspect.main(
        ["antmaze-umaze-v0", "--dataset_path", str(tmp_path / "own.hdf5"), "--picture", str(tmp_path / "maze.png")]
    )
    assert "normalized   mean 100.0" in capsys.readouterr().out  # every walk is paid more than 1
    with pytest.raises(SystemExit, match="'hopper-medium-v2'"):
        inspect.main(["hoper-medium-v2"])
    with pytest.raises(SystemExit, match="no D4RL task, and no file, 'maze'"):
        inspect.main(["maze"])
    with pytest.raises(SystemExit, match="There is no file .*maze.npz"):
        inspect.main(["maze.npz"])
    for more in (["--env", "Pendulum-v1"], ["--columns", "rewards=r"], ["--action_bounds", "(-2, 2)"]):
        with pytest.raises(SystemExit, match="is for a file of one's own, which hopper-medium-v2 is not"):
            inspect.main(["hopper-medium-v2", *more])
    with pytest.raises(SystemExit, match="--dataset_path is for a D4RL task"):
        inspect.main([str(tmp_path / "own.hdf5"), "--dataset_path", "elsewhere"])
    with pytest.raises(SystemExit, match="cannot be written, it is a directory"):
        inspect.main([str(tmp_path / "own.hdf5"), "--picture", str(tmp_path)])


@pytest.mark.parametrize("module", ["bdpo_jax.data.inspect", "bdpo_jax.envs.parity", "benchmarks.evaluation"])
def test_help_says_whole_sentences(module, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["command", "--help"])
    module = importlib.import_module(module)
    with pytest.raises(SystemExit):
        module.main()
    told = " ".join(capsys.readouterr().out.split())
    assert " ".join(module.__doc__.split("\n\n")[1].split()) in told


def save(path, raw):
    with h5py.File(path, "w") as file:
        for key, value in raw.items():
            file[key] = value
    return str(path)


@pytest.fixture
def undrawn(monkeypatch):
    monkeypatch.setattr(plotting, "dataset", lambda *_: None)


def told(capsys, *arguments):
    """What the command prints: transitions, complete episodes, and the line of the scaling."""
    inspect.main([*map(str, arguments)])
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:] if " " in line)
    return int(lines["rows"].split()[3]), int(lines["episodes"].split()[0]), lines["scaling"]


@pytest.mark.parametrize(
    ("get_config", "width", "episodes", "transitions"),
    [
        # A row that is both is terminal, and its transition is kept: only the four others that timed out are dropped,
        # and the last of the file.
        (lambda path: custom.get_config(path), 3, 6, 110),
        # D4RL drops all five rows that timed out, and the last.
        (lambda path: locomotion.get_config("hopper-medium-v2"), 11, 6, 109),
        # In antmaze the ends are the time-outs alone.
        (lambda path: antmaze.get_config("antmaze-umaze-v0"), 29, 5, 109),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_what_is_said_of_a_file_is_what_training_says(tmp_path, capsys, get_config, width, episodes, transitions):
    """Five whole episodes of 20 rows and a cut one; terminals at the end of the first and amid the second."""
    raw = walk(width=width)
    random = np.random.default_rng(1)
    raw["actions"] = random.uniform(-1, 1, (115, {3: 2, 11: 3, 29: 8}[width])).astype(np.float32)
    raw["terminals"][[19, 30]] = True
    path = save(tmp_path / "own.hdf5", raw)
    config = get_config(path)
    config.dataset_path = path
    task = tasks.make(config)
    own = config.family == "file"
    source = [path] if own else [config.task, "--dataset_path", path]
    assert (task.dataset.size, task.scaling.episodes) == (transitions, episodes)
    expected = (transitions, episodes, str(task.scaling))
    assert told(capsys, *source) == expected


def test_a_file_whose_name_is_no_text_is_drawn(tmp_path, capsys):
    path = tmp_path / "own.hdf5"
    save(path, walk())
    path = path.rename(tmp_path / os.fsdecode(b"own\xff.hdf5"))
    with pytest.warns(UserWarning, match="own\udcff.hdf5 differ by"):  # which pytest's workers could not pass on
        assert told(capsys, path, "--picture", tmp_path / "facts.png")[0] == 109
    assert (tmp_path / "facts.png").exists()


@pytest.mark.usefixtures("undrawn")
def test_a_scaling_that_training_refuses_is_told_as_such(tmp_path, capsys):
    raw = walk()
    raw["rewards"][:] = 0
    path = save(tmp_path / "own.hdf5", raw)
    *_, scaling = told(capsys, path)
    assert scaling.startswith("reward_scaling='auto' is refused: All 5 complete episodes of")


def make_rescaled():
    return gymnasium.wrappers.RescaleAction(gymnasium.make("Pendulum-v1").unwrapped, -10.0, 10.0)


gymnasium.register("bdpo-tests/Rescaled-v0", make_rescaled, max_episode_steps=200)


@pytest.mark.usefixtures("undrawn")
def test_actions_are_compared_with_the_box_that_training_maps_them_by(tmp_path, capsys):
    """A wrapper makes it [-10, 10]; the robot's own is [-2, 2]."""
    raw = walk()
    raw["observations"] = np.clip(raw["observations"], -1, 1)
    raw["actions"] = np.linspace(-10, 10, 115, dtype=np.float32)[:, None]
    raw["rewards"] -= 5
    config = custom.get_config(save(tmp_path / "own.hdf5", raw))
    config.env = "bdpo-tests/Rescaled-v0"
    trained = tasks.make(config).dataset.actions[0, 0]
    assert trained == pytest.approx(-1, abs=1e-4)
    inspect.main([config.dataset_path, "--env", config.env])
    printed = capsys.readouterr().out
    assert "actions 1 in [-10, 10]" in printed and "the file's actions use 100% of that box" in printed
    assert "outside the bounds" not in printed and "outside their bounds" not in printed
    inspect.main([config.dataset_path, "--action_bounds", "(-12.5, 12.5)"])
    assert "actions      0.00% of the components at 0.99" in capsys.readouterr().out  # they reach 0.8 of the box
    with pytest.raises(SystemExit, match=r"action_bounds is '3 4'; it must be \(low, high\)"):
        inspect.main([config.dataset_path, "--action_bounds", "3 4"])
    with pytest.raises(SystemExit, match="but the actions of config.env are"):
        inspect.main([config.dataset_path, "--env", config.env, "--action_bounds", "(-12.5, 12.5)"])
