"""What every algorithm must do to be trained, swept, scored and deployed; see `agents/base.py`."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import make_batch

from bdpo_jax import settings
from bdpo_jax.agents import AGENTS, common
from bdpo_jax.agents.base import Agent
from bdpo_jax.data.dataset import Dataset
from bdpo_jax.data.options import Data
from bdpo_jax.errors import UserError
from bdpo_jax.policy import precision
from bdpo_jax.training import programs
from bdpo_jax.training.options import Training
from configs import methods

SIZES = {"actor_widths": (8,), "value_widths": (8,), "ensemble_size": 2, "actor_samples": 2, "diffusion_steps": 3}
SIZES["horizon"] = 4
OBSERVATION_DIM, ACTION_DIM = 3, 2


@pytest.fixture(scope="module", params=AGENTS.values(), ids=AGENTS)
def agent(request):
    return request.param


@pytest.fixture(scope="module")
def stacked(agent):
    """States of two seeds, and with a second value of every swept number, and every update over them: compiled once.

    Returns:
      The states, and of every update its name, its program, a batch, and a list with an item per trace.
    """
    first = start(agent)
    others = [first, start(agent, 1)]
    for field in dataclasses.fields(agent.Hyper):
        others.append(first.replace(hyper=first.hyper.replace(**{field.name: 0.5 * getattr(first.hyper, field.name)})))

    def program(update, traces):
        def counted(*arguments):
            traces.append(1)
            return update(*arguments)

        return jax.jit(jax.vmap(counted, in_axes=(0, None, 0)))

    programs = []
    for name, update, batch in updates(agent):
        traces = []
        programs.append((name, program(update, traces), batch, traces))
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *others), programs


def tiny(agent, **changes):
    """A config of the trainer, the data and the algorithm, tiny in what the algorithm has of `SIZES`."""
    config = settings.make(Training, Data, agent)
    settings.update(config, {name: value for name, value in SIZES.items() if name in config} | changes)
    return config


def start(agent, seed=0):
    return agent.init(tiny(agent), jax.random.key(seed), OBSERVATION_DIM, ACTION_DIM)


def updates(agent):
    """Every update of every phase, by name, with a batch that carries what the phase prepares."""
    for phase in agent.phases(tiny(agent)):
        batch = batch_of(agent, phase)
        yield phase.name, phase.update, batch
        if phase.delayed:
            yield f"{phase.name} (delayed)", phase.delayed, batch


def batch_of(agent, phase):
    """A batch that is the whole dataset."""
    batch = make_batch(size=12)
    if phase.prepare is None:
        return batch
    data = Dataset(*jax.tree.leaves(batch))
    prepared = jax.jit(phase.prepare)(start(agent), data, jax.random.key(7))
    extra = prepared if phase.gather is None else phase.gather(data, prepared, jnp.arange(12))
    assert all(len(array) == 12 and array.dtype == jnp.float32 for array in extra.values()), phase.name
    return batch.replace(extra=extra)


def finite(tree):
    return all(np.isfinite(x).all() for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact))


def test_it_has_the_names_of_an_agent(agent):
    for name in [*Agent.__annotations__, *(n for n, f in vars(Agent).items() if isinstance(f, staticmethod))]:
        assert hasattr(agent, name), name
    assert next(iter(agent.POLICIES)) == "policy"
    assert set(agent.VIEWS) <= {"q", "value", "path"}
    assert "train_steps" in {field.name for field in dataclasses.fields(agent.Budget)}
    assert inspect.getdoc(agent).count("\n") > 3, "the file states what it computes, and where that is written"
    named = {name for phase in agent.phases(tiny(agent)) for name in (*phase.watch, *phase.score)}
    assert "policy" in named and named <= agent.POLICIES.keys()


def test_its_settings_have_a_meaning_and_defaults_in_range(agent):
    config = tiny(agent)
    settings.check(config, Training, Data, agent)
    agent.check(config)
    assert all(len(field.metadata["about"]) > 3 for field in settings.fields_of(agent))
    assert set(config.sweep) == {field.name for field in dataclasses.fields(agent.Hyper)}
    hash(start(agent).static)


def test_frequencies_reach_the_networks_or_are_refused(agent):
    def size(**changes):
        config = tiny(agent, **changes)
        state = jax.eval_shape(lambda key: agent.init(config, key, OBSERVATION_DIM, ACTION_DIM), jax.random.key(0))
        return sum(leaf.size for leaf in jax.tree.leaves(state))

    for name in {"actor_frequencies", "q_frequencies"} & set(tiny(agent)):
        try:
            agent.check(tiny(agent, **{name: (1.0, 2.0)}))
        except UserError as error:
            assert name in str(error)
        else:
            assert size(**{name: (1.0, 2.0)}) > size()


def test_its_state_keeps_its_types_where_jax_has_64_bits(agent):
    """Else no loop could carry it. The data are float32 wherever they come from."""

    def train(data, key):
        state = agent.init(tiny(agent), key, OBSERVATION_DIM, ACTION_DIM)
        for phase in agent.phases(tiny(agent)):
            source = programs.prepare(state, data, key, phase=phase) if phase.prepare else data
            batch, before = source.batch(key, phase.name, 0, 8), jax.tree.map(lambda leaf: leaf.dtype, state)
            for update in filter(None, (phase.update, phase.delayed)):
                state, _ = update(state, batch, key)
                assert jax.tree.map(lambda leaf: leaf.dtype, state) == before, phase.name
        return state

    data = Dataset(*jax.tree.leaves(make_batch(size=12)))
    with precision(wide=True):
        state = jax.eval_shape(train, data, jax.random.key(0))
    assert {leaf.dtype.itemsize for leaf in jax.tree.leaves(state)} == {4}


def test_its_table_sets_settings_that_it_has(agent):
    (name,) = (name for name, found in AGENTS.items() if found is agent)
    known = settings.make(Training, Data, agent)
    for pattern, values in methods.TABLES[name]:
        assert set(values) <= set(known), pattern


def test_init_works_on_shapes_alone(agent):
    shapes = jax.eval_shape(lambda key: agent.init(tiny(agent), key, OBSERVATION_DIM, ACTION_DIM), jax.random.key(0))
    state = start(agent)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), shapes) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert finite(state)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(pointers)) == len(pointers), "a state that shares memory with itself cannot be donated"


def test_every_update_is_jitted_and_vmapped_over_seeds_and_numbers_with_one_trace(stacked):
    states, programs = stacked
    count = len(jax.tree.leaves(states)[0])
    keys = jax.random.split(jax.random.key(2), count)
    for name, function, batch, traces in programs:
        moved, _ = function(states, batch, keys)
        moved, metrics = function(moved, batch, keys)
        assert len(traces) == 1, name
        assert jax.tree.structure(moved) == jax.tree.structure(states)
        assert finite(moved) and finite(metrics), name
        assert all(value.shape == (count,) for value in metrics.values()), name
        assert differ(params(moved), params(states)), name


def params(state):
    """The parameters of every model, without what counts and averages."""
    models = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, common.Model))
    return [model.params for model in models if isinstance(model, common.Model)]


def test_what_a_phase_prepares_depends_on_what_it_leaves_alone(agent):
    """A stopped run prepares it again, in the middle of the phase."""
    for phase in agent.phases(tiny(agent)):
        if phase.prepare is None:
            continue
        state, batch = start(agent), batch_of(agent, phase)
        moved, _ = jax.jit(phase.update)(state, batch, jax.random.key(0))
        data = Dataset(*jax.tree.leaves(batch.replace(extra=None)))
        first, again = (jax.jit(phase.prepare)(s, data, jax.random.key(7)) for s in (state, moved))
        assert not differ(first, again), phase.name


def differ(left, right):
    leaves = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return not all(np.array_equal(a, b) for a, b in leaves)


def test_no_two_updates_have_the_same_noise(agent, stacked):
    """The state's own count is folded into the key, so that a caller may pass one key for ever.

    Where the key is used at all: with all learning rates 0 nothing but the noise tells two updates apart.
    """
    states, programs = stacked
    moving = [field.name for field in dataclasses.fields(agent.Hyper) if field.name.endswith(("_lr", "ema_rate"))]
    rates = {name: jnp.zeros_like(getattr(states.hyper, name)) for name in moving}
    states = states.replace(hyper=states.hyper.replace(**rates))
    keys = jax.random.split(jax.random.key(0), (2, len(jax.tree.leaves(states)[0])))
    phases = [phase.name for phase in agent.phases(tiny(agent))]
    for name, update, batch, _ in programs:
        if name not in phases:  # a delayed update
            continue
        (first, metrics), (_, with_other_keys) = (update(states, batch, each) for each in keys)
        _, following = update(first, batch, keys[0])
        assert not differ(params(first), params(states))
        assert differ(metrics, following) == differ(metrics, with_other_keys), name


def test_its_policies_stay_in_the_box_and_act_alike_from_a_snapshot(agent):
    state = with_other_averages(start(agent))
    kept = common.only_acting(state)
    assert len(jax.tree.leaves(kept)) < len(jax.tree.leaves(state))
    observations = 10 * jax.random.normal(jax.random.key(1), (2, 3, OBSERVATION_DIM))
    for policy in agent.POLICIES.values():
        actions, from_kept = (jax.jit(policy)(each, observations, jax.random.key(3)) for each in (state, kept))
        assert actions.shape == (2, 3, ACTION_DIM) and actions.dtype == jnp.float32
        assert (np.abs(actions) <= 1).all()
        np.testing.assert_array_equal(actions, from_kept)
        for each in (state, kept):  # a single observation
            one = jax.eval_shape(policy, each, observations[0, 0], jax.random.key(3))
            assert one.shape == (ACTION_DIM,) and one.dtype == jnp.float32


def with_other_averages(state):
    """The state with averages that differ from the parameters, as after some updates."""

    def move(node):
        if not isinstance(node, common.Model) or node.ema is None:
            return node
        return node.replace(ema=jax.tree.map(lambda x: np.add(x, np.float32(0.01)), node.ema))

    return jax.tree.map(move, state, is_leaf=lambda node: isinstance(node, common.Model))


def test_its_views_have_the_promised_shapes(agent):
    state, key = start(agent), jax.random.key(0)
    observations, actions = jnp.zeros((4, 5, OBSERVATION_DIM)), jnp.zeros((4, 5, ACTION_DIM))
    if "q" in agent.VIEWS:
        assert agent.VIEWS["q"](state, observations, actions).shape == (4, 5)
    if "value" in agent.VIEWS:
        assert agent.VIEWS["value"](state, observations, actions, jnp.ones((4, 5), jnp.int32)).shape == (4, 5)
    if "path" in agent.VIEWS:
        path = agent.VIEWS["path"](state, observations[0], key)
        assert path.shape[1:] == (5, ACTION_DIM) and len(path) > 1
