"""python benchmarks/evaluation.py [--task antmaze-umaze-v0] [--episodes 100] [--candidates 1]

What an evaluation costs beside the simulation alone: one thread, then one per core, the same episodes of an untrained
policy of the laptop's size. One JSON line.
"""

import argparse
import json
import sys
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bdpo_jax import devices, envs, evaluation  # noqa: E402
from bdpo_jax.agents import bdpo  # noqa: E402
from benchmarks import figures  # noqa: E402
from configs import antmaze, locomotion  # noqa: E402


def measure(task: str, episodes: int, candidates: int) -> dict:
    """The JSON object: seconds with one thread and with one per core, and what they are made of."""
    make_config = antmaze.get_config if task.startswith("antmaze") else locomotion.get_config
    env = envs.make(task)
    widths = env.observation_space.shape[0], env.action_space.shape[0]
    state = bdpo.init(make_config(f"{task},quick"), jax.random.key(0), *widths)
    act = jax.jit(lambda observations, key: bdpo.sample_actions(state, observations, key, candidates))
    act(np.zeros((episodes, widths[0]), np.float32), jax.random.key(0)).block_until_ready()
    cores = devices.processors()
    alone, together = (evaluation.evaluate(act, task, episodes, 0, workers=n) for n in (1, cores))
    seconds = together.env_seconds + together.policy_seconds
    return {
        "task": task,
        "episodes": episodes,
        "environment_steps": int(together.lengths.sum()),
        "cores": cores,
        "simulation_s_one_thread": figures(alone.env_seconds),
        "simulation_s": figures(together.env_seconds),
        "evaluation_s": figures(seconds),
        "ms_per_environment_step": figures(together.env_ms_per_step),
        "policy_share": figures(together.policy_share),
        "times_ideal": figures(seconds * cores / alone.env_seconds),
        "equal_returns": bool((alone.returns == together.returns).all()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--task", default="antmaze-umaze-v0")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--candidates", type=int, default=1, help="actions drawn per step, of which Q picks one")
    options = parser.parse_args()
    print(json.dumps(measure(options.task, options.episodes, options.candidates)))


if __name__ == "__main__":
    main()
