"""Phases that prepare arrays of their own: resumed, in groups, stacked, and refused where data stay on the host."""

import jax
import jax.numpy as jnp
import numpy as np
import prepared_toy
import pytest
from runs import assert_same, final_state, logged, stop_at, toy_config

from bdpo_jax import tasks, training
from bdpo_jax.agents import AGENTS
from bdpo_jax.data.dataset import Prepared
from bdpo_jax.errors import Stopped, UserError
from bdpo_jax.training import engine, sources, sweep, trainer

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture(autouse=True, scope="module")
def _it_is_known():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(AGENTS, "prepared_toy", prepared_toy)
        yield


def config(**changes):
    return toy_config(agent="prepared_toy", dataset_seed=0, **changes)


def group(**changes):
    return config(seeds=(0, 3), **changes)


@pytest.fixture(scope="module")
def whole(no_pictures, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    training.run(group(), workdir)
    return workdir


@pytest.mark.parametrize("updates", [9, 24], ids=["before it begins", "in its middle"])
def test_a_group_stopped_in_a_prepared_phase_goes_on_bit_for_bit(whole, tmp_path, updates):
    with pytest.raises(Stopped):
        training.run(group(), tmp_path, stop_at(updates))
    training.run(group(), tmp_path)
    for name, one in sweep.expand(group()).items():
        assert_same(final_state(tmp_path / name, one), final_state(whole / name, one))
        assert logged(tmp_path / name) == logged(whole / name)


def test_a_run_of_a_group_has_data_of_its_own(whole, tmp_path):
    """Its state is that of the single run, whose data nobody else prepares."""
    one = sweep.expand(group())["seed3"]
    training.run(one, tmp_path)
    assert_same(final_state(whole / "seed3", one), final_state(tmp_path, one))


def test_stacked_runs_prepare_what_separate_ones_do():
    configs = sweep.expand(group())
    data = tasks.make(config()).dataset
    keys = {name: jax.random.key(one.seed) for name, one in configs.items()}
    states = {name: prepared_toy.init(one, keys[name], 2, 2) for name, one in configs.items()}
    source = sources.make(config(), data, None, preparing=["train"])
    engines = [kind(states, keys, source, 16) for kind in (engine.Separate, engine.Stacked)]
    schedule = trainer._schedule(config())
    done = 0
    while done < 21:
        chunk = schedule.next(done)
        done += chunk.length
        separate, stacked = (each.advance(chunk, None) for each in engines)
    for name in configs:
        np.testing.assert_allclose(stacked[name]["loss"], separate[name]["loss"], rtol=2e-3)
        for a, b in zip(*(jax.tree.leaves(each.state(name)) for each in engines), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
    assert any((a != b).any() for a, b in zip(separate["seed0"]["loss"], separate["seed3"]["loss"], strict=True))


def test_extra_rows_are_those_of_the_batch():
    """A phase that prepares the actions themselves finds them again beside the batch's own."""
    data = jax.device_put(tasks.make(config()).dataset)
    phase = prepared_toy.phases(config())[1]
    copied = Prepared(data, {"actions": data.actions})
    batch = copied.batch(jax.random.key(1), phase.name, 5, 16)
    np.testing.assert_array_equal(batch.extra["actions"], batch.actions)
    plain = data.batch(jax.random.key(1), phase.name, 5, 16)
    np.testing.assert_array_equal(batch.actions, plain.actions)


def test_what_is_gathered_sees_the_rows_of_the_batch_and_the_whole_dataset():
    """A window of two rows: observations of the batch's rows, then of those that follow."""

    def windows(dataset, prepared, rows):
        later = (rows + 1) % dataset.size
        return {"window": jnp.stack([dataset.observations[rows], dataset.observations[later]], 1)} | dict(prepared)

    data = jax.device_put(tasks.make(config()).dataset)
    batch = Prepared(data, {"one": jnp.float32(7)}, windows).batch(jax.random.key(1), "train", 5, 16)
    np.testing.assert_array_equal(batch.extra["window"][:, 0], batch.observations)
    found = {tuple(row): i for i, row in enumerate(np.asarray(data.observations))}
    later = [(found[tuple(row)] + 1) % data.size for row in np.asarray(batch.observations)]
    np.testing.assert_array_equal(batch.extra["window"][:, 1], data.observations[np.array(later)])
    assert batch.extra["one"] == 7


def test_data_on_the_host_are_refused(tmp_path):
    with pytest.raises(UserError, match="config.dataset_memory to 'device'"):
        training.run(config(dataset_memory="host"), tmp_path)
