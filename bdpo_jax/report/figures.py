"""The figures of a report, each from the runs' own files, as PNG and SVG."""

from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import numpy as np

from bdpo_jax import plotting
from bdpo_jax.data import synthetic2d
from bdpo_jax.plotting import canvas
from bdpo_jax.report import statistics, tables
from bdpo_jax.report.contents import Contents
from bdpo_jax.report.page import Picture
from bdpo_jax.report.tables import Row
from bdpo_jax.results import Run, by_label, file_name, lower_is_better

TEMPERATURES = (1.0, 0.3, 0.1)  # of the 2D sets' data beside the runs' own, units of their energy
POINTS = 50_000  # of a 2D set, before they are resampled
SHOWN = 2_000  # of these
THRESHOLDS = 101  # of a performance profile

Samples = Mapping[str, Mapping[str, np.ndarray]]  # scores by label and task


def draw(found: Contents, folder: Path) -> dict[str, list[Picture]]:
    """Draws what the runs allow for into a folder.

    Returns:
      The pictures by task; those over several tasks under "".
    """
    names = dict.fromkeys(label for runs in found.by_task.values() for label in by_label(runs))
    colours = dict(zip(names, canvas.line_colours(len(names)), strict=True))
    diverged = {problem.path for problem in found.problems if problem.kind == "diverged"}
    pictures: dict[str, list[Picture]] = {"": _over_tasks(found, folder, colours)}
    for task, runs in found.by_task.items():
        rows, stem = found.rows[task], folder / file_name(task, r"over_tasks-.*")
        pictures[task] = [
            *_scores(stem, task, rows, colours),
            *_curves(stem, task, runs, diverged, colours),
            *_comparisons(stem, task, rows, colours),
            *_temperatures(stem, task, runs),
        ]
    return pictures


def _scores(stem: Path, task: str, rows: Sequence[Row], colours: Mapping) -> list[Picture]:
    if not rows:
        return []
    path, values = _named(stem, "scores"), {row.label: row.values for row in rows if not row.notes}
    plotting.scores(path, "Scores at the end of training", rows[0].metric, {task: values}, colours)
    note = "" if len(values) == len(rows) else " Rows that are not comparable are left out."
    return [_picture(path, f"{rows[0].metric}: each seed (crosses), mean and standard deviation.{note}")]


def series(runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the updates at which all of these runs have been scored, and their scores `[runs, updates]`.

    A run that has not been scored yet is left out; None where there are no common updates.
    """
    tables_ = [dict(zip(*run.curve, strict=True)) for run in runs if len(run.curve[0])]
    if not tables_:
        return None
    updates = sorted(set.intersection(*(set(table) for table in tables_)))
    if not updates:
        return None
    return np.array(updates), np.array([[table[update] for update in updates] for table in tables_])


def _curves(stem: Path, task: str, runs: Sequence[Run], diverged: Set[Path], colours: Mapping) -> list[Picture]:
    # Labels are of all runs: those that diverged may be what tells the others apart.
    labelled = {label: [run for run in own if run.path not in diverged] for label, own in by_label(runs).items()}
    found = {label: series(own) for label, own in labelled.items()}
    drawn = {label: curve for label, curve in found.items() if curve is not None}
    if not drawn or max(len(updates) for updates, _ in drawn.values()) < 2:
        return []
    path, metric = _named(stem, "curves"), next(run.metric for run in runs if run.metric)
    plotting.learning_curves(path, "Scores over training", metric, {task: drawn}, colours)
    text = f"{metric} over updates, mean and standard deviation over seeds, at updates that all seeds have come to."
    return [_picture(path, text)]


def _comparisons(stem: Path, title: str, rows: Sequence[Row], colours: Mapping) -> list[Picture]:
    """Profiles and improvement on one task, where two algorithms have several seeds each."""
    several = {row.label: {row.task: row.values} for row in rows if not row.notes and len(row.values) > 1}
    if len(several) < 2:
        return []
    return _profiles(stem, title, rows[0].metric, several, colours) + _improvement(stem, title, rows[0].metric, several)


def _over_tasks(found: Contents, folder: Path, colours: Mapping) -> list[Picture]:
    pictures = []
    for metric, samples in tables.shared(found.rows).items():
        if len(samples) < 2:  # of one algorithm alone there is nothing to compare
            continue
        tasks = len(next(iter(samples.values())))
        stem, title = folder / f"over_tasks-{file_name(metric)}", f"{tasks} tasks"
        pictures += _profiles(stem, title, metric, samples, colours)
        pictures += _improvement(stem, title, metric, samples)
    return pictures


def _profiles(stem: Path, title: str, metric: str, samples: Samples, colours: Mapping) -> list[Picture]:
    lower = lower_is_better(metric)
    every = np.concatenate([values for by_task in samples.values() for values in by_task.values()])
    margin = 0.02 * (every.max() - every.min())
    thresholds = np.linspace(every.min() - margin, every.max() + margin, THRESHOLDS)
    shares = {
        label: statistics.profile(list(by_task.values()), thresholds, lower) for label, by_task in samples.items()
    }
    path = _named(stem, "profiles")
    plotting.profiles(path, f"{title}: performance profiles", metric, thresholds, shares, colours, lower)
    return [_picture(path, f"Share of runs {'below' if lower else 'above'} each {metric}, with 95% bands.")]


def _improvement(stem: Path, title: str, metric: str, samples: Samples) -> list[Picture]:
    """BDPO, or where it is not there the first, against each of the others."""
    first = next((label for label in samples if label.split()[0] == "bdpo"), next(iter(samples)))
    rows = []
    for label, by_task in samples.items():
        if label != first:
            own = list(samples[first].values()), list(by_task.values())
            value, interval = statistics.improvement(*own, lower_is_better(metric))
            rows.append((first, label, value, *(interval or (value, value))))
    if not rows:
        return []
    path = _named(stem, "improvement")
    plotting.improvement(path, f"{title}: probability of improvement", rows)
    return [_picture(path, f"Probability that a run of {first} is better ({metric}), with 95% bootstrap intervals.")]


def _temperatures(stem: Path, task: str, runs: Sequence[Run]) -> list[Picture]:
    """What the 2D sets' truth is at the runs' temperatures and at others (the paper's Figures 5 and 8)."""
    if runs[0].config["family"] != "synthetic2d":
        return []
    own = {run.config["temperature"] or run.config.get("eta") or TEMPERATURES[0] for run in runs}
    points, energies = synthetic2d.generate(task, POINTS, 0)
    samples = {
        f"η = {temperature:g}": synthetic2d.boltzmann(points, energies, temperature, SHOWN, 0)
        for temperature in sorted({*TEMPERATURES, *own}, reverse=True)
    }
    path, bound = _named(stem, "temperatures"), synthetic2d.BOUND
    shown = points[:SHOWN], energies[:SHOWN], samples
    plotting.temperatures(path, {task: shown}, (-bound, bound, -bound, bound))
    return [_picture(path, "The data with their energies, and resampled by exp(energy / η).")]


def _named(stem: Path, kind: str) -> Path:
    return stem.with_name(f"{stem.name}-{kind}.png")


def _picture(path: Path, caption: str) -> Picture:
    return Picture(path.with_suffix(".svg"), caption)
