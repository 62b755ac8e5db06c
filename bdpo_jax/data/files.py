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
    npz = path.suffix == ".npz"
    try:
        arrays, found = (_npz_arrays if npz else _hdf5_arrays)(path, (*REQUIRED_KEYS, *optional))
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
    return {key: value != 0 if key in BOOLEAN_KEYS else value for key, value in raw.items()}


def _hdf5_arrays(path: Path, keys: tuple[str, ...]) -> tuple[dict, list[str]]:
    """The arrays among `keys`, as stored, and the names of all arrays at the file's top level."""
    with h5py.File(path, "r") as file:
        nodes = {key: node for key, node in file.items() if isinstance(node, h5py.Dataset)}
        return {key: nodes[key][()] for key in keys if key in nodes}, sorted(str(key) for key in nodes)


def _npz_arrays(path: Path, keys: tuple[str, ...]) -> tuple[dict, list[str]]:
    if not zipfile.is_zipfile(path):
        raise ValueError("no zip archive")
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in keys if key in file.files}, sorted(file.files)
