"""Arrays -> picture files. Figures are objects of their own (no pyplot), so that importers' plots stay untouched.

Every function draws one picture and replaces its file at once. No module here has the name of a function: the one
would hide the other.
"""

from bdpo_jax.plotting.comparisons import improvement, learning_curves, profiles, scores
from bdpo_jax.plotting.histograms import dataset
from bdpo_jax.plotting.lines import curves, dots, lines_of, path_kl, read_progress, sweep
from bdpo_jax.plotting.maze import maze_values
from bdpo_jax.plotting.plane import planes, synthetic2d
from bdpo_jax.plotting.sets import temperatures
from bdpo_jax.plotting.trajectories import pointmass

__all__ = [
    "curves",
    "dataset",
    "dots",
    "improvement",
    "learning_curves",
    "lines_of",
    "maze_values",
    "path_kl",
    "planes",
    "pointmass",
    "profiles",
    "read_progress",
    "scores",
    "sweep",
    "synthetic2d",
    "temperatures",
]
