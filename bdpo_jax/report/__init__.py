"""Reports of finished and running runs: tables beside the paper's, figures, one page.

python -m bdpo_jax.report RUNS... --out=report
"""

from bdpo_jax.report.command import main

__all__ = ["main"]
