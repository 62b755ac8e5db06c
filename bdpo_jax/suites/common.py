"""What the suites share: the policies that can be evaluated, and the seed of generated data."""

import functools

import jax

from bdpo_jax.agents import bdpo

BEST_OF = 10  # candidates of the behavior model chosen by Q, where the config's own policy selects none

# name -> how `sample_actions` is called; None: the config's `greedy_candidates`
POLICIES = {
    "bdpo": {"policy": "actor", "candidates": None},
    "behavior": {"policy": "behavior", "candidates": 1},
    "behavior_best_of": {"policy": "behavior", "candidates": None},
}


@functools.partial(jax.jit, static_argnames=("name",))
def act(state, observations: jax.Array, key: jax.Array, name: str) -> jax.Array:
    """Returns the actions of a policy of `POLICIES`, `[..., action_dim]`."""
    how = dict(POLICIES[name])
    if name == "behavior_best_of" and state.static.greedy_candidates == 1:
        how["candidates"] = BEST_OF
    return bdpo.sample_actions(state, observations, key, **how)


def data_seed(config) -> int:
    """Returns the seed of generated data: `config.dataset_seed`, or the run's own where that is negative."""
    return config.seed if config.dataset_seed < 0 else config.dataset_seed
