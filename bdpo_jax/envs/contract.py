"""What episodes need of an environment, whoever wrote it; what goes wrong in it is told in its name."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from bdpo_jax.errors import UserError

MEND = "mend the environment, or go on without scores, --config.env=none"


class Trial(NamedTuple):
    """What a first look at an environment found.

    Attributes:
      observation_dim, action_dim: widths.
      action_space: in the environment's own units, where it was fitted (see `foreign.Fitted`).
    """

    observation_dim: int
    action_dim: int
    action_space: gymnasium.Space


def trial(make: Callable[[], gymnasium.Env], seed: int) -> Trial:
    """Makes an environment, resets it and takes one step, in the middle of the box of its actions.

    Foreign code so runs for the first time before there is anything to lose.

    Args:
      make: the function that makes it.
      seed: of the reset.

    Raises:
      UserError: there is no step limit, or see `reset` and `step`.
    """
    env = make()
    try:
        if not _has_step_limit(env):
            raise UserError(
                f"The environment {name(env)} has no step limit, so that an episode may never end; register it with "
                "max_episode_steps, or train without scores, --config.env=none."
            )
        width = gymnasium.spaces.flatdim(env.action_space)
        observation, _ = reset(env, seed, 0)
        step(env, np.zeros(width, np.float32), 0, 0)
        own = "own_action_space"
        space = env.get_wrapper_attr(own) if isinstance(env, gymnasium.Wrapper) and env.has_wrapper_attr(own) else None
        return Trial(len(observation), width, env.action_space if space is None else space)
    finally:
        env.close()


def reset(env: gymnasium.Env, seed: int, episode: int) -> tuple[np.ndarray, dict]:
    """Begins an episode.

    Args:
      env: the environment, whose observations are boxes of one axis.
      seed: of the start.
      episode: its number, for errors.

    Returns:
      The observation `[width]` as float32, and the info.

    Raises:
      UserError: the environment raises, gives something else than an observation of its space and an info, or NaN or
        infinite numbers.
    """
    try:
        found = env.reset(seed=seed)
        if not isinstance(found, tuple) or len(found) != 2:
            raise TypeError("reset must return (observation, info)")
        observation = _observed(env, found[0])
    except UserError:
        raise
    except Exception as error:
        raise _fault(env, f"raised {told(error)}, at the reset of episode {episode}") from error
    if not np.isfinite(observation).all():
        raise _fault(env, f"gave {_worst(observation)} at the reset of episode {episode}")
    return observation, found[1]


def step(
    env: gymnasium.Env, action: np.ndarray, number: int, episode: int
) -> tuple[np.ndarray, float, bool, bool, dict]:
    """Takes a step.

    Args:
      env: the environment, whose observations are boxes of one axis.
      action: `[width]`.
      number: how many steps the episode has had, for errors.
      episode: its number, for errors.

    Returns:
      As `env.step`, the observation `[width]` as float32. An array of one number is a reward, too; the last observation
      of an episode may be anything.

    Raises:
      UserError: as for `reset`; or the reward is not one finite number.
    """
    try:
        observation, reward, terminated, truncated, info = env.step(action)
        observation, paid, ends = _observed(env, observation), _one(reward), (bool(terminated), bool(truncated))
    except UserError:
        raise
    except Exception as error:
        raise _fault(env, f"raised {told(error)}, at step {number} of episode {episode}") from error
    if not np.isfinite(paid):
        raise _fault(env, f"gave the reward {paid} at step {number} of episode {episode}")
    if not any(ends) and not np.isfinite(observation).all():
        raise _fault(env, f"gave {_worst(observation)} at step {number} of episode {episode}")
    return observation, paid, *ends, info


def name(env: gymnasium.Env) -> str:
    """Returns an environment's id, or the name of its class."""
    spec = env.unwrapped.spec
    return repr(spec.id) if spec is not None else type(env.unwrapped).__name__


def told(error: Exception) -> str:
    """Returns an error of foreign code in one line: kind, message and place."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    message = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' if message else ''}{message} ({Path(place.filename).name} line {place.lineno})"


def _has_step_limit(env: gymnasium.Env) -> bool:
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.wrappers.TimeLimit):
            return True
        env = env.env
    return False


def _fault(env: gymnasium.Env, what: str) -> UserError:
    return UserError(f"The environment {name(env)} {what}: {MEND}.")


def _observed(env: gymnasium.Env, observation: Any) -> np.ndarray:
    with np.errstate(over="ignore"):  # becomes infinite, and is reported as that
        found = np.asarray(observation, np.float32)
    if found.shape != env.observation_space.shape:
        expected = env.observation_space.shape
        if found.size != np.prod(expected or (1,)):
            raise ValueError(f"an observation has the shape {list(found.shape)}, its space {list(expected or ())}")
        found = found.reshape(expected)
    return found


def _one(reward: Any) -> float:
    if np.size(reward) != 1:
        raise ValueError(f"a reward must be one number, not {reward!r}")
    return float(np.asarray(reward).item())


def _worst(observation: np.ndarray) -> str:
    component = int(np.argmin(np.isfinite(observation)))
    return f"an observation whose component {component} is {observation[component]}"
