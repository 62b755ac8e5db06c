"""Stacked runs against separate ones."""

import jax
import numpy as np
import pytest
from runs import toy_config

from bdpo_jax import tasks
from bdpo_jax.agents import AGENTS
from bdpo_jax.training import engine, sources, sweep, trainer


def both(config):
    """The two engines with the same runs, and their schedule."""
    configs = sweep.expand(config)
    agent, data = AGENTS[config.agent], tasks.make(config).dataset
    keys = {name: jax.random.key(one.seed) for name, one in configs.items()}
    states = {name: agent.init(one, keys[name], 2, 2) for name, one in configs.items()}
    source = sources.make(config, data, None)
    engines = [kind(states, keys, source, config.batch_size) for kind in (engine.Separate, engine.Stacked)]
    return engines, trainer._schedule(next(iter(configs.values()))), list(configs)


@pytest.mark.parametrize("memory", ["device", "host"])
def test_one_vmapped_program_gives_each_runs_numbers(memory):
    """To rounding: a batched product sums in another order, and a few updates do not amplify that much.

    Of BDPO it is shown over several devices.
    """
    config = toy_config(**{"seeds": (0, 3), "sweep.rate": (0.1, 0.5), "dataset_memory": memory})
    (separate, stacked), schedule, names = both(config)
    done = 0
    while done < schedule.total:
        chunk = schedule.next(done)
        done += chunk.length
        upcoming = schedule.next(done) if done < schedule.total else None
        expected, found = separate.advance(chunk, upcoming), stacked.advance(chunk, upcoming)
        assert list(expected) == list(found) == names
        for name in names:
            assert expected[name].keys() == found[name].keys()
            for metric in expected[name].keys() & {"loss", "copy_loss", "slow_loss"}:
                np.testing.assert_allclose(found[name][metric], expected[name][metric], rtol=2e-3, atol=1e-5)
    for name in names:
        leaves = zip(*(jax.tree.leaves(each.state(name)) for each in (stacked, separate)), strict=True)
        for a, b in leaves:
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
    first = jax.tree.leaves(stacked.state(names[0]))
    assert any((a != b).any() for a, b in zip(first, jax.tree.leaves(stacked.state(names[1])), strict=True))


def test_a_dropped_run_leaves_the_others_as_they_are():
    config = toy_config(seeds=(0, 3, 5), dataset_memory="host")
    for dropping, whole in zip(both(config)[0], both(config)[0], strict=True):
        schedule, names = both(config)[1:]
        first, second = schedule.next(0), schedule.next(6)
        for each in (dropping, whole):
            each.advance(first, second)
        dropping.drop(names[1])
        found, expected = dropping.advance(second, None), whole.advance(second, None)
        assert list(found) == [names[0], names[2]]
        for name in found:
            np.testing.assert_array_equal(found[name]["copy_loss"], expected[name]["copy_loss"])
            leaves = (jax.tree.leaves(each.state(name)) for each in (dropping, whole))
            for a, b in zip(*leaves, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("backend", "of_two"), [("gpu", engine.Stacked), ("cpu", engine.Separate)])
def test_one_run_is_never_a_stack_of_one(monkeypatch, backend, of_two):
    config, key = toy_config(), jax.random.key(0)
    state, source = AGENTS["toy"].init(config, key, 2, 2), sources.make(config, tasks.make(config).dataset, None)
    monkeypatch.setattr(engine.jax, "default_backend", lambda: backend)
    for names, kind in (("a", engine.Separate), ("ab", of_two)):
        made = engine.make(dict.fromkeys(names, state), dict.fromkeys(names, key), source, 16, None)
        assert isinstance(made, kind)
