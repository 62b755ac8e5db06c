"""The picture of a synthetic 2D task, whose actions are points of the plane."""

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure

from bdpo_jax.plotting import canvas

_WIDTH, _HEIGHT = 15, 9.7  # inches, of both rows
_RATIO = 1.38  # of the upper row's height to the lower's


def synthetic2d(
    path: str | os.PathLike,
    title: str,
    data: np.ndarray,
    data_energies: np.ndarray,
    truth: np.ndarray,
    samples: np.ndarray,
    paths: np.ndarray | None = None,
    values: Mapping[int, np.ndarray] | None = None,
    extent: canvas.Extent = (-4.5, 4.5, -4.5, 4.5),
    intervals: Sequence[int] = (50, 30, 15, 5, 0),
    caption: str = "",
) -> None:
    """The data, the truth and the policy above; the generation of actions below (the paper's Figure 4).

    Energies and values share one unit, that of the reward, so one colour scale serves all panels; values beyond the
    data's energies (far from the data, where nothing holds them) take the scale's end colours. Points are actions, in
    the data's unit of length.

    Args:
      path: PNG file, replaced at once.
      title: above all panels.
      data: `[size, 2]` with `data_energies` `[size]`.
      truth: `[points, 2]`, the Boltzmann resampling of the data.
      samples: `[points, 2]`, the policy's actions.
      paths: `[N + 1, m, 2]`, indexed by diffusion step: `paths[N]` the prior's samples, `paths[0]` actions. None where
        the algorithm generates actions in one step: the picture is the upper row only, and `values` and `intervals`
        are not used.
      values: `{n: [G, G]}`, `V_n` (n = 0: Q) over `extent`, rows by the second coordinate upwards; a panel whose
        first n is missing has no background. None where the algorithm has no values: no panel has one.
      extent: left, right, bottom, top.
      intervals: falling diffusion steps; each two neighbours make a panel.
      caption: numbers to print under the policy's samples.
    """
    norm = Normalize(float(np.min(data_energies)), float(np.max(data_energies)))
    height = _HEIGHT * _RATIO / (_RATIO + 1) if paths is None else _HEIGHT
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    figure.suptitle(title, fontsize=14)
    rows: list[Figure | SubFigure] = [figure]
    if paths is not None:
        rows = list(figure.subfigures(2, 1, squeeze=False, height_ratios=(_RATIO, 1))[:, 0])
    left, middle, right = rows[0].subplots(1, 3, sharey=True)
    style = {"s": 4, "alpha": 0.5}
    canvas.points(left, data, c=data_energies, cmap=canvas.SCALE, norm=norm, **style)
    canvas.square(left, extent, "data, coloured by energy")
    canvas.points(middle, truth, color="#303030", **style)
    canvas.square(middle, extent, "truth: data resampled with exp(energy / temperature)")
    canvas.points(right, samples, color=canvas.END, **style)
    canvas.square(right, extent, "policy's samples", caption)
    canvas.colour_bar(rows[0], [left, middle, right], norm, "energy")
    if paths is not None:
        _generation(rows[1], paths, values or {}, extent, intervals, norm)
    canvas.save(figure, path)


def planes(
    path: str | os.PathLike,
    title: str,
    panels: Mapping[str, tuple[np.ndarray, str]],
    extent: canvas.Extent,
    columns: int = 5,
) -> None:
    """Points of the plane side by side: the truth and samples of several policies (the paper's Figure 1).

    Args:
      path: PNG file, replaced at once.
      title: above all panels.
      panels: `{title: (points [points, 2], note)}`; the first is the truth.
      extent: left, right, bottom, top.
      columns: panels in a row.
    """
    rows = -(-len(panels) // columns)
    width = min(len(panels), columns)
    figure = Figure(figsize=(3.1 * width, 3.5 * rows + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=13)
    grid = figure.subplots(rows, width, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for number, (axes, (name, (points, note))) in enumerate(zip(grid, panels.items(), strict=False)):
        canvas.points(axes, points, color=canvas.END if number else "#303030", s=2, alpha=0.4)
        canvas.square(axes, extent, name.replace(" ", "\n"), note)
    canvas.save(figure, path)


def _generation(
    figure: Figure | SubFigure,
    paths: np.ndarray,
    values: Mapping[int, np.ndarray],
    extent: canvas.Extent,
    intervals: Sequence[int],
    norm: Normalize,
) -> None:
    """Draws a panel per interval of diffusion steps, and one of the actions."""
    *panels, last = figure.subplots(1, len(intervals), sharey=True)
    for axes, (start, end) in zip(panels, pairwise(intervals), strict=True):
        note = _background(axes, start, values, extent, norm)
        lines = np.swapaxes(paths[end : start + 1], 0, 1)
        axes.add_collection(LineCollection(list(lines), colors="0.25", linewidths=0.5, alpha=0.6))
        canvas.points(axes, paths[start], color=canvas.START, s=7)
        canvas.points(axes, paths[end], color=canvas.END, s=7)
        canvas.square(axes, extent, f"n = {start} to {end}", note)
    end = intervals[-1]
    note = _background(last, end, values, extent, norm)
    canvas.points(last, paths[end], color=canvas.END, s=7)
    canvas.square(last, extent, "the actions", note)
    if values:
        canvas.colour_bar(figure, [*panels, last], norm, "value", extend="both", alpha=canvas.PALE)
    figure.suptitle("generation of actions: from the green dots along the grey paths to the red ones", fontsize=11)


def _background(axes: Axes, n: int, values: Mapping[int, np.ndarray], extent: canvas.Extent, norm: Normalize) -> str:
    """Draws the values of diffusion step `n` where there are some; returns the note that names them."""
    if n not in values:
        return ""
    canvas.landscape(axes, values[n], extent, norm)
    return f"background: $V_{{{n}}}$" if n else "background: $V_0 = Q$"
