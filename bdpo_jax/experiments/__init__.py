"""Suites of runs as data: what belongs to an experiment, running what is missing of it, and a report.

`configs/experiments.py` has the tables; `python -m bdpo_jax.experiments --list` names them.
"""

from bdpo_jax.experiments.command import main
from bdpo_jax.experiments.plan import Runs, Script

__all__ = ["Runs", "Script", "main"]
