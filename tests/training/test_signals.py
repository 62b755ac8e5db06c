"""Which signals stop a run, and which stay as they are."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bdpo_jax import devices
from bdpo_jax.errors import Stopped, UserError
from bdpo_jax.training import signals
from bdpo_jax.training.signals import StopSignals

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("number", "status"),  # 128 + the signal's number, as a shell reports it
    [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129), ("SIGUSR1", 138), ("SIGUSR2", 140), ("SIGXCPU", 152)],
)
def test_every_stop_signal_has_its_exit_status(number, status):
    before = signal.getsignal(getattr(signal, number))
    with StopSignals() as stop:
        stop.check()
        os.kill(os.getpid(), getattr(signal, number))
        with pytest.raises(Stopped) as stopped:
            stop.check()
    assert stopped.value.code == status and str(stopped.value) == number
    assert signal.getsignal(getattr(signal, number)) == before


def test_an_ignored_hangup_stays_ignored():
    """As under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            stop.check()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_nothing_is_asked_of_signals():
    errors = []

    def work():
        try:
            with StopSignals() as stop:
                stop.check()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == []


def test_an_error_of_the_first_process_is_raised_by_the_next_check(monkeypatch):
    monkeypatch.setattr(signals.jax, "process_count", lambda: 2)
    monkeypatch.setattr(devices, "agreed", lambda number: number)
    monkeypatch.setattr(devices, "shared", lambda function: function())
    stop = StopSignals()
    with stop.deferring_errors():
        raise UserError("the disk is full")
    with stop.deferring_errors():
        raise UserError("a later one")
    with pytest.raises(UserError, match="^the disk is full$"):
        stop.check()


def test_a_closed_pipe_is_no_error():
    """Also when the interpreter flushes its streams at the end: it would exit with 120."""
    code = "from bdpo_jax import devices; import sys; sys.stdin.read(1); devices.say('x'); devices.say('y'); print('z')"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=-1, stdout=-1, stderr=-1)
    process.stdout.close()
    process.stdin.write(b"1")
    process.stdin.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0
