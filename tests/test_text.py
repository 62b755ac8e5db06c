"""What is printed reaches a reader or nobody; it never ends the program."""

import os
import subprocess
import sys
from pathlib import Path

from bdpo_jax.text import tell


def test_a_reader_that_is_gone_is_no_error(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        tell("nobody reads this")
        tell("nor this")


def test_a_command_into_head_ends_without_a_word():
    # More than a pipe holds, of which head reads a line.
    words = "-m bdpo_jax.experiments table1_locomotion --size=full --separate --dry-run"
    command = f"{sys.executable} {words} | head -n 1; exit ${{PIPESTATUS[0]}}"
    root = Path(__file__).resolve().parents[1]
    found = subprocess.run(["bash", "-c", command], cwd=root, capture_output=True, text=True)
    assert found.stdout.startswith("0: python launch.py")
    assert (found.returncode, found.stderr) == (0, "")
