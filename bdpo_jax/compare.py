"""python -m bdpo_jax.compare DIRECTORY... [--out=DIRECTORY]

Sets runs side by side: for each task a table of the algorithms' last scores (Markdown and CSV, mean and standard
deviation over runs) and a picture. In 2D that is the samples of each policy beside the truth, elsewhere each run's
headline. Directories are those of runs, of groups, or of several of these.
"""

import argparse
import csv
import functools
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np

from bdpo_jax import plotting
from bdpo_jax.data import synthetic2d
from bdpo_jax.distances import sliced_wasserstein
from bdpo_jax.errors import UserError
from bdpo_jax.policy import load_policy
from bdpo_jax.workdir import read_config

SAMPLES = 10_000  # of a policy in the plane
# Settings that runs of one row of a table may differ in: seeds, and what decides no score.
SHARED = (
    *("seed", "seeds", "dataset_seed", "sweep", "recipe", "runs_at_once", "devices", "dataset_memory"),
    *("evaluate_every", "log_every", "checkpoint_every", "keep_checkpoints", "profile_updates", "wandb", "mirrors"),
    *("compilation_cache", "deterministic"),
)


class Found(NamedTuple):
    """A finished run: its directory, settings and results."""

    path: Path
    config: SimpleNamespace
    results: dict


def find(directories: Iterable[str | Path]) -> list[Found]:
    """Returns the scored runs in and below the directories, by path.

    Raises:
      UserError: a directory holds none.
    """
    runs: dict[Path, Found] = {}
    for directory in directories:
        # A group has a results.json too, but its runs' states lie in its subdirectories.
        files = sorted(path for path in Path(directory).rglob("results.json") if (path.parent / "sizes.json").exists())
        scored = [(path.parent, json.loads(path.read_text())) for path in files]
        found = {path: results for path, results in scored if results.get("headline")}
        if not found:
            raise UserError(f"{directory} holds no run that has come to its end and was scored.")
        for path, results in found.items():
            runs[path] = Found(path, SimpleNamespace(**read_config(path)), results)
    return list(runs.values())


def labels(runs: Sequence[Found]) -> list[str]:
    """Returns for each run its algorithm and, where runs of it have different settings, those that differ.

    Seeds and the settings of `SHARED` tell no two runs apart.
    """
    names = []
    for run in runs:
        own = {key: value for key, value in vars(run.config).items() if key not in SHARED}
        others = [vars(other.config) for other in runs if other.config.agent == run.config.agent]
        differing = [key for key in own if any(own[key] != other.get(key) for other in others)]
        names.append(" ".join([run.config.agent, *(f"{key}={own[key]}" for key in differing)]))
    return names


def rows(runs: Sequence[Found]) -> list[dict[str, Any]]:
    """Returns a row for each label of a task's runs, best mean first or, for distances, least.

    Its columns are `runs` and the mean of every number in the scores of "policy"; the headline has `std` (of a sample,
    None of one run), `least` and `most` too.
    """
    found = []
    for label, own in by_label(runs).items():
        values = [run.results["headline"]["value"] for run in own]
        row = {
            "algorithm": label,
            "runs": len(own),
            own[0].results["headline"]["name"]: float(np.mean(values)),
            "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "least": min(values),
            "most": max(values),
        }
        scores = [run.results["scores"]["policy"] for run in own]
        for key, value in scores[0].items():
            if isinstance(value, int | float) and key not in row:
                row[key] = float(np.mean([score[key] for score in scores]))
        found.append(row)
    name = runs[0].results["headline"]["name"]
    return sorted(found, key=lambda row: row[name], reverse=not _lower_is_better(runs[0]))


def by_label(runs: Sequence[Found]) -> dict[str, list[Found]]:
    """Returns the runs of each label."""
    found: dict[str, list[Found]] = {}
    for run, label in zip(runs, labels(runs), strict=True):
        found.setdefault(label, []).append(run)
    return found


def _lower_is_better(run: Found) -> bool:
    return "distance" in run.results["headline"]["name"]


def table(found: Sequence[dict[str, Any]]) -> str:
    """Returns rows as a Markdown table; what one lacks is empty."""
    columns = list(dict.fromkeys(key for row in found for key in row))
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    for row in found:
        cells = (row.get(column) for column in columns)
        lines.append(
            "| " + " | ".join("" if c is None else f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells)
        )
        lines[-1] += " |"
    return "\n".join(lines)


def _write_csv(path: Path, found: Sequence[dict[str, Any]]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in found for key in row)))
        writer.writeheader()
        writer.writerows(found)


def _truth(config: SimpleNamespace, temperature: float) -> np.ndarray:
    """A sample of the Boltzmann truth of a 2D set that no run has seen, `[SAMPLES, 2]`."""
    return synthetic2d.boltzmann(*_energies(config.task), temperature, SAMPLES, 0)


@functools.cache
def _energies(task: str) -> tuple[np.ndarray, np.ndarray]:
    return synthetic2d.generate(task, 1_000_000, 123_456)


def _temperature(run: Found) -> float:
    return run.config.temperature or run.config.eta


def planes(path: Path, runs: Sequence[Found]) -> dict[str, float]:
    """Draws the truth and samples of each algorithm's first run; returns their sliced Wasserstein distances to it.

    Raises:
      UserError: the runs' truths have different temperatures.
    """
    temperatures = {_temperature(run): run.path for run in runs}
    if len(temperatures) > 1:
        (one, first), (other, second), *_ = temperatures.items()
        raise UserError(f"{first} aims at temperature {one:g}, {second} at {other:g}: they have no truth in common.")
    truth = _truth(runs[0].config, *temperatures)
    shown, distances = {"truth": (truth, "")}, {}
    for label, (run, *_) in by_label(runs).items():
        samples = load_policy(run.path)(np.zeros((SAMPLES, 1), np.float32), jax.random.key(0))
        distances[label] = sliced_wasserstein(samples, truth)
        shown[label] = samples, f"distance {distances[label]:.3f}"
    bound = synthetic2d.BOUND
    plotting.planes(path, f"{runs[0].config.task}: samples of each policy", shown, (-bound, bound, -bound, bound))
    return distances


def write(directories: Iterable[str | Path], out: str | Path) -> str:
    """Writes the tables and pictures of all tasks into `out`; returns the tables as text.

    Raises:
      UserError: a directory holds no scored run, or runs of a 2D set have no truth in common.
    """
    runs, texts, out = find(directories), [], Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for task in dict.fromkeys(run.config.task for run in runs):
        own = [run for run in runs if run.config.task == task]
        name = "".join(c if c.isalnum() or c in "-." else "_" for c in task)
        found = rows(own)
        order = [row["algorithm"] for row in found]
        _write_csv(out / f"{name}.csv", found)
        picture = out / f"{name}.png"
        if own[0].config.family == "synthetic2d":
            planes(picture, own)
        else:
            groups = by_label(own)
            values = {label: [run.results["headline"]["value"] for run in groups[label]] for label in order}
            plotting.dots(picture, task, own[0].results["headline"]["name"], values)
        texts.append(f"## {task}\n\n{table(found)}\n\n![{task}]({picture.name})\n")
    text = "\n".join(texts)
    (out / "compare.md").write_text(text)
    return text


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bdpo_jax.compare", description="Sets runs side by side.")
    parser.add_argument("directories", nargs="+", help="of runs, of groups, or above them")
    parser.add_argument("--out", default="runs/compare", help="folder of tables and pictures; default: runs/compare")
    options = parser.parse_args(arguments)
    try:
        print(write(options.directories, options.out))
    except UserError as error:
        sys.exit(f"Error: {error}")
    print(f"Tables and pictures: {options.out}")


if __name__ == "__main__":
    main()
