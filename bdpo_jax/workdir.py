"""A run's directory: one owner at a time, one configuration, files that are either whole or absent."""

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import socket
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import filelock
import numpy as np

from bdpo_jax.errors import Notice, UserError

CONFIG_FILE = "config.json"
SIZES_FILE = "sizes.json"  # of a run: what a reader of its checkpoints needs beside the config
BROKEN = "nonfinite"  # in a run's directory, the folder of a state that is NaN or infinite
LOCK_FILE = ".lock"
OWNER_FILE = ".owner"  # whose lock it is; Windows lets nobody read the locked file itself

# What may lie in a directory before its run: hidden files, a batch system's logs, a fresh volume's own folder.
_NOT_FOREIGN = re.compile(r"\..*|.*\.(out|err|log)|.*\.[oe]\d+([.-]\d+)?|lost\+found")
_FREE = "free some space and run the same command again"
_FILES = "raise the limit (ulimit -n 4096) and run the same command again"
_LARGER = "raise the limit (ulimit -f unlimited) or use another file system, and run the same command again"
_ELSEWHERE = "choose a directory that you may write to"
_AGAIN = "run the same command again when it is"
_FAILURES = {
    errno.ENOSPC: ("the disk is full", _FREE),
    errno.EDQUOT: ("the disk quota is used up", _FREE),
    errno.EFBIG: ("a file would be larger than is allowed", _LARGER),
    errno.EROFS: ("the file system is read-only", _ELSEWHERE),
    errno.EACCES: ("permission is denied", _ELSEWHERE),
    errno.EPERM: ("permission is denied", _ELSEWHERE),
    errno.EMFILE: ("too many files are open", _FILES),
    errno.ENFILE: ("too many files are open", _FILES),
    errno.ENOTDIR: ("a part of the path is a file", _ELSEWHERE),
    errno.EIO: ("the disk is not in order", _AGAIN),
    errno.ESTALE: ("the network's file system is not in order", _AGAIN),
    errno.ETIMEDOUT: ("the network's file system is not in order", _AGAIN),
}
# Of the file that is being written itself: elsewhere in a library such an error may mean anything.
_PLACES = {
    errno.ENOENT: ("a part of the path does not exist and cannot be made", _ELSEWHERE),
    errno.EISDIR: ("it is a directory", "give the name of a file"),
    errno.EEXIST: ("there is a file or a broken link of that name", _ELSEWHERE),
    errno.ENAMETOOLONG: ("a name is too long", "give a shorter one"),
    errno.ELOOP: ("its symbolic links lead in a circle", _ELSEWHERE),
}


# ---------------------------------------------------------------------------------------------- files


def _write_failure(error: BaseException | None) -> tuple[str, str] | None:
    """(what went wrong, what to do) if `error`, or an error behind it, is one that the user can mend."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FAILURES:
            return _FAILURES[error.errno]
        # Storage libraries report the system's error only as text.
        for number, failure in _FAILURES.items():
            if os.strerror(number) in str(error):
                return failure
        error = error.__cause__ or error.__context__
    return None


@contextlib.contextmanager
def writing(path: str | os.PathLike, last_step: int | None = None, doing: str = "writing") -> Iterator[None]:
    """Turns a full disk, a read-only file system or a missing permission inside the block into a UserError.

    Args:
      path: what is being written, for the message, as are the others.
      last_step: step of the last complete checkpoint, named in the message where given.

    Raises:
      UserError: one sentence; every other error passes unchanged.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        failure = _write_failure(error)
        if failure is None:
            raise
        what, remedy = failure
        kept = "" if last_step is None else f" (the last complete checkpoint is at step {last_step})"
        raise UserError(f"{what} while {doing} {os.fspath(path)}: {remedy}{kept}") from error


def expanded(path: str | os.PathLike) -> Path:
    """The path with the home directory in the place of ~.

    Raises:
      UserError: there is none.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{os.fspath(path)} names a home directory that is not known: write the path out") from error


def make_directory(path: str | os.PathLike) -> None:
    """Makes a directory and those above it, where they are missing.

    Raises:
      UserError: it cannot be made, or there is a file of that name.
    """
    with writing(path), _placing(path):
        Path(path).mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _placing(path: str | os.PathLike) -> Iterator[None]:
    """Turns an error about the place of a file or directory, its parents' or its name into a UserError."""
    try:
        yield
    except OSError as error:
        at = Path(os.fsdecode(error.filename or ""))
        if error.errno not in _PLACES or not (at.parent == Path(path).parent or Path(path).is_relative_to(at)):
            raise
        what, remedy = _PLACES[error.errno]
        raise UserError(f"{os.fspath(path)} cannot be written, {what}: {remedy}") from error


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a temporary path beside `path`; when the block ends without error it replaces `path` at once.

    A reader, or a run after a crash, finds the old file or the new one, never a part of either.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path), _placing(path):
        make_directory(path.parent)
        try:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):  # what went wrong is raised already
                temporary.unlink(missing_ok=True)


def plain(value):
    """`value` as JSON holds it: arrays become lists, numpy scalars Python's, paths text, NaN and inf null."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic):
        return plain(value.item())
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        return [plain(item) for item in array] if array.ndim else plain(array[()])
    raise TypeError(f"{type(value).__name__} has no JSON form")


def write_json(path: str | os.PathLike, value) -> None:
    """Writes `value` (see `plain`) to `path` in one step; floats keep full precision.

    Raises:
      UserError: disk full, read-only or no permission.
    """
    text = json.dumps(plain(value), indent=2, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n")


# ---------------------------------------------------------------------------------------------- config


def flatten(config, prefix: str = "") -> dict:
    """Nested mapping -> `{"a.b": value}` with plain values; an empty mapping stays as one entry.

    Raises:
      UserError: a value is NaN or infinite, which no later comparison could hold equal.
    """
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    flat = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value or hasattr(value, "to_dict"):
            flat.update(flatten(value, f"{name}."))
            continue
        if isinstance(value, float | np.floating) and not math.isfinite(value):
            raise UserError(f"config key {name} is {value}: give a finite number, or null for none")
        flat[name] = plain(value)
    return flat


def _covers(keys: Collection[str], name: str) -> bool:
    return any(name == key or name.startswith(f"{key}.") for key in keys)


def config_hash(config, ignore: Collection[str] = ()) -> str:
    """First 12 hex digits of the sha256 of the flattened config, whatever the order of its keys.

    Args:
      config: nested mapping or ConfigDict.
      ignore: keys, or prefixes of keys, that leave the hash alone (budgets, intervals).
    """
    flat = {key: value for key, value in flatten(config).items() if not _covers(ignore, key)}
    text = json.dumps(flat, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_config(path: str | os.PathLike) -> dict:
    """The config of the run in directory `path`, as nested plain values.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    file = expanded(path) / CONFIG_FILE
    try:
        config = json.loads(file.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} holds no run (there is no {CONFIG_FILE}): check the directory") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): it is damaged; a new run needs another --workdir") from error
    if not isinstance(config, dict):
        raise UserError(f"{file} is not the config of a run: it is damaged; a new run needs another --workdir")
    return config


def differences(old, new) -> dict[str, tuple]:
    """`{"a.b": (old value, new value)}` for keys whose values differ; a missing value reads "(absent)"."""
    old, new = flatten(old), flatten(new)
    names = [*old, *(name for name in new if name not in old)]
    pairs = {name: (old.get(name, "(absent)"), new.get(name, "(absent)")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


# ---------------------------------------------------------------------------------------------- workdir


class Workdir:
    """Opens or creates a run's directory and holds it until `close` or the end of the process, even by SIGKILL.

    An object that is dropped gives it free too; a forked process does not hold it.

    Attributes:
      path: the directory.
      resumed: whether it held a run of the same config.
      changed: `{key: (old, new)}` of the settings in `may_change` that differ from the run's last start.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        config,
        may_change: Collection[str] = (),
        may_drop: Mapping[str, Collection] | None = None,
    ):
        """
        Args:
          path: directory, created where missing.
          config: nested mapping or ConfigDict; written to `config.json`, of a resumed run by `accept`.
          may_change: keys, or prefixes of keys, in which a resumed run may differ.
          may_drop: keys in which it may differ where the old value or the new one is among these.

        Raises:
          UserError: the directory is in use, holds another run or foreign files, or cannot be written.
        """
        self.path = Path(path)
        self.resumed = False
        self.changed: dict[str, tuple] = {}
        self._held: filelock.BaseFileLock | None = None
        if os.path.exists(self.path) and not os.path.isdir(self.path):  # False, not an error, of a name too long
            raise UserError(f"{self.path} is a file: give a directory as --workdir")
        flatten(config)
        self._config = config
        try:
            with writing(self.path):
                self._refuse_foreign_files()
                make_directory(self.path)
                self._lock()
            if (self.path / CONFIG_FILE).exists():
                self._compare(read_config(self.path), config, may_change, may_drop or {})
                self.resumed = True
            if not self.resumed:
                write_json(self.path / CONFIG_FILE, config)
        except BaseException:
            self.close()
            raise

    def _refuse_foreign_files(self) -> None:
        if not os.path.isdir(self.path) or (self.path / CONFIG_FILE).exists():
            return
        foreign = sorted(name for name in os.listdir(self.path) if not _NOT_FOREIGN.fullmatch(name))
        if foreign:
            raise UserError(
                f"{self.path} holds files ({foreign[0]}{', ...' if foreign[1:] else ''}) but no run of this "
                "program: give a new or empty directory as --workdir"
            )

    def _lock(self) -> None:
        # No soft lock where the system's is missing: a killed process would leave it behind.
        lock = filelock.FileLock(self.path / LOCK_FILE, blocking=False, thread_local=False, fallback_to_soft=False)
        owner = self.path / OWNER_FILE
        try:
            lock.acquire()
        except filelock.Timeout:
            # Missing or empty if the other process has only just locked the directory.
            name = owner.read_text(errors="replace").strip() if owner.exists() else ""
            raise UserError(
                f"{self.path} is in use by {name or 'another process'}: wait for it, stop it, or use another --workdir"
            ) from None
        except OSError as error:
            if error.errno in _FAILURES:  # there is not even a file to lock
                raise
            warnings.warn(f"{self.path} cannot be locked ({error}): start no second run in it", Notice, stacklevel=3)
        self._held = lock
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")

    def _compare(self, old: dict, new, may_change: Collection[str], may_drop: Mapping[str, Collection]) -> None:
        changed = differences(old, new)
        dropped = {name for name, pair in changed.items() if any(value in may_drop.get(name, ()) for value in pair)}
        refused = [name for name in changed if not _covers(may_change, name) and name not in dropped]
        # Where the algorithm or the task is another, so are most settings, which then explain nothing.
        refused = [name for name in ("agent", "family", "task") if name in refused] or refused
        if refused:
            said = [f"{name} is {changed[name][0]!r} there and {changed[name][1]!r} here" for name in refused]
            more = f" and {len(said) - 8} more" if len(said) > 8 else ""
            raise UserError(
                f"{self.path} holds a run with other settings ({'; '.join(said[:8])}{more}): "
                "use another --workdir or the same settings"
            )
        self.changed = changed

    def accept(self) -> None:
        """Writes the settings that changed, once it is clear that the run can go on with them."""
        if self.changed:
            write_json(self.path / CONFIG_FILE, self._config)

    def close(self) -> None:
        """Releases the directory; a second call does nothing."""
        if self._held is not None:
            self._held.release()

    def __enter__(self) -> "Workdir":
        return self

    def __exit__(self, kind, error: BaseException | None, _) -> None:
        self.close()
        if isinstance(error, Exception) and not (self.path / CONFIG_FILE).exists():
            # Whatever was written last has failed, in a way of its own.
            raise UserError(
                f"{self.path} is gone, it was moved or deleted while its run went on: where it was moved, run the same "
                "command again with --workdir of that place"
            ) from error
