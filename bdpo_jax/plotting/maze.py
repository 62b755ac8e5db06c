"""The picture of a maze."""

import os

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bdpo_jax.plotting import canvas


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
    """Values of states at their positions in a maze; all lengths are in the environment's unit.

    Args:
      path: PNG file, replaced at once.
      title: above the maze.
      positions: `[states, 2]`.
      values: `[states]`, in the unit of the reward that the algorithm learns from.
      walls: centres `[cells, 2]` of the walls' cells.
      goal: centre `[2]` of the goal's cell.
      cell_size: width of a cell.
      caption: text under the maze.
    """
    figure = Figure(figsize=(6.4, 5.8), layout="constrained")
    axes = figure.subplots()
    half = cell_size / 2
    for x, y in walls:
        axes.add_patch(Rectangle((x - half, y - half), cell_size, cell_size, facecolor="0.75", edgecolor="0.65"))
    norm = Normalize(float(values.min()), float(values.max()))
    canvas.points(axes, positions, c=values, cmap=canvas.SCALE, norm=norm, s=6)
    x, y = goal - half
    axes.add_patch(Rectangle((x, y), cell_size, cell_size, facecolor="none", edgecolor=canvas.END, linewidth=2))
    low, high = walls.min(axis=0) - half, walls.max(axis=0) + half
    canvas.square(axes, (low[0], high[0], low[1], high[1]), title, caption)
    canvas.colour_bar(figure, axes, norm, "value")
    canvas.save(figure, path)
