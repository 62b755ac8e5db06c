"""Runs commands one after another; a signal stops the one that runs, and the list."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

from bdpo_jax.errors import Stopped
from bdpo_jax.experiments.plan import DONE, Item
from bdpo_jax.text import courtesy, tell
from bdpo_jax.workdir import write_json

SIGNALS = [signal.SIGTERM, signal.SIGINT]
if hasattr(signal, "SIGHUP"):  # the terminal has gone; the command, in a session of its own, would go on
    SIGNALS.append(signal.SIGHUP)


class Runner:
    """Runs items, while the block runs; signals go on to the command under way, which saves and ends.

    The command has a session of its own: a terminal would send it Ctrl-C a second time, which interrupts it at once.
    """

    def __init__(self) -> None:
        self._received = 0
        self._process: subprocess.Popen | None = None

    def run(self, items: Sequence[Item], labels: Sequence[str]) -> dict[Item, str]:
        """Runs what is not finished; returns one sentence for each item that failed.

        Args:
          items: what to run, in order.
          labels: what is said before each.

        Raises:
          Stopped: a signal came, and the command under way has ended.
        """
        failed = {}
        for item, label in zip(items, labels, strict=True):
            self._check()
            if item.finished():
                tell(f"{label} {item.path}: finished before")
                continue
            tell(f"{label} {item}")
            problem = self._run(item)
            self._check()
            if problem:
                failed[item] = problem
                tell(f"{label} {item.path}: {problem}", error=True)
        return failed

    def _run(self, item: Item) -> str | None:
        """Runs a command; returns why it failed. What it says on standard error is passed on."""
        self._process = subprocess.Popen(item.command, stderr=subprocess.PIPE, start_new_session=True)
        assert self._process.stderr is not None
        if self._received:  # it came before there was a process to send it to
            self._pass_on(self._received)
        tail = b""
        while part := os.read(self._process.stderr.fileno(), 65536):
            with courtesy(sys.stderr):
                sys.stderr.buffer.write(part)
                sys.stderr.buffer.flush()
            tail = (tail + part)[-10_000:]
        self._process.stderr.close()
        code = self._process.wait()
        self._process = None
        if code == 0:
            if item.config is None:
                write_json(item.path / DONE, {"command": item.command[1:]})
            return None
        lines = [line.strip() for line in tail.decode(errors="replace").splitlines() if line.strip()]
        said = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")] or lines
        return said[-1] if said else f"it ended with exit status {code}."

    def _check(self) -> None:
        if self._received:
            raise Stopped(self._received)

    def _forward(self, number: int, _: FrameType | None) -> None:
        self._received = number
        self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)

    def __enter__(self) -> "Runner":
        self._before = {number: signal.signal(number, self._forward) for number in SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
