"""Task names -> environments and the reference scores that normalise their returns.

Tasks are D4RL's names (`hopper-medium-v2`, `antmaze-umaze-v0`, ...) and `pointmass`. MuJoCo is imported only
when an environment that needs it is made.
"""

import sys
import warnings

import gymnasium
import numpy as np

from bdpo_jax.data import d4rl
from bdpo_jax.data.dataset import unknown_name
from bdpo_jax.data.pointmass import MAX_EPISODE_STEPS as POINTMASS_STEPS
from bdpo_jax.envs.antmaze import AntMazeEnv
from bdpo_jax.envs.locomotion import HalfCheetahEnv, HopperEnv, Walker2dEnv
from bdpo_jax.envs.original import OriginalEnv
from bdpo_jax.envs.physics import import_mujoco
from bdpo_jax.envs.pointmass import PointMassEnv
from bdpo_jax.errors import Notice, UserError

BACKENDS = ("mujoco", "gymnasium", "d4rl")

_RUNNERS = {"halfcheetah": HalfCheetahEnv, "hopper": HopperEnv, "walker2d": Walker2dEnv}
_GYMNASIUM = {"halfcheetah": "HalfCheetah-v4", "hopper": "Hopper-v4", "walker2d": "Walker2d-v4"}


def make(task: str, backend: str = "mujoco", render_mode: str | None = None) -> gymnasium.Env:
    """A fresh environment of a task, with its step limit.

    Its `unwrapped` has `model`, `data` and `set_state(qpos, qvel)` where the task is MuJoCo's. The same tasks are
    registered with gymnasium as `bdpo/TASK`: after `import bdpo_jax.envs`, `gymnasium.make("bdpo/hopper-medium-v2")`.

    Args:
      task: a D4RL name or "pointmass".
      backend: "mujoco": D4RL's physics on a current mujoco; "gymnasium": gymnasium's own -v4 robots, whose physics are
        not D4RL's; "d4rl": the original d4rl, gym and mujoco-py, where installed.
      render_mode: None or "rgb_array" (MuJoCo tasks, not with backend "d4rl").

    Raises:
      UserError: unknown task or backend, a backend without this task, or a missing package.
    """
    return gymnasium.wrappers.TimeLimit(make_endless(task, backend, render_mode), max_episode_steps(task))


def make_endless(task: str, backend: str = "mujoco", render_mode: str | None = None) -> gymnasium.Env:
    """`make` without the step limit: what `gymnasium.make` calls, which adds its own."""
    if backend not in BACKENDS:
        raise unknown_name("environment backend", backend, BACKENDS)
    robot = _robot(task)
    if robot == "pointmass":
        return PointMassEnv()
    if backend == "d4rl":
        if render_mode is not None:
            raise UserError("backend 'd4rl' draws no pictures here; use render_mode with backend 'mujoco'.")
        return OriginalEnv(task)
    if backend == "gymnasium":
        return _gymnasiums_own(robot, render_mode)
    if robot == "antmaze":
        _, maze, *_, version = task.split("-")
        return AntMazeEnv(maze, goal_every_reset=version == "v2", render_mode=render_mode)
    return _RUNNERS[robot](render_mode=render_mode)


def _gymnasiums_own(robot: str, render_mode: str | None) -> gymnasium.Env:
    if robot == "antmaze":
        raise UserError("gymnasium has no environment with D4RL's ant and mazes; use backend 'mujoco'.")
    import_mujoco()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            # Without its wrappers: the step limit is ours, and its checker would warn at every environment.
            env = gymnasium.make(_GYMNASIUM[robot], render_mode=render_mode, disable_env_checker=True)
    except ImportError as error:  # gymnasium's own robots import its window code
        raise UserError(f"backend 'gymnasium' needs one more package ({error}): pip install imageio.") from error
    return env.unwrapped


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
    return d4rl.REFERENCE_SCORES.get(_robot(task))


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


def _register():
    for task in ("pointmass", *d4rl.TASKS):
        gymnasium.register(
            id=f"bdpo/{task}",
            entry_point="bdpo_jax.envs:make_endless",
            max_episode_steps=max_episode_steps(task),
            kwargs={"task": task},
        )
    # Of ant mazes there are v0 and v2, which are two tasks: neither is out of date.
    warnings.filterwarnings("ignore", r".*The environment bdpo/antmaze-.* is out of date", DeprecationWarning)


def _warn_of_unsupported(version: tuple[int, int]) -> None:
    if version >= (3, 14):
        warnings.warn(
            f"Python {version[0]}.{version[1]} has no mujoco whose physics are verified to be D4RL's: MuJoCo tasks "
            "need Python 3.10 to 3.13 to be scored as D4RL does.",
            Notice,
            stacklevel=3,
        )


_register()
_warn_of_unsupported(sys.version_info[:2])
