"""BDPO: behavior-regularized diffusion policy optimization for offline reinforcement learning, in JAX.

`bdpo_jax.agents.bdpo` is the algorithm as pure functions; `bdpo_jax.load_policy` gives a trained policy.
"""

from bdpo_jax.deployment import load_policy

__all__ = ["load_policy"]
