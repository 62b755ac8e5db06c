"""Arrays -> PNG files. Figures are objects of their own (no pyplot), so that importers' plots stay untouched."""

import csv
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon, Rectangle

from bdpo_jax.workdir import replacing

_ENERGY, _PALE = "viridis", 0.6
_SYMBOLS = {"eta": "η", "rho": "ρ"}
_START, _END = "#2ca02c", "#d62728"  # green and red, as in the paper's Figure 4


def _save(figure: Figure, path: str | os.PathLike) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, facecolor="white")


def _square(axes: Axes, extent: Sequence[float], title: str, note: str = "") -> None:
    """Equal axes over `extent` with a title above and a note below."""
    axes.set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(note, fontsize=9.5, color="0.25")
    axes.tick_params(labelsize=8, color="0.6", labelcolor="0.35")
    axes.locator_params(nbins=5)
    for spine in axes.spines.values():
        spine.set_color("0.7")


def _landscape(axes: Axes, values: np.ndarray, extent: Sequence[float], norm: Normalize) -> None:
    """Pale, so that what is drawn over it stays readable."""
    axes.imshow(
        values,
        extent=extent,
        origin="lower",
        norm=norm,
        cmap=_ENERGY,
        alpha=_PALE,
        interpolation="bilinear",
    )


def _colorbar(figure, axes, norm: Normalize, label: str, extend: str = "neither", alpha=1.0, pad=0.02) -> None:
    colours = ScalarMappable(norm, _ENERGY)
    bar = figure.colorbar(colours, ax=axes, extend=extend, alpha=alpha, shrink=0.85, pad=pad)
    bar.set_label(label, fontsize=10)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def _points(axes: Axes, points: np.ndarray, **style) -> None:
    axes.scatter(points[:, 0], points[:, 1], linewidths=0, **{"s": 5, **style})


# ------------------------------------------------------------------------------------------ synthetic 2D


def synthetic2d(
    path: str | os.PathLike,
    title: str,
    data: np.ndarray,
    data_energies: np.ndarray,
    truth: np.ndarray,
    samples: np.ndarray,
    paths: np.ndarray,
    values: Mapping[int, np.ndarray],
    extent: Sequence[float] = (-4.5, 4.5, -4.5, 4.5),
    intervals: Sequence[int] = (50, 30, 15, 5, 0),
    caption: str = "",
) -> None:
    """The data, the truth and the policy above; the generation of actions below (the paper's Figure 4).

    Energies and values share one unit, so one colour scale serves all panels; values beyond the data's
    energies (far from the data, where nothing holds them) take the scale's end colours.

    Args:
      path: PNG file, replaced at once.
      data: `[size, 2]` with `data_energies` `[size]`.
      truth: `[size, 2]`, the Boltzmann resampling of the data.
      samples: `[size, 2]`, the policy's actions.
      paths: `[N + 1, m, 2]`, indexed by diffusion step: `paths[N]` the prior's samples, `paths[0]` actions.
      values: `{n: [G, G]}`, `V_n` (n = 0: Q) over `extent`, rows by the second coordinate upwards; a panel
        whose first n is missing has no background.
      extent: left, right, bottom, top.
      intervals: falling diffusion steps; each two neighbours make a panel.
      caption: numbers to print under the policy's samples.
    """
    norm = Normalize(float(np.min(data_energies)), float(np.max(data_energies)))
    figure = Figure(figsize=(15, 9.7), layout="constrained")
    figure.suptitle(title, fontsize=14)
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.38, 1))
    left, middle, right = upper.subplots(1, 3, sharey=True)
    style = {"s": 4, "alpha": 0.5}
    _points(left, data, c=data_energies, cmap=_ENERGY, norm=norm, **style)
    _square(left, extent, "data, coloured by energy")
    _points(middle, truth, color="#303030", **style)
    _square(middle, extent, "truth: data resampled with exp(Q / η)")
    _points(right, samples, color=_END, **style)
    _square(right, extent, "policy's samples", caption)
    _colorbar(upper, [left, middle, right], norm, "energy")
    below = lower.subplots(1, len(intervals), sharey=True)
    for axes, (start, end) in zip(below, pairwise(intervals), strict=False):
        _interval(axes, paths, start, end, values, extent, norm)
    if intervals[-1] in values:
        _landscape(below[-1], values[intervals[-1]], extent, norm)
    _points(below[-1], paths[intervals[-1]], color=_END, s=7)
    _square(below[-1], extent, "the actions", f"background: {_value_name(intervals[-1])}")
    _colorbar(lower, list(below), norm, "value", extend="both", alpha=_PALE)
    lower.suptitle("generation of actions: from the green dots along the grey paths to the red ones", fontsize=11)
    _save(figure, path)


def _value_name(n: int) -> str:
    return f"$V_{{{n}}}$" if n else "$V_0 = Q$"


def _interval(axes, paths, start, end, values, extent, norm) -> None:
    if start in values:
        _landscape(axes, values[start], extent, norm)
    lines = np.swapaxes(paths[end : start + 1], 0, 1)
    axes.add_collection(LineCollection(list(lines), colors="0.25", linewidths=0.5, alpha=0.6))
    _points(axes, paths[start], color=_START, s=7)
    _points(axes, paths[end], color=_END, s=7)
    _square(axes, extent, f"n = {start} to {end}", f"background: {_value_name(start)}")


# ------------------------------------------------------------------------------------------- point mass


def pointmass(
    path: str | os.PathLike,
    title: str,
    data: Sequence[np.ndarray],
    data_returns: np.ndarray,
    rollouts: Mapping[str, tuple[Sequence[np.ndarray], np.ndarray]],
    values: np.ndarray,
    obstacle: np.ndarray,
    goal: tuple[float, float, float],
    extent: Sequence[float] = (-1, 1, -1, 1),
    captions: Mapping[str, str] | None = None,
) -> None:
    """Trajectories of the data and of each policy, coloured by return, and the values over the positions.

    Args:
      path: PNG file, replaced at once.
      data: trajectories, each `[length, 2]`, with their returns `data_returns` `[trajectories]`.
      rollouts: `{name: (trajectories, returns)}` of each policy, as for the data.
      values: `[G, G]` over `extent`, rows by the second coordinate upwards; NaN stays white.
      obstacle: `[corners, 2]`, a polygon.
      goal: first and second coordinate of the centre, radius.
      extent: left, right, bottom, top.
      captions: `{name: text}` to print under a panel; the data's name is "data", the values' "values".
    """
    captions = captions or {}
    panels = {"data": (data, data_returns), **rollouts}
    returns = np.concatenate([np.asarray(returns) for _, returns in panels.values()])
    norm = Normalize(float(returns.min()), float(returns.max()))
    figure = Figure(figsize=(3.9 * (len(panels) + 1) + 1.4, 4.6), layout="constrained")
    figure.suptitle(title, fontsize=14)
    *axes_of_paths, last = figure.subplots(1, len(panels) + 1, sharey=True)
    for axes, (name, (paths, path_returns)) in zip(axes_of_paths, panels.items(), strict=True):
        _trajectories(axes, paths, np.asarray(path_returns), norm)
        _scene(axes, obstacle, goal)
        _square(axes, extent, name, captions.get(name, ""))
    _colorbar(figure, axes_of_paths, norm, "return", pad=0.01)
    field_norm = Normalize(float(np.nanmin(values)), float(np.nanmax(values)))
    _landscape(last, values, extent, field_norm)
    _scene(last, obstacle, goal)
    _square(last, extent, "values", captions.get("values", ""))
    _colorbar(figure, last, field_norm, "value", alpha=_PALE)
    _save(figure, path)


def _trajectories(axes: Axes, paths: Sequence[np.ndarray], returns: np.ndarray, norm: Normalize) -> None:
    """Lines from the starts to a dot at each end, where a collision is told from an arrival."""
    order = np.argsort(-returns)  # the few bad ones on top
    lines = LineCollection([paths[i] for i in order], cmap=_ENERGY, norm=norm, linewidths=0.8, alpha=0.6)
    lines.set_array(returns[order])
    axes.add_collection(lines)
    ends = np.array([paths[i][-1] for i in order])
    _points(axes, ends, c=returns[order], cmap=_ENERGY, norm=norm, s=10, zorder=5)


def _scene(axes: Axes, obstacle: np.ndarray, goal: tuple[float, float, float]) -> None:
    axes.add_patch(Polygon(obstacle, facecolor="0.55", edgecolor="0.25", zorder=3))
    axes.add_patch(Circle(goal[:2], goal[2], facecolor="none", edgecolor=_END, linewidth=2, zorder=4))


# ----------------------------------------------------------------------------------------------- curves


def read_progress(path: str | os.PathLike) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`{column: (steps [rows], values [rows])}` of a `progress.csv`, without the rows that lack the column."""
    with open(path, newline="") as file:
        header, *rows = csv.reader(file)
    columns = {}
    for index, name in enumerate(header[1:], start=1):
        kept = [(float(row[0]), float(row[index])) for row in rows if len(row) > index and row[index]]
        columns[name] = tuple(np.array(kept, dtype=np.float64).reshape(-1, 2).T)
    return columns


def _colours(count: int) -> list:
    """Colours to tell so many lines apart: of the usual ten, or of a scale where those are too few."""
    return [f"C{i}" for i in range(count)] if count <= 10 else list(colormaps["turbo"](np.linspace(0.03, 0.97, count)))


def curves(
    path: str | os.PathLike,
    title: str,
    runs: Mapping[str, str | os.PathLike],
    columns: Sequence[str] | None = None,
) -> None:
    """One small panel per scalar over the update steps, one line per run.

    Args:
      path: PNG file, replaced at once.
      runs: `{label: progress.csv}`; the labels make the legend where there are several.
      columns: which scalars, in this order; all where None.
    """
    tables = {label: read_progress(Path(file)) for label, file in runs.items()}
    if columns is None:
        columns = list(dict.fromkeys(name for table in tables.values() for name in table))
    colours = _colours(len(tables))
    width = min(4, max(len(columns), 1))
    height = max(-(-len(columns) // width), 1)
    figure = Figure(figsize=(3.6 * width, 2.3 * height + 0.6), layout="constrained")
    figure.suptitle(f"{title}: scalars over update steps", fontsize=13)
    panels = figure.subplots(height, width, squeeze=False).ravel()
    for axes in panels[len(columns) :]:
        axes.set_axis_off()
    for axes, name in zip(panels, columns, strict=False):
        for index, (label, table) in enumerate(tables.items()):
            steps, numbers = table.get(name, ((), ()))
            marker = "o" if len(steps) < 30 else ""
            style = {"color": colours[index], "linewidth": 1, "markersize": 2.5}
            axes.plot(steps, numbers, f"{marker}-", label=label, **style)
        axes.set_title(name, fontsize=10)
        axes.tick_params(labelsize=8)
        axes.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4))
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    if len(tables) > 1:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=9)
    _save(figure, path)


def sweep(path: str | os.PathLike, title: str, metric: str, rows: Sequence[Mapping]) -> None:
    """A number over the values that were swept, mean and standard deviation over seeds (the paper's Figure 7).

    Args:
      path: PNG file, replaced at once.
      title: of the task.
      metric: what the number is.
      rows: of `summary.aggregate`; the first swept key is the horizontal axis, further ones make a line each.
    """
    rows = [row for row in rows if row["numbers"]]
    key, *others = rows[0]["values"]
    places = {value: place for place, value in enumerate(sorted({row["values"][key] for row in rows}))}
    lines: dict[str, list] = {}
    for row in rows:
        lines.setdefault(", ".join(f"{other} = {row['values'][other]:g}" for other in others), []).append(row)
    colours = _colours(len(lines))
    figure = Figure(figsize=(5.2, 3.8), layout="constrained")
    axes = figure.subplots()
    for index, (label, line) in enumerate(lines.items()):
        shift = 0.12 * (index - (len(lines) - 1) / 2)  # so that spreads do not cover each other
        at = [places[row["values"][key]] + shift for row in line]
        spread = [row["std"] or 0.0 for row in line]
        style = {"color": colours[index], "capsize": 3, "linewidth": 1.2}
        axes.errorbar(at, [row["mean"] for row in line], spread, fmt="o-", label=label, **style)
        for place, row in zip(at, line, strict=True):
            places_of_seeds = [place] * len(row["numbers"])
            axes.plot(places_of_seeds, row["numbers"], "x", color=colours[index], alpha=0.6, markersize=5)
    axes.set_xticks(list(places.values()), [f"{value:g}" for value in places])
    axes.set(xlabel=_SYMBOLS.get(key, key), ylabel=metric)
    axes.set_title(f"{title}: mean ± standard deviation over seeds", fontsize=11)
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    if others:
        axes.legend(fontsize=9)
    _save(figure, path)


def maze_values(
    path: str | os.PathLike,
    title: str,
    positions: np.ndarray,
    values: np.ndarray,
    walls: np.ndarray,
    goal: np.ndarray,
    cell_size: float,
    caption: str = "",
) -> None:
    """Values of states at their positions in a maze.

    Args:
      path: PNG file, replaced at once.
      positions: `[states, 2]`.
      values: `[states]`.
      walls: centres `[cells, 2]` of the walls' cells.
      goal: centre of the goal's cell.
      cell_size: width of a cell.
      caption: text under the maze.
    """
    figure = Figure(figsize=(6.4, 5.8), layout="constrained")
    axes = figure.subplots()
    half = cell_size / 2
    for x, y in walls:
        axes.add_patch(Rectangle((x - half, y - half), cell_size, cell_size, facecolor="0.75", edgecolor="0.65"))
    norm = Normalize(float(values.min()), float(values.max()))
    _points(axes, positions, c=values, cmap=_ENERGY, norm=norm, s=6)
    axes.add_patch(Rectangle(goal - half, cell_size, cell_size, facecolor="none", edgecolor=_END, linewidth=2))
    low, high = walls.min(axis=0) - half, walls.max(axis=0) + half
    _square(axes, (low[0], high[0], low[1], high[1]), title, caption)
    _colorbar(figure, axes, norm, "value")
    _save(figure, path)


def dataset(
    path: str | os.PathLike,
    title: str,
    returns: np.ndarray,
    lengths: np.ndarray,
    rewards: np.ndarray,
    actions: np.ndarray,
    positions: np.ndarray | None = None,
) -> None:
    """Histograms of a dataset.

    Args:
      path: PNG file, replaced at once.
      returns: `[episodes]`.
      lengths: `[episodes]`.
      rewards: `[rows]`.
      actions: `[rows, action_dim]`; one line per dimension.
      positions: `[rows, 2]`, drawn as a density where given.
    """
    count = 4 if positions is None else 5
    figure = Figure(figsize=(3.4 * count, 3.2), layout="constrained")
    figure.suptitle(title, fontsize=12)
    panels = figure.subplots(1, count)
    for axes, name, values in zip(panels, ("return", "length", "reward"), (returns, lengths, rewards), strict=False):
        axes.hist(values, bins=40, color="C0")
        axes.set_title(f"{name} per {'row' if name == 'reward' else 'episode'}", fontsize=10)
    panels[2].set_yscale("log")
    for column in actions.T:
        panels[3].hist(column, bins=60, histtype="step", density=True)
    panels[3].set_title("actions, a line per dimension", fontsize=10)
    if positions is not None:
        panels[4].hist2d(*positions.T, bins=80, cmap=_ENERGY, norm=LogNorm())
        panels[4].set_aspect("equal")
        panels[4].set_title("positions", fontsize=10)
    for axes in panels:
        axes.tick_params(labelsize=8)
    _save(figure, path)
