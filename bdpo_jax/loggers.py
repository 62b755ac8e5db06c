"""Scalars over steps to a CSV file, TensorBoard, a progress bar and Weights & Biases, behind one `write`."""

import csv
import os
import sys
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TextIO

import jax
from tqdm import tqdm

from bdpo_jax.errors import Notice, UserError
from bdpo_jax.text import courtesy
from bdpo_jax.workdir import make_directory, replacing, writing


class Logger(Protocol):
    """What the training loop needs of a logger."""

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Records `scalars` (numbers or 0-d arrays) at update step `step`."""

    def close(self) -> None:
        """Ends the record; a second call does nothing."""


class CSVLogger:
    """One row per `write`: `step` and a column per scalar, empty where a row has none.

    A scalar that first appears later (an evaluation score) adds its column to the whole file. Every row is
    on its way to the disk when `write` returns.
    """

    def __init__(self, path: str | os.PathLike, resume_step: int | None = None, scores_until: int | None = None):
        """
        Args:
          path: the file, by custom `progress.csv`.
          resume_step: keep the rows up to this step and drop later ones, which will be written again; None
            starts the file anew.
          scores_until: of those, keep rows of scores (columns "eval/...") up to this step; None: all.

        Raises:
          UserError: the file to resume is no such log, or cannot be written.
        """
        self._path = Path(path)
        self._columns = ["step"]
        rows: list[list[str]] = []
        if resume_step is not None and self._path.exists():
            self._columns, rows = self._read(resume_step, scores_until)
        self._file = self._rewritten(rows)

    def _read(self, last_step: int, scores_until: int | None) -> tuple[list[str], list[list[str]]]:
        try:
            text = self._path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{self._path} is damaged ({error}): move it away") from error
        whole = text[: text.rfind("\n") + 1]  # a killed run may leave half a row at the end
        header, *rows = list(csv.reader(whole.splitlines())) or [["step"]]
        if header[:1] != ["step"]:
            raise UserError(f"{self._path} is no log of this program (its first column is not `step`): move it away")
        rows = [row for row in rows if len(row) == len(header)]
        damaged = next((row[0] for row in rows if not row[0].isdecimal()), None)
        if damaged is not None:
            raise UserError(f"{self._path} is damaged ({damaged!r} is no step): move it away")
        rows = [row for row in rows if int(row[0]) <= last_step]
        if scores_until is not None:
            scores = [i for i, name in enumerate(header) if name.startswith("eval/")]
            rows = [row for row in rows if int(row[0]) <= scores_until or not any(row[i] for i in scores)]
        return header, rows

    def _rewritten(self, rows: list[list[str]]) -> TextIO:
        """Writes the whole file anew and returns it, open for further rows until `close`."""
        with replacing(self._path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self._columns)
            writer.writerows(row + [""] * (len(self._columns) - len(row)) for row in rows)
        return open(self._path, "a", newline="")

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        new = [name for name in scalars if name not in self._columns]
        if new:
            with open(self._path, newline="") as file:
                rows = list(csv.reader(file))[1:]
            self._columns += new
            former, self._file = self._file, self._rewritten(rows)
            former.close()
        # repr keeps every digit, so that a resumed log can be compared with an uninterrupted one.
        cells = {name: repr(float(value)) for name, value in scalars.items()} | {"step": int(step)}
        with writing(self._path):
            csv.writer(self._file, lineterminator="\n").writerow(cells.get(name, "") for name in self._columns)
            self._file.flush()

    def close(self) -> None:
        with writing(self._path):
            self._file.close()


class TensorBoardLogger:
    """TensorBoard event files in `directory`."""

    def __init__(self, directory: str | os.PathLike, resume_step: int | None = None):
        """
        Args:
          directory: created where missing.
          resume_step: TensorBoard will hide what an earlier process wrote after this step; None hides all.

        Raises:
          UserError: tensorboardX is missing, or the directory cannot be written.
        """
        try:
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event, SessionLog
            from tensorboardX.summary import scalar
        except ImportError:
            raise UserError("TensorBoard logs need tensorboardX: pip install tensorboardX") from None
        # Not its SummaryWriter: on a full disk that one's thread dies and the next flush waits for ever.
        self._event, self._scalar, self._directory = Event, scalar, Path(directory)
        make_directory(directory)
        with writing(directory):
            continued = any(self._directory.glob("events.*"))
            self._events = EventsWriter(str(self._directory / "events"), f".{time.time_ns()}")
            if continued:
                start = SessionLog(status=SessionLog.START)
                self._events.write_event(Event(step=(resume_step or 0) + 1, session_log=start))
            self._events.flush()
        self._flushed = time.monotonic()

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        now = time.time()
        with writing(self._directory):
            for name, value in scalars.items():
                summary = self._scalar(name, float(value))
                self._events.write_event(self._event(wall_time=now, step=int(step), summary=summary))
            if time.monotonic() - self._flushed > 10:  # a kill loses ten seconds of curves; each flush syncs
                self._events.flush()
                self._flushed = time.monotonic()

    def close(self) -> None:
        events, self._events = self._events, None
        if events is not None:
            with writing(self._directory):
                events.close()


class WandbLogger:
    """A run on Weights & Biases, continued under the same id when the directory is."""

    def __init__(
        self,
        directory: str | os.PathLike,
        project: str,
        name: str | None = None,
        config: Mapping | None = None,
        resume_step: int | None = None,
    ):
        """
        Args:
          directory: the run's; keeps the id in `wandb_id`.
          project, name: as Weights & Biases shows them.
          config: shown beside the curves.
          resume_step: None starts a run of a new id.

        Raises:
          UserError: wandb is missing, or the directory cannot be written.
        """
        try:
            import wandb
        except ImportError:
            raise UserError("logging to Weights & Biases needs its client: pip install '.[wandb]'") from None
        kept = Path(directory) / "wandb_id"
        run_id = kept.read_text().strip() if resume_step is not None and kept.exists() else uuid.uuid4().hex[:8]
        with replacing(kept) as temporary:
            temporary.write_text(run_id + "\n")
        config = dict(config) if config is not None else None
        try:
            self._run = wandb.init(
                project=project,
                name=name,
                config=config,
                dir=os.fspath(directory),
                id=run_id,
                resume="allow",
                reinit="create_new",  # runs of a group are open at the same time
            )
        except Exception as error:  # noqa: BLE001 (each version of the client has others)
            said = " ".join(str(error).split())[:200]
            raise UserError(
                f"Weights & Biases cannot begin a run ({said}): run `wandb login`, set WANDB_API_KEY or "
                "WANDB_MODE=offline, or leave --config.wandb out"
            ) from error
        # The client's own counter cannot go back to the checkpoint that a killed run continues from.
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        self._run.log({"step": int(step)} | {name: float(value) for name, value in scalars.items()})

    def close(self) -> None:
        self._run.finish()


def _knows_its_size(terminal: TextIO) -> bool:
    """Whether a terminal says how large it is; one behind which there is a program (a recorder's) may say 0 by 0."""
    try:
        return min(os.get_terminal_size(terminal.fileno())) > 0
    except OSError:
        return False


class ProgressBar:
    """Steps done, steps per second and the time left.

    Where the stream is no terminal: one line per tenth of the way, or per five minutes. A stream that is closed or
    whose reader is gone is no error.
    """

    def __init__(self, total: int, description: str, initial: int = 0, file=None):
        """
        Args:
          total: the step at which the bar is full.
          description: stands before the bar, the losses behind it.
          initial: the step at which this process starts.
          file: stream, standard error where None.
        """
        self._file = sys.stderr if file is None else file
        self._total, self._description = total, description
        self._bar = None
        with courtesy(self._file):
            if self._file is not None and self._file.isatty():
                size = {"dynamic_ncols": True} if _knows_its_size(self._file) else {"ncols": 80, "nrows": 20}
                self._bar = tqdm(total=total, desc=description, initial=initial, file=self._file, unit="step", **size)
        self._told_step, self._told_time = initial, time.monotonic()
        self._shown = ""

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Moves the bar to `step`, a number that never passes `total`; scores may come late, for an earlier one."""
        shown = [f"{name} {float(value):.4g}" for name, value in scalars.items() if name.endswith("_loss")]
        self._shown = ", ".join(shown[:3]) or self._shown
        with courtesy(self._file):
            if self._bar is not None:
                self._bar.set_postfix_str(self._shown, refresh=False)
                self._bar.update(max(step - self._bar.n, 0))
            elif self._file is not None and step > self._told_step and self._worth_a_line(step):
                self._tell(step)

    def _worth_a_line(self, step: int) -> bool:
        tenth = step >= self._total or step - self._told_step >= self._total / 10
        return tenth or time.monotonic() - self._told_time > 300

    def _tell(self, step: int) -> None:
        now = time.monotonic()
        rate = (step - self._told_step) / max(now - self._told_time, 1e-9)
        left = tqdm.format_interval((self._total - step) / rate)
        percent = 100 * step // max(self._total, 1)
        parts = [f"{step}/{self._total} ({percent}%)", f"{rate:.4g} steps/s", f"{left} left", self._shown]
        print(f"{self._description}: " + ", ".join(part for part in parts if part), file=self._file, flush=True)
        self._told_step, self._told_time = step, now

    def close(self) -> None:
        with courtesy(self._file):
            if self._bar is not None:
                self._bar.close()


class Loggers:
    """Several loggers as one; a context manager that closes all, also when one of them fails."""

    def __init__(self, loggers: Sequence[Logger]):
        self._loggers = list(loggers)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        # One transfer for all: each float() of a device array would wait for the device anew.
        scalars = {name: float(value) for name, value in jax.device_get(dict(scalars)).items()}
        for logger in self._loggers:
            logger.write(step, scalars)

    def close(self) -> None:
        """Closes every logger, then raises the first error met."""
        errors = self._close_all()
        if errors:
            raise errors[0]

    def _close_all(self) -> list[Exception]:
        errors = []
        for logger in self._loggers:
            try:
                logger.close()
            except Exception as error:  # noqa: BLE001 (the others must be closed first)
                errors.append(error)
        return errors

    def __enter__(self) -> "Loggers":
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self.close()
            return
        for error in self._close_all():  # the error under way says more
            warnings.warn(f"a logger could not be closed: {error}", Notice, stacklevel=2)
