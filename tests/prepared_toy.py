"""The toy algorithm with a last phase that prepares its targets: the behavior model's actions, and noise."""

import jax
import jax.numpy as jnp
import toy

from bdpo_jax.agents.base import Phase

Static, Hyper, Budget, POLICIES, VIEWS = toy.Static, toy.Hyper, toy.Budget, toy.POLICIES, toy.VIEWS
init, check = toy.init, toy.check


def prepare(state, dataset, key):
    own = jnp.tanh(dataset.observations @ state.behavior.ema["kernel"])
    return {"target": own + 0.1 * jax.random.normal(key, dataset.actions.shape)}


def update(state, batch, key):
    return toy.update(state, batch.replace(actions=batch.extra["target"]), key)


def gather(dataset, prepared, rows):
    """The mean of the target of a row and of the row that follows it in the file."""
    following = (rows + 1) % dataset.size
    return {"target": (prepared["target"][rows] + prepared["target"][following]) / 2}


def phases(config):
    policies = {"watch": ("policy",), "score": ("policy",)}
    return (
        Phase("copy", config.copy_steps, toy.copy_update, settle=toy.start_actor, score=("behavior",)),
        Phase("train", config.train_steps, update, prepare=prepare, gather=gather, **policies),
    )
