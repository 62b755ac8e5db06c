"""BDPO: behavior-regularized diffusion policy optimization for offline reinforcement learning, in JAX.

`bdpo_jax.agents` has the algorithms as pure functions; `load_policy` gives a trained policy, `load_q` its values.
"""

from bdpo_jax.policy import load_policy, load_q

__all__ = ["load_policy", "load_q"]
__version__ = "0.2.0"
