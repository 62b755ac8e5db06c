"""python benchmarks/step.py [--case walker2d locomotion antmaze 2d quick] [--dtype float32] [--repeats 20]

Time, memory and work of one update, beside the floor that this machine sets for that work: the counted
multiplications at the rate of plain matrix products of the same shapes, and the counted activations at the rate of the
activation alone (`times_floor`). Forward layer norms and optimizer steps, timed alone in the same way, are not in the
floor; with them the update takes `times_parts`. All is measured in turns, in one run. One JSON line a case and phase.

The floor is a CPU's: an accelerator takes the products of all members at once, and those of one member after another
are no bound for it. Its figures are the times, and `gflops_reached` beside what its maker promises.
"""

import argparse
import functools
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bdpo_jax import devices  # noqa: E402
from bdpo_jax.agents import bdpo, common  # noqa: E402
from bdpo_jax.networks import mish  # noqa: E402
from bdpo_jax.types import Batch  # noqa: E402
from benchmarks import figures, work  # noqa: E402
from configs import antmaze, locomotion, synthetic2d  # noqa: E402

RATE_WORK = 2e7  # elements in a measurement of a rate, and a hundredth of the multiply-adds

# name -> config, observation and action widths
CASES = {
    "walker2d": (lambda: _with(locomotion.get_config("walker2d-medium-v2"), actor_widths=(256,) * 3), 17, 6),
    "locomotion": (lambda: locomotion.get_config("halfcheetah-medium-v2"), 17, 6),
    "antmaze": (lambda: antmaze.get_config("antmaze-large-play-v0"), 29, 8),
    "2d": (lambda: synthetic2d.get_config("8gaussians"), 1, 2),
    "quick": (lambda: locomotion.get_config("hopper-medium-v2,quick"), 11, 3),
}


def _with(config, **changes):
    config.update(changes)
    return config


def seconds_of(function) -> float:
    """The time of `function()`, to the end of what it dispatches."""
    began = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - began


def spread(values: list[float]) -> tuple[float, float]:
    """The median and the interquartile range."""
    first, median, third = statistics.quantiles(values, n=4)
    return median, third - first


@functools.cache
def matmul_chain(rows: int, width: int):
    """A program of many products `[rows, width] @ [width, width]`, and the number of its multiply-adds."""
    count = max(1, int(100 * RATE_WORK / (rows * width * width)))
    left = jnp.full((rows, width), 0.5 / width)
    right = jnp.full((width, width), 1.0 / width)
    chain = jax.jit(lambda x, w: jax.lax.fori_loop(0, count, lambda _, y: y @ w, x))
    chain(left, right).block_until_ready()
    return functools.partial(chain, left, right), count * rows * width * width


@functools.cache
def elementwise_chain(function, rows: int, width: int):
    """A program of nothing but `function`, and the number of its elements."""
    values = jnp.linspace(-3, 3, rows * width).reshape(rows, width)
    count = max(1, int(RATE_WORK / values.size))
    chain = jax.jit(lambda x: jax.lax.fori_loop(0, count, lambda _, y: function(y), x))
    chain(values).block_until_ready()
    return functools.partial(chain, values), count * values.size


def layer_norm(values):
    width = values.shape[-1]
    return nn.LayerNorm().apply({"params": {"scale": jnp.ones(width), "bias": jnp.zeros(width)}}, values)


def least_seconds(evaluations: list[work.Evaluation]) -> dict[str, float]:
    """The least time for products, activations and layer norms (forward), at the rates of this moment."""

    @functools.cache
    def unit(make_chain, *sizes):
        chain, units = make_chain(*sizes)
        return seconds_of(chain) / units

    return {
        "matmul": sum(e.total * unit(matmul_chain, e.rows, e.width) for e in evaluations),
        "activation": sum(e.activations * unit(elementwise_chain, mish, e.rows, e.width) for e in evaluations),
        "layer_norm": sum(e.norms * unit(elementwise_chain, layer_norm, e.rows, e.width) for e in evaluations),
    }


def optimizer_chain(static, hyper, models, count: int = 10):
    """A program of `count` optimizer steps of each of `models`, averages included, and that count."""

    def step(models):
        rates = (static.clip_norm, hyper.value_lr, hyper.ema_rate, hyper.value_decay_steps)
        return [common.apply_gradients(model, model.ema, *rates) for model in models]

    compiled = jax.jit(lambda models: jax.lax.fori_loop(0, count, lambda _, m: step(m), models))
    jax.block_until_ready(compiled(models))
    return functools.partial(compiled, models), count


def make_batch(observation_dim, action_dim, *shape):
    random = np.random.default_rng(0)
    sizes = {"observations": observation_dim, "actions": action_dim, "rewards": 0, "next_observations": observation_dim}
    arrays = {key: random.uniform(-1, 1, shape + ((width,) if width else ())) for key, width in sizes.items()}
    arrays["terminals"] = np.zeros(shape)
    return Batch(**{key: jnp.asarray(value, jnp.float32) for key, value in arrays.items()})


def measure(function, state, batch, evaluations: list[work.Evaluation], optimizers: dict, rounds: int) -> dict:
    """Times `rounds` calls and, after each, the least times of their parts; `optimizers` counts steps of models.

    The machine may be slower in one minute than in the next, so a call is compared with its own round's floor.
    """
    key = jax.random.key(0)
    began = time.perf_counter()
    compiled = jax.jit(function, donate_argnums=0).lower(state, batch, key).compile()
    compile_seconds = time.perf_counter() - began
    chains = [
        (optimizer_chain(state.static, state.hyper, [getattr(state, name) for name in names]), count)
        for names, count in optimizers.items()
    ]
    state = jax.tree.map(jnp.copy, state)
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        state, _ = jax.block_until_ready(compiled(state, batch, key))
        took = time.perf_counter() - began
        optimizer = sum(count * seconds_of(chain) / length for (chain, length), count in chains)
        times.append({"all": took, "optimizer": optimizer} | least_seconds(evaluations))
    memory = compiled.memory_analysis()
    peak = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    return {
        "compile_s": figures(compile_seconds),
        "times": times[1:],  # the first round warms up
        # But the batches.
        "peak_mb": figures((peak - memory.alias_size_in_bytes - devices.size_of(batch)) / 2**20),
    }


def xla_gflop(function, state, batch) -> float | None:
    """XLA's own count of one call without loops."""
    cost = jax.jit(function).lower(state, batch, jax.random.key(0)).compile().cost_analysis() or {}
    return figures(1e-9 * cost["flops"]) if "flops" in cost else None


def line(name: str, phase: str, updates: int, measured: dict, evaluations: list[work.Evaluation], counted) -> dict:
    """The JSON object of a case, per update; `measured` and `evaluations` are of `updates` updates."""
    multiply_adds = sum(e.total for e in evaluations)
    ratio, ratio_spread = spread([t["all"] / (t["matmul"] + t["activation"]) for t in measured["times"]])
    ratio_of_parts, _ = spread([t["all"] / (sum(t.values()) - t["all"]) for t in measured["times"]])
    medians = {part: statistics.median(t[part] for t in measured["times"]) for part in measured["times"][0]}
    seconds, seconds_spread = spread([t["all"] for t in measured["times"]])
    return {
        "case": name,
        "phase": phase,
        "ms": figures(1e3 * seconds / updates),
        "spread_ms": figures(1e3 * seconds_spread / updates),
        "hours_of_2_million": figures(2e6 * seconds / updates / 3600),
        "times_floor": figures(ratio),
        "spread_times_floor": figures(ratio_spread),
        "times_parts": figures(ratio_of_parts),
        **{f"{part}_ms": figures(1e3 * medians[part] / updates) for part in medians if part != "all"},
        "gflop": figures(2e-9 * multiply_adds / updates),
        "xla_gflop": counted,
        "activations_million": figures(1e-6 * sum(e.activations for e in evaluations) / updates),
        "gflops_reached": figures(2e-9 * multiply_adds / seconds),
        "matmul_gflops": figures(2e-9 * multiply_adds / medians["matmul"]),
        "compile_s": measured["compile_s"],
        "peak_mb": measured["peak_mb"],
    }


def pretrain(state, batches, key):
    """As the training loop does it: many updates in one program."""
    return jax.lax.scan(lambda s, b: bdpo.pretrain_behavior(s, b, key), state, batches)


def train(state, batches, key):
    """Cycles of training updates in one program, likewise."""
    return jax.lax.scan(lambda s, b: bdpo.update_cycle(s, b, key), state, batches)


def run_case(name: str, repeats: int, dtype: str = "float32") -> None:
    make_config, observation_dim, action_dim = CASES[name]
    config = _with(make_config(), dtype=dtype)
    state = bdpo.init(config, jax.random.key(0), observation_dim, action_dim)
    static, size, interval = state.static, config.batch_size, config.actor_update_interval
    about = {
        "dtype": dtype,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "machine": platform.processor() or platform.machine(),
    }
    cycles = 1 if jax.default_backend() == "cpu" else 20  # in a program, so that its start costs nothing
    updates = 20 * cycles
    batches = make_batch(observation_dim, action_dim, updates, size)
    evaluations = updates * work.pretraining(static, observation_dim, size)
    measured = measure(pretrain, state, batches, evaluations, {("behavior",): updates}, repeats)
    counted = xla_gflop(bdpo.pretrain_behavior, state, jax.tree.map(lambda x: x[0], batches))
    print(json.dumps(line(name, "pretrain", updates, measured, evaluations, counted) | about), flush=True)

    updates = interval * cycles
    batches = make_batch(observation_dim, action_dim, cycles, interval, size)
    critics, actor = work.training(static, observation_dim, size)
    evaluations = updates * critics + cycles * actor
    measured = measure(train, state, batches, evaluations, {("q", "v"): updates, ("actor",): cycles}, repeats)
    # XLA counts a loop's body once, and an update is full of loops: no count of its own here.
    print(json.dumps(line(name, "train", updates, measured, evaluations, None) | about), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--case", nargs="+", default=["walker2d"], choices=CASES)
    parser.add_argument("--repeats", type=int, default=20, help="rounds timed")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="the floor is float32's")
    options = parser.parse_args()
    if options.repeats < 2:
        parser.error("--repeats must be 2 or more")
    for name in options.case:
        run_case(name, options.repeats, options.dtype)


if __name__ == "__main__":
    main()
