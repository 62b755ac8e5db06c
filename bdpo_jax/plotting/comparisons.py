"""Several algorithms on several tasks: curves over training, last scores, performance profiles, improvement.

Every function writes a PNG file, replaced at once, and an SVG file beside it. `colours` names a colour of each
algorithm, so that it has the same one in every picture.
"""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bdpo_jax.plotting import canvas

_COLUMNS = 3  # panels side by side


def learning_curves(
    path: str | os.PathLike,
    title: str,
    metric: str,
    panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
    colours: Mapping,
) -> None:
    """Scores over training, mean and standard deviation over seeds (the paper's Figures 12 and 13).

    Args:
      path: the PNG file.
      title: above all panels.
      metric: what the scores are, with their unit where they have one.
      panels: by task, then by algorithm: updates `[evaluations]` and scores `[runs, evaluations]`.
      colours: by algorithm.
    """
    figure, grid = _panels(panels, title, 2.9)
    for axes, (name, series) in zip(grid, panels.items(), strict=True):
        for label, (steps, values) in series.items():
            mean = values.mean(axis=0)
            axes.plot(steps, mean, "o-", color=colours[label], linewidth=1.3, markersize=3)
            if len(values) > 1:
                spread = values.std(axis=0, ddof=1)
                axes.fill_between(steps, mean - spread, mean + spread, color=colours[label], alpha=0.18, linewidth=0)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("updates", fontsize=9)
        axes.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4))
        canvas.plain_axes(axes)
    for axes in grid[::_COLUMNS]:
        axes.set_ylabel(metric, fontsize=9)
    shown = dict.fromkeys(label for series in panels.values() for label in series)
    lines = [grid[0].plot([], [], "o-", color=colours[label])[0] for label in shown]
    figure.legend(lines, list(shown), loc="outside lower center", ncols=5, fontsize=9)
    canvas.publish(figure, path)


def scores(
    path: str | os.PathLike,
    title: str,
    metric: str,
    panels: Mapping[str, Mapping[str, np.ndarray]],
    colours: Mapping,
) -> None:
    """Scores at the end of training: a cross for each seed, mean and standard deviation beside them.

    Args:
      path: the PNG file.
      title: above all panels.
      metric: as in `learning_curves`.
      panels: by task, then by algorithm: scores `[runs]`.
      colours: by algorithm.
    """
    most = max(len(series) for series in panels.values())
    figure, grid = _panels(panels, title, 0.8 + 0.32 * most)
    for axes, (name, series) in zip(grid, panels.items(), strict=True):
        for place, (label, values) in enumerate(series.items()):
            axes.plot(values, np.full(len(values), place - 0.18), "x", color=colours[label], alpha=0.6, markersize=5)
            spread = values.std(ddof=1) if len(values) > 1 else 0.0
            axes.errorbar(values.mean(), place + 0.1, xerr=spread, fmt="o", color=colours[label], capsize=3)
        axes.set_yticks(range(len(series)), list(series))
        axes.set_ylim(len(series) - 0.4, -0.6)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel(metric, fontsize=9)
        canvas.plain_axes(axes)
    canvas.publish(figure, path)


def profiles(
    path: str | os.PathLike,
    title: str,
    metric: str,
    thresholds: np.ndarray,
    series: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    colours: Mapping,
    lower_is_better: bool = False,
) -> None:
    """Performance profiles: the share of runs beyond each score, with 95% bands (Agarwal et al., 2021).

    Args:
      path: the PNG file.
      title: above the axes.
      metric: as in `learning_curves`.
      thresholds: scores `[thresholds]`.
      series: by algorithm: shares, and the lower and upper edge of their band, `[thresholds]` each.
      colours: by algorithm.
      lower_is_better: the shares are those of runs below each score.
    """
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for label, (shares, low, high) in series.items():
        axes.step(thresholds, shares, where="mid", color=colours[label], linewidth=1.5, label=label)
        axes.fill_between(thresholds, low, high, step="mid", color=colours[label], alpha=0.15, linewidth=0)
    axes.set(xlabel=f"{metric} τ", ylabel=f"share of runs {'below' if lower_is_better else 'above'} τ")
    axes.set_ylim(-0.03, 1.03)
    axes.set_title(title, fontsize=11)
    canvas.plain_axes(axes)
    axes.legend(fontsize=9)
    canvas.publish(figure, path)


def improvement(path: str | os.PathLike, title: str, rows: Sequence[tuple[str, str, float, float, float]]) -> None:
    """The probability that a run of one algorithm is better than one of another, with 95% intervals.

    Args:
      path: the PNG file.
      title: above the axes.
      rows: the two algorithms, the probability that the first is better, and its interval's ends.
    """
    figure = Figure(figsize=(6.8, 1.2 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, (_, _, value, low, high) in enumerate(rows):
        axes.plot([low, high], [place, place], color="C0", linewidth=6, alpha=0.35, solid_capstyle="butt")
        axes.plot(value, place, "o", color="C0", markersize=5)
    axes.axvline(0.5, color="0.4", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(rows)), [f"{better} > {other}" for better, other, *_ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel("probability that a run of the first is better than a run of the second", fontsize=9)
    axes.set_title(title, fontsize=11)
    canvas.plain_axes(axes)
    canvas.publish(figure, path)


def _panels(panels: Mapping, title: str, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with an axes for each panel."""
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.4 * columns + 0.6, height * rows + 0.9), layout="constrained")
    figure.suptitle(title, fontsize=12)
    grid = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    return figure, grid[: len(panels)]
