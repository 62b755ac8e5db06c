"""python -m bdpo_jax.envs.parity FOLDER [--backend mujoco gymnasium d4rl]

How far the environments are from trajectories recorded under D4RL's original stack (MuJoCo 2.1.0): the largest
|difference| of observations and rewards. `tests/data` holds short trajectories of four tasks.

A file `TASK.npz` or `physics_TASK.npz` has `actions [starts, steps, A]`, `rewards` and `dones [starts, steps]`, and
`qpos`, `qvel`, `warmstart`, `observations [starts, steps + 1, ...]`; antmaze also the goal as `target [2]`.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bdpo_jax import envs
from bdpo_jax.errors import UserError
from bdpo_jax.text import tell

STEPS = (1, 10, 100, 200)


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a file of reference trajectories."""
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def environment(task: str, backend: str, reference: dict) -> Any:
    """The task's bare environment, ready for `put`."""
    env: Any = envs.make(task, backend).unwrapped  # a robot's own class, each with what is needed here
    env.reset(seed=0)
    if "target" in reference:
        env.goal = reference["target"]
    return env


def put(env, reference: dict, start: int, step: int) -> None:
    """Sets the recorded state, with the solver's warm start, without which a step is not the recorded one."""
    env.set_state(reference["qpos"][start, step], reference["qvel"][start, step])
    env.data.qacc_warmstart[:] = reference["warmstart"][start, step]


def single_steps(env, reference: dict) -> tuple[np.ndarray, np.ndarray]:
    """Errors of observations and rewards of each step from its recorded state, `[starts, steps]`."""
    return _errors(env, reference, open_loop=False)


def open_loop(env, reference: dict) -> tuple[np.ndarray, np.ndarray]:
    """Errors of observations and rewards along whole trajectories from their first states, `[starts, steps]`."""
    return _errors(env, reference, open_loop=True)


def _errors(env, reference, open_loop):
    errors = np.zeros((2, *reference["rewards"].shape))
    for start, step in np.ndindex(reference["rewards"].shape):
        if step == 0 or not open_loop:
            put(env, reference, start, step)
        observation, reward, *_ = env.step(reference["actions"][start, step])
        errors[0, start, step] = np.abs(observation - reference["observations"][start, step + 1]).max()
        errors[1, start, step] = np.abs(reward - reference["rewards"][start, step])
    return errors[0], errors[1]


def rows(path: Path, backends: list[str]) -> list[str]:
    """Two table rows for each backend: observations and rewards."""
    task, reference = path.stem.removeprefix("physics_"), read(path)
    lines = []
    for backend in backends:
        try:
            env = environment(task, backend, reference)
        except UserError as error:
            lines.append(f"| {task} | {backend} | {str(error).partition(':')[0].partition(';')[0]} | | | | | |")
            continue
        kinds = zip(("observations", "rewards"), single_steps(env, reference), open_loop(env, reference), strict=True)
        for kind, single, trajectory in kinds:
            cells = [f"{single.max():.0e}"]
            cells += [f"{trajectory[:, n - 1].max():.0e}" if n <= trajectory.shape[1] else "" for n in STEPS]
            lines.append(f"| {task} | {backend} | {kind} | {' | '.join(cells)} |")
    return lines


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bdpo_jax.envs.parity", description=__doc__.split("\n\n")[1])
    parser.add_argument("folder", type=Path, help="with reference trajectories, for instance tests/data")
    parser.add_argument("--backend", nargs="+", default=["mujoco", "gymnasium"], choices=envs.BACKENDS)
    options = parser.parse_args(arguments)
    paths = sorted(options.folder.glob("*.npz"))
    if not paths:
        sys.exit(f"Error: there are no .npz files in {options.folder}; give a folder of reference trajectories.")
    later = "".join(f" after {n} |" for n in STEPS)
    tell(f"| task | backend | largest difference of | one step, recorded states |{later}")
    tell("| --- " * (4 + len(STEPS)) + "|")
    for path in paths:
        tell("\n".join(rows(path, options.backend)))


if __name__ == "__main__":
    main()
