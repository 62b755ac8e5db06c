"""Files of one's own under other names: tables, `columns`, the many ways to tell an episode's end; a file beside its
environment."""

import re
import sys
import zipfile

import gymnasium
import h5py
import numpy as np
import pytest

from bdpo_jax import settings, tasks
from bdpo_jax.data import columns, custom, files, fit, inspect
from bdpo_jax.errors import UserError
from configs import custom as config_file

# Two episodes of three rows; the second ends in a terminal state.
LOG = """run,time,q,v,torque,reward,done,note
a,0.0,0.1,1.0,0.5,-1,False,start
a,0.1,0.2,2.0,-0.5,-2,False,
a,0.2,0.3,3.0,0.25,-3,False,"cut, off"
b,0.0,0.4,4.0,0.0,-4,False,start
b,0.3,0.5,5.0,0.125,-5,False,
b,0.4,0.6,6.0,1.0,-6,True,fell
"""
COLUMNS = "observations=q,v; actions=torque; terminals=done; episodes=run"


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def cell(old, new, text=LOG):
    assert text.count(old) == 1
    return text.replace(old, new)


def test_a_table_is_read_by_the_names_of_its_columns(tmp_path):
    """Rows 0, 1, 3, 4 have successors, row 5 is terminal; row 2 was cut off and is dropped."""
    with pytest.warns(UserWarning, match=r"differ by 9 at most \(-15 to -6\)"):
        data, scaling = custom.load_scaled(write(tmp_path / "log.csv", LOG), "auto", columns=COLUMNS)
    rows = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(data.observations, np.array([[0.1 * i, i] for i in (1, 2, 4, 5, 6)]), rtol=1e-6)
    np.testing.assert_allclose(data.next_observations[:4], np.array([[0.1 * i, i] for i in (2, 3, 5, 6)]), rtol=1e-6)
    np.testing.assert_allclose(data.actions[:, 0], [0.5, -0.5, 0.0, 0.125, 1 - 1e-5], rtol=1e-6)
    np.testing.assert_array_equal(data.terminals, [0, 0, 0, 0, 1])
    assert (scaling.episodes, scaling.lowest, scaling.highest) == (2, -15, -6)
    np.testing.assert_allclose(data.rewards, [-(row + 1) * 1000 / 9 for row in rows], rtol=1e-6)


@pytest.mark.parametrize("delimiter, name", [(";", "log.csv"), ("\t", "log.tsv")])
def test_the_delimiter_is_that_of_the_header(tmp_path, delimiter, name):
    text = "\ufeff" + LOG.replace('"cut, off"', "cut off").replace(",", delimiter) + "\n"
    raw = files.read(write(tmp_path / name, text), columns=COLUMNS)
    np.testing.assert_array_equal(raw["timeouts"], [0, 0, 1, 0, 0, 0])


def test_a_name_may_hold_other_delimiters(tmp_path):
    text = "pos x,y,z;vel x,y,z;act,of,two;reward;terminated;episode\n1;2;0;0;0;a\n3;4;0;0;0;a\n"
    named = "observations=pos*,vel*;actions=act*"
    np.testing.assert_array_equal(
        files.read(write(tmp_path / "log.csv", text), columns=named)["observations"][1], [3, 4]
    )


@pytest.mark.parametrize("name", ["log.xlsx", "log.npz"])
def test_a_workbook_is_named_as_such(tmp_path, name):
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
    with pytest.raises(UserError, match=f"{name} is a zip archive or a workbook, no HDF5, .*: save a table as CSV"):
        files.read(tmp_path / name)


def test_a_pattern_stands_for_columns_in_the_files_order(tmp_path):
    text = "obs_2,obs_10,act,reward,terminated\n1,2,.5,0,0\n3,4,.5,0,0\n"
    raw = files.read(write(tmp_path / "log.csv", text), columns="observations=obs_*;actions=act")
    np.testing.assert_array_equal(raw["observations"], [[1, 2], [3, 4]])
    assert raw["actions"].shape == (2, 1)


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_a_pattern_keeps_the_order_in_which_arrays_were_saved(tmp_path, kind):
    path = tmp_path / f"own.{kind}"
    parts = {f"{group}v_{i}": np.full(2, i) for group in ("", "b/" if kind == "hdf5" else "") for i in range(12)}
    parts |= {"act": np.zeros((2, 1)), "reward": np.zeros(2), "lengths": np.array([2])}
    if kind == "npz":
        np.savez(path, **parts)
    else:
        with h5py.File(path, "w", track_order=True) as file:
            file.create_group("b", track_order=True)["up"] = h5py.SoftLink("/")
            for name, value in parts.items():
                file[name] = value
    for prefix in ("", "b/")[: 1 + (kind == "hdf5")]:
        raw = files.read(path, columns=f"observations={prefix}v_*;actions=act;terminals=none")
        np.testing.assert_array_equal(raw["observations"][0], np.arange(12))


def test_in_a_pattern_only_the_star_is_special(tmp_path):
    text = "q[0]_x,q[0]_y,q0_z,act,reward,terminated,episode\n1,2,3,0,0,0,0\n4,5,6,0,0,0,0\n"
    raw = files.read(write(tmp_path / "log.csv", text), columns="observations=q[0]_*;actions=act")
    np.testing.assert_array_equal(raw["observations"], [[1, 2], [4, 5]])


FAULTS = [
    (cell("0.2,2.0", ",2.0"), COLUMNS, r"column 'q' of .*log.csv has no value in row 1 \(line 3\)"),
    (cell("0.5,5.0", "'0,5',5.0"), COLUMNS, r"Row 4 \(line 6\) of .*log.csv has 9 cells, the header 8"),
    (cell("0.5,5.0", "half,5.0"), COLUMNS, r"column 'q' of .* has 'half' in row 4 \(line 6\), which is no number"),
    (cell("0.5,5.0", "1_000,5.0"), COLUMNS, r"column 'q' of .* has '1_000' in row 4 \(line 6\), which is no number"),
    (cell("a,0.2", " ,0.2"), COLUMNS, r"column 'run' of .* has no value in row 2 \(line 4\)"),
    (LOG.replace(",0.", ",170000000000."), COLUMNS, r"column 'q' of .* goes from 170000000000.1 to .*float32 cannot"),
    (cell("3.0", "nan"), COLUMNS, r"column 'v' of .* has the value \[?nan\]? in row 2"),
    (cell("3.0", "1e300"), COLUMNS, r"column 'v' of .* has the value \[?1e\+300\]? in row 2"),
    (cell("run,time,q,v", "run,time,q,q"), COLUMNS.replace(",v", ""), r"two columns 'q' \(number 3 and 4\)"),
    (
        cell("reward,", "paid,"),
        COLUMNS,
        r"lacks the key rewards .*rewards=COLUMN' \(of inspect: --columns\); a log without rewards",
    ),
    (LOG, COLUMNS.replace("terminals=done; ", ""), r"lacks the key terminals .*'terminals=none' if no episode"),
    (LOG, COLUMNS.replace("q,v", "q,w"), r"names 'w' for observations, which .*log.csv does not have; the nearest"),
    (LOG, COLUMNS.replace("q,v", "q,q"), r"names 'q' twice for observations"),
    (LOG, "observation=q", r"the key 'observation'; the nearest known one is 'observations'"),
    (LOG, "observations", r"columns has 'observations'; write KEY=COLUMN"),
    (LOG, "rewards=q;rewards=v", r"the key 'rewards' twice"),
    (LOG, "rewards=q,v", r"2 columns for rewards, which is one number a row"),
    (LOG, COLUMNS + ";rewards=*e*", r"columns for rewards, which is one number a row"),
    (LOG, COLUMNS + ";times=v;episode_starts=note", r"'note' of .* has 'start' in row 0"),
    (
        cell("b,0.3", "b,0.0"),
        COLUMNS,
        r"Rows 3 and 4 of .* have the same time 0.0 within an episode .* one row for each",
    ),
    (cell("b,0.4", "b,0.2"), COLUMNS, r"Rows 4 and 5 of .* go back from 0.3 to 0.2 within an episode"),
    (cell("b,0.4", "b,noon"), COLUMNS, r"'noon' in row 5 .* replace it by one, or leave it out by .*times=none'"),
    (cell("b,0.4", "a,0.4"), COLUMNS, r"Episode a of .* begins again in row 5"),
    ("# swing 7, of May\n" + LOG, COLUMNS, r"first line of .* has 2 cells, the next one 8: the first must name"),
    ("# swing 7\na;b\n1;2\n", COLUMNS, r"first line of .* has 1 cells, the next one 2: the first must name"),
    ("1,2\n3,4\n", "", r"first line of .* holds numbers; put a line with the columns' names"),
    ("\n1,2\n", "", r"first line of .* is empty"),
    ("", "", r"log.csv is empty: it has no bytes"),
    (LOG.splitlines()[0] + "\n", COLUMNS, r"log.csv is empty"),
]


@pytest.mark.parametrize("text, named, message", FAULTS)
def test_a_fault_is_one_sentence_that_names_file_column_and_row(tmp_path, text, named, message):
    with pytest.raises(UserError, match=message) as error:
        custom.load(write(tmp_path / "log.csv", text), "none", columns=named)
    assert "\n" not in str(error.value) and str(error.value).endswith((".", ")."))


def arrays(**others):
    found = {
        "obs": np.arange(12.0).reshape(6, 2),
        "acts": np.linspace(-1, 1, 6)[:, None],
        "rews": np.arange(6.0),
        "terminated": np.array([0, 0, 0, 0, 0, 1], bool),
    }
    return found | others


ENDS = {
    "timeouts": np.array([0, 0, 1, 0, 0, 0], bool),
    "truncated": np.array([0, 0, 1, 0, 0, 0], bool),
    "episode_starts": np.array([1, 0, 0, 1, 0, 0], bool),
    "episodes": np.array([2**40, 2**40, 2**40, 2**40 + 1, 2**40 + 1, 2**40 + 1]),  # equal in float32
    "episode_index": np.array([b"x", b"x", b"x", b"y", b"y", b"y"]),
    "lengths": np.array([3, 3]),
}


@pytest.mark.parametrize("key", ENDS)
@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_an_end_may_be_told_in_many_ways(tmp_path, key, kind):
    path = tmp_path / f"own.{kind}"
    if kind == "npz":
        np.savez(path, **arrays(**{key: ENDS[key]}))
    else:
        with h5py.File(path, "w") as file:
            for name, value in arrays(**{key: ENDS[key]}).items():
                file[name] = value
    raw = files.read(path)
    np.testing.assert_array_equal(raw["timeouts"], ENDS["timeouts"])
    assert custom.load(str(path), "none").size == 5


def test_without_a_terminal_the_last_row_of_the_file_is_cut_off(tmp_path):
    np.savez(tmp_path / "own.npz", **arrays(terminated=np.zeros(6, bool), lengths=[2, 4], timeouts=np.zeros(6, bool)))
    np.testing.assert_array_equal(files.read(tmp_path / "own.npz")["timeouts"], [0, 1, 0, 0, 0, 1])
    np.savez(tmp_path / "own.npz", **{key: value for key, value in arrays().items() if key != "terminated"})
    raw = files.read(tmp_path / "own.npz", columns="terminals=none")
    assert not raw["terminals"].any() and raw["terminals"].shape == (6,)


DAYS = np.array(["2020-01-01", "2020-01-02", "2020-01-03"], "datetime64[ns]")
NEXT = np.arange(2.0, 14).reshape(6, 2) + np.array([0, 0, 50, 0, 0, 0])[:, None]  # row 3 does not begin with row 2's


@pytest.mark.parametrize(
    "others, columns",
    [
        ({"stamp": DAYS[[0, 1, 2, 0, 1, 2]], "lengths": [3, 3]}, "times=stamp"),
        ({"time": 1_700_000_000_000_000_000 + 100 * np.arange(6), "lengths": [6]}, ""),  # equal in float64
        ({"time": ["12:00"] * 6, "lengths": [3, 3]}, "times=none"),
        ({"time": [0, 0.1, 0.2, 0, 0.1, 0.2], "next_obs": NEXT}, ""),
    ],
)
def test_times_that_grow_are_taken(tmp_path, others, columns):
    np.savez(tmp_path / "own.npz", **arrays(**others))
    assert custom.load(str(tmp_path / "own.npz"), "none", columns=columns).size >= 5


@pytest.mark.parametrize(
    "others, message",
    [
        ({"episode_starts": [1, 0, 0, 1, 0, 0], "lengths": [2, 4]}, "by lengths alone an episode ends in row 1"),
        ({"episode_starts": [0, 0, 1, 0, 0, 1]}, "episode_starts of .* is 0 in row 0"),
        ({"episode_starts": [2, 0, 0, 1, 0, 0]}, "episode_starts of .* has the value 2; it must be 0 or 1"),
        ({"episode_starts": [1, 0, 0]}, r"episode_starts of .* has the shape \[3\]; it must be \[6\]"),
        (
            {"terminated": [0, 1, 1, 0, 0, 0], "episodes": [0, 0, 0, 1, 1, 1]},
            r"Row 1 of .* is terminal, but by episodes its episode goes on \(1 such rows .*last row only, .*=none'",
        ),
        (
            {"timeouts": [1, 0, 0, 1, 0, 0], "episodes": [0, 0, 0, 1, 1, 1]},  # set where episodes begin
            r"Row 0 of .* timed out, but by episodes its .* goes on \(2 such rows .*timeouts=none'.*episodes=none",
        ),
        ({"lengths": [3, 4]}, "lengths of .* sum to 7; they are .*, 6 in all: mend them, or .*lengths=none"),
        ({"lengths": [1.5, 4.5]}, "lengths of .* are not all whole numbers"),
        (
            {"observation": np.zeros((6, 2))},
            "has both obs and observation, either of which may be its observations.*\(of inspect: --columns",
        ),
        ({"time": np.zeros(5), "lengths": [3, 3]}, r"times of .* has the shape \[5\]; it must be \[6\]"),
        ({"time": np.zeros((6, 2)), "lengths": [3, 3]}, r"times of .* has the shape \[6, 2\]; it must be \[6\]"),
        ({"time": ["12:00"] * 6, "lengths": [3, 3]}, "times of .* has the type <U5; it must hold numbers or dates"),
        ({"time": DAYS[[0, 1, 1, 0, 1, 2]], "lengths": [3, 3]}, "Rows 1 and 2 of .* have the same time 2020-01-02"),
        (
            {"time": DAYS[[0, 1, 0, 0, 1, 2]], "lengths": [3, 3]},
            "1 and 2 of .* go back from 2020-01-02.* to 2020-01-01",
        ),
        ({"time": [0, 1, np.nan, 0, 1, 2], "lengths": [3, 3]}, "times of .* has no value in row 2"),
    ],
)
def test_ends_that_are_impossible_are_said(tmp_path, others, message):
    np.savez(tmp_path / "own.npz", **arrays(**others))
    with pytest.raises(UserError, match=message):
        files.read(tmp_path / "own.npz")


@pytest.mark.parametrize("key", ["timeouts", "next_observations", "episode_starts", "episodes", "lengths", "times"])
def test_what_a_file_has_may_be_left_out(tmp_path, key):
    """Each of these contradicts the way in which the file tells its episodes."""
    odd = {"timeouts": [1, 0, 0, 1, 0, 0], "next_observations": NEXT + 0.01, "episode_starts": [1, 1, 1, 1, 1, 1]}
    odd |= {"episodes": [0, 0, 0, 0, 0, 1], "lengths": [6], "times": [0, 0, 0, 0, 0, 0]}
    way = {"lengths": [3, 3]} if key != "lengths" else {"episodes": [0, 0, 0, 1, 1, 1]}
    np.savez(tmp_path / "own.npz", **arrays(**way, **{key: odd[key]}))
    path = str(tmp_path / "own.npz")
    left = custom.read(path, f"{key}=none")
    np.savez(path, **arrays(**way))
    expected = custom.read(path)
    assert left.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(left[name], value)


def test_an_array_may_be_called_none(tmp_path):
    np.savez(tmp_path / "own.npz", **arrays(none=np.arange(6.0), lengths=[3, 3]))
    raw = files.read(tmp_path / "own.npz", columns="observations=obs,none;terminals=none")
    np.testing.assert_array_equal(raw["observations"][:, 2], np.arange(6))
    assert not raw["terminals"].any()


def test_what_a_file_needs_may_not_be_left_out(tmp_path):
    np.savez(tmp_path / "own.npz", **arrays(lengths=[3, 3]))
    with pytest.raises(UserError, match="names 'none' for rewards, which .* does not have"):
        files.read(tmp_path / "own.npz", columns="rewards=none")


def test_a_column_of_a_table_is_not_the_lengths_of_its_episodes(tmp_path):
    text = LOG.replace("note", "lengths").replace("start", "3").replace('"cut, off"', "3").replace("fell", "3")
    raw = files.read(write(tmp_path / "log.csv", text), columns=COLUMNS)
    np.testing.assert_array_equal(raw["timeouts"], [0, 0, 1, 0, 0, 0])


def test_a_flag_that_stays_set_is_said(tmp_path):
    np.savez(tmp_path / "own.npz", **arrays(terminated=[0, 1, 1, 0, 0, 1], timeouts=np.zeros(6, bool)))
    path, sentence = str(tmp_path / "own.npz"), r"terminal rows of .*, 1 come after another one \(the first is row 2\)"
    with pytest.warns(UserWarning, match=sentence):
        custom.load(path, "none")
    assert any(
        re.search(sentence, note) for note in inspect.facts(custom.by_rules(custom.read(path), path))["suspicious"]
    )
    np.savez(tmp_path / "bandit.npz", **arrays(terminated=np.ones(6, bool), timeouts=np.zeros(6, bool)))
    path = str(tmp_path / "bandit.npz")
    assert custom.by_rules(custom.read(path), path).notices == ()


@pytest.mark.parametrize("share, is_told", [(0.3, False), (0.3, True), (1.0, False), (1.0, True)])
def test_observations_that_were_measured_twice_are_not_taken_for_ends_in_silence(tmp_path, share, is_told):
    random = np.random.default_rng(0)
    walk = np.cumsum(random.normal(size=(61, 2)), axis=0)
    following = walk[1:] + 1e-3 * (random.random((60, 1)) < share)
    file = {"observations": walk[:-1], "next_observations": following, "rewards": random.normal(size=60)}
    file |= {"actions": np.zeros((60, 1)), "terminals": np.arange(60) % 20 == 19}
    np.savez(tmp_path / "own.npz", **file, **({"timeouts": np.zeros(60, bool)} if is_told else {}))
    path = str(tmp_path / "own.npz")
    sentence = "as if they were rounded or measured twice.*leave next_observations out by .*next_observations=none"
    with pytest.warns(UserWarning, match=sentence) as caught:
        custom.load(path, "none")
    assert not any("shuffled" in str(one.message) or "rows in order" in str(one.message) for one in caught)
    assert all(("tell in timeouts" in str(one.message)) == (not is_told) for one in caught)
    if share == 1:
        with pytest.raises(UserError, match=sentence):
            custom.load(path, "auto")


@pytest.mark.parametrize("kind", ["npz", "csv"])
def test_a_column_that_float32_holds_too_coarsely_is_refused(tmp_path, kind):
    """A robot 5,334 km north of its origin, 2 cm a step, where float32 tells half metres apart."""
    place = 5_334_000 + np.arange(400) / 50
    heading = np.sin(np.arange(400) / 9)
    if kind == "npz":
        observations = np.stack([heading, place], axis=1)
        file = {"observations": observations, "actions": np.zeros((400, 1)), "rewards": heading, "lengths": [400]}
        np.savez(tmp_path / "own.npz", **file, terminals=np.zeros(400))
        columns, subject = "", "observations of .* lies around 5334003.* in column 1"
    else:
        rows = "".join(f"{h},{p},0,1,0,a\n" for h, p in zip(heading, place, strict=True))
        write(tmp_path / "own.csv", "heading,north,actions,rewards,terminals,episodes\n" + rows)
        columns, subject = "observations=heading,north", "The column 'north' of .* lies around 5334003"
    with pytest.raises(UserError, match=f"{subject}.*float32 rounds it by 6.* of its standard deviation"):
        files.read(tmp_path / f"own.{kind}", columns=columns)
    slow = 1500 + 3e-5 * np.arange(20_000)[:, None]  # finer than float32 from row to row, but not on the whole
    file = {"observations": slow, "actions": 0 * slow, "rewards": slow, "terminals": 0 * slow, "lengths": [20_000]}
    np.savez(tmp_path / "slow.npz", **file)
    assert files.read(tmp_path / "slow.npz")["observations"].shape == (20_000, 1)


def test_an_array_that_is_no_column_is_one_sentence(tmp_path):
    with h5py.File(tmp_path / "own.hdf5", "w") as file:
        for key, value in arrays(lengths=[3, 3]).items():
            file[key] = value
        file["robot"], file["rate"] = "arm7", 50.0
    for name, value in (("robot", "b'arm7'"), ("rate", "50.0")):
        with pytest.raises(
            UserError, match=rf"'{name}' of .* is a single value \({value}\); observations need one row"
        ):
            files.read(tmp_path / "own.hdf5", columns=f"observations={name}")
    np.savez(tmp_path / "own.npz", **arrays(acts=np.zeros(6), lengths=[3, 3]))
    with pytest.raises(UserError, match=r"actions of .* \[6\]; it must be \[rows, width\]: reshape it to \[rows, 1\]"):
        files.read(tmp_path / "own.npz")


def test_arrays_of_a_file_are_set_side_by_side(tmp_path):
    with h5py.File(tmp_path / "own.hdf5", "w") as file:
        file["infos/qpos"], file["vel"], file["left"] = np.ones((4, 2)), np.zeros(4), np.zeros((3, 1))
        file["act"], file["reward"] = np.zeros((4, 1), np.float32), np.zeros(4)
    told = "observations=infos/qpos,vel;actions=act;terminals=none"
    np.testing.assert_array_equal(files.read(tmp_path / "own.hdf5", columns=told)["observations"], [[1, 1, 0]] * 4)
    with pytest.raises(UserError, match=r"'vel' and 'left' of .* have the shapes \[4\] and \[3, 1\]"):
        files.read(tmp_path / "own.hdf5", columns=told.replace("infos/qpos,vel", "vel,left"))


def test_parquet_holds_columns_of_cells_and_of_lists(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    from pyarrow import parquet

    table = {
        "observation.state": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
        "action": [0.5, -0.5, 0.0],
        "reward": [1, 2, 3],
        "episode_index": ["a", "a", "b"],
        "done": [False, False, True],
        "timestamp": np.array([1, 2, 1], "datetime64[ns]"),
    }
    path = tmp_path / "log.parquet"

    def read(**changes):
        parquet.write_table(pyarrow.table(table | changes), path)
        return files.read(path, columns="observations=observation.state;terminals=done")

    raw = read()
    np.testing.assert_array_equal(raw["observations"], [[1, 2], [3, 4], [5, 6]])
    np.testing.assert_array_equal(raw["timeouts"], [0, 1, 0])
    assert raw["actions"].shape == (3, 1) and raw["terminals"].tolist() == [False, False, True]
    for kind in (pyarrow.large_list(pyarrow.float64()), pyarrow.list_(pyarrow.float32(), 2)):
        states = pyarrow.array(table["observation.state"], kind)
        np.testing.assert_array_equal(read(**{"observation.state": states})["observations"], raw["observations"])
    for changes, message in (
        ({"action": [0.5, None, 0.0]}, "column 'action' of .* has no value in row 1 "),
        ({"observation.state": [[1.0, 2.0], [3.0, None], [5.0, 6.0]]}, "'observation.state' of .* no value in row 1 "),
        ({"observation.state": [[1.0, 2.0], [3.0, 4.0], [5.0]]}, "has 2 numbers in row 0 and 1 in row 2"),
        (
            {"timestamp": ["1", "2", "1"]},
            "times of .* has the type object; it must hold numbers or dates: .*times=none' ",
        ),
        ({"action": ["left", "right", "left"]}, "column 'action' of .* has the type object; it must hold numbers"),
    ):
        with pytest.raises(UserError, match=message):
            read(**changes)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match="not a readable parquet file, perhaps truncated"):
        files.read(path)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_table_of_another_encoding_is_one_sentence(tmp_path, encoding):
    (tmp_path / "log.csv").write_text("observations,actions,rewards,terminals,timeouts,Größe\n1,0,1,0,1,2\n", encoding)
    with pytest.raises(UserError, match="log.csv is not in UTF-8 .*save it as UTF-8 text"):
        files.read(tmp_path / "log.csv")


@pytest.mark.parametrize("kind", ["csv", "parquet", "lists", "fixed lists"])
def test_the_next_observation_of_a_terminal_row_may_be_missing(tmp_path, kind):
    """As pandas' `shift` leaves it."""
    path = tmp_path / ("log.csv" if kind == "csv" else "log.parquet")
    if kind == "csv":
        write(path, "observations,next_observations,actions,rewards,terminals\n1,2,0,0,0\n2,,0,0,1\n5,6,0,0,0\n")
    else:
        pyarrow = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
        from pyarrow import parquet

        table = {"observations": [1.0, 2, 5], "next_observations": [2.0, None, 6], "terminals": [0, 1, 0]}
        if "lists" in kind:
            lists = pyarrow.list_(pyarrow.float64(), 1 if kind == "fixed lists" else -1)
            for key in ("observations", "next_observations"):
                table[key] = pyarrow.array([one and [one] for one in table[key]], lists)
        parquet.write_table(pyarrow.table(table | {"actions": [0, 0, 0], "rewards": [0, 0, 0]}), path)
        try:
            parquet.read_table(path)
        except pyarrow.ArrowInvalid as error:
            pytest.skip(f"pyarrow {pyarrow.__version__} cannot read what it wrote: {error}")
    np.testing.assert_array_equal(custom.load(str(path), "none").next_observations, [[2], [2], [6]])
    if kind == "lists":
        table["next_observations"] = pyarrow.array([[2.0], None, [6.0, 7.0]], lists)
        parquet.write_table(pyarrow.table(table | {"actions": [0, 0, 0], "rewards": [0, 0, 0]}), path)
        with pytest.raises(UserError, match="has 1 numbers in row 0 and 2 in row 2"):
            custom.load(str(path), "none")


def test_parquet_without_its_package_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "log.parquet").write_bytes(b"PAR1....")
    with pytest.raises(UserError, match=re.escape("pip install '.[parquet]'")):
        files.read(tmp_path / "log.parquet")


def test_a_run_reads_the_columns_of_its_config(tmp_path):
    config = config_file.get_config(write(tmp_path / "log.csv", LOG))
    settings.update(config, {"columns": COLUMNS, "reward_scaling": "none"})
    assert tasks.make(config).dataset.size == 5


def pendulum_log(episodes=2):
    """Rows of random torque in Pendulum, in its own units."""
    env, rows = gymnasium.make("Pendulum-v1"), []
    env.action_space.seed(1)
    for episode in range(episodes):
        observation, _ = env.reset(seed=episode)
        for _ in range(200):
            action = env.action_space.sample()
            following, reward, *_ = env.step(action)
            rows.append((observation, action, reward))
            observation = following
    observations, actions, rewards = (np.array(column, np.float32) for column in zip(*rows, strict=True))
    return {
        "observations": observations,
        "actions": actions,
        "rewards": rewards,
        "terminals": np.zeros(len(rows), bool),
        "timeouts": np.arange(1, len(rows) + 1) % 200 == 0,
    }


@pytest.mark.parametrize(
    "spoil, sentence",
    [
        (lambda raw: None, None),
        (lambda raw: raw["observations"].__setitem__((7, 0), 1.5), "row 7: number 0 is 1.5, its bounds [-1, 1]"),
        (lambda raw: raw["actions"].__setitem__(3, 2.5), "the first is row 3: number 0 is 2.5, its bounds [-2, 2]"),
        (lambda raw: raw.update(actions=raw["actions"] / 4), "no action uses more than 25% of the box"),
        (lambda raw: raw.update(rewards=raw["rewards"] + 100), "no reward of the file is in the range"),
        (lambda raw: raw["timeouts"].__setitem__(199, False), "1 episodes are longer than the 200 steps"),
        (lambda raw: raw["timeouts"].__setitem__(99, True), "2 of 3 episodes were cut off before the 200 steps"),
        (lambda raw: raw.update(observations=raw["observations"][:, :2]), "observations are 2 wide, those of"),
    ],
)
def test_a_file_is_compared_with_its_environment(spoil, sentence):
    raw = pendulum_log()
    spoil(raw)
    notes = fit.compare(raw, custom.environment("Pendulum-v1"), "Pendulum-v1").suspicious
    assert len(notes) == (sentence is not None) and (sentence is None or sentence in notes[0])


def test_inspect_reads_columns_and_an_environment(tmp_path, capsys):
    raw = pendulum_log()
    renamed = {"seen": raw["observations"], "torque": raw["actions"], "rews": raw["rewards"], "lengths": [200, 200]}
    np.savez(tmp_path / "own.npz", **renamed)
    told = "observations=seen;actions=torque;terminals=none"
    place = ["--picture", str(tmp_path / "facts.png")]
    inspect.main([str(tmp_path / "own.npz"), "--columns", told, "--env", "Pendulum-v1", *place])
    printed = capsys.readouterr().out
    assert "Pendulum-v1: observations 3, actions 1 in [-2, 2], at most 200 steps" in printed
    assert "rows         400, of which 398 are transitions" in printed and "nothing found" in printed


def test_inspect_leaves_a_picture_of_the_log_s_own_name_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("own.npz", **arrays(lengths=[3, 3]))
    (tmp_path / "own.png").write_text("a robot")
    inspect.main(["own.npz", "--env", "none"])
    assert (tmp_path / "own.png").read_text("utf-8") == "a robot"
    assert (tmp_path / "own-inspect.png").read_bytes().startswith(b"\x89PNG")


def test_every_key_has_its_names_once():
    known = [name for key, others in columns.NAMES.items() for name in (key, *others)]
    assert len(known) == len(set(known))
