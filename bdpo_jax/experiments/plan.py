"""From the tables of an experiment to the commands that it consists of, and which of them are done."""

import dataclasses
import importlib
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bdpo_jax import arguments, settings
from bdpo_jax.agents import AGENTS
from bdpo_jax.errors import UserError
from bdpo_jax.training import options, sweep
from bdpo_jax.workdir import config_hash

DONE = "finished.json"  # in a script's directory: the command that came to its end


@dataclasses.dataclass(frozen=True)
class Runs:
    """A table of runs: tasks x algorithms x seeds x swept values. Those of a task and algorithm are one group.

    Attributes:
      file: module of `configs/`.
      tasks: names that it knows.
      agents: algorithms.
      variant: of the file; "": its default one.
      seeds: of each combination.
      sweep: several values of numbers of `Hyper`, every combination of them.
      changes: other settings.
      label: ends the directories' names, where an experiment has several tables of a task and algorithm.
    """

    file: str
    tasks: Sequence[str]
    agents: Sequence[str] = ("bdpo",)
    variant: str = ""
    seeds: Sequence[int] = (0,)
    sweep: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    label: str = ""


@dataclasses.dataclass(frozen=True)
class Script:
    """A program that writes into a directory of its own, given as `--out`.

    Attributes:
      file: the program.
      arguments: others.
    """

    file: str
    arguments: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Item:
    """One command of an experiment.

    Attributes:
      path: the directory that it fills.
      command: the program and its arguments.
      config: of the run or group; None for a script.
    """

    path: Path
    command: tuple[str, ...]
    config: Any = None

    def __str__(self) -> str:
        return shlex.join(("python", *self.command[1:]))

    @property
    def runs(self) -> int:
        """How many runs it has."""
        return 1 if self.config is None else len(sweep.expand(self.config))

    def finished(self) -> bool:
        """Whether all of its runs came to the end of their budgets with the same settings, but for intervals."""
        if self.config is None:
            return _read(self.path / DONE).get("command") == list(self.command[1:])
        if not (self.path / "results.json").exists():
            return False
        for name, config in sweep.expand(self.config).items():
            found = _read(self.path / name / "results.json")
            total = sum(phase.updates for phase in AGENTS[config.agent].phases(config))
            wanted = config_hash(config.to_dict(), options.may_change(config))
            if (found.get("step"), found.get("config_hash")) != (total, wanted):
                return False
        return True


def items(
    tables: Sequence[Runs | Script], workdir: str | Path, data: str | Path | None = None, separate: bool = False
) -> list[Item]:
    """Returns the commands of an experiment, in order.

    Args:
      tables: its rows.
      workdir: directory, in which each command has one.
      data: folder of D4RL's files, named TASK.hdf5 or as D4RL names them; None: where D4RL's files are looked for.
      separate: a command for each run, not for each group.

    Raises:
      UserError: a setting, task or algorithm does not exist or makes no sense, or two commands share a directory.
    """
    found: dict[Path, Item] = {}
    for table in tables:
        rows = _groups(table, Path(workdir), data) if isinstance(table, Runs) else [_script(table, Path(workdir))]
        for group in rows:
            for item in _single_runs(group) if separate and group.config is not None else [group]:
                if item.path in found:
                    raise UserError(f"Two commands of the experiment share {item.path}: give their tables labels.")
                found[item.path] = item
    return list(found.values())


def _groups(table: Runs, workdir: Path, data: str | Path | None) -> Iterator[Item]:
    module = importlib.import_module(f"configs.{table.file}")
    for task in table.tasks:
        for agent in table.agents:
            argument = ",".join(word for word in (task, agent, table.variant) if word)
            config = module.get_config(argument)
            changes = dict(table.changes)
            if data is not None and config.family == "d4rl":
                file = Path(data) / f"{task}.hdf5"
                changes["dataset_path"] = str(file if file.exists() else data)  # there under D4RL's own name
            changes |= {"seed": table.seeds[0]} if len(table.seeds) == 1 else {"seeds": tuple(table.seeds)}
            settings.update(config, changes)
            unknown = [key for key in table.sweep if key not in config.sweep]
            if unknown:
                raise UserError(f"{agent} has no number {unknown[0]!r} to sweep; it has {', '.join(config.sweep)}.")
            for key, values in table.sweep.items():
                config.sweep[key] = tuple(values)
                changes[f"sweep.{key}"] = tuple(values)
            options.check(config)
            name = "-".join(word for word in (task, agent, table.label) if word)
            yield _item(f"configs/{table.file}.py:{argument}", changes, workdir / name, config)


def _single_runs(group: Item) -> Iterator[Item]:
    """The runs of a group, each by itself; what it has in common with the group's command stays."""
    if not sweep.is_group(group.config):
        yield group
        return
    program, launch, source, _, *words = group.command
    kept = [word for word in words if not word.startswith(("--config.seed", "--config.sweep."))]
    swept = [key for key, values in group.config.sweep.items() if values]
    for name, config in sweep.expand(group.config).items():
        own = arguments.flags({key: config[key] for key in ("seed", "dataset_seed", *swept)})
        path = group.path / name
        yield Item(path, (program, launch, source, f"--workdir={path}", *kept, *own), config)


def _item(source: str, changes: Mapping[str, Any], path: Path, config) -> Item:
    words = arguments.flags(changes)
    return Item(path, (sys.executable, "launch.py", f"--config={source}", f"--workdir={path}", *words), config)


def _script(script: Script, workdir: Path) -> Item:
    path = workdir / Path(script.file).stem
    return Item(path, (sys.executable, script.file, f"--out={path}", *script.arguments))


def outcome(item: Item) -> str:
    """Returns what a finished item came to, as text."""
    if item.config is None:
        return str(item.path)
    found = _read(item.path / "results.json")
    if sweep.is_group(item.config):
        return sweep.table(found["headline"], found["aggregate"]) if found["aggregate"] else "nothing was scored"
    return found["summary"]


def _read(file: Path) -> dict:
    """The contents of a JSON file; {} where there is none, or a damaged one: what wrote it runs again."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
