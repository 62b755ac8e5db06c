"""D4RL-format files: where they are looked for, how they are read, and what is said of faulty ones."""

import errno
import hashlib
import re
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from bdpo_jax.data import d4rl, files
from bdpo_jax.errors import UserError

TERMINALS = [0, 0, 1, 0, 0, 0, 0, 0]
TIMEOUTS = [0, 0, 0, 0, 0, 1, 0, 0]


def make_raw(terminals, timeouts=None):
    rng, rows = np.random.default_rng(0), len(terminals)
    raw = {
        "observations": rng.normal(size=(rows, 3)).astype(np.float32),
        "actions": rng.uniform(-1, 1, size=(rows, 2)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminals": np.array(terminals, bool),
    }
    return raw if timeouts is None else {**raw, "timeouts": np.array(timeouts, bool)}


def write(path, raw):
    with h5py.File(path, "w") as file:
        for key, value in raw.items():
            file[key] = value
        file["metadata/algorithm"] = "SAC"
        file["infos/goal"] = np.zeros((7, 2))  # of another length: none of our business
    return str(path)


def test_find_looks_in_the_given_place_first(tmp_path, monkeypatch):
    name, file = "hopper-medium-v2", "hopper_medium-v2.hdf5"
    own, cache, variable = tmp_path / "own.hdf5", tmp_path / "cache", tmp_path / "variable"
    monkeypatch.setenv("D4RL_DATASET_DIR", str(variable))
    with pytest.raises(
        UserError, match=f"put {file} into {re.escape(str(variable))}, or let dataset_path name the file"
    ):
        d4rl.find(name)
    for folder in (cache, variable):
        folder.mkdir()
        (folder / file).touch()
    own.touch()
    here = re.escape(str(tmp_path))
    assert d4rl.find(name) == variable / file
    assert d4rl.find(name, cache_dir=str(cache)) == cache / file
    assert d4rl.find(name, str(own), str(cache)) == own
    assert d4rl.find(name, str(cache)) == cache / file
    with pytest.raises(UserError, match=f"no file {here}/missing.hdf5; let dataset_path name"):
        d4rl.find(name, str(tmp_path / "missing.hdf5"))
    with pytest.raises(UserError, match=f"no file {here}/{file}"):
        d4rl.find(name, str(tmp_path))
    monkeypatch.delenv("D4RL_DATASET_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(UserError, match=f"into {here}/home/.d4rl/datasets,"):
        d4rl.find(name)


def test_the_checksums_are_those_of_the_tasks_files():
    files = {entry.file for entry in d4rl.TASKS.values()}
    assert files - set(d4rl.known_files()) == {d4rl.TASKS["antmaze-medium-play-v2"].file}
    assert set(d4rl.known_files()) < files
    for size, sha256 in d4rl.known_files().values():
        assert 5e7 < size < 5e8 and len(sha256) == 64 and int(sha256, 16)
    assert d4rl.known_files()["hopper_medium-v2.hdf5"] == (
        152_756_557,
        "5bdf1bc4a713c82941de44633df669b36c89850b652a25985166796d25cf71a0",
    )


def test_a_file_of_d4rls_is_known_by_its_bytes(tmp_path, monkeypatch):
    path = tmp_path / "renamed.hdf5"
    path.write_bytes(b"observations")
    assert d4rl.known_file(path) is None
    sha256 = hashlib.sha256(b"observations").hexdigest()
    monkeypatch.setattr(d4rl, "known_files", lambda: {"other": (12, "0" * 64), "hopper": (12, sha256)})
    assert d4rl.known_file(str(path)) == "hopper"
    path.write_bytes(b"Observations")
    assert d4rl.known_file(path) is None
    # No file of another size is read.
    monkeypatch.setattr(d4rl.pooch, "file_hash", lambda path: sha256)
    assert d4rl.known_file(path) == "hopper"
    path.write_bytes(b"observations!")
    assert d4rl.known_file(path) is None


def test_load_scales_locomotion_rewards_by_the_range_of_complete_episodes(tmp_path):
    raw = make_raw(TERMINALS, TIMEOUTS)
    raw["rewards"][:] = [1, 2, 3, 4, 5, 6, 1000, 1000]  # returns 6 and 15; the cut third episode does not count
    path = write(tmp_path / "own.hdf5", raw)
    data = d4rl.load("hopper-medium-v2", path)
    np.testing.assert_allclose(data.rewards, np.array([1, 2, 3, 4, 5, 1000]) * 1000 / 9, rtol=1e-6)
    none = d4rl.load("hopper-medium-v2", path, reward_scaling="none")
    np.testing.assert_array_equal(none.rewards, [1, 2, 3, 4, 5, 1000])
    for number in (0.5, "0.5"):
        half = d4rl.load("hopper-medium-v2", path, reward_scaling=number)
        np.testing.assert_array_equal(half.rewards, none.rewards / 2)
    antmaze = d4rl.load("antmaze-umaze-v0", path)
    np.testing.assert_array_equal(antmaze.rewards, none.rewards * 100)


def test_load_refuses_an_unknown_or_undefined_scaling(tmp_path):
    path = write(tmp_path / "own.hdf5", make_raw([0] * 8))
    with pytest.raises(UserError, match="All 1 complete episodes of .*own.hdf5 have the same return"):
        d4rl.load("hopper-medium-v2", path)
    for scaling in ("atuo", 0, float("nan"), None):
        with pytest.raises(UserError, match="reward_scaling is .*; give 'auto', 'none' or a number"):
            d4rl.load("hopper-medium-v2", path, reward_scaling=scaling)


def test_load_clips_actions_off_the_edge_and_warns_only_beyond_it(tmp_path):
    raw = make_raw(TERMINALS, TIMEOUTS)
    raw["actions"][:2] = [[1, -1], [0.5, 0]]
    path = write(tmp_path / "own.hdf5", raw)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = d4rl.load("hopper-medium-v2", path, reward_scaling="none")
    bound = np.float32(1 - 1e-5)
    np.testing.assert_array_equal(data.actions[:2], [[bound, -bound], [0.5, 0]])
    raw["actions"][1, 1] = -7
    with pytest.warns(UserWarning, match=r"1 of 6 actions of .*own.hdf5 lie outside \[-1, 1\]"):
        data = d4rl.load("hopper-medium-v2", write(tmp_path / "own.hdf5", raw), reward_scaling="none")
    assert data.actions[1, 1] == -bound


def test_read_accepts_columns_and_other_number_types(tmp_path):
    raw = make_raw(TERMINALS, TIMEOUTS)
    columns = {
        "observations": raw["observations"].astype(np.float64),
        "actions": raw["actions"].astype(">f8"),
        "rewards": raw["rewards"][:, None],
        "terminals": raw["terminals"][:, None].astype(np.uint8),
        "timeouts": raw["timeouts"].astype(np.float32),
    }
    read = d4rl.read(write(tmp_path / "own.hdf5", columns))
    assert set(read) == set(raw)
    for key, value in raw.items():
        np.testing.assert_array_equal(read[key], value)
        assert read[key].dtype == value.dtype, key


def faulty(key, value):
    return {**make_raw(TERMINALS, TIMEOUTS), key: value}


def with_nan(key, row):
    value = make_raw(TERMINALS)[key]
    value[row] = np.nan
    return faulty(key, value)


@pytest.mark.parametrize(
    "raw, message",
    [
        (with_nan("rewards", 5), "rewards of .*own.hdf5 has the value nan in row 5"),
        (with_nan("observations", 7), "observations of .*own.hdf5 has the value nan in row 7"),
        (faulty("rewards", np.zeros(7)), "own.hdf5 have unequal lengths .*observations 8.*rewards 7"),
        (faulty("timeouts", np.zeros(9, bool)), "unequal lengths .*timeouts 9"),
        (faulty("rewards", np.zeros((8, 2))), r"rewards of .* shape \[8, 2\]; it must be \[rows\]"),
        (faulty("observations", np.zeros(8)), r"observations of .* shape \[8\]; it must be \[rows, width\]"),
        (faulty("actions", np.zeros((8, 2, 1))), r"actions of .* shape \[8, 2, 1\]"),
        (faulty("rewards", 3.0), r"rewards of .* shape \[\]"),
        (faulty("actions", np.array([[b"left"]] * 8)), "actions of .*; it must hold numbers"),
        ({key: value[:0] for key, value in make_raw(TERMINALS).items()}, "own.hdf5 is empty"),
        ({key: value[:1] for key, value in make_raw(TERMINALS).items()}, "No transition is left of the 1 rows"),
    ],
)
def test_load_names_the_fault(tmp_path, raw, message):
    with pytest.raises(UserError, match=message):
        d4rl.load("hopper-medium-v2", write(tmp_path / "own.hdf5", raw), reward_scaling="none")


@pytest.mark.parametrize("key", files.REQUIRED_KEYS)
def test_a_missing_key_is_named_beside_those_found(tmp_path, key):
    raw = make_raw(TERMINALS)
    del raw[key]
    found = ", ".join(sorted(raw))
    with pytest.raises(UserError, match=rf"own.hdf5 lacks the key {key} \(found: {found}, infos/goal, "):
        d4rl.read(write(tmp_path / "own.hdf5", raw))


def test_a_group_is_not_an_array(tmp_path):
    raw = make_raw(TERMINALS)
    raw["rewards/one"] = raw.pop("rewards")
    with pytest.raises(UserError, match="lacks the key rewards"):
        d4rl.read(write(tmp_path / "own.hdf5", raw))


def test_unreadable_files_get_one_sentence(tmp_path):
    with pytest.raises(UserError, match="There is no file .*missing.hdf5"):
        d4rl.read(tmp_path / "missing.hdf5")
    text = tmp_path / "text.hdf5"
    text.write_text("not HDF5 at all")
    with pytest.raises(UserError, match="text.hdf5 is not a readable HDF5 file"):
        d4rl.read(text)


def test_files_that_cannot_be_opened_get_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="There is no file .*xxx"):
        d4rl.read(tmp_path / ("x" * 300))
    (tmp_path / "own.hdf5").touch()

    def refused(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(UserError, match=r"own.hdf5 cannot be read \(Permission denied\)"):
        d4rl.read(tmp_path / "own.hdf5")


def test_a_truncated_or_damaged_file_gets_one_sentence(tmp_path):
    path = tmp_path / "own.hdf5"
    with h5py.File(path, "w") as file:
        for key, value in make_raw([0] * 400).items():
            file.create_dataset(key, data=value, compression="gzip", chunks=True)
        first_chunk = file["observations"].id.get_chunk_info(0).byte_offset
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UserError, match="own.hdf5 is not a readable HDF5 file, perhaps truncated") as error:
            d4rl.read(path)
        assert "\n" not in str(error.value)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="own.hdf5 is empty: it has no bytes"):
        d4rl.read(path)
    with pytest.raises(UserError, match="is a folder; give the path of a file in it"):
        d4rl.read(tmp_path)
    # Opens, but fails when the compressed rows are read.
    path.write_bytes(whole[:first_chunk] + bytes(64) + whole[first_chunk + 64 :])
    with pytest.raises(UserError, match="not a readable HDF5 file"):
        d4rl.read(path)
    # Names that are no text: h5py raises a UnicodeDecodeError or a TypeError rather than an OSError, or skips them.
    path.write_bytes(whole.replace(b"rewards", b"\xff\xferards"))
    with pytest.raises(UserError, match="not a readable HDF5 file|lacks the key rewards"):
        d4rl.read(path)


@pytest.mark.parametrize("low, high", [(-1, 1), (0, 2), (0, 0.5)])
def test_a_flag_is_zero_or_one(tmp_path, low, high):
    raw = {**make_raw(TERMINALS, TIMEOUTS), "terminals": np.where(np.array(TERMINALS), high, low).astype(np.float32)}
    with pytest.raises(UserError, match="terminals of .*own.hdf5 has the value .*; it must be 0 or 1"):
        d4rl.read(write(tmp_path / "own.hdf5", raw))


@pytest.mark.parametrize(
    "name, content, kind",
    [
        ("log.pkl", b"\x80\x04\x95\x00\x00", "a pickle"),
        ("log.hdf5", b"\x80\x04\x95\x00\x00", "a pickle"),
        ("log.npy", b"\x93NUMPY\x01\x00", "a single NumPy array"),
        ("log.gz", b"\x1f\x8b\x08\x00", "a gzip archive"),
        ("run.log", b"step, reward", "a text file"),
        ("log.dat", "höhe, winkel".encode(), "a text file"),
        ("log", b"\x01\x02\x03", r"of another kind \(it begins with b'.x01.x02.x03'\)"),
    ],
)
def test_other_kinds_of_files_are_named_for_what_they_are(tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} is {kind}.*, no HDF5, npz, CSV or parquet file") as error:
        d4rl.read(tmp_path / name)
    assert "truncated" not in str(error.value)


@pytest.mark.parametrize("name", ["own.NPZ", "own.data"])
def test_npz_files_are_known_by_their_bytes(tmp_path, name):
    raw = make_raw(TERMINALS, TIMEOUTS)
    with open(tmp_path / name, "wb") as file:
        np.savez(file, **raw)
    np.testing.assert_array_equal(d4rl.read(tmp_path / name)["actions"], raw["actions"])


def test_arrays_of_objects_are_named(tmp_path):
    objects = np.array([np.zeros(3)] * 8 + [None], dtype=object)[:8]
    np.savez(tmp_path / "own.npz", **{**make_raw(TERMINALS), "observations": objects})
    with pytest.raises(UserError, match="observations of .*own.npz is an array of Python objects"):
        d4rl.read(tmp_path / "own.npz")


def test_a_source_names_d4rl_s_file_by_its_bytes_alone(tmp_path, monkeypatch):
    path = tmp_path / "renamed.hdf5"
    path.write_bytes(b"data")
    checksum = hashlib.sha256(b"data").hexdigest()
    expected = {"file": "renamed.hdf5", "sha256": checksum, "d4rl_file": None}
    assert d4rl.source(path) == expected
    monkeypatch.setattr(d4rl, "known_files", lambda: {"hopper_medium-v2.hdf5": (4, checksum)})
    assert d4rl.source(path) == expected | {"d4rl_file": "hopper_medium-v2.hdf5"}
