"""python launch.py --config=configs/FILE.py:TASK --workdir=runs/NAME --config.KEY=VALUE"""

import sys

from absl import app, flags
from ml_collections import config_flags

from bdpo_jax import training
from bdpo_jax.types import UserError

_CONFIG = config_flags.DEFINE_config_file("config", "configs/synthetic2d.py", "Config file and its argument.")
_WORKDIR = flags.DEFINE_string("workdir", "", "Directory of the run; default: runs/TASK-seedSEED. A run there goes on.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; settings are given as --config.KEY=VALUE")
    config = _CONFIG.value
    workdir = _WORKDIR.value or f"runs/{config.task}-seed{config.seed}"
    try:
        results = training.run(config, workdir)
    except (UserError, training.NonFinite) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except training.Stopped as stop:
        print(f"Stopped by {stop}; everything is saved. To continue: run the same command again.", file=sys.stderr)
        return stop.code
    print(f"{results['summary']}\nResults: {workdir}/results.json")
    if results["picture"]:
        print(f"Picture: {results['picture']}")
    return 0


if __name__ == "__main__":
    app.run(main)
