"""The 2D sets side by side: what temperatures make of the data, and how a policy's actions are generated.

Every function writes a PNG file, replaced at once, and an SVG file beside it, in which the points are pixels.
"""

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from bdpo_jax.plotting import canvas

_PANEL = 2.5  # inches


class Generation(NamedTuple):
    """How one policy generates actions.

    Attributes:
      paths: `[N + 1, m, 2]` by diffusion step: `paths[N]` the prior's samples, `paths[0]` actions.
      values: `{n: [G, G]}`, V_n (n = 0: Q), rows by the second coordinate upwards; {} where there are none.
      intervals: falling diffusion steps; each two neighbours make a panel.
      scale: the smallest and largest energy of the data, the ends of the colour scale.
    """

    paths: np.ndarray
    values: Mapping[int, np.ndarray]
    intervals: Sequence[int]
    scale: tuple[float, float]


def temperatures(
    path: str | os.PathLike,
    rows: Mapping[str, tuple[np.ndarray, np.ndarray, Mapping[str, np.ndarray]]],
    extent: canvas.Extent,
) -> None:
    """The data, and resampled with exp(energy / temperature) (the paper's Figures 5 and 8); a row a set.

    Args:
      path: the PNG file.
      rows: by set: points `[size, 2]`, their energies `[size]`, and samples `[points, 2]` by the panel's title.
      extent: left, right, bottom, top.
    """
    width = 1 + max(len(samples) for _, _, samples in rows.values())
    figure = Figure(figsize=(_PANEL * width + 0.8, _PANEL * len(rows) + 0.4), layout="constrained")
    grid = figure.subplots(len(rows), width, squeeze=False)
    for line, (name, (points, energies, samples)) in zip(grid, rows.items(), strict=True):
        norm = Normalize(float(energies.min()), float(energies.max()))
        style = {"s": 3, "rasterized": True}
        canvas.points(line[0], points, c=energies, cmap=canvas.SCALE, norm=norm, **style)
        canvas.square(line[0], extent, f"{name}: data")
        for axes, (title, some) in zip(line[1:], samples.items(), strict=False):
            canvas.points(axes, some, color="#303030", alpha=0.5, **style)
            canvas.square(axes, extent, title)
        for axes in line[1 + len(samples) :]:
            axes.set_axis_off()
        canvas.colour_bar(figure, list(line), norm, "energy")
    canvas.publish(figure, path)


def generations(path: str | os.PathLike, rows: Mapping[str, Generation], extent: canvas.Extent) -> None:
    """Paths and value landscapes of several sets (the paper's Figures 4 and 11); a row a set.

    Args:
      path: the PNG file.
      rows: by the row's title.
      extent: left, right, bottom, top.
    """
    width = max(len(row.intervals) for row in rows.values())
    figure = Figure(figsize=(_PANEL * width + 0.8, _PANEL * len(rows) + 0.4), layout="constrained")
    grid = figure.subplots(len(rows), width, squeeze=False)
    for line, (name, row) in zip(grid, rows.items(), strict=True):
        norm = Normalize(*row.scale)
        for axes, (start, end) in zip(line, pairwise(row.intervals), strict=False):
            if start in row.values:
                canvas.landscape(axes, row.values[start], extent, norm)
            segments = np.swapaxes(row.paths[end : start + 1], 0, 1)
            axes.add_collection(LineCollection(list(segments), colors="0.45", linewidths=0.4, alpha=0.6))
            canvas.points(axes, row.paths[start], color=canvas.START, s=6)
            canvas.points(axes, row.paths[end], color=canvas.END, s=6)
            canvas.square(axes, extent, f"n = {start} to {end}")
        last = line[len(row.intervals) - 1]
        if 0 in row.values:
            canvas.landscape(last, row.values[0], extent, norm)
        canvas.points(last, row.paths[0], color=canvas.END, s=6)
        canvas.square(last, extent, "the actions")
        for axes in line[len(row.intervals) :]:
            axes.set_axis_off()
        line[0].set_ylabel(name, fontsize=11)
        if row.values:
            canvas.colour_bar(figure, list(line), norm, "value", extend="both", alpha=canvas.PALE)
    canvas.publish(figure, path)
