"""BDPO: behavior-regularized diffusion policy optimization for offline reinforcement learning, in JAX.

`bdpo_jax.agents` has the algorithms as pure functions; `bdpo_jax.load_policy` gives a trained policy.
"""

from bdpo_jax.policy import load_policy

__all__ = ["load_policy"]
__version__ = "0.2.0"
