"""python -m bdpo_jax.report, see `command`."""

from bdpo_jax.report.command import main

main()
