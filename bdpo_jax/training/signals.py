"""Stop signals, taken at safe points and agreed on by all processes of a job."""

import contextlib
import signal
import threading
from collections.abc import Iterator

import jax

from bdpo_jax import devices
from bdpo_jax.errors import Stopped, UserError

# What asks a run to stop: people, a lost terminal, and batch systems before a time limit.
_NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
_STOPS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))  # Windows has not all
_FAILED = 256  # more than any signal: the first process failed in what it does alone


class StopSignals:
    """The signals of `_STOPS`, while the block runs; a second SIGINT interrupts at once.

    One that is ignored (`nohup`) or has a handler of somebody's own stays as it is. Outside the main thread Python
    hears no signals, so that nothing is changed there.
    """

    def __init__(self):
        self._received = 0
        self._ended = False
        self._error: UserError | None = None

    def check(self) -> None:
        """Ends the job where one of its processes must end; all of them must call this.

        Raises:
          Stopped: a process has received a signal.
          UserError: of the first process, see `deferring_errors`.
        """
        found = devices.agreed(_FAILED if self._error else self._received)
        if found == _FAILED:
            devices.shared(self._fail)
        self._raise(found)

    def _fail(self) -> None:
        if self._error is not None:
            raise self._error

    def check_here(self) -> None:
        """Raises `Stopped` once this process has received a signal, or the job ends with an error: for threads."""
        self._raise(self._received or (signal.SIGTERM if self._ended else 0))

    def end(self) -> None:
        """Lets threads that call `check_here` come to their end."""
        self._ended = True

    @contextlib.contextmanager
    def deferring_errors(self) -> Iterator[None]:
        """Work that only the first process of a job does: its `UserError` is raised in all, by the next `check`."""
        try:
            yield
        except UserError as error:
            if jax.process_count() == 1:
                raise
            self._error = self._error or error

    def _raise(self, number: int) -> None:
        if number:
            raise Stopped(number)

    def _remember(self, number, _):
        if self._received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = self._received or number

    def __enter__(self) -> "StopSignals":
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            own = {signal.SIG_DFL, signal.default_int_handler}
            taken = [number for number in _STOPS if signal.getsignal(number) in own]
            self._before = {number: signal.signal(number, self._remember) for number in taken}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
