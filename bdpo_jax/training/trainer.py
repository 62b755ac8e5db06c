"""Training: the loop over chunks of updates, for one run and for a group of runs alike."""

import contextlib
import functools
import os
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from bdpo_jax import devices, loggers, tasks
from bdpo_jax.agents import AGENTS
from bdpo_jax.agents.base import State
from bdpo_jax.errors import Damaged, Diverged, NonFinite, Notice, Stopped, UserError
from bdpo_jax.tasks.base import Task
from bdpo_jax.training import engine as engines
from bdpo_jax.training import options, sources, sweep
from bdpo_jax.training.profiler import Profiler
from bdpo_jax.training.run import Observer, Restored, Run, accounting
from bdpo_jax.training.schedule import Chunk, Schedule
from bdpo_jax.training.scoring import Evaluator, snapshot
from bdpo_jax.training.signals import StopSignals
from bdpo_jax.workdir import BROKEN, Workdir, expanded

MORE_MEMORY = (
    "what was saved is kept; take a smaller batch_size or runs_at_once, smaller networks, or dataset_memory=host where "
    "a device's own is too small"
)


@devices.enough_memory(MORE_MEMORY)
def run(config, workdir: str | Path, observer: Observer = lambda *_: None) -> dict:
    """Trains, evaluates and writes `config` into `workdir`; continues what is there.

    With `config.seeds` or `config.sweep` each run of the group has a directory of its own within, as a single run has.

    Args:
      config: as the files of `configs/` make it.
      workdir: the directory.
      observer: called as `observer(event, name, done)` when a row was "logged", a checkpoint "saved" or when "scoring"
        begins (in its own thread); `name` is the run's in its group, `done` the updates.

    Returns:
      The contents of `results.json`.

    Raises:
      UserError: the config, the data or the directory does not allow it.
      Stopped: a stop signal came; everything is saved.
      NonFinite: a number became NaN or infinite; the state is saved apart. Of a group, after the others' end.
    """
    options.check(config)
    configs, path = sweep.expand(config), expanded(workdir)
    for one in configs.values():
        options.check(one)
    schedule = _schedule(next(iter(configs.values())))
    if config.deterministic:  # read when the first computation starts
        flags, flag = os.environ.get("XLA_FLAGS", ""), "--xla_gpu_deterministic_ops=true"
        os.environ["XLA_FLAGS"] = flags if flag in flags else f"{flags} {flag}"
    if config.compilation_cache:
        with contextlib.suppress(UserError):  # nobody's home: nothing is kept
            jax.config.update("jax_compilation_cache_dir", str(expanded(config.compilation_cache)))
    devices.require()
    task, notes = _make_task(next(iter(configs.values())))
    for phase in schedule.phases:
        if phase.check_data:
            phase.check_data(task.dataset)
    with StopSignals() as signals, contextlib.ExitStack() as stack:
        held: list[Workdir] = []
        devices.shared(lambda: held.append(stack.enter_context(_directory(path, config))))
        results: dict[str, dict] = {}
        broken: dict[str, str] = devices.shared(lambda: _broken_before(configs, path))
        alive = {name: one for name, one in configs.items() if name not in broken}
        for names in sweep.waves(alive, path, schedule.total, config.runs_at_once):
            wave = {name: alive[name] for name in names}
            found, failed = _train_wave(wave, path, task, notes, schedule, signals, observer, held)
            results |= found
            broken |= failed
        if sweep.is_group(config):
            return sweep.finish(config, configs, path, results, broken)
        if broken:
            raise NonFinite(broken[""])
        return results[""]


def train(
    schedule: Schedule,
    engine: engines.Engine,
    runs: dict[str, Run],
    done: int,
    signals: StopSignals,
    bar: loggers.Logger,
    profiler: Profiler,
) -> dict[str, str]:
    """The loop: trains `runs` from update `done` to the end of the schedule.

    Args:
      schedule: what is due when.
      engine: with the runs' states.
      runs: by name; those that break are taken out.
      done: updates before.
      signals: that end it.
      bar: a logger of the first run's scalars.
      profiler: of the engine.

    Returns:
      Why runs broke, by name.
    """
    broken: dict[str, str] = {}
    compiled: set[tuple[str, int, bool]] = set()
    try:
        while runs:
            signals.check()
            broken |= _take_out(engine, runs, _score(schedule, engine, runs, done), done)
            if done == schedule.total or not runs:
                break
            chunk = schedule.next(done)
            upcoming = schedule.next(done + chunk.length) if done + chunk.length < schedule.total else None
            began = time.perf_counter()
            with profiler.around(chunk, chunk.program in compiled):
                metrics = engine.advance(chunk, upcoming)
            seconds, done = time.perf_counter() - began, done + chunk.length
            spent_on = chunk.phase.name if chunk.program in compiled else "compilation"
            compiled.add(chunk.program)
            problems = {name: problem for name, values in metrics.items() if (problem := first_problem(chunk, values))}
            broken |= _take_out(engine, runs, problems, done)
            for one in runs.values():
                one.seconds[spent_on] += seconds
            if devices.is_first():
                with signals.deferring_errors():
                    _log(runs, bar, done, metrics, {"steps_per_second": chunk.length / seconds})
            if schedule.save_due(done):
                _save(engine, runs, done)
    except (Stopped, UserError):
        _save(engine, runs, done)
        raise
    _save(engine, runs, done)
    return broken


def _score(schedule: Schedule, engine: engines.Engine, runs: dict[str, Run], done: int) -> dict[str, str]:
    """Logs scores that have come, and begins the evaluations that are due; at the end it waits for them.

    Returns:
      What is wrong with the runs whose policies cannot be scored, by name.
    """
    policies = schedule.policies_due(done)
    problems: dict[str, str] = {}
    for name, one in runs.items():
        with _noting(problems, name):
            if one.scores_are_ready:
                one.log_scores()
            if policies:
                one.score(done, policies, engine.state(name))
    if done == schedule.total:
        for name, one in runs.items():
            with _noting(problems, name):
                one.log_scores()
    return problems


@contextlib.contextmanager
def _noting(problems: dict[str, str], name: str) -> Iterator[None]:
    """Notes under a run's name that its policy cannot be scored."""
    try:
        yield
    except Diverged as error:
        problems[name] = str(error).rstrip(".")


def _log(runs: dict[str, Run], bar: loggers.Logger, done: int, metrics: dict[str, engines.Metrics], more: dict) -> None:
    """Writes a row for each run; the bar shows the first."""
    rows = {name: _means(metrics[name]) | more for name in runs}
    for name, one in runs.items():
        one.write(done, rows[name])
    if rows:
        bar.write(done, next(iter(rows.values())))


def _save(engine: engines.Engine, runs: dict[str, Run], done: int) -> None:
    for name, one in runs.items():
        one.save(done, engine.state(name))


def _take_out(engine: engines.Engine, runs: dict[str, Run], problems: dict[str, str], done: int) -> dict[str, str]:
    """Ends the runs whose numbers are NaN or infinite; returns the sentences that say so, by name."""
    taken_out = [runs.pop(name) for name in problems]  # before anything can fail: they must not be saved
    sentences = {}
    for broken in taken_out:
        name = broken.name
        sentences[name] = broken.fail(done, problems[name], engine.state(name))
        engine.drop(name)
        if name:
            devices.say(f"Run {name} stops here: {sentences[name]}", error=True)
        with contextlib.suppress(Diverged):  # of the same run
            broken.log_scores()
    return sentences


def first_problem(chunk: Chunk, values: engines.Metrics) -> str | None:
    """Names the first metric of a chunk that is NaN or infinite, or a state that is; None if all is well.

    Args:
      chunk: the updates.
      values: metrics `[entries]`, and "finite".
    """
    firsts = []
    for name, entries in values.items():
        bad = ~np.isfinite(entries) if name != "finite" else np.zeros(1, bool)
        if bad.any():
            firsts.append((chunk.update_of(int(bad.argmax()), len(bad)), name))
    where = f"of the phase {chunk.phase.name!r}"
    if firsts:
        update, name = min(firsts)
        return f"{name} became NaN or infinite at update {update} {where}"
    if not values["finite"]:
        return f"a number of the state became NaN or infinite by update {chunk.start + chunk.length} {where}"
    return None


def _means(values: engines.Metrics) -> dict[str, float]:
    return {name: float(entries.mean()) for name, entries in values.items() if name != "finite"}


# --- around the loop ---


def _make_task(config) -> tuple[Task, list[str]]:
    """Returns the task, and what was warned of on the way, which results keep."""
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            task = tasks.make(config)
    finally:  # they may explain an error
        told = dict.fromkeys((str(one.message), one.category, one.filename, one.lineno) for one in caught)
        for warning in told:
            warnings.warn_explicit(*warning)
    return task, [message for message, category, *_ in told if issubclass(category, Notice)]


def _broken_before(configs: dict, path: Path) -> dict[str, str]:
    """Says of runs that became NaN or infinite in an earlier process where their state lies."""
    return {
        name: f"its numbers became NaN or infinite earlier, see {path / name / BROKEN}: use other settings in another "
        "--workdir"
        for name in configs
        if (path / name / BROKEN).exists()
    }


@contextlib.contextmanager
def _evaluation_thread(signals: StopSignals) -> Iterator[ThreadPoolExecutor]:
    """One thread, in which the evaluations of all runs take turns; after an error it ends at once."""
    threads = ThreadPoolExecutor(1, "evaluation")
    try:
        yield threads
    except BaseException:
        signals.end()
        threads.shutdown(cancel_futures=True)
        raise
    threads.shutdown()


def _schedule(config) -> Schedule:
    phases = AGENTS[config.agent].phases(config)
    return Schedule(phases, config.log_every, config.checkpoint_every, config.evaluate_every)


def _train_wave(
    configs: dict,
    path: Path,
    task: Task,
    notes: list[str],
    schedule: Schedule,
    signals: StopSignals,
    observer: Observer,
    held: list,
) -> tuple[dict[str, dict], dict[str, str]]:
    """Trains runs side by side, from the last update of which all have a checkpoint, to the end.

    Args:
      configs: of the runs, by name.
      path: of the group, or of the single run.
      task: of any of them.
      notes: warnings about its data.
      schedule: of all of them.
      signals: that end it.
      observer: is told what happens.
      held: the directory at `path`, in the first process.

    Returns:
      The runs' results, and why runs broke, both by name.
    """
    config = next(iter(configs.values()))
    mesh = devices.make_mesh(len(configs), config.batch_size, config.devices)
    with contextlib.ExitStack() as stack:
        threads = stack.enter_context(_evaluation_thread(signals))
        runs = {}
        for number, (name, one) in enumerate(configs.items()):
            owner = number % jax.process_count()
            evaluator = Evaluator(path / name / "evaluating", threads, signals.check_here, owner)
            runs[name] = Run(name, one, path / name, task.for_run(one), notes, schedule, evaluator, observer)
        states = {name: one.initial_state() for name, one in runs.items()}
        restored: dict[str, Restored | None] = {}
        done = devices.shared(lambda: _open(stack, runs, states, held, restored))
        if done:
            devices.say(f"Continuing the run in {path} after {done} of {schedule.total} updates.")
        for name, one in runs.items():  # one message each: all states may be too much for one
            states[name] = one.begin(states[name], devices.shared(functools.partial(restored.pop, name, None)))
        keys = {name: one.key for name, one in runs.items()}
        preparing = [phase.name for phase in schedule.phases if phase.prepare]
        source = sources.make(config, task.dataset, mesh, preparing)
        stack.callback(source.close)
        engine = engines.make(states, keys, source, config.batch_size, mesh)
        stack.callback(engine.close)
        devices.say(_sizes(config, task, next(iter(states.values())), len(states), mesh, source))
        states.clear()  # they are the engine's, which donates them
        bar = stack.enter_context(_progress_bar(config, schedule, done))
        profiler = Profiler(path / "profile", config.profile_updates, schedule.phases[-1].name)
        stack.callback(profiler.close)
        broken = train(schedule, engine, runs, done, signals, bar, profiler)
        bar.close()
        last = {name: snapshot(engine.state(name)) for name in runs}

        def finish():
            return {name: one.results(schedule.total, last[name]) for name, one in runs.items()}

        results = devices.shared(finish)
        if runs:
            devices.say(accounting([one.seconds for one in runs.values()]))
        return results, broken


def _open(
    stack: contextlib.ExitStack,
    runs: dict[str, Run],
    states: dict[str, State],
    held: list[Workdir],
    restored: dict[str, Restored | None],
) -> int:
    """Opens the runs' directories and fills in what each run goes on from; in the first process.

    Returns:
      The updates done: those of the last checkpoint that all runs have, undamaged.

    Raises:
      Damaged: all of those are damaged.
    """
    group = "" not in runs
    for one in runs.values() if group else ():
        held = [*held, stack.enter_context(_directory(one.path, one.config))]
    # A kill may lie between two runs' checkpoints of the same update.
    steps = [one.open(stack, keep=2 if group else 1) for one in runs.values()]
    common = sorted(set.intersection(*steps))
    while True:
        done = common.pop()
        try:
            restored |= {name: one.read(done, states[name]) for name, one in runs.items()}
            break
        except Damaged as error:
            if common in ([], [0]):  # nothing but the beginning is before it
                raise
            devices.say(f"Going back to update {common[-1]}: {error}.", error=True)
    for directory in held:
        directory.accept()
    for name, one in runs.items():
        one.prepare(stack, done, restored[name])
    return done


def _directory(path: Path, config) -> Workdir:
    may_change = (*options.may_change(config), *options.unread(config))
    return Workdir(path, config, may_change, options.may_drop(config))


def _progress_bar(config, schedule: Schedule, done: int) -> loggers.Loggers:
    bars = [loggers.ProgressBar(schedule.total, config.task, initial=done)] if devices.is_first() else []
    return loggers.Loggers(bars)


def _sizes(config, task: Task, state: State, runs: int, mesh: Mesh | None, source: sources.Source) -> str:
    """Says what lies on the devices: the dataset once (or some batches of it), a state for each run."""
    data, state_size = task.dataset, devices.size_of(state) / 1e6
    size = devices.size_of(data) / 1e6
    stays = ""
    if isinstance(source, sources.OnHost):
        batches = size * config.batch_size * config.log_every * runs / data.size
        stays = f", which stay on the host: at most {2 * batches:.1f} MB of batches at a time on the device"
    each = f" for each of {runs} runs" if runs > 1 else ""
    where = f"{mesh.size} times " if mesh is not None and mesh.size > 1 else ""
    rewards = "" if task.scaling is None else f" ({task.scaling})"
    return (
        f"{config.task}: {data.size} transitions{rewards}, {size:.1f} MB{stays}; state {state_size:.1f} MB{each}; "
        f"on {where}{jax.devices()[0].device_kind}"
    )
