"""Facts about datasets whose facts are known."""

import h5py
import numpy as np
import pytest

from bdpo_jax.data import inspect


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


def test_counts():
    raw = walk()
    raw["actions"][:10, 0] = 1
    found = inspect.facts(raw, 1000)
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
        (lambda raw: raw["terminals"].__setitem__(19, True), "1 rows are terminal and timed out"),
        (lambda raw: raw["timeouts"].__setitem__(39, False), "1 steps inside episodes"),
        (lambda raw: [raw[key].__setitem__(5, raw[key][4]) for key in ("observations", "actions")], "1 rows repeat"),
    ],
)
def test_what_is_suspicious(spoil, sentence):
    raw = walk()
    spoil(raw)
    assert any(sentence in note for note in inspect.facts(raw, 1000)["suspicious"])


def test_time_outs_out_of_step_in_antmaze():
    raw = walk()
    assert inspect.facts(raw, 700, "antmaze")["suspicious"] == []
    raw["timeouts"] = np.roll(raw["timeouts"], 2)
    (note,) = inspect.facts(raw, 700, "antmaze")["suspicious"]
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
