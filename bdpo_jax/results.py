"""Directories of runs, read: configs, results, curves, and what is missing or broken.

A directory may be that of a run, of a group, or lie above several of these.
"""

import contextlib
import csv
import dataclasses
import functools
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from ml_collections import ConfigDict

from bdpo_jax import plotting, settings
from bdpo_jax.agents import AGENTS, budget
from bdpo_jax.data.options import Data
from bdpo_jax.errors import UserError
from bdpo_jax.tasks.base import data_seed
from bdpo_jax.training import sweep
from bdpo_jax.training.options import Training
from bdpo_jax.workdir import BROKEN, CONFIG_FILE, SIZES_FILE, expanded, plain, read_config

# Settings that runs of one row of a table may differ in: seeds, and what decides no score.
SHARED = (
    *("seed", "seeds", "dataset_seed", "sweep", "recipe", "runs_at_once", "devices", "dataset_memory"),
    *("evaluate_every", "log_every", "checkpoint_every", "keep_checkpoints", "profile_updates", "wandb", "mirrors"),
    *("compilation_cache", "deterministic"),
)
_UNTOLD = (*SHARED, "dataset_path")  # settings that tell no two runs apart; files do, by their bytes
# The column of `progress.csv` whose last value a headline is, by the headline's name.
COLUMNS = {
    "normalized score": "eval/policy/normalized_score/mean",
    "return": "eval/policy/return",
    "sliced Wasserstein distance to its own truth": "eval/policy/sliced_wasserstein",
}
LONGEST = 180  # bytes of a name, to which others are added: file systems take 255
_INSIDE = {"checkpoints", "tensorboard", "evaluating", "profile", "wandb", BROKEN}  # a run's folders, without runs

_NEEDED = ("agent", "family", "task", "seed", "seeds", "dataset_seed", "sweep")  # of a config's keys

Curve = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Run:
    """What one run's directory says.

    Attributes:
      path: the directory.
      config: of the run.
      launched: the config that was launched: the run's own, or its group's.
      launched_in: the directory of that.
      results: contents of `results.json`; None where the run has not come to its end.
      progress: `{column: (updates, values)}`, of rising updates.
    """

    path: Path
    config: dict
    launched: dict
    launched_in: Path
    results: dict | None
    progress: Mapping[str, Curve]

    @property
    def task(self) -> str:
        return self.config["task"]

    @property
    def agent(self) -> str:
        return self.config["agent"]

    @property
    def variant(self) -> str:
        """The variant of the config file; "" where it was made by hand."""
        return self.config.get("recipe", "").rpartition(",")[2]

    @property
    def data(self) -> str | None:
        """What tells its data file from others; "" where data are made, or of a package; None before its end."""
        if self.results is None:
            return None
        found = self.results.get("data", {})
        if found.get("d4rl_file"):
            return found["d4rl_file"]
        if "sha256" in found:
            return f"{found['file']} ({found['sha256'][:8]})"
        named = self.config.get("dataset_path", "")
        return named or ("not recorded" if self.config.get("family") == "d4rl" else "")

    @property
    def metric(self) -> str:
        """The name of the headline, or of what a run under way has been scored by; "" where nothing was scored."""
        headline = (self.results or {}).get("headline")
        if headline:
            return headline["name"]
        return next((name for name, column in COLUMNS.items() if len(self.progress.get(column, ((),))[0])), "")

    @property
    def lower_is_better(self) -> bool:
        return lower_is_better(self.metric)

    @property
    def value(self) -> float | None:
        """The headline at the end of training; None where it is missing, NaN or infinite."""
        headline = (self.results or {}).get("headline")
        return headline["value"] if headline else None

    @property
    def scores(self) -> dict:
        """The last scores of "policy"; {} where there are none."""
        return (self.results or {}).get("scores", {}).get("policy", {})

    @property
    def curve(self) -> Curve:
        """The headline over updates."""
        nothing = np.zeros(0), np.zeros(0)
        return self.progress.get(COLUMNS.get(self.metric, ""), nothing)

    @property
    def best(self) -> float | None:
        """The best of all evaluations: chosen with the scores in sight, so no result."""
        values = self.curve[1]
        return None if not len(values) else float(values.min() if self.lower_is_better else values.max())

    @property
    def episodes(self) -> int | None:
        """Episodes of the last evaluation; None where a score is made of samples."""
        returns = self.scores.get("returns")
        return len(returns) if returns else None

    @property
    def seconds(self) -> float:
        """Wall-clock time of training, and of what it waited for; evaluations run beside it, pictures come after it."""
        spent = (self.results or {}).get("seconds", {})
        return float(sum(value for name, value in spent.items() if name not in ("evaluation", "pictures")))


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something missing or broken.

    Attributes:
      path: which directory.
      kind: "missing", "unfinished", "diverged", "unreadable", "unscored", "repeated" or "warning".
      sentence: what it is.
    """

    path: Path
    kind: str
    sentence: str


def find(directories: Iterable[str | os.PathLike]) -> tuple[list[Run], list[Problem]]:
    """Reads every run in and below some directories.

    Returns:
      The runs, by path, and what is missing or broken. A run that has not come to its end, or has become NaN or
      infinite, has no results.

    Raises:
      UserError: a directory does not exist, or holds no run.
    """
    found: dict[Path, Run] = {}
    problems: dict[Problem, None] = {}
    for directory in map(expanded, directories):
        if not directory.is_dir():
            raise UserError(f"There is no directory {directory}: name directories of runs, or ones above them.")
        before = len(found) + len(problems)
        known = [path for path in found if path.is_relative_to(directory.absolute())]
        _read_below(directory.absolute(), found, problems)
        if len(found) + len(problems) == before and not known:
            raise UserError(f"{directory} holds no run: name directories that launch.py made, or ones above them.")
    runs, repeated = _without_repeats([found[path] for path in sorted(found)])
    return runs, [*problems, *repeated]


def _without_repeats(runs: Sequence[Run]) -> tuple[list[Run], list[Problem]]:
    """Leaves out what was run twice: a seed counts once in a mean. The first, by path, is kept."""
    scored: dict[str, Run] = {}
    kept, problems = [], []
    for run in runs:
        seeds = run.config["seed"], data_seed(SimpleNamespace(**run.config))
        known = _defaults(run.agent) | _telling(run)  # a version may know more settings than another
        key = json.dumps([known, run.variant, seeds], sort_keys=True)
        first = scored.setdefault(key, run) if run.value is not None else run
        if first is run:
            kept.append(run)
        else:
            sentence = f"it has the settings and the seed of {first.path} and is left out."
            problems.append(Problem(run.path, "repeated", sentence))
    return kept, problems


@functools.cache
def _defaults(agent: str) -> dict:
    """The settings of an algorithm that tell runs apart, at their defaults; none of an unknown one."""
    if agent not in AGENTS:
        return {}
    found = settings.make(Training, Data, AGENTS[agent]).to_dict()
    return {key: value for key, value in plain(found).items() if key not in _UNTOLD}


def _read_below(root: Path, found: dict[Path, Run], problems: dict[Problem, None]) -> None:
    groups: dict[Path, dict] = {}
    if (root.parent / CONFIG_FILE).exists():  # a run of a group may be named alone
        with contextlib.suppress(UserError):
            groups[root.parent] = read_config(root.parent)
    for directory, folders, files in os.walk(root):
        path, inside = Path(directory), _INSIDE if CONFIG_FILE in files else ()
        folders[:] = sorted(name for name in folders if name not in inside and not name.startswith("."))
        if CONFIG_FILE not in files:
            continue
        try:
            config = read_config(path)
        except UserError as error:
            problems[Problem(path, "unreadable", str(error))] = None
            continue
        if missing := [key for key in _NEEDED if key not in config]:
            sentence = f"its config has no {missing[0]!r}: it is of another version."
            problems[Problem(path, "unreadable", sentence)] = None
        elif sweep.is_group(ConfigDict(config)):
            groups[path] = config
            for name in sweep.expand(ConfigDict(config)):
                if not (path / name / CONFIG_FILE).exists():
                    sentence = "a run of its group that has not begun."
                    problems[Problem(path / name, "missing", sentence)] = None
        elif path not in found:
            in_group = path.parent in groups
            launched = (groups[path.parent], path.parent) if in_group else (config, path)
            found[path], own = _read(path, config, *launched)
            problems.update(dict.fromkeys(own))


def _read(path: Path, config: dict, launched: dict, launched_in: Path) -> tuple[Run, list[Problem]]:
    """Reads a run's files, and says what is wrong with them."""
    results, progress, problems = None, {}, []

    def note(kind: str, sentence: str) -> None:
        problems.append(Problem(path, kind, sentence))

    try:
        with contextlib.suppress(FileNotFoundError):
            results = json.loads((path / "results.json").read_text())
    except (ValueError, OSError) as error:
        note("unreadable", f"results.json cannot be read ({error}).")
    try:
        with contextlib.suppress(FileNotFoundError):
            progress = _rising(plotting.read_progress(path / "progress.csv"))
    except (ValueError, csv.Error, OSError) as error:
        note("unreadable", f"progress.csv cannot be read ({error}).")
    if results is not None and not _has_headline(results):
        note("unreadable", "results.json is of another version and is left out.")
        results = None
    total = budget(config)
    if (path / BROKEN).exists():
        done = max((int(name) for name in os.listdir(path / BROKEN) if name.isdigit()), default=0)
        note("diverged", f"its numbers became NaN or infinite after {done:,} of {total:,} updates.")
        results = None
    elif results is None:
        done = int(max((updates[-1] for updates, _ in progress.values() if len(updates)), default=0))
        note("unfinished", f"{done:,} of {total:,} updates; {_last_written(path)}.")
    elif results["step"] < total:
        sentence = f"it goes on: the results of {results['step']:,} of {total:,} updates are left out;"
        note("unfinished", f"{sentence} {_last_written(path)}.")
        results = None
    elif not results["headline"]:
        note("unscored", "it came to its end, but nothing was scored.")
    elif results["headline"]["value"] is None:
        note("diverged", "its score is NaN or infinite.")
    for sentence in (results or {}).get("warnings", []):
        note("warning", sentence)
    return Run(path, config, launched, launched_in, results, progress), problems


def _has_headline(results) -> bool:
    """Whether the contents of `results.json` say how long a run trained and what it came to, None included."""
    if not isinstance(results, dict) or not isinstance(results.get("step"), int) or "headline" not in results:
        return False
    return not results["headline"] or {"name", "value"} <= set(results["headline"])


def _rising(progress: Mapping[str, Curve]) -> dict[str, Curve]:
    """Columns in the order of their updates: scores may be written late."""
    orders = {name: np.argsort(updates, kind="stable") for name, (updates, _) in progress.items()}
    return {name: (updates[orders[name]], values[orders[name]]) for name, (updates, values) in progress.items()}


def _last_written(path: Path) -> str:
    files = [path / name for name in ("progress.csv", SIZES_FILE, CONFIG_FILE)]
    last = max(file.stat().st_mtime for file in files if file.exists())
    return f"last written at {time.strftime('%Y-%m-%d %H:%M', time.localtime(last))}"


def lower_is_better(metric: str) -> bool:
    """Returns whether a headline of this name is better the lower it is."""
    return "distance" in metric


def file_name(text: str, reserved: str = "") -> str:
    """Returns a name that file systems take; of two texts never the same.

    Args:
      text: is its own name, if it may be; else what is left of it with a part of its SHA-256.
      reserved: a regular expression of names that it must not have.
    """
    name = re.sub(r"[^\w.-]+", "_", text).strip("_.")
    short = name.encode()[:LONGEST].decode(errors="ignore")
    if short == text and not re.fullmatch(reserved, name):
        return name
    return f"{short}-{hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:8]}"


def labels(runs: Sequence[Run]) -> list[str]:
    """Returns for each run of a task its algorithm and what tells it from other runs of that.

    That is the variant where there are several, then each setting that differs among the runs of the variant. Seeds
    and the settings of `SHARED` tell no two runs apart; files do by their bytes, where those are on record.
    """
    told = [_telling(run) for run in runs]
    names = []
    for run, own in zip(runs, told, strict=True):
        variants = {other.variant for other in runs if other.agent == run.agent}
        kind = run.agent, run.variant
        others = [found for other, found in zip(runs, told, strict=True) if (other.agent, other.variant) == kind]
        differing = [key for key in own if any(_differ(own[key], other.get(key)) for other in others)]
        variant = [run.variant] if len(variants) > 1 and run.variant else []
        names.append(" ".join([run.agent, *variant, *(f"{key}={own[key]}" for key in differing)]))
    return names


def _telling(run: Run) -> dict:
    return {key: value for key, value in run.config.items() if key not in _UNTOLD} | {"data": run.data}


def _differ(one, other) -> bool:
    """Whether two values tell runs apart: not where one of them is not known yet."""
    return one is not None and other is not None and one != other


def values(runs: Iterable[Run]) -> list[float]:
    """Returns the headlines of the runs that have one."""
    return [run.value for run in runs if run.value is not None]


def by_label(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Returns the runs of each label, see `labels`."""
    found: dict[str, list[Run]] = {}
    for run, label in zip(runs, labels(runs), strict=True):
        found.setdefault(label, []).append(run)
    return found


def by_task(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Returns the runs of each task; one of the same name in another family has that behind its name.

    A file of one's own may be called as a task of D4RL's is, which keeps its name.
    """
    runs = list(runs)
    owners: dict[str, str] = {}  # the family that keeps the name
    for run in runs:
        if run.task not in owners or run.config["family"] == "d4rl":
            owners[run.task] = run.config["family"]
    found: dict[str, list[Run]] = {}
    for run in runs:
        family = run.config["family"]
        found.setdefault(run.task if family == owners[run.task] else f"{run.task} ({family})", []).append(run)
    return found
