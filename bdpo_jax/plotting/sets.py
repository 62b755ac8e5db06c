"""The 2D sets side by side: what temperatures make of the data."""

import os
from collections.abc import Mapping

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from bdpo_jax.plotting import canvas

_PANEL = 2.5  # inches


def temperatures(
    path: str | os.PathLike,
    rows: Mapping[str, tuple[np.ndarray, np.ndarray, Mapping[str, np.ndarray]]],
    extent: canvas.Extent,
) -> None:
    """The data, and resampled with exp(energy / temperature) (the paper's Figures 5 and 8); a row a set.

    Args:
      path: the PNG file, replaced at once, with an SVG file beside it, in which the points are pixels.
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
