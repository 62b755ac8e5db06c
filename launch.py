"""python launch.py --config=configs/FILE.py:TASK,ALGORITHM,VARIANT --workdir=runs/NAME --config.KEY=VALUE"""

import re
import signal
import sys
import traceback

from absl import app, flags, logging
from ml_collections import config_flags

from bdpo_jax import arguments, devices, training
from bdpo_jax.errors import NonFinite, Stopped, UserError
from bdpo_jax.text import set_up_output, tell

_DEFAULT = "--config=configs/synthetic2d.py"
_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file and its argument; default: the 2D quick start.")
_WORKDIR = flags.DEFINE_string("workdir", "", "Directory; a run there goes on. Default: runs/TASK-ALGORITHM-seedSEED.")
_SETTINGS = flags.DEFINE_bool("settings", False, "Print every setting, its value and what it means, and do no more.")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "This process is one of a job's; the cluster says which.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of the first process, where no cluster says it.")
_PROCESSES = flags.DEFINE_integer("processes", None, "How many processes the job has.")
_PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, from 0.")


def parse(argv):
    """Reads the flags; a mistake in them is one sentence."""
    argv = arguments.last_of_each(argv)
    argv = argv if arguments.names_config(argv) else [argv[0], _DEFAULT, *argv[1:]]
    try:
        rest = flags.FLAGS(argv)
        _ = _CONFIG.value.task  # raises where the file could not be loaded
        return rest
    except Exception as error:
        # A config file's own error arrives as a part of the library's text.
        own = re.findall(r"UserError: (.+)", str(error))
        said = own[-1] if own else arguments.missing_file(argv) or arguments.unknown_key(argv)
        said = said or " ".join(str(error).split())
        sys.exit(f"Error: {said}")


def main(argv):
    if len(argv) > 1:
        sys.exit(f"Error: the argument {argv[1]!r} is unknown; settings are given as --config.KEY=VALUE.")
    logging.set_verbosity(logging.WARNING)
    set_up_output()
    config = _CONFIG.value
    joined = bool(_DISTRIBUTED.value or _COORDINATOR.value)
    try:
        if _SETTINGS.value:
            tell(training.describe(config))
            return 0
        workdir = _WORKDIR.value or training.default_workdir(config)
        if joined:
            devices.join(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        results = training.run(config, workdir)
    except (UserError, NonFinite) as error:
        if joined:
            devices.leave(f"Error: {error}")
        sys.exit(f"Error: {error}")
    except Stopped as stop:
        devices.say(f"Stopped by {stop}; everything is saved. To go on: run the same command again.", error=True)
        return stop.code
    except BaseException as error:
        if joined:
            devices.leave(traceback.format_exc())
        if not isinstance(error, KeyboardInterrupt):
            raise
        again = "To go on from the last checkpoint: run the same command again."
        devices.say(f"Interrupted; what was done since the last checkpoint is lost. {again}", error=True)
        return 128 + signal.SIGINT
    devices.say(f"{results['summary']}\nResults: {workdir}/results.json")
    if results["picture"]:
        devices.say(f"Picture: {results['picture']}")
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
