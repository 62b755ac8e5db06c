"""What the flags library leaves to be wished for in `--config=FILE --config.KEY=VALUE`."""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict, config_flags

from bdpo_jax import settings
from bdpo_jax.errors import UserError


def last_of_each(argv: Sequence[str]) -> list[str]:
    """Returns the arguments without those `--config.KEY=VALUE` that a later one of the same key replaces.

    The library appends the elements of a tuple that is given twice.
    """
    found = [re.match(r"--?(config\.[^=]+)=", argument) for argument in argv]
    keys = [match and match[1] for match in found]
    last = {key: i for i, key in enumerate(keys)}
    return [argument for i, argument in enumerate(argv) if keys[i] is None or last[keys[i]] == i]


def missing_file(argv: Sequence[str]) -> str | None:
    """Returns the sentence about a config's file that is not there; None where it is.

    Args:
      argv: with the config's file, as `--config=FILE` or in two words.
    """
    paths = (Path(text.partition(":")[0]) for text in _files(argv))
    path = next((path for path in paths if not os.path.exists(path)), None)  # which no name is too long for
    if path is None:
        return None
    known = {one.name: one for folder in (Path("configs"), path.parent) for one in folder.glob("*.py")}
    near = difflib.get_close_matches(path.name, known, n=1, cutoff=0.75)
    way = f"the nearest is {known[near[0]]}" if near else "those of the checkout lie in configs/, below its root"
    return f"There is no config file {path}; {way}."


def _files(argv: Sequence[str]) -> list[str]:
    """The configs' files, with their arguments."""
    pairs = zip(argv, [*argv[1:], ""], strict=True)
    return [word.partition("=")[2] if "=" in word else after for word, after in pairs if _names_file(word)]


def unknown_key(argv: Sequence[str]) -> str | None:
    """Returns the sentence about the first `--config.KEY` that the config has not; None where it has all.

    Args:
      argv: with the config's file, as `--config=FILE` or in two words.
    """
    try:
        config = config_flags.config_flags.ConfigFileFlagParser("config").parse(_files(argv)[0])
    except Exception:  # noqa: BLE001 (a file without a config has no keys; the library says what is wrong with it)
        return None
    if not isinstance(config, ConfigDict):  # what stands for a file that is not there
        return None
    for found in filter(None, (re.match(r"--?(?:no)?config\.([^=]+)", argument) for argument in argv)):
        try:
            settings.require(config, found[1])
        except UserError as error:
            return str(error)
    return None


def _names_file(argument: str) -> bool:
    return bool(re.match(r"--?config(=|$)", argument))


def names_config(argv: Sequence[str]) -> bool:
    """Returns whether a config's file is among the arguments."""
    return any(map(_names_file, argv))


def flags(changes: Mapping[str, Any]) -> list[str]:
    """Returns the arguments `--config.KEY=VALUE` that set these keys, in order."""
    return [f"--config.{key}={value if isinstance(value, str) else repr(value)}" for key, value in changes.items()]
