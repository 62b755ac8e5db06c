"""Names of files may hold bytes that are no text, and outputs may lack characters: both are written by their codes."""

import io
import sys

ERRORS = "backslashreplace"  # how Python calls that


def as_text(name: str) -> str:
    """Returns a file's name with the codes of what is no text in it, as titles of pictures need it."""
    return name.encode(errors=ERRORS).decode()


def write_any_text() -> None:
    """Lets standard output write the code of a character that it cannot write, as standard error does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=ERRORS)
