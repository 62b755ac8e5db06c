"""One run: pre-training, value warm-up, training; evaluation, logging, checkpoints and stopping in between."""

import contextlib
import functools
import importlib.metadata
import platform
import signal
import time
from pathlib import Path

import jax
import numpy as np

from bdpo_jax import chunks, loggers, plotting
from bdpo_jax.agents import bdpo
from bdpo_jax.agents.state import Hyper
from bdpo_jax.checkpoint import Checkpointer
from bdpo_jax.settings import MAY_CHANGE
from bdpo_jax.types import UserError
from bdpo_jax.workdir import config_hash, write_json

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


class Run:
    """The loop over stretches of updates between two events (log, evaluation, checkpoint, end of a phase)."""

    def __init__(self, config, path: Path, suite, dataset=None):
        """
        Args:
          config: what to do.
          path: the run's own directory.
          suite: of the config.
          dataset: the suite's, where it lies on the device already.
        """
        self.config, self.suite, self.path = config, suite, path
        self.total = config.pretrain_steps + config.train_steps
        root = jax.random.key(config.seed)
        init_key, self.key, self.eval_key = (jax.random.fold_in(root, i) for i in range(3))
        dimensions = suite.dataset.observation_dim, suite.dataset.action_dim
        self.state = bdpo.init(config, init_key, *dimensions)
        self.dataset = jax.device_put(suite.dataset) if dataset is None else dataset
        self.seconds = {"pretrain": 0.0, "train": 0.0, "evaluation": 0.0, "compilation": 0.0}
        self.scores: dict = {}
        self.evaluated = -1
        self.done = 0  # updates of both phases
        self.seen_programs: set = set()

    def run(self) -> dict:
        """Does what is left to do, and returns the contents of `results.json`."""
        with stop_signals() as check_signals, self.opened(check_signals):
            self.restore()
            print(self.sizes(), flush=True)
            with self.make_loggers() as self.log:
                try:
                    self.loop()
                except (Stopped, UserError):
                    self.save()
                    raise
            self.save()
        return self.finish()

    @contextlib.contextmanager
    def opened(self, check_signals):
        """Holds the run's checkpoints; `check_signals` raises `Stopped` when it is time."""
        data = self.suite.dataset
        write_json(self.path / "sizes.json", {"observation_dim": data.observation_dim, "action_dim": data.action_dim})
        self.check_signals = check_signals
        with Checkpointer(self.path / "checkpoints", self.config.keep_checkpoints) as self.checkpoints:
            yield

    def sizes(self, members: int = 1) -> str:
        """Says what lies on the device: the dataset once, a state for each member."""
        of_members = f" for each of {members} members" if members > 1 else ""
        return (
            f"{self.config.task}: {self.dataset.size} transitions, {megabytes(self.dataset):.1f} MB; state "
            f"{megabytes(self.state):.1f} MB{of_members}; on {jax.devices()[0].device_kind}"
        )

    def finish(self) -> dict:
        results = self.results()
        write_json(self.path / "results.json", results)
        return results

    # --- state on disk ---

    def restore(self, step: int | None = None) -> None:
        """Continues from the checkpoint of `step`, or the latest one, if there is one."""
        if self.checkpoints.latest_step() is None:
            return
        config = self.config
        self.state, extra = self.checkpoints.restore(self.state, step)
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
        latest = self.checkpoints.latest_step()
        if latest is not None and latest > self.done:
            return  # a member of a group that went back to another's checkpoint: this one is there already
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

    def make_loggers(self, progress_bar: bool = True) -> loggers.Loggers:
        config, done = self.config, self.done
        made = [
            loggers.CSVLogger(self.path / "progress.csv", resume_step=done),
            loggers.TensorBoardLogger(self.path / "tensorboard", resume_step=done),
        ]
        if progress_bar:
            shown = ("behavior_loss", "q_loss", "q_mean")
            made.append(loggers.ProgressBar(self.total, config.task, initial=done, show=shown))
        if config.wandb:
            name = f"{config.task}-seed{config.seed}"
            made.append(loggers.WandbLogger(self.path, config.wandb, name, config.to_dict(), done or None))
        return loggers.Loggers(made)

    # --- the loop ---

    def loop(self) -> None:
        while True:
            self.check_signals()
            self.evaluate_if_due()
            if self.done == self.total:
                return
            self.advance()
            self.save_if_due()

    def evaluate_if_due(self) -> None:
        trained = self.done - self.config.pretrain_steps
        due = trained == 0 or trained > 0 and (trained % self.config.evaluate_every == 0 or self.done == self.total)
        if due and self.evaluated != self.done:
            self.evaluate()

    def save_if_due(self) -> None:
        pretrained = self.config.pretrain_steps
        in_phase = self.done if self.done <= pretrained else self.done - pretrained
        if in_phase % self.config.checkpoint_every == 0:
            self.save()

    def plan(self) -> tuple[str, tuple, int]:
        """Returns the next stretch: its phase, what tells its program from others, its number of updates."""
        config, trained = self.config, self.done - self.config.pretrain_steps
        if trained < 0:
            length = _stretch(self.done, config.log_every, config.checkpoint_every, ends=(config.pretrain_steps,))
            return "pretrain", ("pretrain", length), length
        events, warmup = (config.log_every, config.checkpoint_every, config.evaluate_every), config.value_warmup_steps
        length = _stretch(trained, *events, ends=(warmup, config.train_steps))
        return "train", (trained < warmup, trained % config.actor_update_interval, length), length

    def advance(self) -> None:
        """Does the next stretch and logs it."""
        phase, program, length = self.plan()
        began = time.perf_counter()
        self.state, metrics = run_stretch(self, phase, length, self.state, self.key)
        self.account(phase, program, length, jax.device_get(metrics), time.perf_counter() - began)

    def account(self, phase: str, program: tuple, length: int, metrics: list[dict], seconds: float) -> None:
        """Counts a stretch and logs it; the first of a program, which compiles it, counts as compilation."""
        self.done += length
        self.seconds[phase if program in self.seen_programs else "compilation"] += seconds
        self.seen_programs.add(program)
        self.write(metrics, seconds, length)

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


def megabytes(tree) -> float:
    """The size of a tree's arrays in 10^6 bytes."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) / 1e6


def run_stretch(run: Run, phase: str, length: int, state, key, members: bool = False):
    """Returns the state after the next `length` updates of `run`, and a list of their metrics in order.

    With `members`, `state` and `key` have a leading axis of members, and so have the new state and the metrics.
    """
    config = run.config
    if phase == "pretrain":
        return chunks.pretrain(state, run.dataset, key, length, config.batch_size, members)
    trained = run.done - config.pretrain_steps
    sizes = (trained, length, config.value_warmup_steps, config.batch_size)
    return chunks.train(state, run.dataset, key, *sizes, members)


def _stretch(done: int, *events: int, ends: tuple[int, ...]) -> int:
    """Updates from `done` to the next multiple of one of `events` or the next of `ends`."""
    nexts = [done + every - done % every for every in events] + [end for end in ends if end > done]
    return min(nexts) - done


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
