"""From a config to results on disk."""

from bdpo_jax.training.options import describe
from bdpo_jax.training.sweep import default_workdir
from bdpo_jax.training.trainer import run

__all__ = ["default_workdir", "describe", "run"]
