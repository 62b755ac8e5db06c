"""Numbers of runs as lines: scalars over update steps, results over swept values."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, NullLocator

from bdpo_jax.plotting import canvas

_SYMBOLS = {"eta": "η", "rho": "ρ"}


def read_progress(path: str | os.PathLike) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`{column: (steps [rows], values [rows])}` of a `progress.csv`, without the rows that lack the column."""
    with open(path, newline="") as file:
        header, *rows = csv.reader(file)
    columns = {}
    for index, name in enumerate(header[1:], start=1):
        kept = [(float(row[0]), float(row[index])) for row in rows if len(row) > index and row[index]]
        table = np.array(kept, dtype=np.float64).reshape(-1, 2)
        columns[name] = table[:, 0], table[:, 1]
    return columns


def curves(
    path: str | os.PathLike,
    title: str,
    runs: Mapping[str, str | os.PathLike],
    columns: Sequence[str] | None = None,
) -> None:
    """One small panel per scalar over the update steps, one line per run.

    Args:
      path: PNG file, replaced at once.
      title: of the task.
      runs: `{label: progress.csv}`; the labels make the legend where there are several.
      columns: which scalars, in this order; all where None.
    """
    tables = {label: read_progress(Path(file)) for label, file in runs.items()}
    if columns is None:
        columns = list(dict.fromkeys(name for table in tables.values() for name in table))
    colours = canvas.line_colours(len(tables))
    width = min(4, max(len(columns), 1))
    height = max(-(-len(columns) // width), 1)
    # Margins in inches, since matplotlib's search for them takes as long as all the rest.
    above, below = 0.75, 0.5 + (0.25 * -(-len(tables) // 6) if len(tables) > 1 else 0)
    wide, high = 3.6 * width, 2.3 * height + above + below
    figure = Figure(figsize=(wide, high))
    figure.suptitle(f"{title}: scalars over update steps", fontsize=13, y=1 - 0.15 / high, va="top")
    panels = figure.subplots(height, width, squeeze=False).ravel()
    sides = {"left": 0.55 / wide, "right": 1 - 0.15 / wide, "bottom": below / high, "top": 1 - above / high}
    figure.subplots_adjust(**sides, wspace=0.25, hspace=0.4)
    for axes in panels[len(columns) :]:
        axes.set_axis_off()
    for axes, name in zip(panels, columns, strict=False):
        for index, (label, table) in enumerate(tables.items()):
            steps, numbers = table.get(name, ((), ()))
            marker = "o" if len(steps) < 30 else ""
            style = {"color": colours[index], "linewidth": 1, "markersize": 2.5}
            axes.plot(steps, numbers, f"{marker}-", label=label, **style)
        axes.set_title(name, fontsize=10)
        canvas.plain_axes(axes)
        axes.locator_params(nbins=5)
        axes.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4))
    if len(tables) > 1:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="lower center", ncols=6, fontsize=9)
    canvas.save(figure, path)


def lines_of(
    path: str | os.PathLike,
    title: str,
    panels: Mapping[str, Mapping[str, Sequence[np.ndarray]]],
    xlabel: str,
    ylabel: str,
    logarithmic: bool = False,
) -> None:
    """Lines side by side, such as the times of the paper's Figure 10.

    Args:
      path: PNG file, replaced at once.
      title: of the picture.
      panels: `{title: {label: (x, y)}}`. The part of a label before its comma has one colour everywhere, the part after
        it one dash.
      xlabel: of every panel.
      ylabel: likewise.
      logarithmic: both axes.
    """
    labels = list(dict.fromkeys(label for lines in panels.values() for label in lines))
    names = list(dict.fromkeys(label.partition(", ")[0] for label in labels))
    kinds = list(dict.fromkeys(label.partition(", ")[2] for label in labels))
    colours, dashes = canvas.line_colours(len(names)), ("-", "--", ":", "-.")
    figure = Figure(figsize=(4.6 * len(panels), 4.2), layout="constrained")
    figure.suptitle(title, fontsize=12)
    drawn = {}
    for axes, (name, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for label, (x, y) in lines.items():
            first, _, second = label.partition(", ")
            style = {"color": colours[names.index(first)], "linestyle": dashes[kinds.index(second) % len(dashes)]}
            (drawn[label],) = axes.plot(x, y, marker="o", markersize=3.5, linewidth=1.4, label=label, **style)
        axes.set_title(name, fontsize=11)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        if logarithmic:
            axes.set(xscale="log", yscale="log")
            ticks = sorted({float(value) for x, _ in lines.values() for value in x})
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.xaxis.set_minor_locator(NullLocator())
            for level in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
                level(LogFormatter(minor_thresholds=(2, 0.8)))  # numbers between the powers of ten, too
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(list(drawn.values()), list(drawn), loc="outside lower center", ncols=3, fontsize=9)
    canvas.save(figure, path)


def dots(path: str | os.PathLike, title: str, metric: str, values: Mapping[str, Sequence[float]]) -> None:
    """A number of several algorithms: a cross for each run, mean and standard deviation (the paper's Figure 6).

    Args:
      path: PNG file, replaced at once.
      title: of the task.
      metric: what the number is, with its unit where it has one.
      values: `{algorithm: [one per run]}`, from left to right.
    """
    figure = Figure(figsize=(1.6 + 0.75 * len(values), 3.8), layout="constrained")
    axes = figure.subplots()
    for place, numbers in enumerate(values.values()):
        spread = np.std(numbers, ddof=1) if len(numbers) > 1 else 0.0
        axes.errorbar([place], [np.mean(numbers)], spread, fmt="o", color="C0", capsize=4)
        axes.plot([place] * len(numbers), numbers, "x", color="0.4", markersize=5)
    axes.set_xticks(range(len(values)), [name.replace(" ", "\n") for name in values], rotation=35, ha="right")
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.set(ylabel=metric)
    axes.set_title(f"{title}: runs, mean ± standard deviation", fontsize=10)
    axes.grid(axis="y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    canvas.save(figure, path)


def sweep(path: str | os.PathLike, title: str, metric: str, rows: Sequence[Mapping]) -> None:
    """A number over the values that a group swept, mean and standard deviation over seeds (the paper's Figure 7).

    Args:
      path: PNG file, replaced at once.
      title: of the task.
      metric: what the number is, with its unit where it has one.
      rows: rows of the group's aggregate, one per combination of swept values: `{"values": {key: value}, "numbers":
        [one per run], "mean": ..., "std": ...}`, "std" None of a single run. A row without numbers is left out; one
        row at least has some. The first swept key is the horizontal axis, further ones make a line each.
    """
    rows = [row for row in rows if row["numbers"]]
    key, *others = rows[0]["values"]
    places = {value: place for place, value in enumerate(sorted({row["values"][key] for row in rows}))}
    lines: dict[str, list] = {}
    for row in rows:
        lines.setdefault(", ".join(f"{other} = {row['values'][other]:g}" for other in others), []).append(row)
    colours = canvas.line_colours(len(lines))
    figure = Figure(figsize=(5.2, 3.8), layout="constrained")
    axes = figure.subplots()
    for index, (label, line) in enumerate(lines.items()):
        shift = 0.12 * (index - (len(lines) - 1) / 2)  # so that spreads do not cover each other
        at = [places[row["values"][key]] + shift for row in line]
        spread = [row["std"] or 0.0 for row in line]
        style = {"color": colours[index], "capsize": 3, "linewidth": 1.2}
        axes.errorbar(at, [row["mean"] for row in line], spread, fmt="o-", label=label, **style)
        for place, row in zip(at, line, strict=True):
            places_of_runs = [place] * len(row["numbers"])
            axes.plot(places_of_runs, row["numbers"], "x", color=colours[index], alpha=0.6, markersize=5)
    axes.set_xticks(list(places.values()), [f"{value:g}" for value in places])
    axes.set(xlabel=_SYMBOLS.get(key, key), ylabel=metric)
    axes.set_title(f"{title}: mean ± standard deviation over seeds", fontsize=11)
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    if others:
        axes.legend(fontsize=9)
    canvas.save(figure, path)


def path_kl(
    path: str | os.PathLike, steps: Sequence[int], sums: Mapping[str, Sequence[float]], integral: float
) -> None:
    """The path's KL divergence over the number of diffusion steps, with the limit that Appendix D gives.

    Args:
      path: PNG file, replaced at once, with an SVG file beside it.
      steps: numbers of diffusion steps N, rising.
      sums: for each kind of reverse kernel the path's KL in nats, one for each N.
      integral: of (33), in nats.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for index, (label, values) in enumerate(sums.items()):
        style = {"color": f"C{index}", "linewidth": 1.2, "markersize": 4, "label": label}
        left.plot(steps, values, "o-", **style)
        right.plot(steps, np.abs(np.asarray(values) / integral - 1), "o-", **style)
    left.axhline(integral, color="0.3", linestyle="--", linewidth=1, label=f"integral (33): {integral:.4f}")
    left.set(xscale="log", xlabel="diffusion steps N", ylabel="KL of the path, nats")
    left.set_title("sum over the chain's steps (34)", fontsize=11)
    right.set(xscale="log", yscale="log", xlabel="diffusion steps N", ylabel="relative difference")
    right.set_title("difference to the integral", fontsize=11)
    for axes in (left, right):
        canvas.plain_axes(axes)
        axes.legend(fontsize=8)
    canvas.publish(figure, path)
