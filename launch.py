"""python launch.py --config=configs/FILE.py:TASK --workdir=runs/NAME --config.KEY=VALUE"""

import re
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from bdpo_jax import training
from bdpo_jax.types import UserError

_DEFAULT = "--config=configs/synthetic2d.py"
_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file and its argument; default: the 2D quick start.")
_WORKDIR = flags.DEFINE_string("workdir", "", "Directory of the run; default: runs/TASK-seedSEED. A run there goes on.")


def parse(argv):
    """Reads the flags; a mistake in them is one sentence."""
    named = any(re.match(r"--?config(=|$)", argument) for argument in argv)
    try:
        rest = flags.FLAGS(argv if named else [argv[0], _DEFAULT, *argv[1:]])
        _ = _CONFIG.value.task  # raises where the file could not be loaded
        return rest
    except Exception as error:
        # A config file's own error arrives as a part of the library's text.
        own = re.findall(r"UserError: (.+)", str(error))
        unknown = re.search(r'Did you mean "(.+)" instead of "(.+?)"', str(error))
        if own:
            sys.exit(f"Error: {own[-1]}")
        if unknown:
            sys.exit(f"Error: There is no config key {unknown[2]!r}; the nearest known one is {unknown[1]!r}.")
        sys.exit(f"Error: {' '.join(str(error).split())}")


def main(argv):
    if len(argv) > 1:
        sys.exit(f"Error: the argument {argv[1]!r} is unknown; settings are given as --config.KEY=VALUE.")
    logging.set_verbosity(logging.WARNING)
    config = _CONFIG.value
    workdir = _WORKDIR.value or f"runs/{config.task.replace('/', '-')}-seed{config.seed}"
    try:
        results = training.run(config, workdir)
    except (UserError, training.NonFinite) as error:
        sys.exit(f"Error: {error}")
    except training.Stopped as stop:
        print(f"Stopped by {stop}; everything is saved. To continue: run the same command again.", file=sys.stderr)
        return stop.code
    print(f"{results['summary']}\nResults: {workdir}/results.json")
    if results["picture"]:
        print(f"Picture: {results['picture']}")
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
