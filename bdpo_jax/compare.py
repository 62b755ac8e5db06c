"""python -m bdpo_jax.compare DIRECTORY... [--out=DIRECTORY]

Sets runs side by side: for each task a table of the algorithms' last scores (Markdown and CSV, mean and standard
deviation over runs) and a picture. In 2D that is the samples of each policy beside the truth (a picture for each
temperature), elsewhere each run's headline. Directories are those of runs, of groups, or of several of these.
"""

import argparse
import csv
import functools
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bdpo_jax import plotting, results
from bdpo_jax.data import synthetic2d
from bdpo_jax.distances import sliced_wasserstein
from bdpo_jax.errors import Notice, UserError
from bdpo_jax.policy import load_policy
from bdpo_jax.results import Run, by_label, by_task, file_name
from bdpo_jax.text import set_up_output, tell
from bdpo_jax.workdir import expanded, make_directory, replacing

SAMPLES = 10_000  # of a policy in the plane


def find(directories: Sequence[str | Path]) -> list[Run]:
    """Returns the scored runs in and below the directories, by path; warns of those that are left out.

    Raises:
      UserError: a directory holds none.
    """
    runs, problems = results.find(directories)
    scored = [run for run in runs if run.value is not None]
    repeated = [problem for problem in problems if problem.kind == "repeated"]
    for problem in repeated:
        warnings.warn(f"{problem.path}: {problem.sentence}", Notice, stacklevel=2)
    found = [run.path for run in scored] + [problem.path for problem in repeated]
    for directory in directories:
        if not any(path.is_relative_to(expanded(directory).absolute()) for path in found):
            raise UserError(f"{directory} holds no run that has come to its end and was scored.")
    return scored


def rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Returns a row for each label of a task's runs, best mean first or, for distances, least.

    Its columns are `runs` and the mean of every number that all its runs have in the scores of "policy"; the headline
    has `std` (of a sample, None of one run), `least` and `most` too.
    """
    found = []
    for label, own in by_label(runs).items():
        values = results.values(own)
        row = {
            "algorithm": label,
            "runs": len(own),
            own[0].metric: float(np.mean(values)),
            "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "least": min(values),
            "most": max(values),
        }
        scores = [run.scores for run in own]
        for key in scores[0]:
            numbers = [score[key] for score in scores if isinstance(score.get(key), int | float)]
            if key not in row and len(numbers) == len(scores) and numbers != values:  # else the headline, again
                row[key] = float(np.mean(numbers))
        found.append(row)
    return sorted(found, key=lambda row: row[runs[0].metric], reverse=not runs[0].lower_is_better)


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
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in found for key in row)))
        writer.writeheader()
        writer.writerows(found)


def _truth(task: str, temperature: float) -> np.ndarray:
    """A sample of the Boltzmann truth of a 2D set that no run has seen, `[SAMPLES, 2]`."""
    return synthetic2d.boltzmann(*_energies(task), temperature, SAMPLES, 0)


@functools.cache
def _energies(task: str) -> tuple[np.ndarray, np.ndarray]:
    return synthetic2d.generate(task, 1_000_000, 123_456)


def _temperature(run: Run) -> float:
    return run.config["temperature"] or run.config["eta"]


def planes(path: Path, runs: Sequence[Run]) -> dict[Path, dict[str, float]]:
    """Draws the truth and samples of each algorithm's first run.

    Args:
      path: of the picture; where the runs' truths have several temperatures, each has a picture, named for it.
      runs: of one 2D set.

    Returns:
      The sliced Wasserstein distances to the truth of a picture's samples, by its path and their labels.
    """
    by_temperature: dict[float, dict[str, Run]] = {}
    for label, (run, *_) in by_label(runs).items():
        by_temperature.setdefault(_temperature(run), {})[label] = run
    found = {}
    for temperature, own in by_temperature.items():
        several = len(by_temperature) > 1
        picture = path.with_name(f"{path.stem}-temperature{temperature:g}{path.suffix}") if several else path
        found[picture] = _plane(picture, own, temperature)
    return found


def _plane(path: Path, runs: Mapping[str, Run], temperature: float) -> dict[str, float]:
    """Draws the truth, and samples of each run under its label; returns their distances by label."""
    task = next(iter(runs.values())).task
    truth = _truth(task, temperature)
    shown, distances = {"truth": (truth, "")}, {}
    for label, run in runs.items():
        samples = load_policy(run.path)(np.zeros((SAMPLES, 1), np.float32), jax.random.key(0))
        distances[label] = sliced_wasserstein(samples, truth)
        shown[label] = samples, f"distance {distances[label]:.3f}"
    bound = synthetic2d.BOUND
    plotting.planes(path, f"{task}: samples of each policy", shown, (-bound, bound, -bound, bound))
    return distances


def write(directories: Sequence[str | Path], out: str | Path) -> str:
    """Writes the tables and pictures of all tasks into `out`; returns the tables as text.

    Raises:
      UserError: a directory holds no scored run, or `out` cannot be written.
    """
    runs, texts, out = find(directories), [], expanded(out)
    make_directory(out)
    for task, own in by_task(runs).items():
        name = file_name(task)
        found = rows(own)
        order = [row["algorithm"] for row in found]
        _write_csv(out / f"{name}.csv", found)
        picture = out / f"{name}.png"
        if own[0].config["family"] == "synthetic2d":
            pictures = list(planes(picture, own))
        else:
            groups = by_label(own)
            values = {label: results.values(groups[label]) for label in order}
            plotting.dots(picture, task, own[0].metric, values)
            pictures = [picture]
        parts = [f"## {task}", table(found), *(f"![{task}]({path.name})" for path in pictures)]
        texts.append("\n\n".join(parts) + "\n")
    text = "\n".join(texts)
    with replacing(out / "compare.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bdpo_jax.compare", description="Sets runs side by side.")
    parser.add_argument("directories", nargs="+", help="of runs, of groups, or above them")
    parser.add_argument(
        "--out", help="folder of tables and pictures; default: compare, in the directory, or in runs if there are more"
    )
    options = parser.parse_args(arguments)
    above = options.directories[0] if len(options.directories) == 1 else "runs"
    out = options.out or os.path.join(above, "compare")
    set_up_output()
    try:
        tell(write(options.directories, out))
    except UserError as error:
        sys.exit(f"Error: {error}")
    tell(f"Tables and pictures: {out}")


if __name__ == "__main__":
    main()
