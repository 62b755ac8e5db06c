"""A run: pre-training, value warm-up, training; evaluation, logging, checkpoints and stopping in between."""

import contextlib
import functools
import importlib.metadata
import os
import platform
import signal
import time
from pathlib import Path

import jax
import numpy as np

from bdpo_jax import chunks, loggers, plotting, suites
from bdpo_jax.agents import bdpo
from bdpo_jax.agents.state import Hyper
from bdpo_jax.checkpoint import Checkpointer
from bdpo_jax.settings import MAY_CHANGE, check_config
from bdpo_jax.types import UserError
from bdpo_jax.workdir import Workdir, config_hash, write_json

LOSSES = ("behavior_loss", "q_loss", "v_loss", "actor_loss")


class Stopped(Exception):
    """A stop signal, taken at a safe point; `code` is the exit status that batch systems expect."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


class NonFinite(Exception):
    """A loss that is no number any more."""


@contextlib.contextmanager
def stop_signals():
    """Gives a function that raises `Stopped` once SIGTERM or SIGINT has come; a second SIGINT interrupts at once."""
    received = []

    def remember(number, _):
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    def check():
        if received:
            raise Stopped(received[0])

    before = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(config, workdir: str | Path) -> dict:
    """Trains, evaluates and writes `config` into `workdir`; continues the run that is there.

    Returns:
      The contents of `results.json`.

    Raises:
      UserError: the config, the data or the directory does not allow it.
      Stopped: a stop signal came; everything is saved.
      NonFinite: a loss is no number any more; the state is saved under `nonfinite/`.
    """
    check_config(config)
    if config.deterministic:  # read when the first computation starts
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_deterministic_ops=true"
    if config.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", str(Path(config.compilation_cache).expanduser()))
    suite = suites.make(config)
    with Workdir(workdir, config, MAY_CHANGE) as directory:
        return Run(config, directory, suite).run()


class Run:
    """The loop over stretches of updates between two events (log, evaluation, checkpoint, end of a phase)."""

    def __init__(self, config, directory: Workdir, suite):
        self.config, self.suite, self.path = config, suite, directory.path
        self.total = config.pretrain_steps + config.train_steps
        root = jax.random.key(config.seed)
        init_key, self.key, self.eval_key = (jax.random.fold_in(root, i) for i in range(3))
        dimensions = suite.dataset.observation_dim, suite.dataset.action_dim
        self.state = bdpo.init(config, init_key, *dimensions)
        self.dataset = jax.device_put(suite.dataset)
        self.seconds = {"pretrain": 0.0, "train": 0.0, "evaluation": 0.0, "compilation": 0.0}
        self.scores: dict = {}
        self.evaluated = -1
        self.done = 0  # updates of both phases
        self.seen_programs: set = set()

    def run(self) -> dict:
        data = self.suite.dataset
        write_json(self.path / "sizes.json", {"observation_dim": data.observation_dim, "action_dim": data.action_dim})
        checkpointer = Checkpointer(self.path / "checkpoints", self.config.keep_checkpoints)
        with checkpointer as self.checkpoints, stop_signals() as self.check_signals:
            self.restore()
            with self.make_loggers() as self.log:
                try:
                    self.loop()
                except (Stopped, UserError):
                    self.save()
                    raise
            self.save()
        results = self.results()
        write_json(self.path / "results.json", results)
        return results

    # --- state on disk ---

    def restore(self) -> None:
        """Continues from the latest checkpoint, if there is one."""
        if self.checkpoints.latest_step() is None:
            return
        config = self.config
        self.state, extra = self.checkpoints.restore(self.state)
        if extra["dataset"] != self.fingerprint:
            raise UserError(f"The dataset has changed since the run in {self.path} began: use another --workdir.")
        # A budget that was extended moves the horizons of the learning rates.
        self.state = self.state.replace(hyper=Hyper.from_config(config))
        pretrained, trained = int(self.state.pretrain_step), int(self.state.step)
        self.done = pretrained + trained
        if trained and pretrained != config.pretrain_steps or self.done > self.total:
            raise UserError(
                f"{self.path} has done {pretrained} pre-training and {trained} training updates: pretrain_steps="
                f"{config.pretrain_steps}, train_steps={config.train_steps} would undo some; use another --workdir."
            )
        self.seconds, self.evaluated, self.scores = extra["seconds"], extra["evaluated"], extra["scores"]
        print(f"Continuing the run in {self.path} after {self.done} of {self.total} updates.", flush=True)

    def save(self) -> None:
        extra = {
            "seconds": self.seconds,
            "evaluated": self.evaluated,
            "scores": self.scores,
            "dataset": self.fingerprint,
        }
        self.checkpoints.save(self.done, self.state, extra)

    @functools.cached_property
    def fingerprint(self) -> list:
        """What tells a changed dataset."""
        data = self.suite.dataset
        return [
            data.size,
            *(float(np.sum(a, dtype=np.float64)) for a in (data.observations, data.actions, data.rewards)),
        ]

    def make_loggers(self) -> loggers.Loggers:
        config, done = self.config, self.done
        made = [
            loggers.CSVLogger(self.path / "progress.csv", resume_step=done),
            loggers.TensorBoardLogger(self.path / "tensorboard", resume_step=done),
            loggers.ProgressBar(self.total, config.task, initial=done, show=("behavior_loss", "q_loss", "q_mean")),
        ]
        if config.wandb:
            name = f"{config.task}-seed{config.seed}"
            made.append(loggers.WandbLogger(self.path, config.wandb, name, config.to_dict(), done or None))
        return loggers.Loggers(made)

    # --- the loop ---

    def loop(self) -> None:
        config = self.config
        while True:
            self.check_signals()
            trained = self.done - config.pretrain_steps
            due = trained == 0 or trained > 0 and (trained % config.evaluate_every == 0 or self.done == self.total)
            if due and self.evaluated != self.done:
                self.evaluate()
            if self.done == self.total:
                return
            pretraining = self.done < config.pretrain_steps
            metrics, seconds, length = self.pretrain() if pretraining else self.train(trained)
            self.write(metrics, seconds, length)
            in_phase = self.done if pretraining else self.done - config.pretrain_steps
            if in_phase % config.checkpoint_every == 0:
                self.save()

    def stretch(self, done: int, *events: int, ends: tuple[int, ...]) -> int:
        """Updates from `done` to the next multiple of one of `events` or the next of `ends`."""
        nexts = [done + every - done % every for every in events] + [end for end in ends if end > done]
        return min(nexts) - done

    def pretrain(self):
        config = self.config
        length = self.stretch(self.done, config.log_every, config.checkpoint_every, ends=(config.pretrain_steps,))
        inputs = (self.state, self.dataset, self.key, length, config.batch_size)
        return self.timed("pretrain", ("pretrain", length), length, chunks.pretrain, *inputs)

    def train(self, trained: int):
        config = self.config
        events = (config.log_every, config.checkpoint_every, config.evaluate_every)
        warmup = config.value_warmup_steps
        length = self.stretch(trained, *events, ends=(warmup, config.train_steps))
        program = (trained < warmup, trained % config.actor_update_interval, length)
        inputs = (self.state, self.dataset, self.key, trained, length, warmup, config.batch_size)
        return self.timed("train", program, length, chunks.train, *inputs)

    def timed(self, phase, program, length, function, *inputs):
        """Runs one stretch; the first run of a program, which compiles it, counts as compilation."""
        began = time.perf_counter()
        self.state, metrics = function(*inputs)
        metrics = jax.device_get(metrics)
        seconds = time.perf_counter() - began
        self.done += length
        self.seconds[phase if program in self.seen_programs else "compilation"] += seconds
        self.seen_programs.add(program)
        return metrics, seconds, length

    def write(self, metrics: list[dict], seconds: float, length: int) -> None:
        """Logs the stretch's means and stops the run where a loss is no number."""
        names = dict.fromkeys(name for part in metrics for name in part)
        joined = {name: np.concatenate([np.ravel(part[name]) for part in metrics if name in part]) for name in names}
        broken = [name for name in LOSSES if name in joined and not np.isfinite(joined[name]).all()]
        scalars = {name: float(values.mean()) for name, values in joined.items()}
        scalars["steps_per_second"] = length / seconds
        if broken:
            self.report_non_finite(broken, joined, length)
        self.log.write(self.done, scalars)

    def report_non_finite(self, broken: list[str], joined: dict, length: int) -> None:
        firsts = {name: int(np.argmin(np.isfinite(joined[name]))) for name in broken}
        step, term = min((self.update_of(name, first, length), name) for name, first in firsts.items())
        with Checkpointer(self.path / "nonfinite", keep=1) as checkpoints:
            checkpoints.save(self.done, self.state, {"term": term, "step": step})
        last = self.checkpoints.latest_step()
        raise NonFinite(
            f"{term} became non-finite at update {step}: the state is saved under {self.path / 'nonfinite'}, the last "
            f"good checkpoint is of update {last}; lower a learning rate, or raise eta, in another --workdir."
        )

    def update_of(self, name: str, index: int, length: int) -> int:
        """The update that entry `index` of a metric of the last `length` updates belongs to."""
        start = self.done - length
        if name != "actor_loss":
            return start + index + 1
        pretrained, interval = self.config.pretrain_steps, self.config.actor_update_interval
        return pretrained + ((start - pretrained) // interval + 1 + index) * interval

    # --- evaluation ---

    def evaluate(self) -> None:
        """Scores the policy; after pre-training also the behavior model, at the end everything."""
        config = self.config
        began = time.perf_counter()
        final, first = self.done == self.total, self.done == config.pretrain_steps
        policies = self.suite.policies if final else ["behavior"] if first else ["bdpo"]
        episodes = config.final_episodes if final else 0
        key = jax.random.fold_in(self.eval_key, self.done)
        episodes = episodes or config.eval_episodes
        self.scores = self.suite.evaluate(self.state, key, policies, episodes, self.check_signals)
        self.evaluated = self.done
        self.seconds["evaluation"] += time.perf_counter() - began
        self.log.write(self.done, _scalars(self.scores))

    def results(self) -> dict:
        """Returns what goes into `results.json`, after drawing the picture if the suite has one."""
        config = self.config
        results = self.suite.results(self.scores)
        picture = self.suite.draw(self.path, self.state, self.eval_key, results)
        plotting.curves(self.path / "curves.png", config.task, {config.task: self.path / "progress.csv"})
        return {
            "task": config.task,
            "summary": self.suite.summary(results),
            **results,
            "scores": self.scores,
            "seed": config.seed,
            "step": self.done,
            "seconds": self.seconds,
            "config_hash": config_hash(config.to_dict(), MAY_CHANGE),
            "picture": str(picture) if picture else None,
            "versions": _versions(),
            "device": jax.devices()[0].device_kind,
        }


def _scalars(scores: dict, prefix: str = "eval") -> dict:
    """The numbers in nested scores, named by their path."""
    flat = {}
    for name, value in scores.items():
        if isinstance(value, dict):
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
