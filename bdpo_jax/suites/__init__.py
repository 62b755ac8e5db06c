"""Kinds of tasks: where the data come from, how a policy is scored, what is drawn.

A suite is made from a config and has `dataset` (host arrays), `policies` (what its last evaluation scores),
`evaluate(state, key, policies, episodes, before_step)`, `results(scores)`, `summary(results)`, `headline(results)` (the
name and value of the number to compare runs by, or None) and `draw(directory, state, key, results)`;
`of_member(config)` gives that of another member of a group.
"""

from bdpo_jax.data.dataset import unknown_name
from bdpo_jax.suites.pointmass import PointMass
from bdpo_jax.suites.simulated import D4RL, File, Minari, OGBench, Simulated
from bdpo_jax.suites.synthetic2d import Synthetic2D

SUITES = {
    "synthetic2d": Synthetic2D,
    "pointmass": PointMass,
    "d4rl": D4RL,
    "minari": Minari,
    "ogbench": OGBench,
    "file": File,
}


def make(config):
    """Returns the suite of `config.suite`.

    Raises:
      UserError: there is no such suite or task, or its data cannot be read.
    """
    return _kind(config)(config)


def environment(config):
    """Returns a function that makes an environment of a config's task; None for a task without one.

    Raises:
      UserError: there is no such suite, or its package is missing.
    """
    kind = _kind(config)
    return kind.environment(config) if issubclass(kind, Simulated) else None


def normalize(config, returns):
    """Returns the normalised scores `[episodes]` of returns; None for a task without reference scores."""
    return _kind(config).normalize(config, returns)


def _kind(config):
    if config.suite not in SUITES:
        raise unknown_name("suite", config.suite, SUITES)
    return SUITES[config.suite]
