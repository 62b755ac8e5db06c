"""Members: seeds and swept numbers trained side by side over one copy of the dataset.

Each member is a run with a directory of its own, which `load_policy`, `score` or a single run of its config may use.
On accelerators, and on several devices of any kind, the members' updates are one vmapped program; on a single CPU
device, where that is slower, they share one compiled program and run it in threads of their own.
"""

import contextlib
import functools
import itertools
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from bdpo_jax import devices, loggers, plotting, summary
from bdpo_jax.loop import SHOWN, NonFinite, Run, StopSignals, run_stretch
from bdpo_jax.settings import MAY_CHANGE
from bdpo_jax.types import Stopped, UserError
from bdpo_jax.workdir import held, write_json


def expand(config) -> dict[str, ConfigDict]:
    """The members' configs by name: every seed with every combination of the swept values; {} for a single run.

    Raises:
      UserError: two members would have the same name.
    """
    swept = {key: tuple(values) for key, values in config.sweep.items() if values}
    if not config.seeds and not swept:
        return {}
    found = {}
    for seed, *values in itertools.product(tuple(config.seeds) or (config.seed,), *swept.values()):
        member = ConfigDict(config.to_dict())
        if member.dataset_seed < 0:
            member.dataset_seed = config.seed  # one dataset for all
        member.seeds = ()
        for key in member.sweep:
            member.sweep[key] = ()
        member.seed = seed
        for key, value in zip(swept, values, strict=True):
            member[key] = value
        name = "-".join([f"seed{seed}", *(f"{key}{value:g}" for key, value in zip(swept, values, strict=True))])
        if name in found:
            raise UserError(f"Two members would be named {name}: give swept values that differ in six digits.")
        found[name] = member
    return found


def run(config, configs: dict[str, ConfigDict], suite, path: Path) -> dict:
    """Trains the members, `config.members_at_once` at a time, and writes what they share into `path`.

    Args:
      config: of the group.
      configs: of the members, by name.
      suite: of the first member.
      path: the group's directory, held by the caller.

    Returns:
      The contents of the group's `results.json`: the members' by name.

    Raises:
      Stopped: a stop signal came; everything is saved.
      NonFinite: after the others' end, where a member's loss is no number any more.
      UserError: a directory, or the data.
    """
    size = config.members_at_once or len(configs)
    results, broken = {}, {}
    dataset = None
    with StopSignals() as signals:
        for wave in _waves(configs, path, size):
            with contextlib.ExitStack() as stack:
                some = {name: configs[name] for name in wave}
                group = Group(stack, some, path, suite, signals, dataset)
                dataset = group.dataset
                group.run()
                results |= {name: member.finish() for name, member in group.alive.items()}
                broken |= group.broken
                del group  # its states must not lie beside those of the next
    results = {name: results[name] for name in configs if name in results}
    found = _summarise(config, configs, suite, path, results) | {"members": results, "broken": broken}

    def write():
        write_json(path / "results.json", found)
        _draw(config, configs, path, found)

    devices.shared(write)
    if broken:
        if results:
            devices.say(found["summary"])
        raise NonFinite("; ".join(f"member {name}: {reason}" for name, reason in broken.items()))
    return found


def _summarise(config, configs, suite, path: Path, results: dict) -> dict:
    """What the group's results say of all members together."""
    lines = [f"{name}: {result['summary']}" for name, result in results.items()]
    metric, rows, numbers = None, [], {}
    for name, result in results.items():
        found, number = suite.headline(result) or (None, None)
        if number is not None and np.isfinite(number):
            metric, numbers[name] = found, number
    if numbers:
        rows = summary.aggregate(config, configs, numbers)
        if len(configs) > len(rows):
            lines.append(summary.table(metric, rows))
    picture = str(path / "sweep.png") if numbers and summary.swept_keys(config) else None
    text = "\n".join(lines)
    return {"task": config.task, "summary": text, "picture": picture, "metric": metric, "aggregate": rows}


def _draw(config, configs, path: Path, found: dict) -> None:
    """The scalars of all members, of the broken ones, too; and the score over the swept values."""
    tables = {name: path / name / "progress.csv" for name in configs}
    tables = {name: table for name, table in tables.items() if table.exists()}
    if tables:
        plotting.curves(path / "curves.png", config.task, tables)
    if found["picture"]:
        plotting.sweep(found["picture"], config.task, found["metric"], found["aggregate"])


def _waves(configs: dict[str, ConfigDict], path: Path, size: int) -> list[list[str]]:
    """Members that train together, at most `size`: those that lose at most their last checkpoint by it.

    A kill may lie between two members' checkpoints of one update. Other differences come from another
    `members_at_once`, or from members that were continued alone; what is finished is never trained again.
    """
    steps = devices.shared(lambda: {name: _saved(path / name) for name in configs})
    done = {name: config.pretrain_steps + config.train_steps in steps[name] for name, config in configs.items()}
    waves: list[tuple[list[str], set[int]]] = []
    for name in configs:
        for wave, common in waves:
            last = max(common & steps[name])
            little = all(sum(step > last for step in steps[other]) <= 1 for other in [*wave, name])
            if len(wave) < size and done[name] == done[wave[0]] and little:
                wave.append(name)
                common.intersection_update(steps[name])
                break
        else:
            waves.append(([name], set(steps[name])))
    return [wave for wave, _ in waves]


def _saved(directory: Path) -> set[int]:
    """The updates of a member's checkpoints, and 0: its beginning."""
    found = directory / "checkpoints"
    return {0} | {int(child.name) for child in (found.iterdir() if found.is_dir() else ()) if child.name.isdigit()}


class Group:
    """Members in step with each other: the same stretches, each its own state, logs and checkpoints.

    Args:
      stack: closes what the members hold open.
      configs: of the members, by name.
      path: the group's directory.
      suite: of any member; its data are everybody's.
      signals: of the job.
      dataset: of the members before, where it lies on the devices.
    """

    def __init__(self, stack, configs, path, suite, signals: StopSignals, dataset=None):
        self.signals, self.dataset = signals, dataset
        self.alive: dict[str, Run] = {}
        self.broken: dict[str, str] = {}
        config = next(iter(configs.values()))
        self.mesh = devices.make_mesh(len(configs), config.batch_size, config.devices)
        threads = stack.enter_context(ThreadPoolExecutor(1, "evaluation"))
        accepts = []
        for number, (name, config) in enumerate(configs.items()):
            directory = path / name
            accepts.append(stack.enter_context(held(directory, config, MAY_CHANGE)))
            if devices.shared((directory / "nonfinite").exists):
                self.broken[name] = f"its state is no number any more, see {directory / 'nonfinite'}"
                continue
            member = Run(config, directory, suite.of_member(config), self.mesh, self.dataset)
            self.dataset = member.dataset
            # Two checkpoints, because a kill may lie between two members' checkpoints of the same update.
            stack.enter_context(member.opened(signals, threads, number % jax.process_count(), keep=2))
            self.alive[name] = member
        self._restore(stack)
        for accept in accepts:
            devices.shared(accept)
        self.seats = list(self.alive.values())
        self.separate = self.mesh is None and jax.default_backend() == "cpu"
        if self.separate:
            self.workers = stack.enter_context(ThreadPoolExecutor(min(len(configs), devices.processors()), "member"))
        elif self.seats:
            for seat, member in enumerate(self.seats):
                member.state = jax.device_get(member.state)  # the devices hold the stack alone
                member.host_state = functools.partial(self._state, seat)
            states = jax.tree.map(lambda *leaves: np.stack(leaves), *(member.state for member in self.seats))
            self.states = devices.place(states, self.mesh, members=True)
            self.keys = jnp.stack([member.key for member in self.seats])
            for member in self.seats:  # whoever leads takes what was prepared for all
                member.gatherer = self.seats[0].gatherer
            self.fetched = (-1, None)

    def _state(self, seat: int):
        """One member's state on the host; all are fetched at once."""
        done = self.seats[seat].done
        if self.fetched[0] != done:
            self.fetched = (done, devices.fetch(self.states, self.mesh))
        return _seat(self.fetched[1], seat)

    def _restore(self, stack):
        """Every member from the last update of which all have a checkpoint, or from its beginning."""
        steps = [set(member.saved_steps()) for member in self.alive.values()]
        common = set.intersection(*steps) if steps else set()
        for member in self.alive.values():
            if common:
                member.restore(max(common))
            else:
                devices.shared(functools.partial(member.drop_checkpoints, 0))
                member.begin()
        for member in self.alive.values():
            member.log = stack.enter_context(member.make_loggers(progress_bar=False))

    def run(self) -> None:
        if not self.alive:
            return
        first = self.seats[0]
        devices.say(first.sizes(len(self.seats)))
        shown = [loggers.ProgressBar(first.total, first.config.task, first.done, SHOWN)] if devices.is_first() else []
        with loggers.Loggers(shown) as self.bar:
            try:
                self._loop()
            except (Stopped, UserError):
                self._save()
                raise
            self._save()
        devices.say(first.accounting())

    def _loop(self):
        while self.alive:
            members = list(self.alive.values())
            self.signals.check()
            for member in members:
                member.evaluate_if_due()
            if members[0].done == members[0].total:
                for member in members:
                    member.take_scores()
                return
            self._advance()
            if members[0].save_is_due():
                self._save()

    def _save(self):
        for member in self.alive.values():
            member.save()

    def _advance(self):
        """The next stretch of all; a broken member keeps its seat in the program, and nobody looks at it again."""
        phase, program, length = next(iter(self.alive.values())).plan()
        began = time.perf_counter()
        if self.separate:
            metrics = self._in_threads(phase, program, length)
        else:
            lead = next(iter(self.alive.values()))
            self.states, stacked = run_stretch(lead, phase, length, self.states, self.keys, members=True)
            stacked = jax.device_get(stacked)
            metrics = {name: _seat(stacked, self.seats.index(member)) for name, member in self.alive.items()}
        seconds = time.perf_counter() - began
        for member in self.alive.values():
            member.account(phase, program, length, seconds)
        self._write(metrics, length)

    def _in_threads(self, phase: str, program: tuple, length: int) -> dict[str, list[dict]]:
        """The next stretch of all, as many at once as there are processors: each alone cannot keep several busy."""

        def stretch(member):
            member.state, metrics = run_stretch(member, phase, length, member.state, member.key)
            return jax.device_get(metrics)

        lead, *others = self.alive.values()
        if program in lead.seen_programs:
            outcomes = self.workers.map(stretch, (lead, *others))
        else:  # one compiles it for all
            outcomes = [stretch(lead), *self.workers.map(stretch, others)]
        return dict(zip(self.alive, outcomes, strict=True))

    def _write(self, metrics: dict[str, list[dict]], length: int):
        stopped, shown = [], {}
        for name, member in list(self.alive.items()):
            try:
                scalars = member.write(metrics[name], length)
                shown = shown or scalars | {"done": member.done}
            except NonFinite as error:
                self.broken[name] = str(error)
                stopped.append(self.alive.pop(name))
                if self.separate and member.gatherer:
                    member.gatherer.forget()
                devices.say(f"Member {name} stops here: {error}", file=sys.stderr)
        for member in stopped:
            member.take_scores()
        if shown:
            self.bar.write(shown.pop("done"), shown)


def _seat(tree, seat: int):
    """One member's part of stacked arrays."""
    return jax.tree.map(lambda leaf: leaf[seat], tree)
