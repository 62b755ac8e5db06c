"""Small runs for the tests of training, and what they leave."""

import csv
import os
import signal
from pathlib import Path

import jax
import numpy as np
import toy

from bdpo_jax import settings
from bdpo_jax.agents import AGENTS
from bdpo_jax.checkpoint import Checkpointer
from bdpo_jax.data.options import Data
from bdpo_jax.training.options import Training
from configs import pointmass

SIZES = {
    "dataset_size": 20,
    "batch_size": 16,
    "evaluate_every": 12,
    "eval_episodes": 2,
    "log_every": 6,
    "checkpoint_every": 9,
}
BDPO = {
    "actor_widths": (8,),
    "value_widths": (8,),
    "ensemble_size": 2,
    "actor_samples": 2,
    "diffusion_steps": 3,
    "greedy_candidates": 2,
    "actor_update_interval": 3,
    "value_warmup_steps": 6,
    "pretrain_steps": 9,
    "train_steps": 24,
    "log_every": 3,  # so that all chunks of a phase are of one length, and few programs are compiled
}
TRAINED = 9 + 24  # updates of both


def toy_config(**changes):
    """A run of the toy algorithm on the point mass."""
    config = settings.make(Training, Data, toy)
    settings.update(config, {"agent": "toy", "family": "pointmass", "task": "pointmass", **SIZES})
    config.update_from_flattened_dict(changes)
    return config


def bdpo_config(**changes):
    """The same of BDPO, with tiny networks."""
    config = pointmass.get_config()
    settings.update(config, {**SIZES, **BDPO})
    config.update_from_flattened_dict(changes)
    return config


def final_state(workdir, config):
    """The leaves of the last checkpoint."""
    like = jax.eval_shape(lambda key: AGENTS[config.agent].init(config, key, 2, 2), jax.random.key(0))
    with Checkpointer(Path(workdir) / "checkpoints", read_only=True) as checkpoints:
        state, _ = checkpoints.restore(like)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def assert_same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def rows(workdir):
    with open(Path(workdir) / "progress.csv") as file:
        return list(csv.DictReader(file))


def logged(workdir):
    """What the rows say but for the time, in any order: scores may come late."""
    return sorted(
        tuple(sorted((name, value) for name, value in row.items() if value and name != "steps_per_second"))
        for row in rows(workdir)
    )


class Killed(BaseException):
    """What nobody catches: it ends a run where it is, though its files are closed, as those of a real kill are not."""


def stop_at(updates, number=signal.SIGTERM):
    """An observer that sends this process a signal once a row of update `updates` is logged."""

    def observer(event, name, done):
        if event == "logged" and done >= updates:
            os.kill(os.getpid(), number)

    return observer


def kill_at(updates, what="logged", times=1, only=None):
    """An observer that raises `Killed` at the `times`-th event of update `updates`."""
    seen = []

    def observer(event, name, done):
        if event == what and done >= updates and only in (None, name):
            seen.append(name)
            if len(seen) == times:
                raise Killed

    return observer
