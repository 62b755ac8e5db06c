"""What is printed: names that are no text, outputs that lack characters, readers that are gone."""

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO

from bdpo_jax.errors import Notice

ERRORS = "backslashreplace"  # how Python calls that
_WITH_SOURCE = warnings.formatwarning


def as_text(name: str) -> str:
    """Returns a file's name with the codes of what is no text in it, as titles of pictures need it."""
    return name.encode(errors=ERRORS).decode()


def set_up_output() -> None:
    """For programs: a character that standard output cannot write is written as its code, a warning as its sentence."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=ERRORS)
    warnings.formatwarning = _sentence


def _sentence(message, category, filename, lineno, line=None) -> str:
    """A notice to the user needs no line of source beside it."""
    if issubclass(category, Notice):
        return f"Warning: {message}\n"
    return _WITH_SOURCE(message, category, filename, lineno, line)


@contextlib.contextmanager
def courtesy(stream: TextIO | None) -> Iterator[None]:
    """Writing within the block is a courtesy: where it fails (a closed pipe, a lost terminal), work goes on.

    What is written to `stream` after a failure goes nowhere, also when the interpreter flushes it at its end.
    """
    try:
        yield
    except OSError:
        with contextlib.suppress(AttributeError, OSError):  # no file behind it
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
            os.close(nowhere)


def tell(text: str, error: bool = False) -> None:
    """Prints, to standard error if `error`; a reader that is gone is no error."""
    stream = sys.stderr if error else sys.stdout
    with courtesy(stream):
        print(text, file=stream, flush=True)
