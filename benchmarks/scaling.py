"""python benchmarks/scaling.py [--case walker2d] [--seeds 1 5] [--batch 256] [--devices 1] [--virtual 0] [--repeats 5]

Training updates a second against the number of seeds, the batch and the devices, as ratios to one seed on one device.
One JSON line a combination. `--virtual 8` splits a CPU into that many devices, which shows that they work, not what
they gain.
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def measure(config, observation_dim: int, action_dim: int, seeds: int, together: bool, limit: int, repeats: int):
    """The median seconds of an update of all seeds, with its spread, and the megabytes of a state.

    Args:
      config: of the runs, which differ in their seeds.
      observation_dim, action_dim: widths.
      seeds: how many runs.
      together: whether one program trains all of them, instead of one each in threads.
      limit: of devices.
      repeats: chunks timed.
    """
    import jax
    import numpy as np

    from bdpo_jax import devices
    from bdpo_jax.agents import bdpo
    from bdpo_jax.data.dataset import Dataset
    from bdpo_jax.training import engine
    from bdpo_jax.training.schedule import Chunk
    from bdpo_jax.training.sources import OnDevice
    from benchmarks import step

    mesh = devices.make_mesh(seeds, config.batch_size, limit)
    batch = step.make_batch(observation_dim, action_dim, 100_000)
    source = OnDevice(Dataset(*map(np.asarray, jax.tree.leaves(batch))), mesh)
    keys = {str(seed): jax.random.key(seed) for seed in range(seeds)}
    states = {name: bdpo.init(config, key, observation_dim, action_dim) for name, key in keys.items()}
    megabytes = 1e-6 * devices.size_of(states["0"])
    runs = (engine.Stacked if together else engine.Separate)(states, keys, source, config.batch_size, mesh)
    length = config.actor_update_interval * (1 if jax.default_backend() == "cpu" else 40)
    chunk = Chunk(bdpo.phases(config)[-1], 0, length, cycles=True)
    for _ in range(2):  # compilation, and the threads
        runs.advance(chunk, None)
    times = [step.seconds_of(lambda: runs.advance(chunk, None)) for _ in range(repeats)]
    runs.close()
    seconds, spread = step.spread(times)
    return seconds / length, spread / length, megabytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--case", default="walker2d", help="of benchmarks/step.py")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--batch", nargs="+", type=int, default=[256])
    parser.add_argument("--devices", nargs="+", type=int, default=[1])
    parser.add_argument("--dtype", nargs="+", default=["float32"], choices=("float32", "bfloat16"))
    parser.add_argument("--virtual", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.repeats < 2:
        parser.error("--repeats must be 2 or more")
    if options.virtual:
        flag = f" --xla_force_host_platform_device_count={options.virtual}"
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + flag
    import jax

    from benchmarks import figures, step

    if options.case not in step.CASES:
        parser.error(f"--case is {options.case!r}; it must be one of {', '.join(step.CASES)}")
    make_config, observation_dim, action_dim = step.CASES[options.case]
    for dtype in options.dtype:
        for batch in options.batch:
            one = None
            for count in options.devices:
                for seeds in options.seeds:
                    both = count == 1 and jax.default_backend() == "cpu"
                    ways = [False] if seeds == 1 else [False, True] if both else [True]
                    for together in ways:
                        config = make_config()
                        config.update({"batch_size": batch, "dtype": dtype})
                        sizes = (observation_dim, action_dim, seeds, together, count, options.repeats)
                        seconds, spread, megabytes = measure(config, *sizes)
                        one = one or seconds
                        found = {
                            "case": options.case,
                            "dtype": dtype,
                            "batch": batch,
                            "devices": count,
                            "seeds": seeds,
                            "runs": "stacked" if together else "separate",
                            "updates_per_second_of_each": figures(1 / seconds),
                            "ms": figures(1e3 * seconds),
                            "spread_ms": figures(1e3 * spread),
                            "times_the_first": figures(seconds / one),
                            "state_mb": figures(megabytes),
                            "device": jax.devices()[0].device_kind,
                            "jax": jax.__version__,
                        }
                        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
