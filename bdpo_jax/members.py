"""Members: seeds and swept numbers trained side by side over one copy of the dataset.

Each member is a run with a directory of its own, which `load_policy`, `score` or a single run of its config may use.
On an accelerator the members' updates are one vmapped program; on a CPU, where that is slower, they take turns with one
compiled program.
"""

import contextlib
import itertools
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from bdpo_jax import suites
from bdpo_jax.loop import NonFinite, Run, Stopped, run_stretch, stop_signals
from bdpo_jax.settings import MAY_CHANGE
from bdpo_jax.types import UserError
from bdpo_jax.workdir import Workdir, write_json


def expand(config) -> dict[str, ConfigDict]:
    """The members' configs by name: every seed with every combination of the swept values; {} for a single run."""
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
        found["-".join([f"seed{seed}", *(f"{key}{value:g}" for key, value in zip(swept, values, strict=True))])] = (
            member
        )
    return found


def run(config, configs: dict[str, ConfigDict], path: Path) -> dict:
    """Trains the members, `config.members_at_once` at a time, and writes what they share into `path`.

    Returns:
      The contents of the group's `results.json`: the members' by name.

    Raises:
      Stopped: a stop signal came; everything is saved.
      NonFinite: after the others' end, where a member's loss is no number any more.
      UserError: a directory, or the data.
    """
    names, size = list(configs), config.members_at_once or len(configs)
    results, broken = {}, {}
    dataset = None
    with stop_signals() as check_signals:
        for start in range(0, len(names), size):
            wave = {name: configs[name] for name in names[start : start + size]}
            with contextlib.ExitStack() as stack:
                group = Group(stack, wave, path, check_signals, dataset)
                dataset = group.dataset
                group.run()
                results |= {name: member.finish() for name, member in group.alive.items()}
                broken |= group.broken
    summary = "\n".join(f"{name}: {result['summary']}" for name, result in results.items())
    found = {"task": config.task, "summary": summary, "picture": None, "members": results, "broken": broken}
    write_json(path / "results.json", found)
    if broken:
        raise NonFinite("; ".join(f"member {name}: {reason}" for name, reason in broken.items()))
    return found


class Group:
    """Members in step with each other: the same stretches, each its own state, logs and checkpoints.

    Args:
      stack: closes what the members hold open.
      configs: of the members, by name.
      path: the group's directory.
      check_signals: raises `Stopped` when it is time.
      dataset: on the device, if it is there already.
    """

    def __init__(self, stack, configs, path, check_signals, dataset=None):
        self.check_signals, self.dataset = check_signals, dataset
        self.alive: dict[str, Run] = {}
        self.broken: dict[str, str] = {}
        first = None
        for name, config in configs.items():
            directory = stack.enter_context(Workdir(path / name, config, MAY_CHANGE))
            if (directory.path / "nonfinite").exists():
                self.broken[name] = f"its state is no number any more, see {directory.path / 'nonfinite'}"
                continue
            suite = suites.make(config)
            if first is not None:
                suite.dataset = first.suite.dataset
            member = Run(config, directory.path, suite, self.dataset)
            self.dataset, first = member.dataset, first or member
            stack.enter_context(member.opened(check_signals))
            self.alive[name] = member
        self._restore(stack)

    def _restore(self, stack):
        """Every member from the last step that all have: a crash may lie between two members' checkpoints."""
        steps = [member.checkpoints.latest_step() for member in self.alive.values()]
        if steps and None not in steps:
            for member in self.alive.values():
                member.restore(min(steps))
        for number, member in enumerate(self.alive.values()):
            member.log = stack.enter_context(member.make_loggers(progress_bar=number == 0))

    def run(self) -> None:
        for member in list(self.alive.values())[:1]:
            print(member.sizes(len(self.alive)), flush=True)
        try:
            self._loop()
        except (Stopped, UserError):
            self._each(Run.save)
            raise
        self._each(Run.save)

    def _loop(self):
        while self.alive:
            self.check_signals()
            self._each(Run.evaluate_if_due)
            if next(iter(self.alive.values())).done == next(iter(self.alive.values())).total:
                return
            self._advance()
            self._each(Run.save_if_due)

    def _each(self, act):
        for member in list(self.alive.values()):
            act(member)

    def _advance(self):
        members = list(self.alive.values())
        phase, program, length = members[0].plan()
        began = time.perf_counter()
        if jax.default_backend() == "cpu":
            outcomes = [run_stretch(member, phase, length, member.state, member.key) for member in members]
        else:
            outcomes = together(members, phase, length)
        for member, (state, _) in zip(members, outcomes, strict=True):
            member.state = state
        metrics = jax.device_get([metrics for _, metrics in outcomes])
        seconds = time.perf_counter() - began
        for name, member, found in zip(list(self.alive), members, metrics, strict=True):
            try:
                member.account(phase, program, length, found, seconds)
            except NonFinite as error:
                self.broken[name] = str(error)
                del self.alive[name]
                print(f"Member {name} stops here: {error}", file=sys.stderr, flush=True)


def together(members: list[Run], phase: str, length: int) -> list[tuple]:
    """The next stretch of several members as one vmapped program: a (state, metrics) for each."""
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(member.state for member in members))
    keys = jnp.stack([member.key for member in members])
    states, metrics = run_stretch(members[0], phase, length, states, keys, members=True)
    return [jax.tree.map(lambda leaf, i=i: leaf[i], (states, metrics)) for i in range(len(members))]
