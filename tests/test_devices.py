"""Eight virtual devices and two processes against one device: the same runs, to rounding."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from runs import BDPO, SIZES, bdpo_config, final_state

from bdpo_jax import devices, settings, training
from bdpo_jax.errors import UserError
from bdpo_jax.training import sweep
from configs import pointmass

ROOT = Path(__file__).resolve().parents[1]
# Chunks of one length a phase, so that a process compiles few programs.
EVERY = {**SIZES, **dict.fromkeys(("log_every", "checkpoint_every", "evaluate_every"), 6)}
SHORT = {**BDPO, **EVERY, "value_warmup_steps": 0, "pretrain_steps": 6, "train_steps": 6}
# Jobs of two processes are of IQL, which compiles in no time: nothing there depends on the algorithm.
IQL = {**EVERY, "actor_widths": (8,), "value_widths": (8,), "train_steps": 12, "decay_steps": 12}
ENDLESS = {**IQL, "train_steps": 99_996}
GROUP = {"seeds": (0, 3), "sweep.eta": (0.1, 5.0)}

pytestmark = pytest.mark.usefixtures("no_pictures")


def short(**changes):
    config = bdpo_config(**SHORT)
    config.update_from_flattened_dict(changes)
    return config


def iql(**changes):
    config = pointmass.get_config("pointmass,iql")
    settings.update(config, {**IQL, **changes})
    return config


def launch(workdir, count, *arguments, argument="pointmass", **changes):
    """A process of `launch.py` with `count` virtual devices and without pictures."""
    changed = [f"--config.{key}={value}" for key, value in changes.items()]
    flags = os.environ.get("XLA_FLAGS", "") + f" --xla_force_host_platform_device_count={count}"
    command = [
        sys.executable,
        "tests/pictures.py",
        f"--config=configs/pointmass.py:{argument}",
        f"--workdir={workdir}",
        *changed,
    ]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def pair(workdir, count, **changes):
    """Two processes of one job of IQL, `count` devices each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        job = (f"--coordinator=127.0.0.1:{free.getsockname()[1]}", "--processes=2")
    return [launch(workdir, count, *job, f"--process={i}", argument="pointmass,iql", **changes) for i in range(2)]


def finish(process, code=0):
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    return out, err


def wait_for_checkpoint(workdir, processes):
    """Until training has begun to leave checkpoints."""
    steps = []
    while not any(step >= 24 for step in steps):
        assert all(process.poll() is None for process in processes), processes[0].communicate()
        time.sleep(0.05)
        steps = [int(path.name) for path in workdir.glob("checkpoints/*") if path.name.isdigit()]


def assert_close(workdir, config, expected, expected_config):
    """To rounding: the parts of a batch are added in another order, and a few updates do not amplify that much."""
    found, wanted = final_state(workdir, config), final_state(expected, expected_config)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


@pytest.fixture(scope="module")
def group(no_pictures, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("group")
    training.run(short(**GROUP), workdir)
    return workdir


def test_a_mesh_spreads_runs_first(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: list(np.arange(8)))
    monkeypatch.setattr(devices, "Mesh", lambda found, names: (found.shape, names))
    assert devices.make_mesh(5, 256, limit=1) is None
    for count, shape in ((1, (1, 8)), (5, (1, 8)), (6, (2, 4)), (8, (8, 1)), (12, (4, 2)), (40, (8, 1))):
        assert devices.make_mesh(count, 256) == (shape, ("run", "batch"))
    assert devices.make_mesh(5, 256, limit=4) == ((1, 4), ("run", "batch"))
    with pytest.raises(UserError, match="batch_size is 20, which 8 devices cannot share evenly"):
        devices.make_mesh(1, 20)
    with pytest.raises(UserError, match="config.devices is 9; there are 8 devices"):
        devices.make_mesh(1, 256, limit=9)


def test_one_device_needs_no_mesh():
    assert devices.make_mesh(3, 16, limit=1) is None
    tree = {"a": np.arange(3.0)}
    assert devices.constrain(tree, None, devices.BATCH) is tree
    assert isinstance(devices.place(tree, None)["a"], jax.Array)


def test_a_group_over_eight_devices_gives_the_same_runs(group, tmp_path):
    """Four runs two devices wide each, the data on the host; and what was begun there goes on with one device."""
    arguments = ("--config.seeds=(0,3)", "--config.sweep.eta=(0.1,5.0)", "--config.dataset_memory=host")
    out, _ = finish(launch(tmp_path / "run", 8, *arguments, **SHORT))
    assert "which stay on the host: at most" in out
    assert "for each of 4 runs; on 8 times cpu" in out
    for name, config in sweep.expand(short(**GROUP)).items():
        assert_close(tmp_path / "run" / name, config, group / name, config)
    results = training.run(short(**GROUP, train_steps=12), tmp_path / "run")
    assert [one["step"] for one in results["runs"].values()] == [18] * 4


def test_two_processes_give_the_same_runs(tmp_path):
    """Two runs of two devices each, evaluated by a process each."""
    config = iql(seeds=(0, 3))
    training.run(config, tmp_path / "one")
    (out, _), (other, _) = (finish(process) for process in pair(tmp_path / "two", 2, **IQL, seeds="(0,3)"))
    assert "seed3: return" in out and "return" not in other, "one process reports"
    texts = ((tmp_path / name / "results.json").read_text("utf-8") for name in ("one", "two"))
    expected, found = (json.loads(text)["runs"] for text in texts)
    for name, one in sweep.expand(config).items():
        assert_close(tmp_path / "two" / name, one, tmp_path / "one" / name, one)
        both = (runs[name]["scores"]["policy"]["returns"] for runs in (found, expected))
        np.testing.assert_allclose(*both, atol=1e-3)  # the states are equal to rounding


def test_a_stopped_job_saves_and_goes_on(tmp_path):
    """The signal to one process stops both, and a single process may go on; with the data on both hosts."""
    workdir = tmp_path / "run"
    processes = pair(workdir, 1, **ENDLESS, dataset_memory="host")
    wait_for_checkpoint(workdir, processes)
    processes[1].send_signal(signal.SIGTERM)
    for process in processes:
        finish(process, 143)
    assert_goes_on(workdir)


def test_a_job_goes_on_after_one_of_its_processes_died(tmp_path):
    workdir = tmp_path / "run"
    processes = pair(workdir, 1, **ENDLESS)
    wait_for_checkpoint(workdir, processes)
    processes[1].kill()
    processes[0].communicate(timeout=120)
    assert processes[0].returncode not in (0, None), "a job that lost a process has failed"
    assert_goes_on(workdir)


def assert_goes_on(workdir):
    with open(workdir / "progress.csv") as file:
        done = max(int(row["step"]) for row in csv.DictReader(file))
    assert training.run(iql(train_steps=done + 6), workdir)["step"] == done + 6


def test_a_mistake_ends_both_processes(tmp_path):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "file").write_text("")
    for process in pair(tmp_path / "foreign", 1, **IQL):
        _, err = finish(process, 1)
        assert "holds files (file) but no run" in err


def test_processes_that_do_not_find_each_other_say_so(tmp_path):
    _, err = finish(launch(tmp_path / "run", 1, "--distributed"), 1)
    assert "Error: The processes of the job did not find each other" in err


def test_a_lack_of_memory_is_one_sentence():
    for error in (MemoryError("Unable to allocate 9 TiB"), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no\n room")):
        sentence = r"not enough memory \((Unable to|RESOURCE_EXHAUSTED: no room).*: mend it\."
        with pytest.raises(UserError, match=sentence), devices.enough_memory("mend it"):
            raise error
    with pytest.raises(UserError, match="not enough memory: mend it"), devices.enough_memory("mend it"):
        raise MemoryError
    with pytest.raises(jax.errors.JaxRuntimeError), devices.enough_memory("mend it"):
        raise jax.errors.JaxRuntimeError("INTERNAL: no luck")
