"""Batches gathered on the host against those drawn on the device."""

import jax
import numpy as np
import pytest
from helpers import make_batch

from bdpo_jax.data.dataset import Dataset
from bdpo_jax.data.host import Gatherer, Request


@pytest.fixture
def data():
    return Dataset(**{name: np.asarray(leaf) for name, leaf in vars(make_batch(size=50)).items() if leaf is not None})


@pytest.fixture
def gatherer(data):
    made = Gatherer(data, 4, None)
    yield made
    made.close()


def assert_batches(found, data, keys, phase, start, length):
    """`found` are the batches that `data` on the device draws."""
    for step in range(start, start + length):
        expected = [data.batch(key, phase, step, 4) for key in keys]
        picked = jax.vmap(lambda drawn, step=step: drawn.batch(None, phase, step, 4))(found)
        for name in vars(picked):
            np.testing.assert_array_equal(getattr(picked, name), [getattr(batch, name) for batch in expected])


@pytest.mark.parametrize("phase", ["pretrain", "train"])
def test_the_batches_are_those_of_the_device(gatherer, data, phase):
    keys = jax.random.split(jax.random.key(3), 2)
    placed = jax.device_put(data)
    assert_batches(gatherer.take(Request(phase, 5, 3), keys), placed, keys, phase, 5, 3)
    single = gatherer.take(Request(phase, 5, 3), keys[1])
    assert_batches(jax.tree.map(lambda leaf: leaf[None], single), placed, keys[1:], phase, 5, 3)
    other = gatherer.take(Request({"pretrain": "train", "train": "pretrain"}[phase], 5, 3), keys[1])
    assert (np.asarray(other.batches.rewards) != single.batches.rewards).any()


@pytest.fixture
def drawn(monkeypatch):
    """The requests whose batches were gathered, in turn."""
    requests, original = [], Gatherer._gather
    monkeypatch.setattr(
        Gatherer, "_gather", lambda self, request, rows: requests.append(request) or original(self, request, rows)
    )
    return requests


def test_what_was_prepared_is_taken_once_and_only_where_it_is_asked_for(gatherer, data, drawn):
    key, other = jax.random.split(jax.random.key(0))
    first, second = Request("train", 0, 2), Request("train", 2, 2)
    gatherer.prepare(second, key)
    assert_batches(jax.tree.map(lambda leaf: leaf[None], gatherer.take(second, key)), data, key[None], "train", 2, 2)
    assert drawn == [second]
    gatherer.take(second, key)
    gatherer.prepare(first, key)
    gatherer.take(first, other)  # another run's
    gatherer.prepare(first, key)
    gatherer.take(second, key)  # another chunk
    gatherer.close()  # which waits for the thread
    assert (drawn.count(first), drawn.count(second)) == (3, 3)


def test_runs_are_prepared_beside_each_other_and_forgotten_alone(gatherer, data, drawn):
    request, keys = Request("train", 4, 2), jax.random.split(jax.random.key(1), 3)
    for key in keys:
        gatherer.prepare(request, key)
    gatherer.forget(keys[1])
    for key in keys:
        found = jax.tree.map(lambda leaf: leaf[None], gatherer.take(request, key))
        assert_batches(found, data, key[None], "train", 4, 2)
    assert len(drawn) == 4  # the forgotten one twice


def test_a_failure_in_the_thread_is_raised_where_the_batches_are_taken(gatherer, monkeypatch):
    def fail(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(Gatherer, "_gather", fail)
    request, key = Request("train", 0, 2), jax.random.key(0)
    gatherer.prepare(request, key)
    with pytest.raises(MemoryError, match="no room"):
        gatherer.take(request, key)
