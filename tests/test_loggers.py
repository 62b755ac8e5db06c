import builtins
import contextlib
import csv
import io
import os
import struct
import sys
import types

import jax.numpy as jnp
import pytest

from bdpo_jax import loggers as loggers_module
from bdpo_jax.errors import UserError
from bdpo_jax.loggers import CSVLogger, Loggers, ProgressBar, TensorBoardLogger, WandbLogger


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def events_of(directory):
    """(step, tag or "START", value) of every event, in the order of the files, read from the record format."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(directory.glob("events.*"), key=lambda path: int(path.suffix[1:])):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            if event.HasField("session_log"):
                found.append((event.step, "START", 0.0))
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
    return found


def without(monkeypatch, module):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] == module:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


def test_csv_rows_are_on_disk_at_once_and_keep_every_digit(tmp_path):
    logger = CSVLogger(tmp_path / "run" / "progress.csv")
    logger.write(10, {"loss": 1 / 3, "q": float("nan")})
    assert rows_of(tmp_path / "run" / "progress.csv") == [{"step": "10", "loss": repr(1 / 3), "q": "nan"}]
    logger.close()
    logger.close()


def test_a_column_may_appear_later(tmp_path):
    path = tmp_path / "progress.csv"
    logger = CSVLogger(path)
    logger.write(1, {"loss": 1})
    logger.write(2, {"loss": 2, "score, normalised": 50})
    logger.write(3, {"score, normalised": 60})
    logger.close()
    assert path.read_text("utf-8").splitlines() == [
        'step,loss,"score, normalised"',
        "1,1.0,",
        "2,2.0,50.0",
        "3,,60.0",
    ]
    assert os.listdir(tmp_path) == ["progress.csv"]


def test_a_resumed_csv_is_the_uninterrupted_one(tmp_path):
    def write(logger, steps):
        for step in steps:
            logger.write(step, {"loss": step / 7} | ({"score": step} if step % 3 == 0 else {}))
        logger.close()

    write(CSVLogger(tmp_path / "whole.csv"), range(1, 10))
    write(CSVLogger(tmp_path / "resumed.csv"), range(1, 8))
    with open(tmp_path / "resumed.csv", "a") as file:
        file.write("8,1.14")  # killed in the middle of a row
    write(CSVLogger(tmp_path / "resumed.csv", resume_step=5), range(6, 10))
    assert (tmp_path / "resumed.csv").read_text("utf-8") == (tmp_path / "whole.csv").read_text("utf-8")
    CSVLogger(tmp_path / "resumed.csv").close()
    assert rows_of(tmp_path / "resumed.csv") == []


def test_half_a_row_is_dropped_even_where_its_step_counts(tmp_path):
    path = tmp_path / "progress.csv"
    path.write_text("step,loss\n1,0.5\n2,0.2")
    CSVLogger(path, resume_step=5).close()
    assert rows_of(path) == [{"step": "1", "loss": "0.5"}]
    path.write_text("")
    CSVLogger(path, resume_step=5).close()
    assert path.read_text("utf-8") == "step\n"


def test_a_foreign_csv_is_not_overwritten(tmp_path):
    path = tmp_path / "progress.csv"
    path.write_text("name,age\nAda,36\n")
    with pytest.raises(UserError, match="no log of this program"):
        CSVLogger(path, resume_step=1)
    assert path.read_text("utf-8") == "name,age\nAda,36\n"


def test_a_full_disk_is_one_sentence(tmp_path):
    logger = CSVLogger(tmp_path / "progress.csv")
    logger.write(1, {"loss": 1})
    logger._file = open("/dev/full", "w")  # noqa: SIM115
    for call in (lambda: logger.write(2, {"loss": 1}), logger.close):
        with pytest.raises(UserError, match="the disk is full while writing .*progress.csv"):
            call()


def test_tensorboard_holds_the_scalars_and_hides_what_a_resumed_run_repeats(tmp_path):
    logger = TensorBoardLogger(tmp_path / "tensorboard")
    logger.write(1, {"loss/q": 0.5, "score": 3})
    logger.write(2, {"loss/q": 0.25})
    logger.close()
    logger.close()
    logger = TensorBoardLogger(tmp_path / "tensorboard", resume_step=1)
    logger.write(2, {"loss/q": 0.125})
    logger.close()
    assert events_of(tmp_path / "tensorboard") == [
        (1, "loss/q", 0.5),
        (1, "score", 3.0),
        (2, "loss/q", 0.25),
        (2, "START", 0.0),
        (2, "loss/q", 0.125),
    ]


def test_missing_packages_are_named_with_the_cure(tmp_path, monkeypatch):
    without(monkeypatch, "wandb")
    with pytest.raises(UserError, match=r"pip install '\.\[wandb\]'"):
        WandbLogger(tmp_path, "bdpo")
    without(monkeypatch, "tensorboardX")
    with pytest.raises(UserError, match="pip install tensorboardX"):
        TensorBoardLogger(tmp_path)


def test_wandb_continues_under_its_id_with_steps_of_our_own(tmp_path, monkeypatch):
    calls = []

    class Run:
        def define_metric(self, *args, **kwargs):
            calls.append(("define", args, kwargs))

        def log(self, values):
            calls.append(("log", values))

        def finish(self):
            calls.append(("finish",))

    def init(**kwargs):
        calls.append(("init", kwargs))
        return Run()

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    for resume_step in (None, 5, None):
        logger = WandbLogger(tmp_path, "bdpo", config={"eta": 0.06}, resume_step=resume_step)
        logger.write(6, {"loss": 0.5})
        logger.close()
    first, second, third = [call[1] for call in calls if call[0] == "init"]
    assert first["id"] == second["id"] != third["id"] and second["resume"] == "allow"
    assert first["config"] == {"eta": 0.06} and first["project"] == "bdpo" and first["dir"] == str(tmp_path)
    assert calls[1] == ("define", ("*",), {"step_metric": "step"})
    assert calls[2:4] == [("log", {"step": 6, "loss": 0.5}), ("finish",)]


@pytest.mark.parametrize("rows, columns", [(0, 0), (0, 60), (24, 0), (24, 60)])
def test_a_terminal_shows_a_bar_whether_or_not_it_says_how_large_it_is(rows, columns):
    """A terminal of 0 by 0 is what a recorder gives a program."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    with os.fdopen(writer, "w") as terminal:
        bar = ProgressBar(total=10, description="train", file=terminal)
        bar.write(10, {"q_loss": 0.5})
        bar.close()
    shown = b""
    with contextlib.suppress(OSError), os.fdopen(reader, "rb", buffering=0) as screen:  # ends in an error
        while part := screen.read(1000):
            shown += part
    last = shown.decode().rstrip("\r\n").split("\r")[-1]
    assert "train: 100%" in last and "10/10" in last and len(last) <= (columns if rows and columns else 80)


def test_without_a_terminal_progress_is_a_line_per_tenth(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(loggers_module.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    bar = ProgressBar(total=1000, description="train", initial=200, file=stream)
    for step in range(205, 1001, 5):
        clock[0] += 0.5
        bar.write(step, {"q_loss": jnp.float32(0.25), "other": 1.0})
    bar.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 8
    assert lines[0] == "train: 300/1000 (30%), 10 steps/s, 01:10 left, q_loss 0.25"
    assert lines[-1] == "train: 1000/1000 (100%), 10 steps/s, 00:00 left, q_loss 0.25"
    bar = ProgressBar(total=10**6, description="slow", file=stream)
    clock[0] += 301
    bar.write(301, {})
    assert stream.getvalue().splitlines()[-1].startswith("slow: 301/1000000 (0%), 1 steps/s, ")


def test_on_a_terminal_the_bar_shows_rate_and_scalars():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    bar = ProgressBar(total=10, description="train", file=stream)
    bar.write(10, {"q_loss": 0.125})
    bar.close()
    bar.close()
    for text in ("train: 100%", "10/10", "step/s", "q_loss 0.125"):
        assert text in stream.getvalue()


class Recorder:
    def __init__(self, fails=False):
        self.fails, self.written, self.closed = fails, [], 0

    def write(self, step, scalars):
        self.written.append((step, scalars))

    def close(self):
        self.closed += 1
        if self.fails:
            raise OSError("first one fails")


def test_every_logger_gets_plain_floats_and_is_closed():
    pair = [Recorder(), Recorder()]
    with Loggers(pair) as both:
        both.write(3, {"loss": jnp.float32(0.5)})
    for recorder in pair:
        assert recorder.written == [(3, {"loss": 0.5})] and recorder.closed == 1
        assert type(recorder.written[0][1]["loss"]) is float


def test_all_are_closed_when_one_fails():
    pair = [Recorder(fails=True), Recorder()]
    with pytest.raises(OSError, match="first one fails"), Loggers(pair):
        pass
    assert pair[1].closed == 1
    with pytest.warns(UserWarning, match="first one fails"), pytest.raises(ZeroDivisionError), Loggers(pair):
        raise ZeroDivisionError
    assert pair[1].closed == 2


def test_a_damaged_csv_is_one_sentence(tmp_path):
    path = tmp_path / "progress.csv"
    for content in (b"step,loss\nabc,1\n", b"step,loss\n\xd3\xff,1\n"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"progress\.csv is damaged .*move it away"):
            CSVLogger(path, resume_step=5)
        assert path.read_bytes() == content


def test_a_lost_terminal_costs_no_progress_bar():
    class Lost(io.StringIO):
        def isatty(self):
            return True

        def write(self, text):
            raise BrokenPipeError

        flush = write

    for stream in (Lost(), open(os.devnull)):  # noqa: SIM115 (the second cannot be written)
        bar = ProgressBar(total=10, description="train", file=stream)
        bar.write(10, {"q_loss": 1.0})
        bar.close()


def test_weights_and_biases_without_a_key_is_one_sentence(tmp_path, monkeypatch):
    def init(**_):
        raise RuntimeError("api_key not configured (no-tty).\n call wandb.login")

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    with pytest.raises(UserError, match=r"cannot begin a run \(api_key not configured .*WANDB_API_KEY") as error:
        WandbLogger(tmp_path, "bdpo")
    assert "\n" not in str(error.value)
