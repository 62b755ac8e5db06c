"""The command line: mistakes are one sentence and an exit status, never a traceback."""

import io
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

import launch
from bdpo_jax import arguments, text
from bdpo_jax.errors import Notice

ROOT = Path(__file__).resolve().parents[1]


def start(*arguments, **environment):
    command = [sys.executable, "launch.py", *map(str, arguments)]
    environment = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--config.etaa=1",), "There is no config key 'etaa'; the nearest known one is 'eta'."),
        (("--config=configs/locomotion.py:hoper-medium-v2",), "the nearest known one is 'hopper'"),
        (("--config=configs/nowhere.py",), "no config file configs/nowhere.py; those of the checkout lie in configs/"),
        (("--config=pointmas.py",), "There is no config file pointmas.py; the nearest is configs/pointmass.py."),
        (("--config=" + "a" * 300,), "aaa; those of the checkout lie in configs/, below its root."),
        (
            ("--config=configs/locomotion.py:iql,hopper-medium-v2",),
            "begins with the algorithm 'iql'; the task comes first",
        ),
        (("--config=configs/pointmass.py:quick",), "There is no point mass task 'quick'; known is pointmass."),
        (
            ("--config.seeds=(0,4294967296)",),
            "config.seeds is (0, 4294967296); it must be a tuple of different whole numbers, from 0 to 4294967295.",
        ),
        (("--config.batch_size=3",), "config.batch_size is 3"),
        (("--config=configs/locomotion.py", "--config.dataset_path=/nowhere.hdf5"), "There is no file /nowhere.hdf5"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, arguments, sentence):
    done = start(f"--workdir={tmp_path / 'run'}", *arguments)
    assert done.returncode == 1
    assert sentence in done.stderr and done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_an_interrupt_is_one_sentence(monkeypatch, capsys):
    """The second Ctrl-C, which does not wait until everything is saved."""
    given = {"_CONFIG": None, "_SETTINGS": False, "_WORKDIR": "runs/x", "_DISTRIBUTED": False, "_COORDINATOR": None}
    for name, value in given.items():
        monkeypatch.setattr(launch, name, SimpleNamespace(value=value))

    def interrupted(config, workdir):
        raise KeyboardInterrupt

    monkeypatch.setattr(launch.training, "run", interrupted)
    assert launch.main(["launch.py"]) == 130
    said = capsys.readouterr().err
    assert said.startswith("Interrupted; ") and "run the same command again" in said and said.count("\n") == 1


@pytest.mark.parametrize("argument", ["--config=", "--config=README.md", "--config=configs/base.py", "--config"])
def test_a_file_that_is_no_config_has_no_keys_to_name(argument):
    """What is said of it is the library's."""
    assert arguments.unknown_key(["launch.py", argument, "--config.eta=1"]) is None


def test_compiled_programs_are_kept_for_the_next_start(tmp_path):
    sizes = ("actor_widths=(8,)", "value_widths=(8,)", "batch_size=8", "train_steps=4", "log_every=4")
    kept_in = ("dataset_size=20", "eval_episodes=1", f"compilation_cache={tmp_path / 'cache'}")
    settings = ["--config=configs/pointmass.py:pointmass,iql", *(f"--config.{one}" for one in (*sizes, *kept_in))]

    every = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}  # by default only what takes a second to compile

    def kept():
        return {path.name for path in (tmp_path / "cache").glob("*advance*-cache")}

    assert start(f"--workdir={tmp_path / 'first'}", *settings, **every).returncode == 0
    first = kept()
    assert first
    assert start(f"--workdir={tmp_path / 'second'}", *settings, **every).returncode == 0
    assert kept() == first


def test_every_setting_can_be_listed():
    done = start("--config=configs/pointmass.py:pointmass,iql", "--settings", "--config.expectile=0.8")
    assert done.returncode == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "[ours] our choice" in lines["Sources:"]
    assert "0.8" in lines["expectile"] and "tau" in lines["expectile"]
    assert {"agent", "seed", "family", "actor_widths", "train_steps"} <= lines.keys() and "eta" not in lines


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--config.lr=1",), "There is no config key 'lr'; the nearest known one is '"),
        (
            ("--config", "configs/pointmass.py", "--config.etaa=1"),
            "no config key 'etaa'; the nearest known one is 'eta'.",
        ),
        (("--config.sweep.gamma=.9",), "There is no config key 'sweep.gamma'; the nearest known one is 'sweep."),
        (("--config.actor_widths=64x4",), "config.actor_widths is ('64x4',); it must be a tuple of positive widths."),
        (("--config.seed=12345678901234567890",), "config.seed is 12345678901234567890; it must be at most"),
    ],
)
def test_a_mistaken_setting_is_one_sentence(arguments, sentence):
    done = start(*arguments)
    assert done.returncode == 1
    assert sentence in done.stderr and done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1


def test_the_last_of_a_repeated_tuple_counts():
    done = start("--config.actor_widths=(32,32)", "--config.actor_widths=(16,)", "--settings")
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("actor_widths "))
    assert line.split(None, 1)[1].startswith("(16,) ")


def test_what_an_output_cannot_write_is_written_by_its_code(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    text.set_up_output()
    print("run\udcff \u00b1")
    stream.flush()
    assert stream.buffer.getvalue() == b"run\\udcff \\xb1\n"


def test_a_warning_to_the_user_is_its_sentence_and_another_keeps_its_place(monkeypatch, capsys):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # restored after the test
    text.set_up_output()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda *said: sys.stderr.write(warnings.formatwarning(*said[:4])))
        warnings.warn("Ten rows were clipped.", Notice, stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "Warning: Ten rows were clipped." and __file__ in said[1] and said[1].endswith("Warning: old")
