"""python benchmarks/faults.py FOLDER [--faults 100] [--seed 0] [--seconds 0]

Random faults in tiny runs and groups of the point mass, each of which is then continued to its end: how many differ by
a bit from the run that met none, in the final state, the rows of the log or the scores. Not for Windows; each fault
takes two starts of the program.

A fault comes at a random row of the log and up to 100 ms later. A full disk is a limit of zero bytes on the size of
what the running process writes (Linux alone); a damaged file is one of the newest checkpoint, after a kill.
"""

import argparse
import contextlib
import csv
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import jax
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bdpo_jax.agents import AGENTS  # noqa: E402
from bdpo_jax.checkpoint import Checkpointer  # noqa: E402
from bdpo_jax.workdir import read_config  # noqa: E402

# What a fault is, and the exit status that it must end with.
FAULTS = {
    "kill": -signal.SIGKILL,
    "SIGTERM": 128 + signal.SIGTERM,
    "SIGHUP": 128 + signal.SIGHUP,
    "closed terminal": 128 + signal.SIGHUP,
    "closed pipe": 0,
    "full disk": 1,
    "flipped bit": -signal.SIGKILL,
    "truncated file": -signal.SIGKILL,
}
GROUP_SHARE = 1 / 3
DELAY = 0.1  # seconds
SETTINGS = {
    "actor_widths": "(8,)",
    "value_widths": "(8,)",
    "ensemble_size": 2,
    "actor_samples": 2,
    "diffusion_steps": 3,
    "greedy_candidates": 2,
    "value_warmup_steps": 10,
    "pretrain_steps": 60,
    "train_steps": 300,
    "dataset_size": 500,
    "batch_size": 16,
    "log_every": 10,
    "checkpoint_every": 20,
    "evaluate_every": 30,
    "eval_episodes": 2,
}


class Program:
    """The program as a process, with a pipe or a terminal of its own, whose text is kept in `said`."""

    def __init__(self, workdir: Path, settings: dict, cache: Path, terminal: bool = False):
        command = [sys.executable, "launch.py", "--config=configs/pointmass.py", f"--workdir={workdir}"]
        command += [f"--config.{name}={value}" for name, value in settings.items()]
        command.append(f"--config.compilation_cache={cache}")
        environment = os.environ | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        self._reader, end = os.openpty() if terminal else os.pipe()
        if terminal:  # what the leader of a session opens first becomes the session's
            command = ["sh", "-c", 'exec "$@" <>"$0" >&0 2>&0', os.ttyname(end), *command]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=end,
            stderr=end,
            start_new_session=True,
        )
        os.close(end)
        os.set_blocking(self._reader, False)
        self.said, self._open = "", True

    def running(self) -> bool:
        """Reads what was said; whether the process has not ended."""
        running = self.process.poll() is None
        with contextlib.suppress(BlockingIOError, OSError):  # nothing there; a terminal without a process
            while self._open and (part := os.read(self._reader, 65536)):
                self.said += part.decode(errors="replace")
        return running

    def hang_up(self) -> None:
        """Closes the reader's end."""
        if self._open:
            os.close(self._reader)
        self._open = False

    def finish(self) -> int:
        """Waits for the end; returns the exit status."""
        while self.running():
            time.sleep(0.005)
        self.hang_up()
        return self.process.returncode


def inject(kind: str, program: Program) -> None:
    """Lets the fault happen to a running process."""
    if kind in ("closed terminal", "closed pipe"):
        program.hang_up()
    elif kind == "full disk":
        resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    else:
        name = kind if kind.startswith("SIG") else "SIGKILL"
        program.process.send_signal(getattr(signal, name))


def damage(kind: str, workdir: Path, rng: np.random.Generator) -> str | None:
    """Damages a random file of the newest checkpoint of a random run; returns its path, None where there is none."""
    run = rng.choice(runs(workdir))
    steps = sorted((path for path in (run / "checkpoints").glob("*") if path.name.isdigit()), key=lambda p: int(p.name))
    if not steps:
        return None
    file = rng.choice(sorted(path for path in steps[-1].rglob("*") if path.is_file() and path.stat().st_size))
    content = bytearray(file.read_bytes())
    if kind == "flipped bit":
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    else:
        del content[rng.integers(len(content)) :]
    file.write_bytes(content)
    return str(file.relative_to(workdir))


def runs(workdir: Path) -> list[Path]:
    """The directories of the runs in one."""
    inner = sorted(path.parent for path in workdir.glob("seed*/config.json"))
    return inner or [workdir]


def rows(run: Path) -> list:
    """What the log says but for the time, in an order of its own: scores may come late."""
    with contextlib.suppress(FileNotFoundError), open(run / "progress.csv") as file:
        found = csv.DictReader(file)
        kept = [[(k, v) for k, v in row.items() if v and k != "steps_per_second"] for row in found]
        return sorted(sorted(row) for row in kept)
    return []


def outcome(workdir: Path) -> dict:
    """What must not depend on a fault, by what it is."""
    found: dict = {"state": [], "rows": [], "scores": []}
    for run in runs(workdir):
        config = read_config(run)
        sizes = json.loads((run / "sizes.json").read_text())
        agent = AGENTS[config["agent"]]

        def init(key, agent=agent, config=config, sizes=sizes):
            return agent.init(argparse.Namespace(**config), key, sizes["observation_dim"], sizes["action_dim"])

        with Checkpointer(run / "checkpoints", read_only=True) as checkpoints:
            state, _ = checkpoints.restore(jax.eval_shape(init, jax.random.key(0)))
        found["state"] += [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]
        found["rows"].append(rows(run))
        found["scores"].append(json.loads((run / "results.json").read_text())["scores"])
    return found


def wait_for_row(program: Program, workdir: Path, number: int) -> None:
    """Waits until the first run's log has so many rows, or the process has ended."""
    while program.running() and len(rows(runs(workdir)[0])) < number:
        time.sleep(0.003)


def go_on(workdir: Path, settings: dict, cache: Path) -> tuple[int, str]:
    """Continues to the end as the program says it should be; returns the last exit status and text."""
    for _ in range(5):
        program = Program(workdir, settings, cache)
        status = program.finish()
        # All checkpoints are damaged, and the sentence says which directory to delete.
        directory = re.search(r"the checkpoint at (\S+) cannot be read .*delete this directory", program.said)
        if status == 0 or not directory:
            break
        shutil.rmtree(directory[1])
    return status, program.said


def try_one(kind: str, group: bool, folder: Path, wholes: dict, rng: np.random.Generator) -> dict:
    """One fault: what happened, and what differs at the end."""
    workdir, cache = folder / "run", folder / "cache"
    shutil.rmtree(workdir, ignore_errors=True)
    settings, whole = wholes[group]
    row, delay = int(rng.integers(len(whole["rows"][0]))), rng.uniform(0, DELAY)
    program = Program(workdir, settings, cache, terminal=kind == "closed terminal")
    wait_for_row(program, workdir, row)
    time.sleep(delay)
    late = not program.running()
    if not late:
        inject(kind, program)
    status = program.finish()
    broken = damage(kind, workdir, rng) if kind in ("flipped bit", "truncated file") else None
    last, said = go_on(workdir, settings, cache)
    found = {"kind": kind, "group": group, "row": row, "delay_ms": round(1e3 * delay), "status": status}
    found |= {"late": late, "file": broken, "went_back": "Going back" in said}
    if last:
        return found | {"differs": [f"ends with {last}: {said[-500:]}"]}
    end = outcome(workdir)
    expected = late or status in (FAULTS[kind], 0)
    # Threads of the library that writes checkpoints may have said more before.
    sentence = kind != "full disk" or status == 0 or program.said.splitlines()[-1].startswith("Error: ")
    return found | {
        "unexpected": not expected or not sentence,
        "said": "" if expected and sentence else program.said[-500:],
        "differs": [name for name in whole if whole[name] != end[name]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("folder", type=Path, help="new; what it holds at the end may be deleted")
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of kinds, places and moments")
    parser.add_argument("--seconds", type=float, default=0, help="begin no fault after so many; 0: do all")
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True)
    wholes, began = {}, time.monotonic()
    for group in (False, True):
        settings = SETTINGS | ({"seeds": "(0,1)"} if group else {})
        status, said = go_on(folder / f"whole{group:d}", settings, folder / "cache")
        if status:
            sys.exit(f"The unbroken run ends with {status}: {said}")
        wholes[group] = settings, outcome(folder / f"whole{group:d}")
    kinds = [kind for kind in FAULTS if kind != "full disk" or hasattr(resource, "prlimit")]
    table: dict[str, Counter] = {kind: Counter() for kind in kinds}
    for number in range(options.faults):
        if options.seconds and time.monotonic() - began > options.seconds:
            break
        rng = np.random.default_rng((options.seed, number))
        kind = kinds[number % len(kinds)]
        found = try_one(kind, rng.random() < GROUP_SHARE, folder, wholes, rng)
        print(json.dumps({"fault": number} | found), flush=True)
        counts = {"faults": 1, "groups": found["group"], "too late": found["late"], "went back": found["went_back"]}
        table[kind].update(
            counts | {"unexpected end": found.get("unexpected", False), "differ": bool(found["differs"])}
        )
        if found["differs"]:
            shutil.copytree(folder / "run", folder / f"differs{number}", dirs_exist_ok=True)
    columns = ("faults", "groups", "too late", "went back", "unexpected end", "differ")
    print("| fault | " + " | ".join(columns) + " |\n| --- " + "| --- " * len(columns) + "|")
    for kind, counts in table.items():
        print(f"| {kind} | " + " | ".join(str(counts[name]) for name in columns) + " |")
    total = sum(table.values(), Counter())
    print(f"{total['differ']} of {total['faults']} differ from the unbroken run.")
    sys.exit(total["differ"] > 0)


if __name__ == "__main__":
    main()
