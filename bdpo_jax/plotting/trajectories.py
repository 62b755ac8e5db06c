"""The picture of the point mass: trajectories and values in its box."""

import os
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon

from bdpo_jax.plotting import canvas

_PANEL, _COLOUR_BAR, _HEIGHT = 3.9, 0.7, 4.6  # inches: the widths of a panel and of a colour bar, the height of all
_LINE, _LINE_HEIGHT = 48, 0.16  # of a caption: the characters that fit under a panel, inches


def pointmass(
    path: str | os.PathLike,
    title: str,
    data: Sequence[np.ndarray],
    data_returns: np.ndarray,
    rollouts: Mapping[str, tuple[Sequence[np.ndarray], np.ndarray]],
    values: np.ndarray | None,
    obstacle: np.ndarray,
    goal: tuple[float, float, float],
    extent: canvas.Extent = (-1, 1, -1, 1),
    captions: Mapping[str, str] | None = None,
) -> None:
    """Trajectories of the data and of each policy, coloured by return, and the values over the positions.

    Positions, the goal's radius and `extent` are in the box's unit of length, returns in the unit of the reward, values
    in that of the reward that the algorithm learns from.

    Args:
      path: PNG file, replaced at once.
      title: above all panels.
      data: trajectories, each `[length, 2]`, with their returns `data_returns` `[trajectories]`.
      rollouts: `{name: (trajectories, returns)}` of each policy, as for the data.
      values: `[G, G]` over `extent`, rows by the second coordinate upwards; NaN stays white. None where the algorithm
        has no values: the panel is left out.
      obstacle: `[corners, 2]`, a polygon.
      goal: first and second coordinate of the centre, radius.
      extent: left, right, bottom, top.
      captions: `{name: text}` to print under a panel; the data's name is "data", the values' "values". Without values
        long captions are broken into lines.
    """
    captions = captions or {}
    panels = {"data": (data, data_returns), **rollouts}
    returns = np.concatenate([np.asarray(returns) for _, returns in panels.values()])
    norm = Normalize(float(returns.min()), float(returns.max()))
    shown, bars, height = [*panels, "values"], 2, _HEIGHT
    if values is None:  # no panel beside the last policy's, under which a long caption could go on
        shown, bars = [*panels], 1
        captions = {name: textwrap.fill(text, _LINE) for name, text in captions.items()}
        height += _LINE_HEIGHT * max((text.count("\n") for text in captions.values()), default=0)
    figure = Figure(figsize=(_PANEL * len(shown) + _COLOUR_BAR * bars, height), layout="constrained")
    figure.suptitle(title, fontsize=14)
    all_axes = list(figure.subplots(1, len(shown), sharey=True, squeeze=False)[0])
    for axes, name in zip(all_axes, shown, strict=True):
        _scene(axes, obstacle, goal)
        canvas.square(axes, extent, name, captions.get(name, ""))
    for axes, (paths, path_returns) in zip(all_axes, panels.values(), strict=False):
        _trajectories(axes, paths, np.asarray(path_returns), norm)
    canvas.colour_bar(figure, all_axes[: len(panels)], norm, "return", pad=0.01)
    if values is None:
        figure.draw_without_rendering()  # one layout alone leaves too little room for a caption of several lines
    else:
        values_norm = Normalize(float(np.nanmin(values)), float(np.nanmax(values)))
        canvas.landscape(all_axes[-1], values, extent, values_norm)
        canvas.colour_bar(figure, all_axes[-1], values_norm, "value", alpha=canvas.PALE)
    canvas.save(figure, path)


def _trajectories(axes: Axes, paths: Sequence[np.ndarray], returns: np.ndarray, norm: Normalize) -> None:
    """Lines from the starts to a dot at each end, where a collision is told from an arrival."""
    order = np.argsort(-returns)  # the few bad ones on top
    lines = LineCollection([paths[i] for i in order], cmap=canvas.SCALE, norm=norm, linewidths=0.8, alpha=0.6)
    lines.set_array(returns[order])
    axes.add_collection(lines)
    ends = np.array([paths[i][-1] for i in order])
    canvas.points(axes, ends, c=returns[order], cmap=canvas.SCALE, norm=norm, s=10, zorder=5)


def _scene(axes: Axes, obstacle: np.ndarray, goal: tuple[float, float, float]) -> None:
    """The obstacle, filled, and the goal, a ring."""
    axes.add_patch(Polygon(obstacle, facecolor="0.55", edgecolor="0.25", zorder=3))
    axes.add_patch(Circle(goal[:2], goal[2], facecolor="none", edgecolor=canvas.END, linewidth=2, zorder=4))
