"""python -m bdpo_jax.experiments NAME [--size=laptop] [--workdir=DIR] [--data=DIR] [--separate] [--index=I] [--dry-run]

Runs what is missing of an experiment of `configs/experiments.py` (`--list` says which there are), in the repository's
root. What is finished is not run again, what was stopped goes on; a run that fails does not stop the others.
"""

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bdpo_jax import compare, results
from bdpo_jax.data.dataset import unknown_name
from bdpo_jax.errors import Stopped, UserError
from bdpo_jax.experiments import plan
from bdpo_jax.experiments.plan import Item
from bdpo_jax.experiments.runner import Runner
from bdpo_jax.text import set_up_output, tell
from bdpo_jax.workdir import expanded

SIZES = ("full", "laptop")


def read(module: str) -> Mapping[str, Mapping[str, Sequence]]:
    """Returns the tables by experiment and size.

    Raises:
      UserError: there is no such module to import from here.
    """
    if not Path("launch.py").exists():
        raise UserError("There is no launch.py here: change to the repository's root.")
    try:
        return importlib.import_module(module).EXPERIMENTS
    except (ImportError, AttributeError) as error:
        raise UserError(f"{module} is no module of experiments ({error}): it must have EXPERIMENTS.") from error


def listed(experiments: Mapping[str, Mapping[str, Sequence]]) -> str:
    """Returns a line for each experiment and size: how many commands and runs it has."""
    lines = []
    for name, by_size in experiments.items():
        for size, tables in by_size.items():
            items = plan.items(tables, "")
            lines.append(f"{name:18} {size:7} {len(items):4} commands, {sum(item.runs for item in items):4} runs")
    return "\n".join(lines)


def run(items: list[Item], numbers: Sequence[int], out: Path) -> int:
    """Runs some of the items; returns the exit status, after what each came to and, of all, side by side.

    Args:
      items: all of the experiment.
      numbers: which of them.
      out: folder of the tables and pictures of all items.
    """
    chosen = [items[number] for number in numbers]
    try:
        with Runner() as runner:
            failed = runner.run(chosen, [f"[{number} of 0-{len(items) - 1}]" for number in numbers])
    except Stopped as stop:
        tell(f"Stopped by {stop}; to go on: run the same command again.", error=True)
        return stop.code
    for item in chosen:
        if item not in failed:
            tell(f"{item.path.name}: {plan.outcome(item)}")
    if len(numbers) == len(items):
        runs = [item for item in items if item.config is not None]
        scored = [item for item in runs if _is_scored(item.path)]  # of a group that failed, too
        if scored:
            tell(f"{compare.write([item.path for item in scored], out)}\nTables and pictures: {out}")
        for item in runs:
            if item not in scored:
                tell(f"{item.path}: no run of it was scored, so that it is not in the tables.", error=True)
    for item, problem in failed.items():
        tell(f"Error: {item.path}: {problem}", error=True)
    return 1 if failed else 0


def _is_scored(path: Path) -> bool:
    """Whether a directory holds a run that was scored."""
    try:
        return any(run.value is not None for run in results.find([path])[0])
    except UserError:
        return False


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bdpo_jax.experiments", description="Runs an experiment.")
    parser.add_argument("name", nargs="?", help="of the experiment")
    parser.add_argument("--size", choices=SIZES, default="laptop", help="the paper's, or a laptop's; default: laptop")
    parser.add_argument("--workdir", help="default: runs/NAME-SIZE")
    parser.add_argument("--data", help="folder with D4RL's files, named TASK.hdf5 or as D4RL names them")
    parser.add_argument("--separate", action="store_true", help="a command for each run instead of each group")
    parser.add_argument("--index", type=int, help="only this one of the commands, from 0: for a job array")
    parser.add_argument("--dry-run", action="store_true", help="print the commands; finished ones are marked")
    parser.add_argument("--list", action="store_true", help="name the experiments")
    parser.add_argument("--tables", default="configs.experiments", help="the module of the experiments' tables")
    options = parser.parse_args(arguments)
    set_up_output()
    try:
        experiments = read(options.tables)
        if options.list:
            tell(listed(experiments))
            return 0
        if options.name is None:
            raise UserError(f"Name an experiment: {', '.join(experiments)}.")
        if options.name not in experiments:
            raise unknown_name("experiment", options.name, experiments)
        workdir = expanded(options.workdir or f"runs/{options.name}-{options.size}")
        data = options.data and expanded(options.data)
        if options.size not in experiments[options.name]:
            raise UserError(
                f"{options.name} has no {options.size} size; it has {', '.join(experiments[options.name])}."
            )
        items = plan.items(experiments[options.name][options.size], workdir, data, options.separate)
        numbers = range(len(items)) if options.index is None else [options.index]
        if options.index is not None and not 0 <= options.index < len(items):
            raise UserError(f"--index is {options.index}; {options.name} has the commands 0 to {len(items) - 1}.")
        if options.dry_run:
            for number in numbers:
                tell(f"{number}: {items[number]}{'  # finished' if items[number].finished() else ''}")
            return 0
        return run(items, numbers, workdir / "compare")
    except UserError as error:
        sys.exit(f"Error: {error}")
