"""Checkpoints: whole or absent, written in the background, restored bit for bit."""

import errno
import json
import logging
import os
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from bdpo_jax.errors import Damaged, UserError
from bdpo_jax.workdir import make_directory, plain, writing


def _not_of_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname


# Orbax logs every step of every save, and each error several times, through the logger that absl programs
# share; what matters of it is raised.
logging.getLogger("absl").addFilter(_not_of_orbax)


def _is_key(leaf) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _shape_and_dtype(leaf) -> tuple[tuple[int, ...], str]:
    """What is stored of a leaf; a typed PRNG key is stored as its uint32 data."""
    if _is_key(leaf):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    if not hasattr(leaf, "dtype"):
        leaf = np.asarray(leaf)
    return tuple(leaf.shape), np.dtype(leaf.dtype).name


def _named_leaves(tree) -> dict[str, Any]:
    """`{".params['kernel']": leaf}`: names by position, so that no container type has to be stored."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _on_host(tree) -> dict[str, np.ndarray]:
    """The leaves of `tree` in host memory; on a CPU they are views of the device's own buffers."""
    named = _named_leaves(tree)
    leaves = {name: jax.random.key_data(leaf) if _is_key(leaf) else leaf for name, leaf in named.items()}
    return {name: np.asarray(leaf) for name, leaf in jax.device_get(leaves).items()}


def _like(value: np.ndarray, leaf):
    """`value` as the kind of leaf that `leaf` is: JAX array (at its place), numpy array or Python number."""
    if _is_key(leaf):
        impl = []  # known inside a trace also where the leaf is only a shape
        jax.eval_shape(lambda key: impl.append(jax.random.key_impl(key)), leaf)
        return jax.random.wrap_key_data(jnp.array(value), impl=impl[0])
    if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        sharding = getattr(leaf, "sharding", None)
        if sharding is None or sharding.device_set == {jnp.zeros(()).device}:
            return jnp.array(value)  # not committed to a device, like the arrays of a fresh state
        return jax.device_put(value, sharding)
    if isinstance(leaf, np.ndarray):
        return value
    return value.dtype.type(value) if isinstance(leaf, np.generic) else type(leaf)(value)


def _checksum(array: np.ndarray) -> int:
    """CRC-32 of an array's bytes, which any single flipped bit changes."""
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _checksum_of_record(record: dict) -> int:
    return zlib.crc32(json.dumps({**record, "checksum": 0}, sort_keys=True).encode())


def _compare(saved: dict[str, list], expected: dict[str, tuple], where: str) -> None:
    problems = [f"{name} is missing in the checkpoint" for name in expected if name not in saved]
    problems += [f"{name} is only in the checkpoint" for name in saved if name not in expected]
    for name, (shape, dtype) in expected.items():
        if name in saved and (tuple(saved[name][0]), saved[name][1]) != (shape, dtype):
            problems.append(f"{name} is {saved[name][1]}{saved[name][0]} there and {dtype}{list(shape)} here")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(
            f"{where} does not fit this configuration ({'; '.join(problems[:3])}{more}): "
            "use the settings that it was saved with, or another --workdir"
        )


def _require_room(directory: Path, size: int) -> None:
    """Raises an `OSError` where `directory` has no room for `size` bytes, or where nothing more may be written.

    Found out by Orbax's threads, a full disk fills the screen with their tracebacks.
    """
    if shutil.disk_usage(directory).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with tempfile.TemporaryFile(dir=directory) as file:  # a quota, a limit on the size of files
        file.write(bytes(min(size, 2**20)))


class Checkpointer:
    """The last `keep` checkpoints of a run, one directory per step.

    A checkpoint appears under its name only when it is complete, so a process killed while it saves leaves
    the one before as the latest.
    """

    def __init__(self, directory: str | os.PathLike, keep: int = 3, read_only: bool = False):
        """
        Args:
          directory: where the steps lie; created unless `read_only`.
          keep: number of checkpoints kept, the latest.
          read_only: for another process than the run's own; touches nothing.

        Raises:
          UserError: the directory cannot be written, its name is no text or has a backslash, or (`read_only`) it is not
            there.
        """
        self.directory = Path(directory).absolute()
        if os.sep == "/" and "\\" in str(self.directory):  # whose arrays that library writes and does not find again
            raise UserError(
                f"{self.directory} has a backslash in it, and checkpoints below it could not be read again: use "
                "another name"
            )
        try:
            str(self.directory).encode()
        except UnicodeEncodeError as error:  # no path for the library that stores arrays
            raise UserError(
                f"{self.directory} holds bytes that are no text here: use another name, or set PYTHONUTF8=1"
            ) from error
        if read_only and not self.directory.is_dir():
            raise UserError(f"{self.directory} holds no checkpoints: check the directory")
        here = jax.process_index()  # of a job's processes only this one takes part
        alone = ocp.options.MultiprocessingOptions(
            primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"process{here}"
        )
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=False,
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
            multiprocessing_options=alone,
        )
        if not read_only:
            make_directory(self.directory)
        with writing(self.directory):
            self._manager = ocp.CheckpointManager(self.directory, options=options, item_names=("state", "extra"))
        self._complete = self._manager.latest_step()

    def save(self, step: int, state, extra: dict | None = None) -> None:
        """Copies `state` in host memory and writes the copy in the background.

        A second save of the latest step does nothing.

        Args:
          step: grows from save to save.
          state: pytree of arrays, typed PRNG keys and Python numbers; donating it afterwards is safe.
          extra: what JSON holds (see `workdir.plain`), given back by `restore`.

        Raises:
          UserError: this save, or the one before it in the background, could not be written.
          ValueError: `step` is before the latest checkpoint.
        """
        latest = self.latest_step()
        if latest is not None and step <= latest:
            if step == latest:
                return
            raise ValueError(f"step {step} comes after a checkpoint of step {latest}: steps only grow")
        signature = {name: _shape_and_dtype(leaf) for name, leaf in _named_leaves(state).items()}
        leaves = {name: leaf for name, leaf in _on_host(state).items() if leaf.size}
        checksums = {name: _checksum(leaf) for name, leaf in leaves.items()}
        record = plain({"leaves": signature, "checksums": checksums, "extra": extra or {}})
        record["checksum"] = _checksum_of_record(record)
        with writing(self.directory / str(step), latest):
            _require_room(self.directory, sum(leaf.nbytes for leaf in leaves.values()))
            # Orbax copies host arrays before its save returns; a test holds it to that.
            self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(leaves), extra=ocp.args.JsonSave(record)),
            )

    def latest_step(self) -> int | None:
        """Step of the last complete checkpoint, or None; waits for a save under way."""
        self.wait()
        return self._complete

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending; waits for a save under way."""
        self.wait()
        return sorted(self._manager.all_steps())

    def drop_after(self, step: int) -> None:
        """Deletes the checkpoints of later steps than `step`."""
        for later in self.steps():
            if later > step:
                self._manager.delete(later)
        self._complete = self._manager.latest_step()

    def restore(self, like, step: int | None = None, may_lack: str = "") -> tuple[Any, dict]:
        """The saved state, bit for bit, and `extra`.

        Args:
          like: pytree of the saved structure, of arrays, numbers or `ShapeDtypeStruct`s (which become arrays
            on the default device, or where their sharding says).
          step: a kept step; the latest where None.
          may_lack: how the names of leaves begin that are `like`'s own where the checkpoint has none; "": none may.

        Raises:
          UserError: no such checkpoint, or structure, shapes or dtypes differ from `like`.
          Damaged: it cannot be read, or a checksum is not that of what was saved.
        """
        step, record = self._record(step)
        named = _named_leaves(like)
        new = {name for name in named if may_lack and name.startswith(may_lack) and name not in record["leaves"]}
        expected = {name: _shape_and_dtype(leaf) for name, leaf in named.items() if name not in new}
        _compare(record["leaves"], expected, f"the checkpoint at {self.directory / str(step)}")
        empty = {name: np.empty(shape, jnp.dtype(dtype)) for name, (shape, dtype) in expected.items()}
        stored = {name: array for name, array in empty.items() if array.size}
        values = self._read(step, "state", ocp.args.StandardRestore(stored))
        wrong = [name for name, value in values.items() if _checksum(np.asarray(value)) != record["checksums"][name]]
        if wrong:
            raise self._damaged(step, f"the checksum of {wrong[0]} differs")
        leaves = [leaf if name in new else _like(values.get(name, empty[name]), leaf) for name, leaf in named.items()]
        return jax.tree.unflatten(jax.tree.structure(like), leaves), record["extra"]

    def extra(self, step: int | None = None) -> dict:
        """What was saved beside a state; argument and errors are those of `restore`."""
        return self._record(step)[1]["extra"]

    def _record(self, step: int | None) -> tuple[int, dict]:
        """A kept step, and what is known of its state without reading it."""
        latest = self.latest_step()
        step = latest if step is None else step
        if step is None or step not in self._manager.all_steps():
            kept = ", ".join(map(str, sorted(self._manager.all_steps()))) or "none"
            wanted = "" if step is None else f" of step {step}"
            raise UserError(f"{self.directory} holds no checkpoint{wanted} (kept: {kept})")
        record = self._read(step, "extra", ocp.args.JsonRestore())
        if record.get("checksum") != _checksum_of_record(record):
            raise self._damaged(step, "the checksum of its record differs")
        return step, record

    def _read(self, step: int, item: str, how):
        try:
            # Too many open files, a missing permission, a disk that does not answer: that is no damage.
            with writing(self.directory / str(step), doing="reading"):
                return self._manager.restore(step, args=ocp.args.Composite(**{item: how}))[item]
        except (UserError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 (what damage does to a decoder is anybody's guess)
            raise self._damaged(step, " ".join(str(error).split())[:200]) from error

    def _damaged(self, step: int, why: str) -> Damaged:
        return Damaged(
            f"the checkpoint at {self.directory / str(step)} cannot be read ({why}): "
            "delete this directory to go back to the one before it"
        )

    def wait(self) -> None:
        """Returns when the save under way is complete.

        Raises:
          UserError: it could not be written (any other error of the background thread is raised as it is).
        """
        with writing(self.directory, self._complete):
            self._manager.wait_until_finished()
        self._complete = self._manager.latest_step()

    def close(self) -> None:
        """Waits for the save under way and ends the background threads; raises as `wait`."""
        with writing(self.directory, self._complete):
            self._manager.close()

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, *_) -> None:
        self.close()
