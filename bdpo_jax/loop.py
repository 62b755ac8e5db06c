"""One run: pre-training, value warm-up, training; evaluation, logging, checkpoints and stopping in between."""

import contextlib
import functools
import importlib.metadata
import json
import platform
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from bdpo_jax import chunks, devices, loggers, plotting
from bdpo_jax.agents import bdpo
from bdpo_jax.agents.state import Hyper
from bdpo_jax.background import Evaluator, snapshot
from bdpo_jax.checkpoint import Checkpointer
from bdpo_jax.data.host import Gatherer, Request
from bdpo_jax.settings import MAY_CHANGE
from bdpo_jax.types import Stopped, UserError
from bdpo_jax.workdir import config_hash, plain, write_json

# Where the time of the training thread goes; "evaluation" is the time of the thread beside it.
SECONDS = ("pretrain", "train", "compilation", "waiting", "checkpoints", "logging", "evaluation")
LOSSES = ("behavior_loss", "q_loss", "v_loss", "actor_loss")
SHOWN = ("behavior_loss", "q_loss", "q_mean")  # in the progress bar
SCORES_FILE = "scores.json"  # the last evaluation's


class NonFinite(Exception):
    """A loss that is no number any more."""


class StopSignals:
    """SIGTERM and SIGINT, taken at safe points while the block runs; a second SIGINT interrupts at once."""

    def __init__(self):
        self._received = 0

    def check(self) -> None:
        """Raises `Stopped` once a process of the job has received a signal; all of them must call this."""
        self._raise(devices.agreed(self._received))

    def check_here(self) -> None:
        """The same for this process alone: in threads."""
        self._raise(self._received)

    def _raise(self, number: int) -> None:
        if number:
            raise Stopped(number)

    def _remember(self, number, _):
        if self._received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = number

    def __enter__(self) -> "StopSignals":
        self._before = {number: signal.signal(number, self._remember) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Run:
    """The loop over stretches of updates between two events (log, evaluation, checkpoint, end of a phase).

    In a job of several processes each has this object, takes part in every update, and keeps the same counters; the
    first one alone has checkpoints and loggers.
    """

    def __init__(self, config, path: Path, suite, mesh=None, dataset=None):
        """
        Args:
          config: what to do.
          path: the run's own directory.
          suite: of the config.
          mesh: of the devices, None for a single one.
          dataset: the suite's, where it lies on the devices already; not used where it stays on the host.
        """
        self.config, self.suite, self.path, self.mesh = config, suite, Path(path), mesh
        self.total = config.pretrain_steps + config.train_steps
        root = jax.random.key(config.seed)
        init_key, self.key, self.eval_key = (jax.random.fold_in(root, i) for i in range(3))
        dimensions = suite.dataset.observation_dim, suite.dataset.action_dim
        self.state = bdpo.init(config, init_key, *dimensions)
        self.gatherer = None
        if _stays_on_host(config, suite.dataset):
            self.dataset = suite.dataset
            self.gatherer = Gatherer(suite.dataset, config.batch_size, mesh)
        else:
            self.dataset = devices.place(suite.dataset, mesh) if dataset is None else dataset
        self.seconds = dict.fromkeys(SECONDS, 0.0)
        self.scores: dict = {}
        self.evaluated: tuple = (-1, [], 0)  # update, policies, episodes
        self.done = 0  # updates of both phases
        self.seen_programs: set = set()

    def run(self, accept=lambda: None) -> dict:
        """Does what is left to do, and returns the contents of `results.json`.

        Args:
          accept: called once it is clear that the run can go on with these settings.
        """
        with StopSignals() as signals, self.opened(signals):
            self.restore()
            devices.shared(accept)
            self.state = devices.place(jax.device_get(self.state), self.mesh)
            devices.say(self.sizes())
            with self.make_loggers() as self.log:
                try:
                    self.loop()
                except (Stopped, UserError):
                    self.save()
                    raise
                except NonFinite:
                    self.take_scores()
                    raise
            self.save()
        devices.say(self.accounting())
        return self.finish()

    @contextlib.contextmanager
    def opened(self, signals: StopSignals, threads: ThreadPoolExecutor | None = None, owner: int = 0, keep: int = 1):
        """Holds the run's checkpoints and its evaluations.

        Args:
          signals: of the job.
          threads: the evaluations', of several runs where they are to take turns.
          owner: the process that evaluates.
          keep: at least so many checkpoints are kept.
        """
        self.signals, self.checkpoints = signals, None
        with contextlib.ExitStack() as stack:
            own = threads or stack.enter_context(ThreadPoolExecutor(1, "evaluation"))
            self.evaluator = Evaluator(self.path / "evaluating", own, owner)

            def open_checkpoints():
                kept = max(self.config.keep_checkpoints, keep)
                self.checkpoints = stack.enter_context(Checkpointer(self.path / "checkpoints", kept))

            devices.shared(open_checkpoints)
            if self.gatherer:
                stack.callback(self.gatherer.close)
            yield

    def sizes(self, members: int = 1) -> str:
        """Says what lies on the device: the dataset once (or some batches of it), a state for each member."""
        of_members = f" for each of {members} members" if members > 1 else ""
        count = 1 if self.mesh is None else self.mesh.size
        where = f"{count} times " if count > 1 else ""
        stays = ""
        if self.gatherer:
            rows = self.config.batch_size * self.config.log_every * members
            some = megabytes(self.dataset) * rows / self.dataset.size
            stays = f", which stay on the host: at most {2 * some:.1f} MB of batches at a time on the device"
        return (
            f"{self.config.task}: {self.dataset.size} transitions, {megabytes(self.dataset):.1f} MB{stays}; state "
            f"{megabytes(self.state):.1f} MB{of_members}; on {where}{jax.devices()[0].device_kind}"
        )

    def accounting(self) -> str:
        """Says where the time went."""
        spent = {name: f"{seconds:.1f} s" for name, seconds in self.seconds.items()}
        return (
            f"Time: pre-training {spent['pretrain']}, training {spent['train']}, compilation {spent['compilation']}, "
            f"checkpoints {spent['checkpoints']}, logging {spent['logging']}, waiting for evaluations "
            f"{spent['waiting']} (they took {spent['evaluation']})"
        )

    def finish(self) -> dict:
        """Writes and returns the results."""
        state = snapshot(self.host_state())
        return devices.shared(lambda: self._finish(state))

    def _finish(self, state) -> dict:
        results = plain(self.results(state))
        write_json(self.path / "results.json", results)
        return results

    @contextlib.contextmanager
    def timed(self, what: str):
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - began

    # --- state on disk ---

    def saved_steps(self) -> list[int]:
        """The updates of which there is a checkpoint."""
        return devices.shared(lambda: self.checkpoints.steps())

    def drop_checkpoints(self, after: int) -> None:
        self.checkpoints.drop_after(after)

    def restore(self, step: int | None = None) -> None:
        """Continues from the checkpoint of `step`, or the latest one, if there is one; later ones are dropped."""
        found = devices.shared(lambda: self._read(step))
        if found is not None:
            leaves, extra, scored = found
            config, like = self.config, jax.tree.structure(self.state)
            # A budget that was extended moves the horizons of the learning rates.
            state = jax.tree.unflatten(like, [jnp.array(leaf) for leaf in leaves])
            self.state = state.replace(hyper=Hyper.from_config(config))
            pretrained, trained = int(self.state.pretrain_step), int(self.state.step)
            self.done = pretrained + trained
            undone = pretrained > config.pretrain_steps or self.done > self.total
            if undone or trained and pretrained != config.pretrain_steps:
                raise UserError(
                    f"{self.path} has done {pretrained} pre-training and {trained} training updates: pretrain_steps="
                    f"{config.pretrain_steps}, train_steps={config.train_steps} would undo some; use another --workdir."
                )
            if extra["dataset"] != self.fingerprint:
                raise UserError(f"The dataset has changed since the run in {self.path} began: use another --workdir.")
            self.seconds |= extra["seconds"]
            if scored and scored["step"] <= self.done:
                self.evaluated = (scored["step"], scored["policies"], scored["episodes"])
                self.scores = scored["scores"]
            devices.say(f"Continuing the run in {self.path} after {self.done} of {self.total} updates.")
            unfinished = self.evaluator.kept(self.state, self.evaluated[0], self.done)
            if unfinished is not None:
                self.evaluate(*unfinished)
        self.begin()

    def begin(self) -> None:
        """Writes what a reader of the run's checkpoints needs, and forgets scores of updates to be done again."""
        data = self.suite.dataset

        def write():
            if self.evaluated[0] < 0:
                (self.path / SCORES_FILE).unlink(missing_ok=True)
            write_json(
                self.path / "sizes.json", {"observation_dim": data.observation_dim, "action_dim": data.action_dim}
            )

        devices.shared(write)

    def _read(self, step: int | None):
        """What `restore` needs, on the host: the state's leaves, what was saved with it, and the last scores."""
        if self.checkpoints.latest_step() is None:
            return None
        state, extra = self.checkpoints.restore(self.state, step)
        if step is not None:
            self.drop_checkpoints(step)
        scores = self.path / SCORES_FILE
        scored = json.loads(scores.read_text()) if scores.exists() else None
        return [np.asarray(leaf) for leaf in jax.tree.leaves(state)], extra, scored

    def save(self) -> None:
        """Writes a checkpoint, and the policy of an evaluation that is not done yet."""
        with self.timed("checkpoints"):
            if self.evaluator.step != self.done:  # of this update, it is done again from the checkpoint itself
                self.evaluator.keep()
            state = self.host_state()
            extra = {"seconds": self.seconds, "dataset": self.fingerprint}
            devices.shared(lambda: self.checkpoints.save(self.done, state, extra))

    def host_state(self):
        """The state, on the host where it is spread over devices; all processes must call this."""
        return self.state if self.mesh is None else devices.fetch(self.state, self.mesh)

    @functools.cached_property
    def fingerprint(self) -> list:
        """What tells a changed dataset."""
        data = self.suite.dataset
        return [
            data.size,
            *(float(np.sum(a, dtype=np.float64)) for a in (data.observations, data.actions, data.rewards)),
        ]

    def make_loggers(self, progress_bar: bool = True) -> loggers.Loggers:
        """The run's loggers; none but in the first process."""
        config, done, made = self.config, self.done, []

        def make():
            made.append(loggers.CSVLogger(self.path / "progress.csv", resume_step=done))
            made.append(loggers.TensorBoardLogger(self.path / "tensorboard", resume_step=done))
            if progress_bar:
                made.append(loggers.ProgressBar(self.total, config.task, initial=done, show=SHOWN))
            if config.wandb:
                name = self.path.name if config.task in self.path.name else f"{config.task}-{self.path.name}"
                made.append(loggers.WandbLogger(self.path, config.wandb, name, config.to_dict(), done or None))

        devices.shared(make)
        return loggers.Loggers(made)

    def write_log(self, step: int, scalars: dict) -> None:
        with self.timed("logging"):
            devices.shared(lambda: self.log.write(step, scalars))

    # --- the loop ---

    def loop(self) -> None:
        while True:
            self.signals.check()
            self.evaluate_if_due()
            if self.done == self.total:
                self.take_scores()
                return
            self.advance()
            if self.save_is_due():
                self.save()

    def evaluate_if_due(self) -> None:
        """Logs scores that have come, and begins the next evaluation where it is time."""
        if self.evaluator.finished():
            self.take_scores()
        if self.evaluation_is_due():
            self.take_scores()
            self.evaluate(self.done, self.host_state())

    def evaluation_is_due(self) -> bool:
        trained = self.done - self.config.pretrain_steps
        due = trained == 0 or trained > 0 and (trained % self.config.evaluate_every == 0 or self.done == self.total)
        begun = self.evaluator.step == self.done or self.evaluated == (self.done, *self.wanted(self.done))
        return due and not begun

    def save_is_due(self) -> bool:
        pretrained = self.config.pretrain_steps
        in_phase = self.done if self.done <= pretrained else self.done - pretrained
        return in_phase % self.config.checkpoint_every == 0

    def plan(self, done: int | None = None) -> tuple[str, tuple, int]:
        """Returns the stretch after `done` updates: its phase, what tells its program from others, its length."""
        done = self.done if done is None else done
        config, trained = self.config, done - self.config.pretrain_steps
        if trained < 0:
            length = _stretch(done, config.log_every, config.checkpoint_every, ends=(config.pretrain_steps,))
            return "pretrain", ("pretrain", length), length
        events, warmup = (config.log_every, config.checkpoint_every, config.evaluate_every), config.value_warmup_steps
        length = _stretch(trained, *events, ends=(warmup, config.train_steps))
        return "train", (trained < warmup, trained % config.actor_update_interval, length), length

    def advance(self) -> None:
        """Does the next stretch and logs it."""
        phase, program, length = self.plan()
        began = time.perf_counter()
        self.state, metrics = run_stretch(self, phase, length, self.state, self.key)
        metrics = jax.device_get(metrics)
        self.account(phase, program, length, time.perf_counter() - began)
        self.write(metrics, length)

    def account(self, phase: str, program: tuple, length: int, seconds: float) -> None:
        """Counts a stretch; the first of a program, which compiles it, counts as compilation."""
        self.done += length
        self.seconds[phase if program in self.seen_programs else "compilation"] += seconds
        self.seen_programs.add(program)
        self.rate = length / seconds

    def write(self, metrics: list[dict], length: int) -> dict:
        """Logs the stretch's means, which it returns, and stops the run where a number is none any more."""
        names = dict.fromkeys(name for part in metrics for name in part)
        joined = {name: np.concatenate([np.ravel(part[name]) for part in metrics if name in part]) for name in names}
        finite = joined.pop("finite").all()
        broken = [name for name in LOSSES if name in joined and not np.isfinite(joined[name]).all()]
        if broken:
            firsts = {name: int(np.argmin(np.isfinite(joined[name]))) for name in broken}
            step, term = min((self.update_of(name, first, length), name) for name, first in firsts.items())
            self.report_non_finite(term, step)
        if not finite:
            self.report_non_finite("a network's parameter", self.done)
        scalars = {name: float(values.mean()) for name, values in joined.items()} | {"steps_per_second": self.rate}
        self.write_log(self.done, scalars)
        return scalars

    def report_non_finite(self, term: str, step: int) -> None:
        where, state = self.path / "nonfinite", self.host_state()

        def keep():
            shutil.rmtree(where, ignore_errors=True)
            with Checkpointer(where, keep=1) as checkpoints:
                checkpoints.save(self.done, state, {"term": term, "step": step})
            return self.checkpoints.latest_step()

        last = devices.shared(keep)
        good = "there is no checkpoint yet" if last is None else f"the last good checkpoint is of update {last}"
        raise NonFinite(
            f"{term} became non-finite at update {step}: the state is saved under {where}, {good}; lower a learning "
            "rate, or raise eta, in another --workdir."
        )

    def update_of(self, name: str, index: int, length: int) -> int:
        """The update that entry `index` of a metric of the last `length` updates belongs to."""
        start = self.done - length
        if name != "actor_loss":
            return start + index + 1
        pretrained, interval = self.config.pretrain_steps, self.config.actor_update_interval
        return pretrained + ((start - pretrained) // interval + 1 + index) * interval

    # --- evaluation ---

    def wanted(self, step: int) -> tuple[list[str], int]:
        """The policies and episodes of the evaluation at update `step`.

        After pre-training the behavior model is scored, at the end everything.
        """
        config = self.config
        final, first = step == self.total, step == config.pretrain_steps
        policies = list(self.suite.policies) if final else ["behavior"] if first else ["bdpo"]
        return policies, (config.final_episodes if final else 0) or config.eval_episodes

    def evaluate(self, step: int, state) -> None:
        """Begins to score the policies of update `step`."""
        key = jax.random.fold_in(self.eval_key, step)
        wanted = self.wanted(step)
        score = lambda state: self.suite.evaluate(state, key, *wanted, self.signals.check_here)  # noqa: E731
        self.evaluator.start(step, state, score)

    def take_scores(self) -> None:
        """Waits for the evaluation under way, if there is one, and logs its scores under the update they belong to."""
        if self.evaluator.step is None:
            return
        with self.timed("waiting"):
            step, self.scores, seconds = self.evaluator.take()
        self.seconds["evaluation"] += seconds
        self.evaluated = (step, *self.wanted(step))
        self.write_log(step, _scalars(self.scores))
        kept = dict(zip(("step", "policies", "episodes"), self.evaluated, strict=True)) | {"scores": self.scores}
        devices.shared(lambda: write_json(self.path / SCORES_FILE, kept))

    def results(self, state) -> dict:
        """Returns what goes into `results.json`, after drawing the picture if the suite has one."""
        config = self.config
        results = self.suite.results(self.scores)
        picture = self.suite.draw(self.path, state, self.eval_key, results)
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
    config, data, end = run.config, run.dataset, run.done + length
    if run.gatherer:
        data = run.gatherer.take(_request(run, run.done), key)
        if end < run.total:
            run.gatherer.prepare(_request(run, end), key)
    if phase == "pretrain":
        return chunks.pretrain(state, data, key, length, config.batch_size, members, run.mesh)
    sizes = (run.done - config.pretrain_steps, length, config.value_warmup_steps, config.batch_size)
    return chunks.train(state, data, key, *sizes, members, run.mesh)


def _request(run: Run, done: int) -> Request:
    """The batches of the stretch after `done` updates."""
    phase, _, length = run.plan(done)
    return Request(phase, done if phase == "pretrain" else done - run.config.pretrain_steps, length)


def _stays_on_host(config, dataset) -> bool:
    """Whether batches are gathered on the host."""
    if config.dataset_memory != "auto":
        return config.dataset_memory == "host"
    memory = devices.memory()
    return bool(devices.agreed(memory is not None and megabytes(dataset) * 1e6 > memory / 2))


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
