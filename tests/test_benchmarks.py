"""The counts that the benchmarks compare with: against XLA's own, where it can count."""

import jax
import pytest
from helpers import config, make_batch, random_state

from bdpo_jax import networks
from bdpo_jax.agents import bdpo
from bdpo_jax.settings import read
from benchmarks import evaluation, scaling, step, work


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


@pytest.mark.parametrize("together", [False, True])
def test_the_scaling_benchmark_trains_all_seeds(together):
    settings = step._with(step.CASES["quick"][0](), actor_widths=(8,), value_widths=(8,), batch_size=8)
    seconds, spread, megabytes = scaling.measure(settings, 11, 3, 2, together, 1, 2)
    assert seconds > 0 and spread >= 0 and 0 < megabytes < 5
