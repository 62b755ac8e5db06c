"""What several pictures share: saving, colours, axes over a plane, backgrounds, colour bars, dots."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure

from bdpo_jax.workdir import replacing

SCALE, PALE = "viridis", 0.6  # the colour scale of all numbers; the opacity of what lies in the background
START, END = "#2ca02c", "#d62728"  # green and red, as in the paper's Figure 4

Extent = tuple[float, float, float, float]  # left, right, bottom, top


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Writes the PNG file and replaces an older one at once.

    Raises:
      UserError: the file cannot be written, for a reason that the user can mend; an older file stays.
    """
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, facecolor="white")


def publish(figure: Figure, path: str | os.PathLike) -> None:
    """Writes the PNG file at `path`, and an SVG file of the same name beside it, as `save` does."""
    save(figure, path)
    # Without a date, so that the same numbers make the same file.
    with replacing(Path(path).with_suffix(".svg")) as temporary:
        figure.savefig(temporary, format="svg", facecolor="white", metadata={"Date": None})


def plain_axes(axes: Axes) -> None:
    """Gives axes of numbers a pale grid, small ticks and no frame above and to the right."""
    axes.tick_params(labelsize=8)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def square(axes: Axes, extent: Extent, title: str, note: str = "") -> None:
    """Gives the axes equal scales over `extent`, a title above and a note below."""
    axes.set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(note, fontsize=9.5, color="0.25")
    axes.tick_params(labelsize=8, color="0.6", labelcolor="0.35")
    axes.locator_params(nbins=5)
    for spine in axes.spines.values():
        spine.set_color("0.7")


def landscape(axes: Axes, values: np.ndarray, extent: Extent, norm: Normalize) -> None:
    """Draws `values` `[rows, columns]` over `extent`, rows upwards; pale, so that what lies over it stays readable."""
    axes.imshow(
        values,
        extent=extent,
        origin="lower",
        norm=norm,
        cmap=SCALE,
        alpha=PALE,
        interpolation="bilinear",
    )


def colour_bar(
    figure: Figure | SubFigure,
    axes: Axes | Sequence[Axes],
    norm: Normalize,
    label: str,
    extend: str = "neither",
    alpha: float = 1.0,
    pad: float = 0.02,
) -> None:
    """Draws the scale of `norm` to the right of `axes`; the other arguments are those of matplotlib."""
    bar = figure.colorbar(ScalarMappable(norm, SCALE), ax=axes, extend=extend, alpha=alpha, shrink=0.85, pad=pad)
    bar.set_label(label, fontsize=10)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def points(axes: Axes, positions: np.ndarray, **style) -> None:
    """Draws `positions` `[points, 2]` as dots; `style` is that of `Axes.scatter`."""
    axes.scatter(positions[:, 0], positions[:, 1], linewidths=0, **{"s": 5, **style})


def line_colours(count: int) -> list:
    """Returns colours that tell `count` lines apart: the usual ten, or those of a scale where ten are too few."""
    return [f"C{i}" for i in range(count)] if count <= 10 else list(colormaps["turbo"](np.linspace(0.03, 0.97, count)))
