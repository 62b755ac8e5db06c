"""The counts that the benchmarks compare with: against XLA's own, where it can count."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from helpers import config, make_batch, random_state

from bdpo_jax import networks
from bdpo_jax.agents import bdpo
from bdpo_jax.settings import read
from benchmarks import evaluation, figures, runtime, scaling, step, work

ROOT = Path(__file__).resolve().parents[1]


def xla_flops(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


@pytest.mark.parametrize("outputs, steps", [(1, 0), (1, 5), (6, 5)])
def test_a_network_is_counted_as_xla_counts_it(outputs, steps):
    network = networks.Network(widths=(128, 128), outputs=outputs, steps=steps, layer_norm=False,
                               time_width=128 if outputs == 1 else 64)  # fmt: skip
    rows, states = 512, 64
    observations, actions = jax.numpy.ones((states, 1, 17)), jax.numpy.ones((states, rows // states, 6))
    n = None if not steps else jax.numpy.ones((states, 1), int)
    params = network.init(jax.random.key(0), observations, actions, n)
    times = steps + 1 if steps else 0
    counted = work._evaluation("", (128, 128), outputs, 17, 6, times, rows, states, 1, "")
    # XLA counts the activations and sums, too: a dozen operations an element, an eighth of 128 multiply-adds.
    assert 1.0 <= xla_flops(network.apply, params, observations, actions, n) / (2 * counted.forward) < 1.15


def test_pre_training_is_counted_as_xla_counts_it():
    settings = config(actor_widths=(128, 128), diffusion_steps=5)
    state, batch = random_state(settings, 17, 6), make_batch(size=256, observation_dim=17, action_dim=6)
    (counted,) = work.pretraining(state.static, 17, 256)
    flops = xla_flops(bdpo.pretrain_behavior, state, batch, jax.random.key(0))
    assert 1.0 <= flops / (2 * counted.total) < 1.25  # with Adam, averages and activations


def test_a_one_step_task_does_no_next_state_work():
    sizes = {"diffusion_steps": 3, "ensemble_size": 2, "actor_samples": 4}
    long, short = (random_state(config(one_step=flag, **sizes), 3, 2).static for flag in (False, True))
    names = {e.name for e in work.training(long, 3, 8)[0]} - {e.name for e in work.training(short, 3, 8)[0]}
    assert names == {"path at s', actor and behavior", "Q at s'"}


def test_layer_norms_are_counted_where_they_are_switched_on():
    value_of_n = {"V loss", "V at n > 1", "V at n > 1, for the actor"}
    value = {"Q loss", "Q at n = 1", "Q at s'", "Q at n = 1, for the actor"}
    for switches, normed in (((False, False), value_of_n), ((False, True), value_of_n | value), ((True, False), None)):
        switched = config(actor_layer_norm=switches[0], q_layer_norm=switches[1])
        static = read(bdpo.Static, switched, action_dim=2)
        evaluations = sum(work.training(static, 3, 8), work.pretraining(static, 3, 8))
        found = {e.name for e in evaluations if e.norms}
        assert found == (normed or {e.name for e in evaluations} - value)
        assert all(e.norms in (0, e.activations) for e in evaluations)


def test_the_benchmark_prints_a_line_per_phase(monkeypatch, capsys):
    tiny = {"actor_widths": (8,), "value_widths": (8,), "ensemble_size": 2, "actor_samples": 2, "batch_size": 8}
    make = step.CASES["2d"][0]
    monkeypatch.setitem(step.CASES, "2d", (lambda: step._with(make(), **tiny, diffusion_steps=3), 1, 2))
    monkeypatch.setattr(step, "RATE_WORK", 2e4)
    step.run_case("2d", 2)
    lines = [step.json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["phase"] for line in lines] == ["pretrain", "train"]
    assert all(line["times_floor"] > 0 and line["peak_mb"] > 0 for line in lines)


def test_the_evaluation_benchmark_compares_equal_episodes():
    found = evaluation.measure("hopper-medium-v2", 3, 1)
    assert found["equal_returns"] and found["environment_steps"] > 10
    assert found["evaluation_s"] >= found["simulation_s"] > 0 and 0 < found["policy_share"] < 1


@pytest.mark.parametrize("value, expected", [(0.00123456, 0.001235), (987654.3, 987700.0), (0, 0), (-2.5, -2.5)])
def test_small_figures_are_not_rounded_away(value, expected):
    assert figures(value) == expected


@pytest.mark.parametrize("together", [False, True])
def test_the_scaling_benchmark_trains_all_seeds(together):
    settings = step._with(step.CASES["quick"][0](), actor_widths=(8,), value_widths=(8,), batch_size=8, ensemble_size=1)
    seconds, spread, megabytes = scaling.measure(settings, 11, 3, 2, together, 1, 2)
    assert seconds > 0 and spread >= 0 and 0 < megabytes < 5


@pytest.mark.parametrize("method", runtime.METHODS)
def test_the_counted_evaluations_are_those_of_the_specified_table(method):
    """At M = K = 10 (Diffusion-QL's own: 1 draw) and N = 5 and 6, in forward passes on a batch of rows."""
    expected = {
        "bdpo": {"value": (102, 122), "actor": (4, 4)},
        "dac": {"value": (50, 60), "actor": (4, 4)},
        "diffusion_ql": {"value": (5, 6), "actor": (18, 21)},
    }[method]
    for part, numbers in expected.items():
        for steps, number in zip((5, 6), numbers, strict=True):
            static = SimpleNamespace(actor_samples=1 if method == "diffusion_ql" else 10, diffusion_steps=steps)
            assert runtime.counted(method, static)[part] == number


def test_the_runtime_benchmark_times_each_part_and_draws(monkeypatch, capsys, tmp_path):
    tiny = {"actor_widths": (8,), "value_widths": (8,), "ensemble_size": 2, "actor_samples": 2, "batch_size": 8}
    make = runtime.make_state
    monkeypatch.setattr(runtime, "METHODS", ("diffusion_ql",))
    monkeypatch.setattr(runtime, "make_state", lambda method, steps, sizes: make(method, steps, sizes, **tiny))
    monkeypatch.setattr(
        "sys.argv", ["runtime.py", f"--out={tmp_path}", "--steps", "1", "2", "--repeats=1", "--sizes=own"]
    )
    runtime.main()
    *lines, picture = capsys.readouterr().out.splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row.get("part") for row in rows] == ["value", "actor"] * 2 + [None] * 2
    assert all(row["ms"] > 0 for row in rows[:4]) and rows[5]["counted_per_step"] == 3
    assert (tmp_path / "runtime.jsonl").read_text("utf-8").splitlines() == lines
    assert picture.endswith("runtime.png") and (tmp_path / "runtime.png").stat().st_size > 1000


def test_a_part_alone_leaves_the_others_as_they_were():
    """So that what belongs to them alone is not computed."""
    state, batch = runtime.make_state("bdpo", 2, "own", actor_widths=(8,), value_widths=(8,), batch_size=8)
    update, kept = runtime.subroutines("bdpo")["v"]
    new = runtime.repeated(update, kept, batch, 2)(state)
    assert differ(new.v, state.v) and not differ((new.q, new.actor), (state.q, state.actor))


def differ(left, right):
    return any(bool((a != b).any()) for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True))


@pytest.mark.parametrize("kind", ["flipped bit", "truncated file"])
def test_a_fault_damages_one_file_of_the_newest_checkpoint(tmp_path, kind):
    pytest.importorskip("fcntl", reason="the campaign is for Linux alone")
    from benchmarks import faults

    content = bytes(range(200))
    for name in ("20/a", "100/a", "100/b"):
        (tmp_path / "checkpoints" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "checkpoints" / name).write_bytes(content)
    damaged = faults.damage(kind, tmp_path, np.random.default_rng(0))
    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert [name for name, found in files.items() if found != content] == [damaged]
    assert damaged.startswith("checkpoints/100/")
    if kind == "truncated file":
        assert content.startswith(files[damaged])
    else:
        assert sum((a ^ b).bit_count() for a, b in zip(content, files[damaged], strict=True)) == 1


def wait_until(true, seconds=30):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("script", ["gpu_run.sh", "gpu.sh"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_script_leaves_no_program_running(tmp_path, number, script):
    """By stand-ins for the programs: one that trains until it is told to stop, one that samples the device for ever."""
    files = {
        "python": 'trap "echo saved >&2; exit 143" TERM; echo begun >&2; while :; do sleep 0.05; done',
        "nvidia-smi": '[[ $* != *loop* ]] || { echo $$ >"$SAMPLER"; while :; do sleep 0.05; done; }',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SAMPLER": str(tmp_path / "sampler")}
    folder, arguments = tmp_path / "out", ["hopper-medium-v2", "1"] if script == "gpu_run.sh" else []
    command = ["bash", str(ROOT / "benchmarks" / script), *arguments, str(folder)]
    program = subprocess.Popen(command, env=environment, start_new_session=True, stdout=-1, stderr=-1, text=True)
    log = folder / ("log.txt" if script == "gpu_run.sh" else "step-float32.err")
    wait_until(lambda: log.exists() and "begun" in log.read_text("utf-8"))
    os.killpg(program.pid, number)  # as a terminal does
    program.communicate(timeout=30)
    assert program.returncode in (143, 130)
    wait_until(lambda: "saved" in log.read_text("utf-8"))
    if script == "gpu_run.sh":
        wait_until(lambda: not Path("/proc", (tmp_path / "sampler").read_text("utf-8").strip()).exists())


def test_the_figures_of_a_run_that_goes_on_hold_no_results_of_a_shorter_one(tmp_path):
    """By a stand-in for the programs, which come to their end or save because the time is over."""
    script = 'case $* in *launch.py*) exit "$STATUS" ;; *) echo "score 1" ;; esac'
    (tmp_path / "python").write_text(f"#!/usr/bin/env bash\n{script}\n")
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "out" / "run").mkdir(parents=True)
    (tmp_path / "out" / "run" / "results.json").write_text("{}")
    for status, kept in (("0", True), ("143", False)):
        environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "STATUS": status}
        command = ["bash", str(ROOT / "benchmarks" / "gpu_run.sh"), "hopper-medium-v2", "1", str(tmp_path / "out")]
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
        assert (tmp_path / "out" / "figures" / "results.json").exists() == kept
        assert (tmp_path / "out" / "figures" / "final.txt").read_text("utf-8") == "score 1\n" * 3
