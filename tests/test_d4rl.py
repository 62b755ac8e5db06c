import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdpo_jax.data import d4rl
from bdpo_jax.errors import UserError

_SHARED = Path(__file__).resolve().parents[2] / "shared"
LOOK_ALIKES = Path(os.environ.get("BDPO_TEST_DATA") or _SHARED) / "datasets"
ANTMAZE_FILE = "Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse.hdf5"


def make_raw(terminals, timeouts=None, seed=0):
    """Random rows whose first observation coordinate is the row's number."""
    rng, rows = np.random.default_rng(seed), len(terminals)
    raw = {
        "observations": rng.normal(size=(rows, 3)).astype(np.float32),
        "actions": rng.uniform(-1, 1, size=(rows, 2)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminals": np.array(terminals, bool),
    }
    raw["observations"][:, 0] = np.arange(rows)
    return raw if timeouts is None else {**raw, "timeouts": np.array(timeouts, bool)}


def slow_rows(raw, limit):
    """Which rows D4RL keeps, one at a time, with its counter of steps."""
    kept, steps = [], 0
    for row in range(len(raw["terminals"]) - 1):
        out_of_time = raw["timeouts"][row] if "timeouts" in raw else steps == limit - 1
        if out_of_time:
            steps = 0
        else:
            if raw["terminals"][row]:
                steps = 0
            kept.append(row)
            steps += 1
    return kept


def slow_episodes(raw, limit, terminals_end=True):
    """Returns and lengths of whole episodes; the unfinished last one only when it is alone."""
    found, total, length = [], 0.0, 0
    for row, reward in enumerate(raw["rewards"]):
        total, length = total + float(reward), length + 1
        out_of_time = raw["timeouts"][row] if "timeouts" in raw else length == limit
        if out_of_time or (terminals_end and raw["terminals"][row]):
            found.append((total, length))
            total, length = 0.0, 0
    return found or [(total, length)]


flags = st.lists(st.booleans(), min_size=2, max_size=40)
rare_flags = st.lists(st.integers(0, 7).map(lambda value: value == 0), min_size=2, max_size=60)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data(), flags | rare_flags, st.booleans(), st.integers(1, 9))
def test_transitions_and_episodes_equal_a_slow_loop(data, terminals, with_timeouts, limit):
    rows = len(terminals)
    sparse = st.lists(st.integers(0, 5).map(lambda value: value == 0), min_size=rows, max_size=rows)
    raw = make_raw(terminals, data.draw(sparse) if with_timeouts else None)
    kept = slow_rows(raw, limit)
    if kept:
        transitions = d4rl.transitions(raw, limit, "here")
        for key in ("observations", "actions", "rewards", "terminals"):
            np.testing.assert_array_equal(getattr(transitions, key), raw[key][kept])
            assert getattr(transitions, key).dtype == np.float32
        successors = [row + 1 for row in kept]
        np.testing.assert_array_equal(transitions.next_observations, raw["observations"][successors])
    else:
        with pytest.raises(UserError, match=f"No transition is left of the {rows} rows of here"):
            d4rl.transitions(raw, limit, "here")
    for terminals_end in (True, False):
        returns, lengths = d4rl.episodes(raw, limit, terminals_end)
        expected = slow_episodes(raw, limit, terminals_end)
        np.testing.assert_array_equal(lengths, [length for _, length in expected])
        np.testing.assert_allclose(returns, [total for total, _ in expected], atol=1e-9)


def test_transitions_by_hand():
    # Rows:          0  1  2  3  4  5  6  7
    terminals = [0, 0, 1, 0, 0, 1, 0, 0]
    timeouts_ = [0, 0, 0, 0, 1, 1, 0, 0]
    data = d4rl.transitions(make_raw(terminals, timeouts_), 1000, "here")
    np.testing.assert_array_equal(data.observations[:, 0], [0, 1, 2, 3, 6])
    np.testing.assert_array_equal(data.next_observations[:, 0], [1, 2, 3, 4, 7])
    np.testing.assert_array_equal(data.terminals, [0, 0, 1, 0, 0])


def test_without_timeouts_the_counter_restarts_a_row_early_after_a_terminal():
    # The counter reads 0 1 2 3 | 0 1 | 1 2 3 | 0: limit 4 drops rows 3 and 8, and row 9 is the file's last.
    terminals = [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    data = d4rl.transitions(make_raw(terminals), 4, "here")
    np.testing.assert_array_equal(data.observations[:, 0], [0, 1, 2, 4, 5, 6, 7])


def test_two_million_rows_become_transitions_and_episodes():
    rows, rng = 2_000_000, np.random.default_rng(0)
    steps = np.arange(rows) % 1000
    raw = {
        "observations": np.zeros((rows, 17), np.float32),
        "actions": np.zeros((rows, 6), np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminals": rng.random(rows) < 0.005,
        "timeouts": steps == 999,
    }
    without = {key: value for key, value in raw.items() if key != "timeouts"}
    for arrays in (raw, without):
        assert d4rl.transitions(arrays, 1000).size > 1_990_000
        assert d4rl.episodes(arrays, 1000)[1].sum() > 1_990_000


def test_every_task_names_its_file():
    assert len(d4rl.TASKS) == 18 + 12
    assert all(name == entry.name for name, entry in d4rl.TASKS.items())
    replay = d4rl.TASKS["walker2d-medium-replay-v2"]
    assert replay == (replay.name, "locomotion", "gym_mujoco_v2", "walker2d_medium_replay-v2.hdf5", 1000)
    umaze, fixed = d4rl.TASKS["antmaze-umaze-v0"], d4rl.TASKS["antmaze-umaze-v2"]
    assert umaze == (umaze.name, "antmaze", "ant_maze_new", ANTMAZE_FILE, 700)
    assert (fixed.folder, fixed.file) == ("ant_maze_v2", ANTMAZE_FILE.replace("sparse", "sparse_fixed"))
    expected = {
        "umaze-diverse": ("u-maze_noisy_multistart_True_multigoal_True", 700),
        "medium-play": ("big-maze_noisy_multistart_True_multigoal_False", 1000),
        "medium-diverse": ("big-maze_noisy_multistart_True_multigoal_True", 1000),
        "large-play": ("hardest-maze_noisy_multistart_True_multigoal_False", 1000),
        "large-diverse": ("hardest-maze_noisy_multistart_True_multigoal_True", 1000),
    }
    for maze, (file, limit) in expected.items():
        entry = d4rl.TASKS[f"antmaze-{maze}-v0"]
        assert (entry.file, entry.max_episode_steps) == (f"Ant_maze_{file}_sparse.hdf5", limit)


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(UserError, match="no D4RL task 'hoper-medium-v2'; the nearest .* 'hopper-medium-v2'"):
        d4rl.load("hoper-medium-v2")
    assert "hoper-medium-v2" not in d4rl.TASKS


def look_alike(folder, file):
    """A folder of data made for the tests, which are not in the repository."""
    if not (LOOK_ALIKES / folder / file).exists():
        pytest.skip(f"no file {LOOK_ALIKES / folder / file}")
    return LOOK_ALIKES / folder


@pytest.mark.parametrize(
    "task, rows, episodes, timeouts, mean_return, extremes",
    [
        ("hopper-medium-v2", 199853, 371, 110, 1976, (1103, 3647)),
        ("hopper-medium-replay-v2", 199703, 2227, 58, 263, (4, 3645)),
        ("halfcheetah-medium-v2", 200000, 200, 200, 4920, (-114, 5718)),
    ],
)
def test_locomotion_look_alikes(task, rows, episodes, timeouts, mean_return, extremes):
    folder = str(look_alike("d4rl_like", d4rl.TASKS[task].file))
    raw = d4rl.read(d4rl.find(task, folder))
    returns, lengths = d4rl.episodes(raw, 1000)
    assert (len(raw["rewards"]), len(returns), lengths.sum()) == (rows, episodes, rows)
    assert round(returns.mean()) == mean_return
    assert (round(returns.min()), round(returns.max())) == extremes
    data = d4rl.load(task, folder)
    # One row is lost per time-out, and one more where the file's last episode does not time out.
    assert data.size == rows - timeouts - (not raw["timeouts"][-1])
    assert data.terminals.sum() == raw["terminals"][:-1].sum()
    spread = returns.max() - returns.min()
    np.testing.assert_allclose(data.rewards[:500], raw["rewards"][:500] * 1000 / spread, rtol=1e-5)
    assert np.abs(data.actions).max() <= 1 - 1e-5 + 1e-7


def test_antmaze_look_alike():
    folder = look_alike("d4rl_like_antmaze", ANTMAZE_FILE)
    raw = d4rl.read(folder / ANTMAZE_FILE)
    returns, lengths = d4rl.episodes(raw, 700, terminals_end_episodes=False)
    assert len(returns) == 213 and set(lengths) == {701}
    assert round(100 * np.mean(returns > 0)) == 84
    data = d4rl.load("antmaze-umaze-v0", str(folder))
    assert data.size == 150_000 - 213 - 1
    assert set(np.unique(data.rewards)) == {0, 100}
    np.testing.assert_array_equal(data.terminals == 1, data.rewards == 100)
    # D4RL's rewards look at the position after the step: .5 around the one goal of the file.
    near = np.linalg.norm(data.next_observations[:, :2] - np.array([0.75, 8.75]), axis=1) <= 0.5
    np.testing.assert_array_equal(near, data.rewards == 100)
