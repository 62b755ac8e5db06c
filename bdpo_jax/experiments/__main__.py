"""python -m bdpo_jax.experiments, see `command`."""

import sys

from bdpo_jax.experiments.command import main

sys.exit(main())
