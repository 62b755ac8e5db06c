"""The original stack (d4rl 1.1, gym 0.23, mujoco-py) behind gymnasium's interface, where it is installed."""

import contextlib
import functools
import importlib
import io
import os
import warnings

import gymnasium
import numpy as np

from bdpo_jax.envs.foreign import global_generators
from bdpo_jax.errors import UserError


@functools.cache
def import_gym():
    """The `gym` module with D4RL's MuJoCo tasks registered in it.

    Raises:
      UserError: a package of the original stack is missing.
    """
    os.environ.setdefault("D4RL_SUPPRESS_IMPORT_ERROR", "1")
    os.environ.setdefault("MUJOCO_PY_FORCE_CPU", "1")
    try:
        with _quietly():
            for name in ("d4rl", "d4rl.gym_mujoco"):  # the first gives up before the second where mjrl is missing
                importlib.import_module(name)
            return importlib.import_module("gym")
    except ImportError as error:
        raise UserError(
            f"backend 'd4rl' needs the original stack, of which {error.name or error} is missing: "
            "docs/original-stack.md has the recipe; backend 'mujoco' gives the same physics without it."
        ) from error


class OriginalEnv(gymnasium.Env):
    """A D4RL task as d4rl makes it, without its step limit.

    `gym`'s four-tuples become five-tuples. A seeded reset fixes the start state and, in antmaze, the goal, neither of
    which the original's own `reset(seed=)` does.

    Args:
      task: a D4RL name.
    """

    metadata = {"render_modes": []}
    render_mode = None

    def __init__(self, task: str):
        with _quietly():
            self._env = import_gym().make(task).unwrapped
        self._robot = self._env
        while "_wrapped_env" in vars(self._robot):
            self._robot = self._robot._wrapped_env
        size, width = self._env.observation_space.shape[0], self._env.action_space.shape[0]
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (width,), np.float32)
        self._is_antmaze = task.startswith("antmaze")

    @property
    def model(self):
        return self._robot.sim.model

    @property
    def data(self):
        return self._robot.sim.data

    @property
    def goal(self):
        return np.array(self._robot.target_goal)

    @goal.setter
    def goal(self, position):
        self._robot.target_goal = tuple(position)

    def set_state(self, qpos: np.ndarray, qvel: np.ndarray):
        """Puts the robot into the state `qpos [nq]`, `qvel [nv]`."""
        self._robot.set_state(np.array(qpos), np.array(qvel))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        with _quietly(), global_generators(int(self.np_random.integers(2**31))):
            if seed is not None:
                self._robot.seed(int(self.np_random.integers(2**31)))
                if self._is_antmaze:
                    self._robot.set_target()
            return np.asarray(self._env.reset(), np.float64), {}

    def step(self, action):
        observation, reward, done, _ = self._env.step(np.asarray(action, np.float64))
        info = {"success": bool(reward)} if self._is_antmaze else {}
        return np.asarray(observation, np.float64), float(reward), bool(done), False, info


@contextlib.contextmanager
def _quietly():
    """The stack deprecates itself at every turn and prints each goal."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
