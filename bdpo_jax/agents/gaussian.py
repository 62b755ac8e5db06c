"""Gaussian: BDPO's critics under a diagonal Gaussian policy, an ablation of Gao et al. (2025, B.3).

    L_nu = -E log nu(a | s)
    D(s) = KL[pi(. | s) || nu(. | s)] = sum_i [ log(sigma_nu / sigma_pi) - 1/2
                                                + (sigma_pi^2 + (mu_pi - mu_nu)^2) / (2 sigma_nu^2) ]    (22)

The targets (19) and the objective (20) are in `policy_class.py`. D is that of the Gaussians; a drawn action is clipped
to the box before Q sees it, and a clipped component has no gradient. The mean is a tanh into the box and the deviations
depend on the state [ours].
"""

import dataclasses
from typing import Any

import jax

from bdpo_jax.agents import policy_class, regularized
from bdpo_jax.agents.gaussian_head import Gaussian, GaussianPolicy
from bdpo_jax.agents.policy_class import VIEWS, State, check, phases
from bdpo_jax.agents.regularized import Budget, Samples
from bdpo_jax.settings import number

__all__ = ["POLICIES", "VIEWS", "Budget", "Hyper", "State", "Static", "check", "init", "phases"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Static(policy_class.Static, Samples):
    """Sizes and switches: what changes shapes or control flow."""

    @property
    def policy_network(self) -> Any:
        return GaussianPolicy(self.actor_widths, self.action_dim, self.action_bound, state_dependent_std=True)

    def cloning_loss(self, found: Gaussian, actions: jax.Array) -> jax.Array:
        return -found.log_prob(actions)

    def draw(self, found: Gaussian, key: jax.Array, count: int) -> jax.Array:
        noise = jax.random.normal(key, (*found.mean.shape[:-1], count, self.action_dim))
        drawn = Gaussian(found.mean[..., None, :], found.log_std[..., None, :]).sample(noise)
        return drawn.clip(-self.action_bound, self.action_bound)

    def penalty(self, found: Gaussian, reference: Gaussian) -> jax.Array:
        return found.kl(reference)


class Hyper(regularized.Hyper):
    """The numbers that one sweeps."""

    eta: jax.Array = number(0.25, "KL strength, reward units [T4]: walker2d-medium; per task", least=0)


def init(config: Any, key: jax.Array, observation_dim: int, action_dim: int) -> State:
    """Returns the initial state, see `Agent`."""
    return policy_class.start(Static, Hyper, config, key, observation_dim, action_dim)


def act(state: State, observations: jax.Array, key: jax.Array, candidates: int | None = None) -> jax.Array:
    """Returns actions, see `policy_class.act_best_of`; without `candidates` of `greedy_candidates` draws."""
    return policy_class.act_best_of(state, observations, key, candidates or state.static.greedy_candidates)


POLICIES = {"policy": act, "behavior": policy_class.act_as_behavior}
