"""One run's directory: what is restored, logged, scored, saved and reported. The loop is the trainer's."""

import contextlib
import functools
import importlib.metadata
import json
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bdpo_jax import devices, loggers, plotting
from bdpo_jax.agents import AGENTS
from bdpo_jax.agents.base import State
from bdpo_jax.agents.common import only_acting
from bdpo_jax.checkpoint import Checkpointer
from bdpo_jax.errors import UserError
from bdpo_jax.tasks.base import Task
from bdpo_jax.training import options
from bdpo_jax.training.schedule import Schedule
from bdpo_jax.training.scoring import acting
from bdpo_jax.workdir import config_hash, plain, write_json

SCORES_FILE = "scores.json"  # of the last evaluation
SIZES_FILE = "sizes.json"  # what a reader of the checkpoints needs beside the config
BROKEN = "nonfinite"  # the folder of a state that is NaN or infinite

Observer = Callable[..., None]  # (event, run's name, updates done): told what happens


class Restored(NamedTuple):
    """What a run goes on from, on the host.

    Attributes:
      leaves: of its state.
      seconds: where the time went so far.
      scored: its last evaluation, as in `SCORES_FILE`.
      unfinished: update and snapshot of an evaluation that a stop cut short.
    """

    leaves: list[np.ndarray]
    seconds: dict[str, float]
    scored: dict | None
    unfinished: tuple[int, list[np.ndarray]] | None


class Run:
    """One run.

    In a job of several processes each has this object and calls the same methods in the same order, but for those
    that say "in the first process"; that one alone has checkpoints and loggers.

    Attributes:
      name: within its group; "" for a single run.
      config: what to do.
      path: its own directory.
      key: of its batches and its noise.
      seconds: where the time went.
    """

    def __init__(self, name: str, config, path: Path, task: Task, schedule: Schedule, evaluator, observer: Observer):
        self.name, self.config, self.path = name, config, path
        self._task, self._schedule, self._observer = task, schedule, observer
        self._agent, self._evaluator = AGENTS[config.agent], evaluator
        root = jax.random.key(config.seed)
        self._init_key, self.key, self._eval_key = (jax.random.fold_in(root, i) for i in range(3))
        parts = ("compilation", "waiting", "checkpoints", "logging", "evaluation")
        self.seconds = dict.fromkeys([*(phase.name for phase in schedule.phases), *parts], 0.0)
        self._scores: dict = {}
        self._scored = {"step": -1, "policies": [], "episodes": 0}
        self._checkpoints: Checkpointer  # from `open` on, in the first process alone
        self._log = loggers.Loggers([])

    @contextlib.contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Counts the time of a block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - began

    # --- beginning ---

    def initial_state(self) -> State:
        """Returns the state of a run that has not begun."""
        data = self._task.dataset
        return self._agent.init(self.config, self._init_key, data.observation_dim, data.action_dim)

    def open(self, stack: contextlib.ExitStack, keep: int) -> set[int]:
        """Opens the run's checkpoints, of which at least `keep` are kept; in the first process.

        Returns:
          The updates of which there is one, and 0.
        """
        kept = max(self.config.keep_checkpoints, keep)
        self._checkpoints = stack.enter_context(Checkpointer(self.path / "checkpoints", kept))
        return {0, *self._checkpoints.steps()}

    def read(self, done: int, state: State) -> Restored | None:
        """Reads what a run goes on from after `done` updates; None at its beginning. In the first process.

        Args:
          done: 0, or the update of a checkpoint.
          state: of the run, for its structure.

        Raises:
          UserError: it cannot go on with this config or these data.
        """
        if not done:
            return None
        saved, extra = self._checkpoints.restore(state, done)
        if extra["updates"] != self._schedule.counts(done):
            budgets = {phase.name: phase.updates for phase in self._schedule.phases}
            raise UserError(
                f"{self.path} has done {_listed(extra['updates'])}; a budget of {_listed(budgets)} would undo some: "
                "use another --workdir."
            )
        if extra["dataset"] != self._fingerprint:
            raise UserError(f"The dataset has changed since the run in {self.path} began: use another --workdir.")
        scores = self.path / SCORES_FILE
        scored = json.loads(scores.read_text()) if scores.exists() else None
        if scored and scored["step"] > done:
            scored = None
        unfinished = self._evaluator.kept(state, scored["step"] if scored else -1, done)
        return Restored([np.asarray(leaf) for leaf in jax.tree.leaves(saved)], extra["seconds"], scored, unfinished)

    def prepare(self, stack: contextlib.ExitStack, done: int, restored: Restored | None) -> None:
        """Readies the directory for what follows: forgets what will be done again, opens the loggers.

        In the first process.
        """
        data, config = self._task.dataset, self.config
        self._checkpoints.drop_after(done)
        if restored is None or restored.scored is None:
            (self.path / SCORES_FILE).unlink(missing_ok=True)
        write_json(self.path / SIZES_FILE, {"observation_dim": data.observation_dim, "action_dim": data.action_dim})
        made: list[loggers.Logger] = [
            loggers.CSVLogger(self.path / "progress.csv", resume_step=done),
            loggers.TensorBoardLogger(self.path / "tensorboard", resume_step=done),
        ]
        if config.wandb:
            label = self.path.name if config.task in self.path.name else f"{config.task}-{self.path.name}"
            made.append(loggers.WandbLogger(self.path, config.wandb, label, config.to_dict(), done or None))
        self._log = stack.enter_context(loggers.Loggers(made))

    def begin(self, state: State, restored: Restored | None) -> State:
        """Takes over what was read; returns the state to go on with.

        Args:
          state: the initial one.
          restored: of `read`.
        """
        if restored is None:
            return state
        structure = jax.tree.structure(state)
        found = jax.tree.unflatten(structure, [jnp.array(leaf) for leaf in restored.leaves])
        self.seconds |= restored.seconds
        if restored.scored:
            self._scores = restored.scored["scores"]
            self._scored = {key: restored.scored[key] for key in self._scored}
        if restored.unfinished is not None:
            step, leaves = restored.unfinished
            like = jax.tree.structure(jax.eval_shape(only_acting, found))
            policies = self._policies(step)
            self._evaluate(step, policies, jax.tree.unflatten(like, leaves))
        # A budget that was extended moves the horizons of the learning rates.
        return found.replace(hyper=state.hyper)

    @functools.cached_property
    def _fingerprint(self) -> list:
        """What tells a changed dataset."""
        data = self._task.dataset
        sums = [float(np.sum(a, dtype=np.float64)) for a in (data.observations, data.actions, data.rewards)]
        return [data.size, *sums]

    # --- while training ---

    def write(self, done: int, scalars: Mapping[str, float]) -> None:
        """Writes a row of scalars that belongs to an update; in the first process."""
        with self.timed("logging"):
            self._log.write(done, scalars)
        self._observer("logged", self.name, done)

    def save(self, done: int, state: State) -> None:
        """Writes a checkpoint, and the policy of an evaluation that is not done yet."""

        def write():
            if self._evaluator.step != done:  # of this update, it is begun again from the checkpoint itself
                self._evaluator.keep()
            updates = self._schedule.counts(done)
            extra = {"seconds": self.seconds, "dataset": self._fingerprint, "updates": updates}
            self._checkpoints.save(done, state, extra)

        with self.timed("checkpoints"):
            devices.shared(write)
        self._observer("saved", self.name, done)

    def fail(self, done: int, problem: str, state: State) -> str:
        """Writes a state that is NaN or infinite into a folder of its own; returns the sentence that says so."""
        where = self.path / BROKEN

        def write():
            shutil.rmtree(where, ignore_errors=True)
            with Checkpointer(where, keep=1) as checkpoints:
                checkpoints.save(done, state, {"problem": problem})
            return self._checkpoints.latest_step()

        last = devices.shared(write)
        good = "there is no checkpoint yet" if last is None else f"the last good checkpoint is of update {last}"
        return (
            f"{problem}: the state is saved under {where}, {good}; lower a learning rate, or strengthen the penalty, "
            "in another --workdir."
        )

    # --- scores ---

    def score(self, done: int, policies: tuple[str, ...], state: State) -> None:
        """Begins to score policies as they are after `done` updates, unless that has been done."""
        wanted = {"step": done, "policies": list(policies), "episodes": self._episodes(done)}
        if policies and self._evaluator.step != done and self._scored != wanted:
            self.log_scores()
            self._evaluate(done, policies, state)

    def scores_are_ready(self) -> bool:
        """Whether `log_scores` would log some without waiting for them."""
        return self._evaluator.finished()

    def log_scores(self) -> None:
        """Waits for the evaluation under way, if there is one, and logs its scores under the update they belong to."""
        if self._evaluator.step is None:
            return
        with self.timed("waiting"):
            step, self._scores, seconds = self._evaluator.take()
        self.seconds["evaluation"] += seconds
        self._scored = {"step": step, "policies": list(self._policies(step)), "episodes": self._episodes(step)}

        def write():
            self.write(step, _scalars(self._scores))
            write_json(self.path / SCORES_FILE, self._scored | {"scores": self._scores})

        devices.shared(write)

    def _policies(self, done: int) -> tuple[str, ...]:
        """What an evaluation scores, also one that was begun when the intervals were others."""
        return self._schedule.policies_due(done) or self._schedule.at(done)[0].watch

    def _episodes(self, done: int) -> int:
        final = self.config.final_episodes if done == self._schedule.total else 0
        return final or self.config.eval_episodes

    def _evaluate(self, done: int, policies: tuple[str, ...], state: State) -> None:
        key, episodes = jax.random.fold_in(self._eval_key, done), self._episodes(done)

        def score(state, before_step):
            self._observer("scoring", self.name, done)
            return self._task.evaluate(acting(self._agent, state), policies, episodes, key, before_step)

        self._evaluator.start(done, state, score)

    # --- end ---

    def results(self, done: int, state: State) -> dict:
        """Draws the pictures, and returns what it writes into `results.json`; in the first process.

        Args:
          done: updates.
          state: a snapshot.
        """
        config, scores = self.config, self._scores
        picture = self._task.draw(self.path, acting(self._agent, state), self._eval_key, scores)
        plotting.curves(self.path / "curves.png", config.task, {config.task: self.path / "progress.csv"})
        found = plain(
            {
                "agent": config.agent,
                "task": config.task,
                "summary": self._task.summary(scores),
                "headline": self._task.headline(scores),
                "scores": scores,
                "references": self._task.references,
                "seed": config.seed,
                "step": done,
                "seconds": self.seconds,
                "config_hash": config_hash(config.to_dict(), options.may_change(config)),
                "picture": str(picture) if picture else None,
                "versions": _versions(),
                "device": jax.devices()[0].device_kind,
            }
        )
        write_json(self.path / "results.json", found)
        return found

    def accounting(self) -> str:
        """Says where the time went."""
        spent = {name: f"{seconds:.1f} s" for name, seconds in self.seconds.items()}
        phases = ", ".join(f"{phase.name} {spent[phase.name]}" for phase in self._schedule.phases)
        return (
            f"Time: {phases}, compilation {spent['compilation']}, checkpoints {spent['checkpoints']}, logging "
            f"{spent['logging']}, waiting for evaluations {spent['waiting']} (they took {spent['evaluation']})"
        )


def _listed(updates: Mapping[str, int]) -> str:
    return " and ".join(f"{count} updates of {name}" for name, count in updates.items())


def _scalars(scores: Mapping, prefix: str = "eval") -> dict[str, float]:
    """The numbers in nested scores, named by their path."""
    flat: dict[str, float] = {}
    for name, value in scores.items():
        if isinstance(value, Mapping):
            flat |= _scalars(value, f"{prefix}/{name}")
        elif np.ndim(value) == 0:
            flat[f"{prefix}/{name}"] = float(value)
    return flat


def _versions() -> dict:
    names = ("bdpo_jax", "jax", "flax", "optax", "orbax-checkpoint", "numpy", "gymnasium", "mujoco")
    versions = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
