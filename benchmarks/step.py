"""python benchmarks/step.py [--case walker2d locomotion antmaze 2d quick] [--dtype float32] [--repeats 20]

Time, memory and work of one update, beside the floor that this machine sets for that work: the counted
multiplications at the rate of plain matrix products of the same shapes, and the counted activations at the rate of the
activation alone, both measured in the same run. One JSON line a case.
"""

import argparse
import functools
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bdpo_jax.agents import bdpo  # noqa: E402
from bdpo_jax.networks import mish  # noqa: E402
from bdpo_jax.types import Batch  # noqa: E402
from benchmarks import work  # noqa: E402
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


def median_seconds(function, repeats: int) -> tuple[float, float]:
    """The median and the interquartile range of the time of `function()`, which blocks."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    first, _, third = statistics.quantiles(times, n=4)
    return statistics.median(times), third - first


@functools.cache
def matmul_rate(rows: int, width: int) -> float:
    """Multiply-adds a second of `[rows, width] @ [width, width]`, in one program of many."""
    count = max(1, int(100 * RATE_WORK / (rows * width * width)))
    left = jnp.full((rows, width), 0.5 / width)
    right = jnp.full((width, width), 1.0 / width)
    chain = jax.jit(lambda x, w: jax.lax.fori_loop(0, count, lambda _, y: y @ w, x))
    chain(left, right).block_until_ready()
    seconds, _ = median_seconds(lambda: chain(left, right).block_until_ready(), 5)
    return count * rows * width * width / seconds


@functools.cache
def activation_rate(rows: int, width: int) -> float:
    """Elements a second of the activation alone."""
    values = jnp.linspace(-3, 3, rows * width).reshape(rows, width)
    count = max(1, int(RATE_WORK / values.size))
    chain = jax.jit(lambda x: jax.lax.fori_loop(0, count, lambda _, y: mish(y), x))
    chain(values).block_until_ready()
    seconds, _ = median_seconds(lambda: chain(values).block_until_ready(), 5)
    return count * values.size / seconds


def floor_seconds(evaluations: list[work.Evaluation]) -> tuple[float, float]:
    """The least time for the products, and for the activations."""
    products = sum(e.total / matmul_rate(e.rows, e.width) for e in evaluations)
    return products, sum(e.activations / activation_rate(e.rows, e.width) for e in evaluations)


def make_batch(observation_dim, action_dim, *shape):
    random = np.random.default_rng(0)
    sizes = {"observations": observation_dim, "actions": action_dim, "rewards": 0, "next_observations": observation_dim}
    arrays = {key: random.uniform(-1, 1, shape + ((width,) if width else ())) for key, width in sizes.items()}
    arrays["terminals"] = np.zeros(shape)
    return Batch(**{key: jnp.asarray(value, jnp.float32) for key, value in arrays.items()})


def measure(function, state, batch, repeats: int) -> dict:
    """Compile seconds, seconds of one call with its spread, XLA's FLOPs, and peak bytes."""
    key = jax.random.key(0)
    began = time.perf_counter()
    compiled = jax.jit(function, donate_argnums=0).lower(state, batch, key).compile()
    compile_seconds = time.perf_counter() - began
    holder = [jax.tree.map(jnp.copy, state)]

    def call():
        holder[0], metrics = compiled(holder[0], batch, key)
        jax.block_until_ready((holder[0], metrics))

    call()
    seconds, spread = median_seconds(call, repeats)
    memory = compiled.memory_analysis()
    peak = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    cost = compiled.cost_analysis() or {}
    return {
        "compile_s": round(compile_seconds, 2),
        "seconds": seconds,
        "spread": spread,
        "xla_flops": cost.get("flops"),
        "peak_mb": round((peak - memory.alias_size_in_bytes) / 2**20, 1),
    }


def line(name: str, phase: str, updates: int, measured: dict, evaluations: list[work.Evaluation]) -> dict:
    """The JSON object of a case, per update; `measured` and `evaluations` are of `updates` updates."""
    products, activations = floor_seconds(evaluations)
    floor, multiply_adds = products + activations, sum(e.total for e in evaluations)
    return {
        "case": name,
        "phase": phase,
        "ms": round(1e3 * measured["seconds"] / updates, 2),
        "spread_ms": round(1e3 * measured["spread"] / updates, 2),
        "floor_ms": round(1e3 * floor / updates, 2),
        "times_floor": round(measured["seconds"] / floor, 3),
        "matmul_ms": round(1e3 * products / updates, 2),
        "activation_ms": round(1e3 * activations / updates, 2),
        "gflop": round(2e-9 * multiply_adds / updates, 3),
        "xla_gflop": None if measured["xla_flops"] is None else round(1e-9 * measured["xla_flops"] / updates, 3),
        "activations_million": round(1e-6 * sum(e.activations for e in evaluations) / updates, 2),
        "gflops_reached": round(2e-9 * multiply_adds / measured["seconds"], 1),
        "matmul_gflops": round(2e-9 * multiply_adds / products, 1),
        "compile_s": measured["compile_s"],
        "peak_mb": measured["peak_mb"],
    }


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
    batch = make_batch(observation_dim, action_dim, size)
    measured = measure(bdpo.pretrain_behavior, state, batch, 10 * repeats)
    evaluations = work.pretraining(static, observation_dim, size)
    print(json.dumps(line(name, "pretrain", 1, measured, evaluations) | about), flush=True)

    batches = make_batch(observation_dim, action_dim, interval, size)
    measured = measure(bdpo.update_cycle, state, batches, repeats)
    critics, actor = work.training(static, observation_dim, size)
    measured["xla_flops"] = None  # XLA counts a loop's body once: here the scan over updates and those within
    print(json.dumps(line(name, "train", interval, measured, interval * critics + actor) | about), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[2])
    parser.add_argument("--case", nargs="+", default=["walker2d"], choices=CASES)
    parser.add_argument("--repeats", type=int, default=20, help="cycles timed; ten times as many pre-training updates")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="the floor is float32's")
    options = parser.parse_args()
    if options.repeats < 2:
        parser.error("--repeats must be 2 or more")
    for name in options.case:
        run_case(name, options.repeats, options.dtype)


if __name__ == "__main__":
    main()
