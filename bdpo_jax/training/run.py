"""One run's directory: what is restored, logged, scored, saved and reported. The loop is the trainer's."""

import contextlib
import functools
import importlib.metadata
import json
import platform
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bdpo_jax import devices, loggers, plotting
from bdpo_jax.agents import AGENTS
from bdpo_jax.agents.base import State
from bdpo_jax.checkpoint import Checkpointer
from bdpo_jax.data.dataset import fingerprint
from bdpo_jax.errors import UserError
from bdpo_jax.tasks.base import Task
from bdpo_jax.training import options, values
from bdpo_jax.training.schedule import Schedule
from bdpo_jax.training.scores import NOTHING, Scores
from bdpo_jax.training.scoring import Evaluator, Unfinished, acting
from bdpo_jax.workdir import BROKEN, SIZES_FILE, config_hash, plain, write_json

SCORES_FILE = "scores.json"  # of the last evaluation
OWN = ("waiting", "checkpoints", "logging", "evaluation", "pictures")  # what takes each run's own time

Observer = Callable[..., None]  # (event, run's name, updates done): told what happens


class Restored(NamedTuple):
    """What a run goes on from, on the host.

    Attributes:
      leaves: of its state.
      seconds: where the time went so far.
      scored: its last evaluation, see `Scores.last`.
      unfinished: an evaluation that a stop cut short.
      warnings: that it gave.
      machine: what computed its last updates, see `_machine`; None where that goes on here.
    """

    leaves: list[np.ndarray]
    seconds: dict[str, float]
    scored: dict
    unfinished: Unfinished | None
    warnings: list[str]
    machine: dict | None


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

    def __init__(
        self,
        name: str,
        config,
        path: Path,
        task: Task,
        notes: Sequence[str],
        schedule: Schedule,
        evaluator: Evaluator,
        observer: Observer,
    ):
        self.name, self.config, self.path = name, config, path
        self._task, self._notes, self._schedule, self._observer = task, notes, schedule, observer
        self._agent = AGENTS[config.agent]
        root = jax.random.key(config.seed)
        self._init_key, self.key, self._eval_key = (jax.random.fold_in(root, i) for i in range(3))
        begun = functools.partial(observer, "scoring", name)
        self._scores = Scores(config, task, self._agent, schedule, evaluator, self._eval_key, begun)
        phases = [phase.name for phase in schedule.phases]
        self.seconds = dict.fromkeys([*phases, "compilation", *OWN], 0.0)
        self._warnings: list[str] = []
        self._machine = _machine()
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
        if Counter(extra["updates"]) != Counter(self._schedule.counts(done)):  # a phase without updates may be missing
            budgets = {phase.name: phase.updates for phase in self._schedule.phases}
            raise UserError(
                f"{self.path} has done {_listed(extra['updates'])}, which a budget of {_listed(budgets)} cannot begin "
                "with: use another --workdir."
            )
        if extra["dataset"] != self._fingerprint:
            hint = "use another --workdir"
            if self.config.family == "file":
                hint += "; where env was dropped or added, --config.action_bounds can say what its actions' bounds are"
            raise UserError(f"The dataset has changed since the run in {self.path} began: {hint}.")
        if extra["numbers"] != _numbers():
            raise UserError(
                f"The run in {self.path} was begun with JAX's {_settings(extra['numbers'])}, here they are "
                f"{_settings(_numbers())}, which gives other random numbers: set them as they were."
            )
        scored, file = extra["scored"], self.path / SCORES_FILE
        try:
            latest = json.loads(file.read_text()) if file.exists() else scored
            later = scored["step"] <= latest["step"] <= done
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} is damaged ({error}): delete it and run the same command again.") from error
        if later:
            scored = latest

        def kept(step: int) -> State | None:
            return self._checkpoints.restore(state, step)[0] if step in self._checkpoints.steps() else None

        unfinished = self._scores.stored(state, scored, done, kept)
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(saved)]
        machine = extra["machine"] if done == self._schedule.total else None
        return Restored(leaves, extra["seconds"], scored, unfinished, extra["warnings"], machine)

    def prepare(self, stack: contextlib.ExitStack, done: int, restored: Restored | None) -> None:
        """Readies the directory for what follows: forgets what will be done again, opens the loggers.

        In the first process.
        """
        data, config = self._task.dataset, self.config
        self._checkpoints.drop_after(done)
        scored = NOTHING if restored is None else restored.scored
        # Scores from here on come again. What lies before is in the log, though after going back over a damaged
        # checkpoint nothing else may tell of it.
        unfinished = None if restored is None else restored.unfinished
        again = done if unfinished is None else unfinished.step
        write_json(self.path / SCORES_FILE, scored)
        write_json(self.path / SIZES_FILE, {"observation_dim": data.observation_dim, "action_dim": data.action_dim})
        made: list[loggers.Logger] = [
            loggers.CSVLogger(
                self.path / "progress.csv", resume_step=done, scores_until=max(scored["step"], again - 1)
            ),
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
        self._warnings = restored.warnings
        self._machine = restored.machine or self._machine
        self._scores.go_on(found, restored.scored, restored.unfinished)
        # A budget that was extended moves the horizons of the learning rates.
        return found.replace(hyper=state.hyper)

    @functools.cached_property
    def _possible_values(self) -> values.Range | None:
        """What no true value can exceed."""
        discount = self.config.get("discount")
        return None if discount is None else values.possible(self._task.dataset, discount)

    @functools.cached_property
    def _fingerprint(self) -> str:
        """Tells a changed dataset."""
        return fingerprint(self._task.dataset)

    # --- while training ---

    def write(self, done: int, scalars: Mapping[str, float]) -> None:
        """Writes a row of scalars that belongs to an update; in the first process."""
        with self.timed("logging"):
            self._log.write(done, scalars)
        if not self._warnings and self._possible_values is not None:
            problem = self._possible_values.left_by(scalars)
            if problem:
                which = f"Run {self.name}: at" if self.name else "At"
                self._warnings.append(f"{which} update {done} {problem}.")
                devices.say(f"Warning: {self._warnings[0]}", error=True)
        self._observer("logged", self.name, done)

    def save(self, done: int, state: State) -> None:
        """Writes a checkpoint, and the policy of an evaluation that is not done yet."""

        def write():
            self._scores.store(done)  # an evaluation of this update is begun again from the checkpoint itself
            counts = self._schedule.counts(done)
            extra = {"seconds": self.seconds, "dataset": self._fingerprint, "updates": counts, "numbers": _numbers()}
            extra |= {"scored": self._scores.last, "warnings": self._warnings, "machine": self._machine}
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
        if not self._scores.has(done, policies):
            self.log_scores()
            self._scores.start(done, state)

    @property
    def scores_are_ready(self) -> bool:
        """Whether `log_scores` would log some without waiting for them."""
        return self._scores.ready

    def log_scores(self) -> None:
        """Waits for the evaluation under way, if there is one, and logs its scores under the update they belong to."""
        if self._scores.under_way is None:
            return
        with self.timed("waiting"):
            self.seconds["evaluation"] += self._scores.take()
        last = self._scores.last

        def write():
            if scalars := _scalars(last["scores"]):  # there are none where there is no environment
                self.write(last["step"], scalars)
            write_json(self.path / SCORES_FILE, last)

        devices.shared(write)

    # --- end ---

    def results(self, done: int, state: State) -> dict:
        """Draws the pictures, and returns what it writes into `results.json`; in the first process.

        Args:
          done: updates.
          state: a snapshot.
        """
        config, scores = self.config, self._scores.last["scores"]
        found = {
            "agent": config.agent,
            "task": config.task,
            "summary": "\n".join(filter(None, (self._task.summary(scores), self._task.advice(scores)))),
            "warnings": [*self._notes, *self._warnings],
            "data": {"arrays": self._fingerprint, **self._task.source},
            "reward_scaling": None if self._task.scaling is None else self._task.scaling._asdict(),
            "headline": self._task.headline(scores),
            "scores": scores,
            "references": self._task.references,
            "seed": config.seed,
            "step": done,
            "seconds": self.seconds,
            "config_hash": config_hash(config.to_dict(), options.may_change(config)),
            "picture": None,
            **self._machine,
        }
        file = self.path / "results.json"
        write_json(file, found)  # a picture that fails must not cost the numbers
        with self.timed("pictures"):
            picture = self._task.draw(self.path, acting(self._agent, state), self._eval_key, scores)
            plotting.curves(self.path / "curves.png", config.task, {config.task: self.path / "progress.csv"})
        found["picture"] = str(picture) if picture else None
        write_json(file, found)
        return plain(found)


def accounting(seconds: Sequence[Mapping[str, float]]) -> str:
    """Says where the time of runs went that were trained side by side, of their `seconds`.

    They share the time of the phases; what each does for itself is added up.
    """
    spent = {name: sum(one[name] for one in seconds) if name in OWN else seconds[0][name] for name in seconds[0]}
    told = {name: f"{value:.1f} s" for name, value in spent.items()}
    phases = ", ".join(f"{name} {told[name]}" for name in told if name not in ("compilation", *OWN))
    return (
        f"Time: {phases}, first chunks with their compilation {told['compilation']}, checkpoints "
        f"{told['checkpoints']}, logging {told['logging']}, waiting for evaluations {told['waiting']} (they took "
        f"{told['evaluation']}), pictures {told['pictures']}"
    )


def _numbers() -> dict:
    """What of JAX's own settings decides which random numbers a key gives."""
    names = ("jax_default_prng_impl", "jax_threefry_partitionable", "jax_enable_x64")
    return {name: getattr(jax.config, name) for name in names}


def _settings(numbers: Mapping) -> str:
    return ", ".join(f"{name}={value}" for name, value in numbers.items())


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


def _machine() -> dict:
    """What computes here: `results.json` says it beside the seconds that it took."""
    names = ("bdpo_jax", "jax", "flax", "optax", "orbax-checkpoint", "numpy", "gymnasium", "mujoco")
    versions = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {"versions": versions, "device": jax.devices()[0].device_kind, "processor": devices.processor()}
