"""The arrays of a transition file, HDF5 or npz, read whole and checked."""

import zipfile
from pathlib import Path

import h5py
import numpy as np

from bdpo_jax.data.dataset import check_arrays
from bdpo_jax.errors import UserError

REQUIRED_KEYS = ("observations", "actions", "rewards", "terminals")
BOOLEAN_KEYS = ("terminals", "timeouts")


def read(path: str | Path, optional: tuple[str, ...] = ("timeouts",)) -> dict:
    """Reads and checks the arrays of an HDF5 file in D4RL's format, or of an npz file with the same keys.

    Args:
      path: the file; npz by its suffix, HDF5 otherwise.
      optional: keys read where the file has them; every other key is ignored.

    Returns:
      `observations [rows, observation_dim]`, `actions [rows, action_dim]`, `rewards [rows]` as float32,
      `terminals [rows]` as bool, and the optional ones (`timeouts [rows]` as bool).

    Raises:
      UserError: not a readable file, a missing key, or what `check_arrays` finds.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"There is no file {path}; give the path of an HDF5 or npz file in D4RL's format.")
    with path.open("rb") as file:
        begins = file.read(8)
    npz = path.suffix.lower() == ".npz" or begins.startswith(b"PK")
    _refuse_other_kinds(path, begins)
    try:
        arrays, found = (_npz_arrays if npz else _hdf5_arrays)(path, (*REQUIRED_KEYS, *optional))
    except UserError:
        raise
    except Exception as error:  # in a damaged file h5py raises nearly anything, from OSError to TypeError
        reason = " ".join(str(error).split())
        kind = "npz" if npz else "HDF5"
        raise UserError(
            f"{path} is not a readable {kind} file, perhaps truncated ({reason}); copy or download it again."
        ) from error
    missing = [key for key in REQUIRED_KEYS if key not in arrays]
    if missing:
        listed = ", ".join(found) or "none"
        raise UserError(f"{path} lacks the key {missing[0]} (found: {listed}); a D4RL file has it.")
    raw = check_arrays(arrays, str(path))
    for key in BOOLEAN_KEYS:
        if key in raw and (other := raw[key][(raw[key] != 0) & (raw[key] != 1)]).size:
            raise UserError(
                f"{key} of {path} has the value {other[0]:g}; it must be 0 or 1 (true where the episode ends there): "
                "convert it."
            )
    return {key: value != 0 if key in BOOLEAN_KEYS else value for key, value in raw.items()}


def _refuse_other_kinds(path: Path, begins: bytes) -> None:
    """Raises a `UserError` that names what a file is, if its first bytes or its name tell another kind."""
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        kind = "a table of text"
    elif begins.startswith(b"PAR1"):
        kind = "a parquet file"
    elif begins.startswith(b"\x93NUMPY"):
        kind = "a single NumPy array (npy)"
    elif path.suffix.lower() in (".pkl", ".pickle", ".pt") or begins[:1] == b"\x80" and begins[1:2] in b"\2\3\4\5":
        kind = "a pickle, which can run any code and is not read"
    elif begins.startswith(b"\x1f\x8b"):
        kind = "a gzip archive"
    else:
        return
    raise UserError(
        f"{path} is {kind}, no HDF5 or npz file: write the arrays observations, actions, rewards and terminals with "
        "numpy.savez or h5py."
    )


def _hdf5_arrays(path: Path, keys: tuple[str, ...]) -> tuple[dict, list[str]]:
    """The arrays among `keys`, as stored, and the names of all arrays at the file's top level."""
    with h5py.File(path, "r") as file:
        nodes = {key: node for key, node in file.items() if isinstance(node, h5py.Dataset)}
        return {key: nodes[key][()] for key in keys if key in nodes}, sorted(str(key) for key in nodes)


def _npz_arrays(path: Path, keys: tuple[str, ...]) -> tuple[dict, list[str]]:
    if not zipfile.is_zipfile(path):
        raise ValueError("no zip archive")
    with np.load(path, allow_pickle=False) as file:
        arrays = {}
        for key in (key for key in keys if key in file.files):
            try:
                arrays[key] = file[key]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                raise UserError(
                    f"{key} of {path} is an array of Python objects, which are pickles and not read; save it as an "
                    "array of numbers."
                ) from error
        return arrays, sorted(file.files)
