"""The picture of a dataset."""

import os

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from bdpo_jax.plotting import canvas


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
      title: above all panels.
      returns: `[episodes]`, in the unit of `rewards`.
      lengths: `[episodes]`, in steps.
      rewards: `[rows]`, as the environment pays them.
      actions: `[rows, action_dim]`; one line per dimension.
      positions: `[rows, 2]`, in the environment's unit of length, drawn as a density where given.
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
        panels[4].hist2d(*positions.T, bins=80, cmap=canvas.SCALE, norm=LogNorm())
        panels[4].set_aspect("equal")
        panels[4].set_title("positions", fontsize=10)
    for axes in panels:
        axes.tick_params(labelsize=8)
    canvas.save(figure, path)
