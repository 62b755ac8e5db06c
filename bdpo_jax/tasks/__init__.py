"""Kinds of tasks: where the data come from, how a policy is scored, what is drawn (see `base.Task`)."""

from collections.abc import Callable

import gymnasium
import numpy as np

from bdpo_jax.data.dataset import unknown_name
from bdpo_jax.tasks.base import Task
from bdpo_jax.tasks.pointmass import PointMass
from bdpo_jax.tasks.simulated import D4RL, File, Minari, OGBench, Simulated
from bdpo_jax.tasks.synthetic2d import Synthetic2D

FAMILIES: dict[str, type[Simulated] | type[Synthetic2D]] = {
    "synthetic2d": Synthetic2D,
    "pointmass": PointMass,
    "d4rl": D4RL,
    "minari": Minari,
    "ogbench": OGBench,
    "file": File,
}


def make(config) -> Task:
    """Returns the task that a config names.

    Raises:
      UserError: there is no such family or task, or its data cannot be read.
    """
    return _family(config)(config)


def environment(config) -> Callable[[], gymnasium.Env] | None:
    """Returns a function that makes an environment of a config's task, tried once; None for a task without one.

    Raises:
      UserError: there is no such family, or see `Simulated.tried_environment`.
    """
    family = _family(config)
    return family.tried_environment(config)[0] if issubclass(family, Simulated) else None


def normalize(config, returns: np.ndarray) -> np.ndarray | None:
    """Returns the normalised scores `[episodes]` of returns; None for a task without reference scores."""
    family = _family(config)
    return family.normalize(config, returns) if issubclass(family, Simulated) else None


def _family(config) -> type[Simulated] | type[Synthetic2D]:
    if config.family not in FAMILIES:
        raise unknown_name("family of tasks", config.family, FAMILIES)
    return FAMILIES[config.family]
