"""python benchmarks/faults.py FOLDER [--faults 110] [--seed 0] [--seconds 0]

Random faults in tiny runs and groups of the point mass, each of which is then continued to its end: how many differ by
a bit from the run that met none, in the final state, the rows of the log or the scores. Linux alone. FOLDER keeps what
was found; the same command goes on after it.

A fault comes at a random row of the log and up to 100 ms later, or in the seconds before the first row. A full disk is
a limit of zero bytes on the size of what the process writes; a damaged file is one of the newest checkpoint, after a
kill. A second signal comes up to 100 ms after the first. What is forked here does what `launch.py` does, but that it
imports nothing anew and draws no pictures.
"""

import argparse
import contextlib
import csv
import fcntl
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import termios
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

import jax
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import launch  # noqa: E402
from bdpo_jax import plotting  # noqa: E402
from bdpo_jax.agents import AGENTS  # noqa: E402
from bdpo_jax.checkpoint import Checkpointer  # noqa: E402
from bdpo_jax.tasks.pointmass import PointMass  # noqa: E402
from bdpo_jax.workdir import read_config  # noqa: E402

# What a fault is, and the exit statuses that it may end with; 0, too, where the run was at its end.
FAULTS = {
    "SIGKILL": {-9},
    "SIGTERM": {128 + 15},
    "SIGINT": {128 + 2},
    "SIGHUP": {128 + 1},
    "SIGINT SIGINT": {128 + 2, -2},  # the second may come while the interpreter ends
    "SIGTERM SIGKILL": {128 + 15, -9},
    "closed terminal": {128 + 1},
    "closed pipe": {0},
    "full disk": {1},
    "flipped bit": {-9},
    "truncated file": {-9},
}
DELAY, BEFORE = 0.1, 3.0  # seconds, after a row and before the first
SETTINGS = """
    actor_widths=(8,) value_widths=(8,) ensemble_size=2 actor_samples=2 diffusion_steps=3 greedy_candidates=2
    value_warmup_steps=0 pretrain_steps=20 train_steps=100 dataset_size=20 batch_size=16 log_every=5 checkpoint_every=10
    evaluate_every=20 eval_episodes=1
"""


class Program:
    """The program in a process, a session of its own, with a pipe or a terminal to this one.

    Attributes:
      pid: of the process.
      said: what has been read from it.
      status: None while it runs, then its exit status, a signal's number below zero.
      seconds: of processor time, once it has ended.
    """

    def __init__(self, workdir: Path, settings: list[str], terminal: bool = False):
        self._reader, end = os.openpty() if terminal else os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:  # ends as the interpreter does, by an exception that nobody catches
            os.setsid()
            if terminal:
                fcntl.ioctl(end, termios.TIOCSCTTY, 0)
            for number in (1, 2):
                os.dup2(end, number)
            os.close(self._reader)  # a pipe is closed only when nobody holds its end
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # a shell's background has some ignored
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            sys.argv = ["launch.py", f"--config={ROOT}/configs/pointmass.py", f"--workdir={workdir}"]
            sys.argv += [f"--config.{setting}" for setting in settings]
            launch.app.run(launch.main, flags_parser=launch.parse)
        os.close(end)
        os.set_blocking(self._reader, False)
        self.said, self.status, self.seconds = "", None, 0.0

    def running(self) -> bool:
        """Reads what was said; whether the process has not ended."""
        if self.status is None:
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.status, self.seconds = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
        with contextlib.suppress(OSError):  # nothing there; a terminal without a process; hung up
            while part := os.read(self._reader, 65536):
                self.said += part.decode(errors="replace")
        return self.status is None

    def hang_up(self) -> None:
        """Closes the reader's end."""
        if self._reader >= 0:
            os.close(self._reader)
        self._reader = -1

    def wait(self) -> "Program":
        """Returns when the process has ended."""
        while self.running():
            time.sleep(0.01)
        self.hang_up()
        return self


def inject(kind: str, program: Program, delay: float) -> None:
    """Lets the fault happen to a running process; a second signal after `delay` seconds."""
    if kind in ("closed terminal", "closed pipe"):
        program.hang_up()
    elif kind == "full disk":
        resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    else:
        first, *second = kind.split() if kind.startswith("SIG") else ["SIGKILL"]
        os.kill(program.pid, signal.Signals[first])
        for name in second:
            time.sleep(delay)
            if program.running():
                os.kill(program.pid, signal.Signals[name])


def damage(kind: str, workdir: Path, rng: np.random.Generator) -> str | None:
    """Damages a random file of the newest checkpoint of a random run; returns its path, None where there is none."""
    steps = [path for path in (rng.choice(runs(workdir)) / "checkpoints").glob("*") if path.name.isdigit()]
    if not steps:
        return None
    newest = max(steps, key=lambda path: int(path.name))
    file = rng.choice(sorted(path for path in newest.rglob("*") if path.is_file() and path.stat().st_size))
    content = bytearray(file.read_bytes())
    if kind == "flipped bit":
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    else:
        del content[rng.integers(len(content)) :]
    file.write_bytes(content)
    return str(file.relative_to(workdir))


def runs(workdir: Path) -> list[Path]:
    """The directories of the runs in one."""
    return sorted(path.parent for path in workdir.glob("seed*/config.json")) or [workdir]


def rows(run: Path) -> list:
    """What the log says but for the time, in an order of its own: scores may come late."""
    with open(run / "progress.csv") as file:
        kept = [[(k, v) for k, v in row.items() if v and k != "steps_per_second"] for row in csv.DictReader(file)]
    return sorted(sorted(row) for row in kept)


def outcome(workdir: Path) -> dict:
    """What must not depend on a fault, by what it is."""
    found: dict = {"state": [], "rows": [], "scores": []}
    for run in runs(workdir):
        config, sizes = argparse.Namespace(**read_config(run)), json.loads((run / "sizes.json").read_text())
        like = jax.eval_shape(lambda key, c=config, s=sizes: AGENTS[c.agent].init(c, key, **s), jax.random.key(0))
        with Checkpointer(run / "checkpoints", read_only=True) as checkpoints:
            state, _ = checkpoints.restore(like)
        found["state"] += [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]
        found["rows"].append(rows(run))
        found["scores"].append(json.loads((run / "results.json").read_text())["scores"])
    return found


def reader() -> Connection:
    """Starts a process that answers a directory with its outcome: what has begun to compute cannot be forked."""
    here, there = multiprocessing.Pipe()
    if not os.fork():
        here.close()
        with contextlib.suppress(EOFError):
            while True:
                there.send(outcome(there.recv()))
        os._exit(0)
    there.close()
    return here


def logged(workdir: Path) -> int:
    """The rows of the first run's log."""
    with contextlib.suppress(FileNotFoundError):
        return (runs(workdir)[0] / "progress.csv").read_bytes().count(b"\n") - 1  # the head is a line, too
    return 0


def wait_for_row(program: Program, workdir: Path, number: int) -> None:
    """Waits until the first run's log has so many rows (0: until there is a run), or the process has ended."""
    while program.running():
        if logged(workdir) >= number and (runs(workdir)[0] / "config.json").exists():
            return
        time.sleep(0.01)


def go_on(workdir: Path, settings: list[str]) -> Program:
    """Continues to the end, as the program says that it should be."""
    for _ in range(5):
        program = Program(workdir, settings).wait()
        # All checkpoints are damaged, and the sentence says which directory to delete.
        directory = re.search(r"the checkpoint at (\S+) cannot be read .*delete this directory", program.said)
        if program.status == 0 or not directory:
            break
        shutil.rmtree(directory[1])
    return program


def try_one(kind: str, workdir: Path, settings: list[str], lines: int, rng: np.random.Generator) -> dict:
    """One fault at one of the log's `lines`, continued to the end: what happened."""
    row = int(rng.integers(lines))
    delay = float(rng.uniform(0, DELAY if row else BEFORE))
    program = Program(workdir, settings, terminal=kind == "closed terminal")
    wait_for_row(program, workdir, row)
    time.sleep(delay)
    late = not program.running()
    ending = late or logged(workdir) >= lines - 2  # what is left may be no more than to write what is known
    if not late:
        inject(kind, program, float(rng.uniform(0, DELAY)))
    program.wait()
    broken = damage(kind, workdir, rng) if kind in ("flipped bit", "truncated file") else None
    last = go_on(workdir, settings) if program.status or broken else program
    # Threads of the library that writes checkpoints may say more around it, where they are the first to see it.
    sentence = kind != "full disk" or "\nError: " in f"\n{program.said}"
    return {
        "row": row,
        "delay_ms": round(1e3 * delay),
        "late": late,
        "status": program.status,
        "unexpected": not (program.status in FAULTS[kind] and sentence or program.status == 0 and ending),
        "said": program.said[-2000:],
        "file": broken,
        "went_back": "Going back" in last.said,
        "last": "" if last.status == 0 else f"{last.status}: {last.said[-2000:]}",
        "seconds": round(program.seconds + (last.seconds if last is not program else 0), 1),
    }


def table(found: list[dict]) -> str:
    """Counts by kind, as Markdown."""
    columns = {"faults": "kind", "groups": "group", "too late": "late", "went back": "went_back"}
    columns |= {"unexpected end": "unexpected", "differ": "differs"}
    lines = ["| fault | " + " | ".join(columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    for kind in [*FAULTS, "all"]:
        counts = (sum(bool(one[key]) for one in found if kind in ("all", one["kind"])) for key in columns.values())
        lines.append(f"| {kind} | " + " | ".join(map(str, counts)) + " |")
    statuses = Counter(one["status"] for one in found)
    seconds = np.mean([one["seconds"] for one in found]) if found else 0
    ends = ", ".join(f"{status} ({count})" for status, count in sorted(statuses.items()))
    return "\n".join([*lines, f"Exit statuses after the fault: {ends}. {seconds:.1f} s of processor time a fault."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("folder", type=Path, help="new or an earlier one's; may be deleted in the end")
    parser.add_argument("--faults", type=int, default=110, help="how many, with those of before")
    parser.add_argument("--seed", type=int, default=0, help="of places and moments")
    parser.add_argument("--seconds", type=float, default=0, help="begin no fault after so many; 0: do all")
    options = parser.parse_args()
    folder, began = options.folder.resolve(), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    plotting.curves = PointMass.draw = lambda *_: None
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)

    reading, wholes = reader(), []
    for group in (False, True):
        workdir = folder / f"whole{group:d}"
        settings = [*SETTINGS.split(), f"compilation_cache={folder}/cache", *(["seeds=(0,1)"] if group else [])]
        if not (workdir / "results.json").exists() and (whole := go_on(workdir, settings)).status:
            sys.exit(f"The unbroken run ends with {whole.status}: {whole.said}")
        reading.send(workdir)
        wholes.append((settings, reading.recv()))

    record, workdir = folder / f"seed{options.seed}.jsonl", folder / "run"
    found = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    for number in range(len(found), options.faults):
        if options.seconds and time.monotonic() - began > options.seconds:
            break
        rng = np.random.default_rng((options.seed, number))
        kind, group = list(FAULTS)[number % len(FAULTS)], number // len(FAULTS) % 3 == 2  # a third of each kind
        shutil.rmtree(workdir, ignore_errors=True)
        settings, whole = wholes[group]
        one = {"fault": number, "kind": kind, "group": group}
        one |= try_one(kind, workdir, settings, len(whole["rows"][0]), rng)
        if one["last"]:
            one["differs"] = ["end"]
        else:
            reading.send(workdir)
            one["differs"] = [name for name, value in reading.recv().items() if value != whole[name]]
        found.append(one)
        with open(record, "a") as file:
            file.write(json.dumps(one) + "\n")
        print(json.dumps(one), flush=True)
        if one["differs"] or one["unexpected"]:
            shutil.copytree(workdir, folder / f"seed{options.seed}-{number}", dirs_exist_ok=True)
    print(table(found))
    sys.exit(any(one["differs"] or one["unexpected"] for one in found))


if __name__ == "__main__":
    main()
