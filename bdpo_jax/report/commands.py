"""The command that a run, or its group, was launched with, and the settings in which it differs from its file's."""

import contextlib
import importlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from bdpo_jax import arguments
from bdpo_jax.errors import UserError
from bdpo_jax.workdir import differences

_FILES = {"synthetic2d": "synthetic2d", "pointmass": "pointmass", "d4rl": "locomotion"}  # others: custom
_ABSENT = "(absent)"


class Command(NamedTuple):
    """How to launch a run or group again.

    Attributes:
      text: to be run in the repository's root; "" where the config file cannot be found out.
      changes: `{key: (the file's value, its own)}`; "(absent)" stands for what one of them lacks.
    """

    text: str
    changes: dict[str, tuple]


def base(config: Mapping) -> ConfigDict | None:
    """Returns what the config file gives that a config was made from; None where it is not at hand.

    The files are in the folder `configs` of the repository, which an installed package lacks.
    """
    source = _source(config)
    if source is None:
        return None
    file, argument = source
    with contextlib.suppress(ImportError, UserError):
        return importlib.import_module(f"configs.{file}").get_config(argument)
    return None


def find(launched: Mapping, directory: Path) -> Command:
    """Returns the command of a run or group.

    Args:
      launched: its config.
      directory: its own.
    """
    source, file_s = _source(launched), base(launched)
    if source is None or file_s is None:
        return Command("", {})
    changes = {key: pair for key, pair in differences(file_s, launched).items() if key != "recipe"}
    given = {key: _literal(own) for key, (before, own) in changes.items() if _ABSENT not in (before, own)}
    name, argument = source
    words = ("python", "launch.py", f"--config=configs/{name}.py:{argument}", f"--workdir={directory}")
    return Command(shlex.join((*words, *arguments.flags(given))), changes)


def _source(config: Mapping) -> tuple[str, str] | None:
    """The config file's name and argument."""
    family, _, words = config.get("recipe", "").partition("/")
    if not words:
        return None
    if family == "d4rl" and words.startswith("antmaze"):
        return "antmaze", words
    if family in _FILES:
        return _FILES[family], words
    task, *others = words.rsplit(",", 2)
    named = config.get("dataset_path") or task if family == "file" else f"{family}:{task}"
    return "custom", ",".join((named, *others))


def _literal(value: Any) -> Any:
    """A value as the flags take it: JSON has lists for tuples."""
    return tuple(value) if isinstance(value, list) else value
