"""Task names -> environments and the reference scores that normalise their returns.

Tasks are D4RL's names (`hopper-medium-v2`, `antmaze-umaze-v0`, ...) and `pointmass`. MuJoCo is imported only
when an environment that needs it is made.
"""

import gymnasium
import numpy as np

from bdpo_jax.data import d4rl
from bdpo_jax.data.dataset import unknown_name
from bdpo_jax.data.pointmass import MAX_EPISODE_STEPS as POINTMASS_STEPS
from bdpo_jax.envs.antmaze import AntMazeEnv
from bdpo_jax.envs.locomotion import HalfCheetahEnv, HopperEnv, Walker2dEnv
from bdpo_jax.envs.pointmass import PointMassEnv
from bdpo_jax.types import UserError

BACKENDS = ("mujoco",)

_RUNNERS = {"halfcheetah": HalfCheetahEnv, "hopper": HopperEnv, "walker2d": Walker2dEnv}

# Mean returns of a random and of an expert policy, as D4RL fixed them.
_REFERENCE_SCORES = {
    "halfcheetah": (-280.178953, 12135.0),
    "hopper": (-20.272305, 3234.3),
    "walker2d": (1.629008, 4592.3),
    "antmaze": (0.0, 1.0),
}


def make(task: str, backend: str = "mujoco", render_mode: str | None = None) -> gymnasium.Env:
    """A fresh environment of a task, with its step limit.

    Args:
      task: a D4RL name or "pointmass".
      backend: "mujoco", the only one so far: D4RL's physics on a current mujoco.
      render_mode: None or "rgb_array" (MuJoCo tasks).

    Raises:
      UserError: unknown task or backend, or mujoco is not installed.
    """
    if backend not in BACKENDS:
        raise unknown_name("environment backend", backend, BACKENDS)
    robot = _robot(task)
    if robot == "pointmass":
        env = PointMassEnv()
    elif robot == "antmaze":
        _, maze, *_, version = task.split("-")
        env = AntMazeEnv(maze, goal_every_reset=version == "v2", render_mode=render_mode)
    else:
        env = _RUNNERS[robot](render_mode=render_mode)
    return gymnasium.wrappers.TimeLimit(env, max_episode_steps(task))


def max_episode_steps(task: str) -> int:
    """The step at which an episode of a task is cut off, which is no terminal.

    Raises:
      UserError: unknown task.
    """
    return POINTMASS_STEPS if _robot(task) == "pointmass" else d4rl.TASKS[task].max_episode_steps


def reference_scores(task: str) -> tuple[float, float] | None:
    """The `(random, expert)` returns that are 0 and 100 on D4RL's scale; None for a task without such.

    Raises:
      UserError: unknown task.
    """
    return _REFERENCE_SCORES.get(_robot(task))


def normalized_score(task: str, returns: np.ndarray) -> np.ndarray:
    """D4RL's score `100 (return - random) / (expert - random)`, of the shape of `returns`, float64.

    Raises:
      UserError: unknown task, or one without reference scores.
    """
    scores = reference_scores(task)
    if scores is None:
        raise UserError(f"The task {task} has no reference scores to normalise by; report its returns as they are.")
    random, expert = scores
    return 100.0 * (np.asarray(returns, np.float64) - random) / (expert - random)


def _robot(task):
    """ "halfcheetah", "hopper", "walker2d", "antmaze" or "pointmass"."""
    known = ("pointmass", *d4rl.TASKS)
    if task not in known:
        raise unknown_name("task", task, known)
    return task.split("-")[0]
