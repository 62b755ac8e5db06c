import errno
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct

from bdpo_jax.checkpoint import Checkpointer
from bdpo_jax.errors import Damaged, UserError


@struct.dataclass
class State:
    params: dict
    optimizer: optax.OptState
    key: jax.Array
    step: jax.Array
    eta: jax.Array
    width: int = struct.field(pytree_node=False, default=8)


class Odd(NamedTuple):
    typed_key: jax.Array
    nothing: None
    no_rows: jax.Array
    half: jax.Array
    flag: jax.Array
    count: int
    host: np.ndarray
    pair: tuple


def make_state(seed=0):
    """A state of every optax kind we use: chain, EmptyState, NamedTuples, schedules."""
    params = {"dense": {"kernel": jax.random.normal(jax.random.PRNGKey(seed), (17, 8)), "bias": jnp.zeros(8)}}
    transform = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(1e-3, 10)), optax.identity()
    )
    optimizer = transform.init(params)
    _, optimizer = transform.update(params, optimizer, params)
    return State(params, optimizer, jax.random.PRNGKey(seed + 7), jnp.int32(41), jnp.float32(0.06))


def assert_same_bits(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        if hasattr(a, "dtype") and jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("abstract", [False, True], ids=["arrays", "shapes"])
def test_a_training_state_comes_back_bit_for_bit(tmp_path, abstract):
    state = make_state()
    with Checkpointer(tmp_path / "checkpoints") as checkpointer:
        assert checkpointer.latest_step() is None
        checkpointer.save(41, state, {"phase": "train", "seconds": 1 / 3, "best": None})
    like = jax.eval_shape(make_state) if abstract else make_state(seed=5)
    with Checkpointer(tmp_path / "checkpoints") as checkpointer:
        assert checkpointer.latest_step() == 41
        restored, extra = checkpointer.restore(like)
    assert_same_bits(restored, state)
    assert restored.width == 8 and restored.key.dtype == jnp.uint32 and restored.step.dtype == jnp.int32
    assert extra == {"phase": "train", "seconds": 1 / 3, "best": None}
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(restored))


def test_a_restored_state_does_not_recompile_a_donating_step(tmp_path):
    step = jax.jit(lambda state: state.replace(step=state.step + 1, eta=state.eta * 2), donate_argnums=0)
    state = step(make_state())
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, state)
        restored, _ = checkpointer.restore(jax.eval_shape(make_state))
    traces = step._cache_size()
    assert_same_bits(step(restored), step(state))
    assert step._cache_size() == traces


def test_odd_leaves_come_back_as_what_they_were(tmp_path):
    state = Odd(
        typed_key=jax.random.key(3),
        nothing=None,
        no_rows=jnp.zeros((0, 3), jnp.int32),
        half=jnp.array([1.5, -0.0, jnp.nan], jnp.bfloat16),
        flag=jnp.array(True),
        count=2**40 + 1,
        host=np.arange(3, dtype=np.float64) / 3,
        pair=((), {"a/b": jnp.float32(1e-45), "a": {"b": jnp.float32(2)}}),
    )
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(0, state)
        restored, extra = checkpointer.restore(state)
        as_shapes, _ = checkpointer.restore(state._replace(typed_key=jax.eval_shape(lambda: state.typed_key)))
    assert_same_bits(restored, state)
    assert_same_bits(as_shapes, state)
    assert type(restored.count) is int and isinstance(restored.host, np.ndarray) and extra == {}
    assert jax.random.key_impl(restored.typed_key) == jax.random.key_impl(state.typed_key)


def test_a_state_may_be_donated_or_overwritten_right_after_save(tmp_path):
    """Many rounds over megabytes: a save that only looked at the buffers would store later values."""
    step = jax.jit(lambda x: jax.tree.map(lambda leaf: leaf + 1, x), donate_argnums=0)
    state = {"a": jnp.zeros((400, 1000)), "b": jnp.zeros((400, 1000))}
    host = np.zeros(100_000)
    with Checkpointer(tmp_path, keep=10) as checkpointer:
        for number in range(4):
            checkpointer.save(number, {**state, "host": host})
            donated = state
            for _ in range(3):
                state = step(state)
            host[:] += 3
            jax.block_until_ready(state)
            assert donated["a"].is_deleted()
        for number in range(4):
            restored, _ = checkpointer.restore({**state, "host": host}, number)
            for leaf in restored.values():
                np.testing.assert_array_equal(leaf, 3 * number)


def test_the_last_k_are_kept_and_a_repeated_step_is_no_error(tmp_path):
    with Checkpointer(tmp_path, keep=2) as checkpointer:
        for step in (10, 20, 30, 30):
            checkpointer.save(step, {"x": jnp.float32(step)})
        checkpointer.wait()
        with pytest.raises(ValueError, match="step 20 comes after a checkpoint of step 30"):
            checkpointer.save(20, {"x": jnp.float32(20)})
        assert sorted(path.name for path in tmp_path.iterdir()) == ["20", "30"]
        assert checkpointer.restore({"x": jnp.float32(0)}, 20)[0]["x"] == 20
        with pytest.raises(UserError, match=r"no checkpoint of step 10 \(kept: 20, 30\)"):
            checkpointer.restore({"x": jnp.float32(0)}, 10)


def test_no_checkpoint_is_said_so(tmp_path):
    with Checkpointer(tmp_path / "a") as checkpointer, pytest.raises(UserError, match="holds no checkpoint"):
        checkpointer.restore({})
    with pytest.raises(UserError, match="holds no checkpoints"):
        Checkpointer(tmp_path / "b", read_only=True)
    assert not (tmp_path / "b").exists()


def test_a_mismatch_is_one_sentence_with_names_and_shapes(tmp_path):
    saved = {"q": {"kernel": jnp.zeros((2, 3))}, "n": jnp.int32(1)}
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(5, saved)
        for like, text in [
            (
                {**saved, "q": {"kernel": jnp.zeros((2, 4))}},
                r"\['q'\]\['kernel'\] is float32\[2, 3\] there and",
            ),
            ({**saved, "n": jnp.float32(1)}, r"\['n'\] is int32\[\] there and float32\[\] here"),
            ({**saved, "v": jnp.zeros(1)}, r"\['v'\] is missing in the checkpoint"),
            ({"n": saved["n"]}, r"\['q'\]\['kernel'\] is only in the checkpoint"),
        ]:
            with pytest.raises(UserError, match=text) as error:
                checkpointer.restore(like)
            assert "\n" not in str(error.value)


def test_a_read_only_user_leaves_a_save_under_way_alone(tmp_path):
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, {"x": jnp.float32(3)})
    unfinished = tmp_path / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()
    with Checkpointer(tmp_path, read_only=True) as checkpointer:
        assert checkpointer.restore({"x": jnp.float32(0)})[0]["x"] == 3
    assert unfinished.is_dir()


def test_what_an_interrupted_save_leaves_is_passed_over(tmp_path):
    state = {"x": jnp.arange(5.0)}
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, state)
        checkpointer.save(2, state)
    shutil.copytree(tmp_path / "2", tmp_path / "3.orbax-checkpoint-tmp")
    shutil.rmtree(tmp_path / "3.orbax-checkpoint-tmp" / "state")
    shutil.rmtree(tmp_path / "1" / "state")  # killed while it deleted an old one
    with Checkpointer(tmp_path, keep=1) as checkpointer:
        assert checkpointer.latest_step() == 2
        assert_same_bits(checkpointer.restore(state)[0], state)
        with pytest.raises(UserError, match="checkpoint at .*1 cannot be read .*delete this directory"):
            checkpointer.restore(state, 1)
        checkpointer.save(3, state)
    assert os.listdir(tmp_path) == ["3"]


ENDLESS_SAVES = """
import sys
import jax.numpy as jnp
from bdpo_jax.checkpoint import Checkpointer
checkpointer = Checkpointer(sys.argv[1], keep=2)
step = (checkpointer.latest_step() or 0)
while True:
    step += 1
    checkpointer.save(step, {f"leaf{i}": jnp.full((200, 1000), step + i, jnp.float32) for i in range(8)})
    print(step - 1, flush=True)
"""


def test_kill_minus_nine_in_a_loop_of_saves_loses_at_most_the_one_under_way(tmp_path):
    like = {f"leaf{i}": jax.ShapeDtypeStruct((200, 1000), jnp.float32) for i in range(8)}
    delays = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", ENDLESS_SAVES, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        process.stdout.readline(), process.stdout.readline()
        time.sleep(delays.uniform(0.1, 0.4))
        process.send_signal(signal.SIGKILL)
        complete = max((int(line) for line in process.stdout.read().split()), default=0)
        process.wait()
        with Checkpointer(tmp_path, read_only=True) as checkpointer:
            latest = checkpointer.latest_step()
            assert latest >= max(complete, 1)
            restored, _ = checkpointer.restore(like)
        for i in range(8):
            np.testing.assert_array_equal(restored[f"leaf{i}"], latest + i)


@pytest.mark.parametrize("raised_by", ["save", "wait", "close"])
def test_an_error_in_the_background_is_raised_at_the_next_call(tmp_path, monkeypatch, raised_by):
    from orbax.checkpoint._src.serialization import type_handlers

    checkpointer = Checkpointer(tmp_path)
    checkpointer.save(1, {"x": np.ones(3)})
    checkpointer.wait()

    async def full(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED: Failed to write 1335296 bytes: No space left on device")

    monkeypatch.setattr(type_handlers.NumpyHandler, "_background_serialize", full)
    checkpointer.save(2, {"x": np.ones(3)})
    call = {"save": lambda: checkpointer.save(3, {"x": np.ones(3)})}.get(raised_by) or getattr(checkpointer, raised_by)
    with pytest.raises(UserError, match="the disk is full.*last complete checkpoint is at step 1") as error:
        call()
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    with Checkpointer(tmp_path) as again:
        assert again.latest_step() == 1
        np.testing.assert_array_equal(again.restore({"x": np.zeros(3)})[0]["x"], 1)


def test_orbax_is_silent_and_other_programs_logs_are_not(tmp_path, caplog):
    from absl import logging as absl_logging

    caplog.set_level(logging.INFO, logger="absl")
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, {"x": jnp.zeros(3)})
    assert not caplog.records
    absl_logging.info("heard")
    assert [record.message for record in caplog.records] == ["heard"]


def test_a_disk_without_room_is_found_before_anything_is_written(tmp_path, monkeypatch):
    leaves = {"a": jnp.zeros(100, jnp.float32), "b": jnp.zeros(50, jnp.int32)}
    room = [600]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=room[0]))
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, leaves)
        checkpointer.wait()
        room[0] = 599
        with pytest.raises(UserError, match="the disk is full.*last complete checkpoint is at step 1"):
            checkpointer.save(2, leaves)
        room[0] = 600
        checkpointer.save(3, leaves)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "3"]


def test_a_limit_on_what_may_be_written_is_found_before_anything_is(tmp_path):
    """As a used-up quota is, which the room left on the disk does not show."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, {"a": jnp.zeros(100)})
        checkpointer.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (399, limits[1]))
        try:
            with pytest.raises(UserError, match="larger than is allowed.*last complete checkpoint is at step 1"):
                checkpointer.save(2, {"a": jnp.zeros(100)})
            assert [path.name for path in tmp_path.iterdir()] == ["1"]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        checkpointer.save(3, {"a": jnp.zeros(100)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "3"]


def test_a_changed_number_or_record_is_found_by_its_checksum(tmp_path, monkeypatch):
    state = {"x": jnp.arange(5.0), "half": jnp.ones(3, jnp.bfloat16), "n": jnp.int32(1)}
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, state, {"seconds": 1.5})
        checkpointer.save(2, state)
        assert checkpointer.restore(state, 1)[1] == {"seconds": 1.5}
        real = checkpointer._read

        def flipped(step, item, how):
            found = real(step, item, how)
            if item == "state":
                bits = np.array(found["['half']"])
                bits.view(np.uint16)[1] ^= 1 << 3
                found["['half']"] = bits
            return found

        monkeypatch.setattr(checkpointer, "_read", flipped)
        with pytest.raises(Damaged, match=r"checkpoint at .*1 cannot be read .the checksum of \['half'\] differs"):
            checkpointer.restore(state, 1)
        monkeypatch.setattr(checkpointer, "_read", lambda *_: real(*_) | {"extra": {"seconds": 2.5}})
        with pytest.raises(Damaged, match="the checksum of its record differs"):
            checkpointer.restore(state, 1)


def test_one_flipped_bit_in_the_files_is_refused(tmp_path):
    """Twenty bits of the largest file, which holds the arrays; noise does not compress, so that nearly all is data."""
    noise = {"x": np.random.default_rng(0).integers(0, 2**32, 4000, np.uint32)}
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, noise)
    file = max((path for path in tmp_path.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    good, places = file.read_bytes(), random.Random(0)
    for _ in range(20):
        bad = bytearray(good)
        bad[places.randrange(2000, 14000)] ^= 1 << places.randrange(8)
        file.write_bytes(bad)
        with Checkpointer(tmp_path, read_only=True) as checkpointer, pytest.raises(Damaged):
            checkpointer.restore(noise)


@pytest.mark.parametrize(
    "error, kind, sentence",
    [
        (
            OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
            UserError,
            "too many files are open while reading.*ulimit -n",
        ),
        (OSError(errno.EIO, os.strerror(errno.EIO)), UserError, "the disk is not in order.*run the same command again"),
        (ValueError(f"Error reading data: {os.strerror(errno.ESTALE)}"), UserError, "the network's file system"),
        (MemoryError(), MemoryError, "^$"),
    ],
)
def test_what_may_pass_is_no_damage(tmp_path, monkeypatch, error, kind, sentence):
    """Over damage a run goes back, and deletes what it has gone back over."""
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, {"x": jnp.zeros(3)})
        checkpointer.wait()

        def fail(*_, **__):
            raise error

        monkeypatch.setattr(checkpointer._manager, "restore", fail)
        with pytest.raises(kind, match=sentence) as caught:
            checkpointer.restore({"x": jnp.zeros(3)})
        assert not isinstance(caught.value, Damaged)


def test_a_name_that_is_no_text_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="holds bytes that are no text here: use another name, or set PYTHONUTF8=1"):
        Checkpointer(tmp_path / os.fsdecode(b"run\xff"))
    assert not list(tmp_path.iterdir())


def test_a_directory_whose_checkpoints_could_not_be_read_is_refused(tmp_path):
    with pytest.raises(UserError, match="has a backslash in it, and checkpoints below it could not be read again"):
        Checkpointer(tmp_path / "a\\b" / "checkpoints")
    assert not list(tmp_path.iterdir())
