"""Environments of other packages, fitted to a policy: flat observations, actions in [-1, 1], starts by seed alone."""

import contextlib
import inspect
import random
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np

from bdpo_jax.data import spaces
from bdpo_jax.envs.contract import told
from bdpo_jax.errors import UserError


def make(
    called: str, construct: Callable[[], gymnasium.Env], observation_space: gymnasium.Space | None = None
) -> "Fitted":
    """Makes an environment and fits it.

    Args:
      called: what errors call it.
      construct: returns it; may raise anything.
      observation_space: by which observations are flattened; None: the environment's own.

    Raises:
      UserError: it cannot be made, or its actions are no finite box of real numbers of one axis.
    """
    try:
        return Fitted(construct(), observation_space)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"The environment {called} cannot be made, {told(error)}: install or mend what it needs, or train without "
            "scores, --config.env=none."
        ) from error


class Fitted(gymnasium.Wrapper):
    """An environment with flat observations `[width]` (float32) and with actions in [-1, 1].

    A reset with a seed fixes the start, also where an environment draws it from NumPy's or Python's global generator
    or from its space of actions, and where its `reset` takes no seed but draws from `self.np_random`.

    Args:
      env: the environment.
      observation_space: by which observations are flattened; None: the environment's own.

    Attributes:
      own_action_space: the box of its actions in its own units.

    Raises:
      UserError: its actions are no finite box of real numbers of one axis.
    """

    def __init__(self, env: gymnasium.Env, observation_space: gymnasium.Space | None = None):
        super().__init__(_with_any_reset(env))
        self._observed = env.observation_space if observation_space is None else observation_space
        self.own_action_space = spaces.finite_box(env.action_space)
        self._is_unit = bool(np.all(self.own_action_space.low == -1) and np.all(self.own_action_space.high == 1))
        width = gymnasium.spaces.flatdim(self._observed)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (width,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, self.own_action_space.shape, np.float32)

    def reset(self, *, seed=None, options=None):
        if seed is None:
            observation, info = self.env.reset(options=options)
        else:
            self.unwrapped.action_space.seed(seed)
            with global_generators(seed):
                observation, info = self.env.reset(seed=seed, options=options)
        return spaces.flatten(self._observed, observation), info

    def step(self, action):
        own = action if self._is_unit else spaces.own_actions(action, self.own_action_space)
        observation, *rest = self.env.step(own)
        return spaces.flatten(self._observed, observation), *rest


def kept(construct: Callable[[], gymnasium.Env]) -> Callable[[], gymnasium.Env]:
    """Returns a function like `construct` whose environments are used again after their `close`.

    For environments that take seconds to make, and that a reset with a seed puts back entirely. They are kept as long
    as the function is.
    """
    idle: list[gymnasium.Env] = []
    return lambda: idle.pop() if idle else _Kept(construct(), idle)


class _Kept(gymnasium.Wrapper):
    def __init__(self, env: gymnasium.Env, idle: list[gymnasium.Env]):
        super().__init__(env)
        self._idle = idle

    def close(self):
        if not any(env is self for env in self._idle):
            self._idle.append(self)


@contextlib.contextmanager
def global_generators(seed: int) -> Iterator[None]:
    """NumPy's and Python's global generators from a seed, and as they were afterwards."""
    before = np.random.get_state(), random.getstate()
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before[0])
        random.setstate(before[1])


class _PlainReset(gymnasium.Wrapper):
    """An environment whose `reset` takes neither of `seed` and `options`, or one: it is given what it takes."""

    def __init__(self, env: gymnasium.Env, taken: set[str]):
        super().__init__(env)
        self._taken = taken

    def reset(self, *, seed=None, options=None):
        if seed is not None and "seed" not in self._taken:
            self.unwrapped.np_random = np.random.default_rng(seed)
        given = {"seed": seed, "options": options}
        return self.env.reset(**{key: given[key] for key in self._taken})


def _with_any_reset(env: gymnasium.Env) -> gymnasium.Env:
    """The environment, below whose wrappers there is a `_PlainReset` where it needs one."""
    core = env.unwrapped
    parameters = inspect.signature(core.reset).parameters
    taken = {"seed", "options"} & set(parameters)
    if len(taken) == 2 or any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return env
    plain: Any = _PlainReset(core, taken)
    wrapper: Any = env
    if env is core:
        return plain
    while wrapper.env is not core:
        wrapper = wrapper.env
    wrapper.env = plain
    return env
