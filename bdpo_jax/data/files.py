"""The arrays of a transition file, HDF5, npz, CSV or parquet, read whole and checked."""

import os
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from bdpo_jax.data import columns as naming
from bdpo_jax.data import ends, tables
from bdpo_jax.data.columns import Source
from bdpo_jax.data.dataset import check_arrays
from bdpo_jax.errors import UserError
from bdpo_jax.workdir import expanded

REQUIRED_KEYS = ("observations", "actions", "rewards", "terminals")
BOOLEAN_KEYS = ("terminals", "timeouts")
TEXT = (".csv", ".tsv", ".txt")
PLAIN = re.compile(rb"[\t\r\n -~\x80-\xff]+")  # no control characters
HDF5 = (".hdf5", ".h5", ".hdf")


def read(path: str | Path, optional: tuple[str, ...] = ("timeouts",), columns: str = "") -> dict:
    """Reads and checks the arrays of an HDF5 file in D4RL's format, or of another file with the same keys.

    Ends of episodes that are told in another way (`ends.KEYS`) are read as `timeouts` where these are asked for.

    Args:
      path: the file: CSV by its suffix, parquet by its first bytes, npz by either, HDF5 otherwise.
      optional: keys read where the file has them; every other key is ignored.
      columns: where the keys lie, if not under names of `columns.NAMES`; see `columns.parse`.

    Returns:
      `observations [rows, observation_dim]`, `actions [rows, action_dim]`, `rewards [rows]` as float32,
      `terminals [rows]` as bool, and the optional ones (`timeouts [rows]` as bool).

    Raises:
      UserError: not a readable file, a missing key, times that do not grow within an episode, or what `columns.gather`,
        `ends.add_timeouts` and `check_arrays` find.
    """
    path = expanded(path)
    if not os.path.isfile(path):  # False, not an error, of a name too long
        if os.path.isdir(path):
            raise UserError(f"{path} is a folder; give the path of a file in it.")
        raise UserError(f"There is no file {path}; give the path of an HDF5, npz, CSV or parquet file.")
    told = (*ends.KEYS, "times") if "timeouts" in optional else ()
    try:
        kind, source_of = _kind(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); change its permissions or copy it.") from error
    try:
        source = source_of(path)
        arrays = naming.gather(source, (*REQUIRED_KEYS, *optional, *told), columns, str(path))
    except UserError:
        raise
    except Exception as error:  # in a damaged file h5py raises nearly anything, from OSError to TypeError
        reason = " ".join(str(error).split())
        if kind == "CSV" and isinstance(error, UnicodeDecodeError):
            raise UserError(f"{path} is not in UTF-8 ({reason}); save it as UTF-8 text.") from error
        raise UserError(
            f"{path} is not a readable {kind} file, perhaps truncated ({reason}); copy or download it again."
        ) from error
    for key in REQUIRED_KEYS:
        if key not in arrays:
            raise naming.missing(key, source.names, str(path))
    raw = check_arrays({key: value for key, value in arrays.items() if key not in told}, str(path))
    for key in BOOLEAN_KEYS:
        if key in raw and (other := raw[key][(raw[key] != 0) & (raw[key] != 1)]).size:
            raise UserError(
                f"{key} of {path} has the value {other[0]:g}; it must be 0 or 1 (true where the episode ends there): "
                "convert it."
            )
    raw = {key: value != 0 if key in BOOLEAN_KEYS else value for key, value in raw.items()}
    ends.add_timeouts(raw, {key: arrays[key] for key in ends.KEYS if key in arrays}, str(path))
    if "times" in arrays:
        ends.check_times(arrays["times"], raw, str(path))
    return raw


def _kind(path: Path) -> tuple[str, Callable[[Path], Source]]:
    """What a file is, by its first bytes or its name, and the reader of such.

    Raises:
      UserError: a kind that is not read, which it names.
    """
    with path.open("rb") as file:
        begins = file.read(8)
    if not begins:
        raise UserError(f"{path} is empty: it has no bytes; write it anew.")
    suffix = path.suffix.lower()
    if suffix in TEXT:
        return "CSV", tables.csv_source
    if begins.startswith(b"PAR1"):
        return "parquet", tables.parquet_source
    way = "write the arrays observations, actions, rewards and terminals with numpy.savez or h5py"
    if begins.startswith(b"\x93NUMPY"):
        kind = "a single NumPy array (npy)"
    elif suffix in (".pkl", ".pickle", ".pt") or begins[:1] == b"\x80" and begins[1:2] in b"\2\3\4\5":
        kind = "a pickle, which can run any code and is not read"
    elif begins.startswith(b"\x1f\x8b"):
        kind = "a gzip archive"
    elif suffix == ".npz" or begins.startswith(b"PK"):
        return "npz", _npz_source
    elif suffix in HDF5 or h5py.is_hdf5(path):
        return "HDF5", _hdf5_source
    elif PLAIN.fullmatch(begins):
        kind, way = "a text file", "if it is a table, name it .csv"
    else:
        kind = f"of another kind (it begins with {begins!r})"
    raise UserError(f"{path} is {kind}, no HDF5, npz, CSV or parquet file: {way}.")


def _hdf5_source(path: Path) -> Source:
    """The datasets of an HDF5 file, those in groups as "group/name", after those outside."""
    with h5py.File(path, "r") as file:
        names = sorted(_datasets(file, (file,)), key=lambda name: "/" in name)

    def take(numbers: Sequence[str], labels: Sequence[str], _: Sequence[str]) -> tuple[dict, dict]:
        with h5py.File(path, "r") as file:
            return {name: file[name][()] for name in numbers}, {name: file[name][()] for name in labels}

    return Source(names, take, is_table=False)


def _datasets(group: h5py.Group, above: tuple[h5py.Group, ...]) -> Iterator[str]:
    """The names of a group's datasets in the file's order: that of creation where the file tracks it, else by name.

    Args:
      group: whose datasets.
      above: the group and those that it lies in, to which no link is followed.
    """
    for name, node in group.items():
        if isinstance(node, h5py.Dataset):
            yield name
        elif isinstance(node, h5py.Group) and node not in above:
            yield from (f"{name}/{inner}" for inner in _datasets(node, (*above, node)))


def _npz_source(path: Path) -> Source:
    if not zipfile.is_zipfile(path):
        raise ValueError("no zip archive")

    def take(numbers: Sequence[str], labels: Sequence[str], _: Sequence[str]) -> tuple[dict, dict]:
        with np.load(path, allow_pickle=False) as file:
            return {name: array(file, name) for name in numbers}, {name: array(file, name) for name in labels}

    def array(file, name: str) -> np.ndarray:
        try:
            return file[name]
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            raise UserError(
                f"{name} of {path} is an array of Python objects, which are pickles and not read; save it as an "
                "array of numbers."
            ) from error

    with np.load(path, allow_pickle=False) as file:
        if file.files and not any(name.endswith(".npy") for name in file.zip.namelist()):
            raise UserError(
                f"{path} is a zip archive or a workbook, no HDF5, npz, CSV or parquet file: save a table as CSV, or "
                "unpack the archive."
            )
        return Source(file.files, take, is_table=False)
