"""python benchmarks/runtime.py [--out runs/runtime] [--steps 5 10 20 50 100] [--updates U] [--repeats 5] [--sizes ...]

The paper's Figure 10: time of the value and actor subroutines of BDPO, DAC and Diffusion-QL against N, the number of
diffusion steps, on walker2d-medium-replay's shapes. One JSON line per measurement, and a picture.

"value" goes from a batch to new critics and their averages, sampling for the targets included; "actor" from a batch to
a new actor and its average; "q" and "v" are BDPO's two parts of "value" alone, "behavior" its pre-training. `ms` is of
a call, `ms_per_update` of a gradient step (BDPO's actor moves in every fifth). `--sizes own` are each method's
settings, `matched` the same networks, ensembles and numbers of samples for all. `evaluations` counts the forward passes
of noise predictors on a batch (training three, of which two are the backward pass), and `slope` lines say how many such
passes, timed in the same run, a further diffusion step takes, beside the count.

Each measurement runs `updates` updates in one compiled program, twice before it is timed; medians of `repeats` calls.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bdpo_jax import plotting  # noqa: E402
from bdpo_jax.agents import AGENTS, bdpo  # noqa: E402
from benchmarks import figures  # noqa: E402
from benchmarks.step import make_batch  # noqa: E402
from configs import locomotion  # noqa: E402

OBSERVATION_DIM, ACTION_DIM = 17, 6
METHODS = ("bdpo", "dac", "diffusion_ql")
MATCHED = {"actor_widths": (256,) * 3, "value_widths": (256,) * 3, "ensemble_size": 10, "actor_samples": 10}


def make_state(method: str, steps: int, sizes: str, **changes):
    """A method's state for N = `steps`, and its batch."""
    config = locomotion.get_config(f"walker2d-medium-replay-v2,{method}")
    config.update({"diffusion_steps": steps} | (MATCHED if sizes == "matched" else {}) | changes)
    state = AGENTS[method].init(config, jax.random.key(0), OBSERVATION_DIM, ACTION_DIM)
    return state, make_batch(OBSERVATION_DIM, ACTION_DIM, config.batch_size)


def subroutines(method: str) -> dict:
    """`{name: (update, what it may change)}`; what is not kept is not computed."""
    agent = AGENTS[method]
    found = {"value": (agent.update_critics, ("q",)), "actor": (agent.update_actor, ("actor",))}
    if method == "bdpo":
        found |= {
            "value": (agent.update_critics, ("q", "v")),
            "q": (agent.update_critics, ("q",)),
            "v": (agent.update_critics, ("v",)),
            "behavior": (bdpo.pretrain_behavior, ("behavior",)),
        }
    return found


def counted(method: str, static) -> dict[str, float]:
    """Forward passes of noise predictors, on a batch of rows each, in "value" and "actor"."""
    draws = static.actor_samples * static.diffusion_steps
    if method == "bdpo":  # policy and behavior along the paths and at one step; one trained and one plain evaluation
        return {"value": 2 * draws + 2, "actor": 4}
    if method == "dac":  # trained; once more for the dual variable
        return {"value": draws, "actor": 4}
    return {"value": draws, "actor": 3 * (1 + static.diffusion_steps)}  # trained on noised data, and along the path


def seconds(program, state, repeats: int) -> list[float]:
    """Times of `repeats` calls after two others; each goes on from the state of the one before."""
    times = []
    for _ in range(repeats + 2):
        began = time.perf_counter()
        state = jax.block_until_ready(program(state))
        times.append(time.perf_counter() - began)
    return times[2:]


def repeated(update, kept: tuple[str, ...], batch, updates: int):
    """A program of many updates that change only the models `kept`."""

    def run(state):
        def one(state, key):
            new, _ = update(state, batch, key)
            return state.replace(**{name: getattr(new, name) for name in kept}), None

        return jax.lax.scan(one, state, jax.random.split(jax.random.key(1), updates))[0]

    return jax.jit(run)


def measure(method: str, steps: int, sizes: str, updates: int, repeats: int) -> list[dict]:
    """The rows of one method at one N."""
    state, batch = make_state(method, steps, sizes)
    interval = getattr(state.static, "actor_update_interval", 1)
    evaluations = counted(method, state.static)
    rows = []
    for name, (update, kept) in subroutines(method).items():
        if name == "behavior" and sizes == "matched":
            continue
        program = repeated(update, kept, batch, updates).lower(state).compile()
        milliseconds = [1e3 * value / updates for value in seconds(program, state, repeats)]
        ms = statistics.median(milliseconds)
        rows.append(
            {
                "method": method,
                "sizes": sizes,
                "steps": steps,
                "part": name,
                "ms": figures(ms),
                "least_ms": figures(min(milliseconds)),
                "ms_per_update": figures(ms / (interval if name == "actor" else 1)),
                "temporary_mb": figures(program.memory_analysis().temp_size_in_bytes / 2**20),
                "evaluations": evaluations.get(name),
            }
        )
    return rows


def evaluation_ms(method: str, sizes: str, repeats: int) -> float:
    """One forward pass of a method's noise predictor on a batch: of 100 in a program, each fed by the one before."""
    state, batch = make_state(method, 5, sizes)
    predictor = state.static.noise_predictor

    def run(noisy):
        def one(noisy, n):
            return predictor.apply(state.actor.params, batch.observations, noisy, n), None

        return jax.lax.scan(one, noisy, np.arange(100, dtype=np.int32) % 5 + 1)[0]

    return 1e3 * statistics.median(seconds(jax.jit(run), batch.actions, repeats)) / 100


def slopes(rows: list[dict], sizes: str, repeats: int) -> list[dict]:
    """Least-squares slopes of `ms` over N, in milliseconds and in forward passes."""
    found = []
    for method in METHODS:
        unit = evaluation_ms(method, sizes, repeats)
        for part in ("value", "actor"):
            own = [row for row in rows if (row["method"], row["sizes"], row["part"]) == (method, sizes, part)]
            if len({row["steps"] for row in own}) < 2:
                continue
            steps = [row["steps"] for row in own]
            slope = np.polyfit(steps, [row["ms"] for row in own], 1)[0]
            expected = np.polyfit(steps, [row["evaluations"] for row in own], 1)[0]
            found.append(
                {
                    "slope": part,
                    "method": method,
                    "sizes": sizes,
                    "ms_per_step": figures(float(slope)),
                    "evaluation_ms": figures(unit),
                    "evaluations_per_step": figures(float(slope) / unit),
                    "counted_per_step": figures(float(expected)),
                }
            )
    return found


def draw(path: Path, rows: list[dict], device: str) -> None:
    """The picture: a panel for values and one for actors, solid lines own settings, dashed ones matched."""
    panels = {}
    for part in ("value", "actor"):
        lines = {}
        for row in rows:
            if row["part"] == part:
                lines.setdefault(f"{row['method']}, {row['sizes']}", []).append((row["steps"], row["ms_per_update"]))
        panels[part] = {label: np.transpose(sorted(points)) for label, points in lines.items()}
    plotting.lines_of(
        path, f"time of a gradient step on {device}", panels, "N, diffusion steps", "milliseconds", logarithmic=True
    )


def main() -> None:
    on_cpu = jax.default_backend() == "cpu"
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--out", default="runs/runtime", help="folder of runtime.jsonl and runtime.png")
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10, 20, 50, 100], help="values of N")
    parser.add_argument("--updates", type=int, default=1 if on_cpu else 1000, help="updates in a program")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sizes", nargs="+", default=["own", "matched"], choices=("own", "matched"))
    options = parser.parse_args()
    if min(options.repeats, options.updates, *options.steps) < 1:
        parser.error("--steps, --updates and --repeats must be 1 or more")
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    about = {
        "device": jax.devices()[0].device_kind,
        "machine": platform.processor() or platform.machine(),
        "jax": jax.__version__,
        "updates": options.updates,
        "repeats": options.repeats,
    }
    rows = []
    with open(out / "runtime.jsonl", "w") as file:

        def tell(found: list[dict]) -> None:
            for row in found:
                print(json.dumps(row | about), flush=True)
                print(json.dumps(row | about), file=file, flush=True)

        for sizes in options.sizes:
            for steps in options.steps:
                for method in METHODS:
                    found = measure(method, steps, sizes, options.updates, options.repeats)
                    rows += found
                    tell(found)
            tell(slopes(rows, sizes, options.repeats))
    draw(out / "runtime.png", rows, about["device"])
    print(f"{out / 'runtime.png'}")


if __name__ == "__main__":
    main()
