"""Deterministic: BDPO's critics under a policy without noise, an ablation of Gao et al. (2025, B.3).

    L_nu = E ||nu(s) - a||^2 / 2
    D(s) = ||pi(s) - nu(s)||^2 / 2                                                                       (21)

The targets (19) and the objective (20) are in `policy_class.py`, with the one action pi(s). nu is the regression, the
"centre of mass" of the paper's Figure 1. ReBRAC (Tarasov et al., 2023), which the paper follows, has the actions of the
data in its place, which `nu="data"` gives: the same gradient of the actor in expectation, and half the data's variance
in the critic's penalty. Where the data have no action at s', the regression's is taken.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from bdpo_jax import networks
from bdpo_jax.agents import policy_class, regularized
from bdpo_jax.agents.base import Phase
from bdpo_jax.agents.critics import next_actions
from bdpo_jax.agents.policy_class import VIEWS, State
from bdpo_jax.agents.regularized import Budget
from bdpo_jax.errors import UserError
from bdpo_jax.settings import choice, number
from bdpo_jax.types import Batch

__all__ = ["POLICIES", "VIEWS", "Budget", "Hyper", "State", "Static", "check", "init", "phases"]


class DeterministicPolicy(nn.Module):
    """Observations `[..., S]` -> actions `[..., A]`, a tanh into the box of half-width `bound`."""

    widths: Sequence[int]
    action_dim: int
    bound: float

    @nn.compact
    def __call__(self, observations: jax.Array) -> jax.Array:
        return self.bound * jnp.tanh(networks.MLP(self.widths, self.action_dim, name="body")(observations))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Static(policy_class.Static):
    """Sizes and switches: what changes shapes or control flow."""

    # There is one action to draw.
    actor_samples: ClassVar[int] = 1
    max_q_backup: ClassVar[bool] = False
    greedy_candidates: ClassVar[int] = 1

    nu: str = choice("regression", ("data",), "what D is the distance from: the behavior model, or the data's actions")

    @property
    def policy_network(self) -> Any:
        return DeterministicPolicy(self.actor_widths, self.action_dim, self.action_bound)

    def cloning_loss(self, found: jax.Array, actions: jax.Array) -> jax.Array:
        return self.penalty(found, actions)

    def draw(self, found: jax.Array, key: jax.Array, count: int) -> jax.Array:
        return found[..., None, :]

    def penalty(self, found: jax.Array, reference: jax.Array) -> jax.Array:
        return 0.5 * jnp.square(found - reference).sum(axis=-1)

    def reference(self, found: jax.Array, batch: Batch, following: bool) -> jax.Array:
        if self.nu == "regression":
            return found
        if not following:
            return batch.actions
        assert batch.extra is not None, "with nu='data' a batch has next actions"
        return jnp.where(batch.extra["followed"][:, None] > 0, batch.extra["next_actions"], found)


class Hyper(regularized.Hyper):
    """The numbers that one sweeps."""

    eta: jax.Array = number(1.5, "strength of D, reward per squared action [T4]: walker2d-medium; per task", least=0)


def init(config: Any, key: jax.Array, observation_dim: int, action_dim: int) -> State:
    """Returns the initial state, see `Agent`."""
    return policy_class.start(Static, Hyper, config, key, observation_dim, action_dim)


def check(config: Any) -> None:
    """Raises a `UserError` where settings do not fit together."""
    policy_class.check(config)
    if config.nu == "data" and config.n_step > 1:
        raise UserError(
            f"config.n_step is {config.n_step}, but with nu='data' D is the distance from the data's very next action; "
            "set n_step=1."
        )


def phases(config: Any) -> tuple[Phase, ...]:
    """Returns BDPO's phases; with `nu="data"` the second needs the data's next actions."""
    return policy_class.phases(config, next_actions if config.nu == "data" else None)


def act(state: State, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Returns the averaged policy's actions `[..., A]` for observations `[..., S]`; `key` is not used."""
    return policy_class.act_best_of(state, observations, key, 1)


POLICIES = {"policy": act, "behavior": policy_class.act_as_behavior}
