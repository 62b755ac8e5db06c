import errno
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from bdpo_jax.errors import UserError
from bdpo_jax.workdir import (
    Workdir,
    config_hash,
    differences,
    expanded,
    flatten,
    plain,
    read_config,
    replacing,
    write_json,
    writing,
)

CONFIG = {"seed": 0, "train_steps": 100, "agent": {"eta": 0.06, "hidden": (256, 256)}, "dataset_path": None}


def changed_config(**agent):
    return {**CONFIG, "agent": {**CONFIG["agent"], **agent}}


def hold_in_a_process(path, then=""):
    code = (
        "import os, sys, time; from bdpo_jax.workdir import Workdir\n"
        f"w = Workdir({str(path)!r}, {CONFIG!r}); print('held', flush=True)\n{then}\ntime.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_first_use_writes_the_config_and_the_second_resumes(tmp_path):
    with Workdir(tmp_path / "a" / "run", CONFIG) as workdir:
        assert not workdir.resumed and workdir.path.is_dir()
        assert read_config(workdir.path)["agent"] == {"eta": 0.06, "hidden": [256, 256]}
    with Workdir(tmp_path / "a" / "run", CONFIG) as workdir:
        assert workdir.resumed and workdir.changed == {}
    assert sorted(os.listdir(workdir.path)) == [".lock", ".owner", "config.json"]


def test_another_config_is_refused_with_every_key_and_both_values(tmp_path):
    Workdir(tmp_path, CONFIG).close()
    with pytest.raises(UserError) as error:
        Workdir(tmp_path, {**changed_config(eta=0.1), "seed": 3}, may_change=("train_steps",))
    for text in ("agent.eta is 0.06 there and 0.1 here", "seed is 0 there and 3 here", "--workdir"):
        assert text in str(error.value)
    assert "\n" not in str(error.value)
    assert read_config(tmp_path)["seed"] == 0
    Workdir(tmp_path, CONFIG).close()  # the refusal did not keep the lock


def test_budgets_may_change_and_the_new_ones_are_recorded(tmp_path):
    Workdir(tmp_path, CONFIG).close()
    with Workdir(tmp_path, {**CONFIG, "train_steps": 500}, may_change=("train_steps",)) as workdir:
        assert workdir.resumed and workdir.changed == {"train_steps": (100, 500)}
        assert read_config(tmp_path)["train_steps"] == 100, "the run may still refuse them"
        workdir.accept()
    assert read_config(tmp_path)["train_steps"] == 500
    with Workdir(tmp_path, {**changed_config(eta=1.0), "train_steps": 500}, may_change=("agent",)) as workdir:
        assert workdir.changed == {"agent.eta": (0.06, 1.0)}


def test_another_algorithm_or_task_explains_all_other_differences(tmp_path):
    with Workdir(tmp_path, {"agent": "bdpo", "actor_widths": [64], "task": "hopper", "family": "d4rl"}):
        pass
    with pytest.raises(UserError) as error:
        Workdir(tmp_path, {"agent": "iql", "actor_lr": 0.1, "task": "walker2d", "family": "d4rl"})
    assert "(agent is 'bdpo' there and 'iql' here; task is 'hopper' there and 'walker2d' here)" in str(error.value)


def test_a_key_missing_on_one_side_is_a_difference():
    assert differences({"a": 1}, {"a": 1, "b": {"c": 2}}) == {"b.c": ("(absent)", 2)}
    assert differences({"a": 1, "b": {}}, {"a": 1.0, "b": {}}) == {}


@pytest.mark.parametrize("content", [None, "{not json", "[1, 2]"])
def test_foreign_directories_are_refused_untouched(tmp_path, content):
    name = "thesis.tex" if content is None else "config.json"
    (tmp_path / name).write_text(content or "mine")
    with pytest.raises(UserError, match="--workdir"):
        Workdir(tmp_path, CONFIG)
    assert (tmp_path / name).read_text("utf-8") == (content or "mine")
    assert set(os.listdir(tmp_path)) <= {name, ".lock", ".owner"}


def test_a_foreign_config_json_is_not_overwritten(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="model_type"):
        Workdir(tmp_path, CONFIG)
    assert json.loads((tmp_path / "config.json").read_text("utf-8")) == {"model_type": "bert"}


def test_what_a_start_killed_before_its_config_leaves_is_no_obstacle(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".owner").write_text("process 1 on host\n")
    (tmp_path / ".config.json.77.tmp").write_text('{"se')
    with Workdir(tmp_path, CONFIG) as workdir:
        assert not workdir.resumed
    assert read_config(tmp_path)["seed"] == 0


def test_a_file_and_a_missing_run_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        Workdir(tmp_path / "file", CONFIG)
    with pytest.raises(UserError, match="a part of the path is a file"):
        Workdir(tmp_path / "file" / "run", CONFIG)
    with pytest.raises(UserError, match="holds no run"):
        read_config(tmp_path)
    with pytest.raises(UserError, match="agent.eta is nan"):
        Workdir(tmp_path / "new", changed_config(eta=math.nan))
    assert not (tmp_path / "new").exists()


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    process = hold_in_a_process(tmp_path)
    try:
        with pytest.raises(UserError, match=f"in use by process {process.pid} on "):
            Workdir(tmp_path, CONFIG)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with Workdir(tmp_path, CONFIG) as workdir:
        assert workdir.resumed
        with pytest.raises(UserError, match=f"in use by process {os.getpid()} on {socket.gethostname()}: wait for it"):
            Workdir(tmp_path, CONFIG)
        (tmp_path / ".owner").unlink()
        with pytest.raises(UserError, match="in use by another process: wait"):
            Workdir(tmp_path, CONFIG)


def test_a_forked_worker_neither_gives_up_nor_keeps_the_lock(tmp_path):
    process = hold_in_a_process(tmp_path, "if not os.fork(): w.close(); print(os.getpid(), flush=True)")
    child = int(process.stdout.readline())
    try:
        with pytest.raises(UserError, match=f"in use by process {process.pid} on "):
            Workdir(tmp_path, CONFIG)
        process.send_signal(signal.SIGKILL)
        process.wait()
        Workdir(tmp_path, CONFIG).close()
        os.kill(child, 0)  # still there
    finally:
        process.kill()
        os.kill(child, signal.SIGKILL)


def test_a_closed_directory_is_free_and_may_be_closed_again(tmp_path):
    workdir = Workdir(tmp_path, CONFIG)
    workdir.close()
    with Workdir(tmp_path, CONFIG):
        workdir.close()
        with pytest.raises(UserError, match="in use"):
            Workdir(tmp_path, CONFIG)


def test_config_hash_ignores_order_and_budgets_only():
    reordered = dict(reversed(CONFIG.items()))
    assert config_hash(CONFIG) == config_hash(reordered) == config_hash(plain(CONFIG))
    assert len(config_hash(CONFIG)) == 12
    assert config_hash(CONFIG) != config_hash(changed_config(eta=0.07))
    longer = {**CONFIG, "train_steps": 9}
    assert config_hash(CONFIG) != config_hash(longer)
    assert config_hash(CONFIG, ignore=["train_steps"]) == config_hash(longer, ignore=["train_steps"])


def test_a_config_dict_of_ml_collections_is_a_config(tmp_path):
    ml_collections = pytest.importorskip("ml_collections")
    config = ml_collections.ConfigDict(CONFIG)
    assert flatten(config) == flatten(CONFIG)
    Workdir(tmp_path, config).close()
    with Workdir(tmp_path, CONFIG) as workdir:
        assert workdir.resumed and not workdir.changed


def test_write_json_keeps_floats_and_takes_arrays(tmp_path):
    value = {
        "third": 1 / 3,
        "single": np.float32(0.1),
        "returns": np.array([1.5, np.nan, np.inf]),
        "count": np.int64(3),
        "flag": np.bool_(True),
        "path": tmp_path,
        "deep": [{"scalar": np.array(2.0)}, (1, None)],
    }
    write_json(tmp_path / "new" / "results.json", value)
    back = json.loads((tmp_path / "new" / "results.json").read_text("utf-8"))
    assert back["third"] == 1 / 3 and np.float32(back["single"]) == np.float32(0.1)
    assert back["returns"] == [1.5, None, None] and back["count"] == 3 and back["flag"] is True
    assert back["path"] == str(tmp_path) and back["deep"] == [{"scalar": 2.0}, [1, None]]
    with pytest.raises(TypeError, match="object"):
        write_json(tmp_path / "new" / "results.json", {"a": object()})
    assert json.loads((tmp_path / "new" / "results.json").read_text("utf-8")) == back


def test_an_interrupted_replacement_leaves_the_old_file(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a") as temporary:
        temporary.write_text("ne")
        raise KeyboardInterrupt
    assert (tmp_path / "a").read_text("utf-8") == "old" and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "number, text",
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EFBIG, "a file would be larger than is allowed"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission is denied"),
    ],
)
def test_failures_to_write_are_one_sentence(number, text):
    expected = f"{text}.* while writing results.json: .*at step 40"
    with pytest.raises(UserError, match=expected) as error, writing("results.json", last_step=40):
        raise OSError(number, os.strerror(number))
    assert "\n" not in str(error.value)


def test_a_full_device_is_reported_and_other_errors_pass(tmp_path):
    full = pytest.raises(UserError, match="the disk is full while writing a.csv")
    with full, writing("a.csv"), open("/dev/full", "w") as file:
        file.write("x")
    with full, writing("a.csv"):
        raise ValueError("RESOURCE_EXHAUSTED: Error writing: No space left on device")
    with pytest.raises(ZeroDivisionError), writing("x"):
        raise ZeroDivisionError


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_warns_and_goes_on(tmp_path, monkeypatch, number):
    def unsupported(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", unsupported)
    with pytest.warns(UserWarning, match=f"cannot be locked .*{os.strerror(number)}") as caught:
        Workdir(tmp_path, CONFIG).close()
    assert len(caught) == 1 and caught[0].filename == __file__
    assert sorted(os.listdir(tmp_path)) == [".lock", ".owner", "config.json"]


def test_a_lock_file_that_cannot_be_made_is_no_missing_lock(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("filelock.FileLock.acquire", full)
    with pytest.raises(UserError, match=f"the disk is full while writing {re.escape(str(tmp_path))}"):
        Workdir(tmp_path, CONFIG)


def test_nothing_is_needed_that_windows_lacks():
    code = "import os, sys, jax; sys.modules['fcntl'] = None; del os.register_at_fork; import bdpo_jax.workdir"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_hidden_files_and_batch_logs_are_no_obstacle_to_a_new_run(tmp_path):
    for name in (".DS_Store", "slurm-12_3.out", "nohup.out", "job.err", "run.log", "bdpo.o4711", "bdpo.e4711.2"):
        (tmp_path / name).touch()
    (tmp_path / "lost+found").mkdir()  # of a fresh volume
    Workdir(tmp_path, CONFIG).close()


def test_a_place_where_nothing_can_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "nowhere").symlink_to("absent/folder")
    places = {
        "folder": "folder cannot be written, it is a directory: give the name of a file",
        "file/out": "there is a file or a broken link of that name",
        "circle/out": "(there is a file or a broken link of that name|symbolic links lead in a circle)",
        f"{'x' * 300}/out": "a name is too long: give a shorter one",
        "nowhere/out": "(there is a file or a broken link of that name|does not exist and cannot be made)",
    }
    for place, sentence in places.items():
        with pytest.raises(UserError, match=sentence):
            write_json(tmp_path / place, {})
    assert (tmp_path / "file").read_text("utf-8") == "kept" and not list(tmp_path.glob("*.tmp"))


def test_a_name_that_is_too_long_for_a_run_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="a name is too long: give a shorter one"):
        Workdir(tmp_path / ("x" * 300), CONFIG)


def test_errors_of_other_files_pass_through_a_replacement(tmp_path):
    with pytest.raises(FileNotFoundError, match="elsewhere"), replacing(tmp_path / "out"):
        os.stat("/absent/elsewhere")


def test_a_home_that_is_not_known_is_one_sentence(monkeypatch):
    with pytest.raises(UserError, match="~nobody-of-this-name/run names a home directory that is not known"):
        expanded("~nobody-of-this-name/run")
    monkeypatch.setenv("HOME", "/somewhere")
    assert str(expanded("~/run")) == "/somewhere/run" and str(expanded("run")) == "run"
