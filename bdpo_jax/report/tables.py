"""Tables of runs: numbers by algorithm and task, beside what the paper prints, and which of them may be compared."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import NamedTuple

import numpy as np

from bdpo_jax.agents import budget
from bdpo_jax.data import d4rl
from bdpo_jax.report import commands, statistics
from bdpo_jax.results import Run, by_label, by_task

SHARE = 0.95  # of the best value: what reaches it is bold, as in the paper's Table 1
MARK = "†"  # of what may not be compared
_PHYSICS = {"mujoco": "D4RL's", "d4rl": "D4RL's", "gymnasium": "gymnasium's -v4"}
_FULL = ("released", "paper")  # variants of D4RL's tasks with the whole budget


class Conditions(NamedTuple):
    """What two numbers must share to be compared.

    Attributes:
      physics: of the environment; "" where there is but one.
      data: which version of the dataset.
      budget: "full", a smaller variant's name, or updates where a run has others than its config file says.
    """

    physics: str
    data: str
    budget: str


PUBLISHED = Conditions("D4RL's", "D4RL's file", "full")


class Cell(NamedTuple):
    """A table's entry.

    Attributes:
      text: what is shown.
      value: what it is sorted by, and what stands in a CSV file.
      bold: within 95% of the best.
      note: what keeps it from being compared; "" where nothing does.
    """

    text: str = ""
    value: float | str | None = None
    bold: bool = False
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """Entries by row and column.

    Attributes:
      title: a line.
      caption: what a reader must know.
      columns: headings.
      rows: a cell for each column.
      wide: columns that a printed table leaves out.
      published: columns whose numbers are the paper's.
    """

    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    wide: Sequence[str] = ()
    published: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Row:
    """The finished runs of one label on one task: equal settings, equal conditions.

    Attributes:
      label: algorithm, and what tells it from other runs of it.
      runs: its scored ones.
      conditions: of all of them.
      notes: what keeps it from being compared with the task's other rows.
    """

    label: str
    runs: Sequence[Run]
    conditions: Conditions
    notes: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        return self.runs[0].task

    @property
    def metric(self) -> str:
        return self.runs[0].metric

    @property
    def lower_is_better(self) -> bool:
        return self.runs[0].lower_is_better

    @functools.cached_property
    def values(self) -> np.ndarray:
        """Scores at the end of training, `[runs]`."""
        return np.array([run.value for run in self.runs])

    @property
    def mean(self) -> float:
        return float(self.values.mean())


def conditions(run: Run) -> Conditions:
    """Returns those of a finished run."""
    config, own = run.config, budget(run.config)
    file_s = commands.base(config)
    as_named = run.variant and (file_s is None or budget(file_s.to_dict()) == own)
    size = run.variant if as_named else f"{own:,} updates"
    if config["family"] == "d4rl":
        known = run.task in d4rl.TASKS and run.data == d4rl.TASKS[run.task].file
        data = PUBLISHED.data if known else run.data or ""
        return Conditions(_PHYSICS[config["backend"]], data, PUBLISHED.budget if size in _FULL else size)
    made = {"pointmass": "made: {} episodes", "synthetic2d": "made: {:,} points"}
    data = made[config["family"]].format(config["dataset_size"]) if config["family"] in made else run.data or ""
    if config["family"] == "synthetic2d":
        data += f", truth at temperature {config['temperature'] or config.get('eta', 0.0):g}"
    return Conditions("", data, size)


def rows(runs: Sequence[Run]) -> list[Row]:
    """Returns the rows of one task, best mean first; those that may not be compared say why.

    The conditions that the others are held against are the published ones where a row has them, else those of most
    runs.
    """
    found = []
    for label, own in by_label(runs).items():
        alike: dict[Conditions, list[Run]] = {}
        for run in own:
            if run.value is not None:
                alike.setdefault(conditions(run), []).append(run)
        found += [Row(label, same, state) for state, same in alike.items()]
    if not found:
        return []
    counts: Counter[Conditions] = Counter()
    for row in found:
        counts[row.conditions] += len(row.runs)
    reference = PUBLISHED if PUBLISHED in counts else counts.most_common(1)[0][0]
    found = [dataclasses.replace(row, notes=_notes(row.conditions, reference)) for row in found]
    return sorted(found, key=lambda row: row.mean, reverse=not found[0].lower_is_better)


def _notes(own: Conditions, reference: Conditions) -> tuple[str, ...]:
    pairs = zip(Conditions._fields, own, reference, strict=True)
    return tuple(f"{name}: {mine or 'none'}, not {others or 'none'}" for name, mine, others in pairs if mine != others)


def near_best(values: Mapping[str, float], lower_is_better: bool = False) -> set[str]:
    """Returns the keys whose values are within 95% of the best one's size from it."""
    sign = -1 if lower_is_better else 1
    best = max((sign * value for value in values.values()), default=0.0)
    return {key for key, value in values.items() if sign * value >= best - (1 - SHARE) * abs(best)}


def number(value: float | None) -> str:
    """Returns a number as tables show it: a decimal from ten on, two from one on, else three; "" for None."""
    if value is None:
        return ""
    return f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3}f}"


def _bracket(interval: statistics.Interval | None) -> Cell:
    if interval is None:
        return Cell()
    return Cell(f"[{number(interval[0])}, {number(interval[1])}]")


def _of(value: float | None) -> Cell:
    return Cell(number(value), value)


def _each(values) -> str:
    """Different values, in order, joined."""
    return ", ".join(dict.fromkeys(str(value) for value in values if value not in (None, "")))


def summary(task: str, found: Sequence[Row]) -> Table:
    """Returns the table of one task's rows.

    Scores are those at the end of training. Bold ones are within 95% of the best; none that may not be compared is.
    """
    first = found[0]
    bold = near_best({row.label: row.mean for row in found if not row.notes}, first.lower_is_better)
    lines = []
    for row in found:
        note = "; ".join(row.notes)
        name = f"{row.label} {MARK}" if note else row.label
        best = [run.best for run in row.runs if run.best is not None]
        seconds = float(np.mean([run.seconds for run in row.runs]))
        results = [run.results or {} for run in row.runs]
        lines.append(
            (
                Cell(name, row.label, note=note),
                Cell(number(row.mean), row.mean, not note and row.label in bold, note),
                _of(statistics.deviation(row.values)),
                _of(statistics.interquartile_mean([row.values])),
                _bracket(statistics.interquartile_interval([row.values])),
                Cell(str(len(row.runs)), len(row.runs)),
                Cell(_each(run.episodes for run in row.runs)),
                Cell(_each(run.config.get("greedy_candidates", 1) for run in row.runs)),
                Cell("last"),
                _of(float(np.mean(best)) if best else None),
                Cell(f"{results[0]['step']:,}", results[0]["step"]),
                Cell(duration(seconds), seconds),
                Cell(_each(hardware(run) for run in row.runs)),
                Cell(row.conditions.data),
                Cell(row.conditions.physics),
                Cell(row.conditions.budget),
                Cell(_each(result.get("versions", {}).get("bdpo_jax") for result in results)),
                Cell(note),
            )
        )
    columns = (
        *("algorithm", first.metric, "sd", "IQM", "95% interval of the IQM", "seeds", "episodes", "candidates"),
        *("selection", "best of a run", "updates", "wall-clock", "hardware", "data", "physics", "budget", "version"),
        "not comparable",
    )
    caption = (
        f"{first.metric}, mean and standard deviation (sd) over seeds, interquartile mean (IQM) with its 95% bootstrap "
        f"interval, at the end of training{', lower is better' if first.lower_is_better else ''}. Bold: within "
        "95% of the best. The best of a run is its best evaluation, chosen with the scores in sight, and no result. "
        f"{MARK}: not comparable with the other rows, never bold."
    )
    return Table(task, caption, columns, lines, wide=columns[10:])


def hardware(run: Run) -> str:
    """Returns the device's kind, or where that is a processor its model."""
    results = run.results or {}
    device = results.get("device", "")
    return results.get("processor", device) if device == "cpu" else device


def duration(seconds: float) -> str:
    """Returns a time as hours, minutes or seconds."""
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


# --- beside the paper ---


@functools.cache
def published() -> dict[str, dict[str, tuple[float | None, float | None]]]:
    """Returns the paper's Table 1: by task and algorithm, mean and standard deviation (None: not printed)."""
    text = resources.files("bdpo_jax.report").joinpath("published.tsv").read_text(encoding="utf-8")
    (_, *names), *lines = (line.split("\t") for line in text.splitlines())
    found = {}
    for task, *entries in lines:
        values = dict(zip(names, (float(entry) if entry else None for entry in entries), strict=True))
        deviation = {"BDPO": values.pop("BDPO std")}
        found[task] = {name: (value, deviation.get(name)) for name, value in values.items()}
    return found


def beside_published(found: Mapping[str, Sequence[Row]]) -> Table | None:
    """Returns Table 1 of the paper with own columns; None where no task of its has been scored.

    Args:
      found: rows by task.
    """
    suites = {
        name: [task for task in published() if task.startswith("antmaze") == (name == "antmaze")]
        for name in ("locomotion", "antmaze")
    }
    suites = {name: tasks for name, tasks in suites.items() if any(found.get(task) for task in tasks)}
    if not suites:
        return None
    tasks = [task for own in suites.values() for task in own]
    names = list(published()[tasks[0]])
    own = {task: _by_name(found.get(task, ())) for task in tasks}
    labels = list(dict.fromkeys(label for rows_ in own.values() for label in rows_))
    lines = []
    for suite, members in suites.items():
        for task in members:
            lines.append(_published_line(task, names, labels, own[task]))
        entries = [[published()[task][name][0] for task in members] for name in names]
        entries += [[_comparable(own[task].get(label)) for task in members] for label in labels]
        lines.append([Cell(f"sum of {suite}", f"sum of {suite}"), *(_of(_sum(column)) for column in entries)])
    caption = (
        "Normalised scores, mean and standard deviation over seeds at the end of training. The published columns are "
        "the paper's Table 1; the sums are of its entries, not those that it prints. Bold: within 95% of the best of "
        f"the task. {MARK}: not comparable with the published columns, left out of bold and sums."
    )
    columns = ("task", *names, *(f"own {label}" for label in labels))
    return Table("Beside the paper's Table 1", caption, columns, lines, published=names)


def _by_name(found: Sequence[Row]) -> dict[str, Row]:
    """A row for each label; of several the one with the published conditions."""
    return {row.label: row for row in sorted(found, key=lambda row: row.conditions == PUBLISHED)}


def _sum(values: Sequence[float | None]) -> float | None:
    """None where one is missing."""
    there = [value for value in values if value is not None]
    return float(sum(there)) if len(there) == len(values) else None


def _comparable(row: Row | None) -> float | None:
    return row.mean if row is not None and row.conditions == PUBLISHED else None


def _published_line(task: str, names: Sequence[str], labels: Sequence[str], own: Mapping[str, Row]) -> list[Cell]:
    printed = published()[task]
    values = {name: mean for name, (mean, _) in printed.items() if mean is not None}
    values |= {f"own {label}": row.mean for label, row in own.items() if row.conditions == PUBLISHED}
    bold = near_best(values)
    line = [Cell(task, task)]
    for name in names:
        mean, deviation = printed[name]
        spread = "" if deviation is None else f" ± {deviation:.1f}"
        line.append(Cell("" if mean is None else f"{mean:.1f}{spread}", mean, name in bold))
    for label in labels:
        row = own.get(label)
        if row is None:
            line.append(Cell())
            continue
        deviation, note = statistics.deviation(row.values), "; ".join(_notes(row.conditions, PUBLISHED))
        spread = "" if deviation is None else f" ± {deviation:.1f}"
        text = f"{row.mean:.1f}{spread}{f' {MARK}' if note else ''}"
        line.append(Cell(text, row.mean, f"own {label}" in bold, note))
    return line


def over_tasks(found: Mapping[str, Sequence[Row]]) -> list[Table]:
    """Returns for each metric a table of the algorithms over all tasks that have comparable rows of each of them.

    Args:
      found: rows by task.
    """
    tables = []
    for metric, by_agent in shared(found).items():
        tasks = list(next(iter(by_agent.values())))
        lines = []
        for label, samples in by_agent.items():
            arrays = list(samples.values())
            mean = float(np.mean([values.mean() for values in arrays]))
            lines.append(
                (
                    Cell(label, label),
                    _of(mean),
                    _of(statistics.interquartile_mean(arrays)),
                    _bracket(statistics.interquartile_interval(arrays)),
                    Cell(str(sum(map(len, arrays))), sum(map(len, arrays))),
                )
            )
        caption = (
            f"{metric} over {', '.join(tasks)}: mean of the tasks' means, interquartile mean over all runs with its "
            "95% stratified bootstrap interval. Only tasks that all of these algorithms have comparable runs on."
        )
        columns = ("algorithm", "mean", "IQM", "95% interval of the IQM", "runs")
        tables.append(Table(f"Over {len(tasks)} tasks: {metric}", caption, columns, lines))
    return tables


Shared = dict[str, dict[str, dict[str, np.ndarray]]]


def shared(found: Mapping[str, Sequence[Row]]) -> Shared:
    """Returns comparable scores by metric, label and task: of metrics with two tasks, and labels that have all of them.

    Tasks whose scores have no common unit are not averaged: only normalised scores and distances are.

    Args:
      found: rows by task.
    """
    by_metric: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for task, own in found.items():
        for row in own:
            if not row.notes and row.metric != "return":
                by_metric.setdefault(row.metric, {}).setdefault(row.label, {})[task] = row.values
    chosen: Shared = {}
    for metric, by_agent in by_metric.items():
        tasks = max((tuple(samples) for samples in by_agent.values()), key=len)
        complete = {label: samples for label, samples in by_agent.items() if set(samples) == set(tasks)}
        if len(tasks) > 1:
            chosen[metric] = {label: {task: samples[task] for task in tasks} for label, samples in complete.items()}
    return chosen


def every_run(runs: Sequence[Run]) -> Table:
    """Returns a line for each run, finished or not."""
    columns = (
        *("directory", "task", "algorithm", "seed", "metric", "score", "best of a run", "updates", "seconds"),
        *("hardware", "data", "config hash"),
    )
    lines = []
    for task, own in by_task(runs).items():
        for label, same in by_label(own).items():
            for run in same:
                results = run.results or {}
                texts = (str(run.path), task, label, str(run.config["seed"]), run.metric)
                lines.append(
                    (
                        *(Cell(text, text) for text in texts),
                        _of(run.value),
                        _of(run.best),
                        Cell(f"{results.get('step', 0):,}", results.get("step")),
                        Cell(f"{run.seconds:.0f}", run.seconds),
                        *(Cell(text, text) for text in (hardware(run), run.data or "", results.get("config_hash", ""))),
                    )
                )
    return Table("Runs", "Every run, finished or not.", columns, lines)
