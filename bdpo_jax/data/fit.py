"""How a file of transitions fits the gymnasium environment that it is to be scored in."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import gymnasium
import numpy as np

from bdpo_jax.data import d4rl, spaces
from bdpo_jax.envs import contract
from bdpo_jax.envs.foreign import Fitted

EPISODES = 5  # of random actions
LITTLE = 0.6  # of the action box, below which actions may be of another unit


class Fit(NamedTuple):
    """What is found: lines of figures, and sentences about what does not fit."""

    lines: list[str]
    suspicious: list[str]


def compare(raw: Mapping[str, np.ndarray], make: Callable[[], Fitted], name: str) -> Fit:
    """Compares shapes, bounds, rewards and lengths of a file with an environment, and with random actions in it.

    Args:
      raw: the arrays of `d4rl.Reading`, but actions in the environment's own units.
      make: of `custom.environment`, an environment with a step limit.
      name: what the lines call the environment.
    """
    env = make()
    (low, high), own = _observation_bounds(env), env.own_action_space
    limit = env.spec.max_episode_steps if env.spec is not None else None
    lines = [
        f"environment  {name}: observations {len(low)}, actions {own.shape[0]} in "
        f"{_range(own.low, own.high)}, at most {limit} steps"
    ]
    notes = []
    for key, expected in (("observations", len(low)), ("actions", own.shape[0])):
        if raw[key].shape[1] != expected:
            notes.append(f"{key} are {raw[key].shape[1]} wide, those of {name} {expected}")
    if not notes:
        for key, least, most in (("observations", low, high), ("actions", own.low, own.high)):
            notes += _outside(key, raw[key], least, most, name)
        largest = float(np.abs(spaces.unit_actions(raw["actions"], own)).max())
        lines.append(f"             the file's actions use {min(largest, 1):.0%} of that box")
        if largest < LITTLE:
            notes.append(f"no action uses more than {largest:.0%} of the box of {name}: are they in other units?")
    returns, lengths, rewards, ended = _random_episodes(env)
    env.close()
    own_returns, own_lengths = d4rl.episodes(dict(raw), limit or len(raw["rewards"]) + 1)
    lines.append(f"rewards      file {_range(raw['rewards'])}; {EPISODES} episodes of random actions {_range(rewards)}")
    lines.append(f"returns      file {_range(own_returns)}; random actions {_range(returns)}")
    lines.append(f"steps        file {_range(own_lengths)}; random actions {_range(lengths)}")
    if raw["rewards"].min() > rewards.max() or raw["rewards"].max() < rewards.min():
        notes.append(f"no reward of the file is in the range of those of random actions in {name}: another scale?")
    notes += _ends(raw, own_lengths, limit, ended, name)
    return Fit(lines, notes)


def _ends(raw, lengths: np.ndarray, limit: int | None, ended: int, name: str) -> list[str]:
    notes = []
    if limit is not None and lengths.max() > limit:
        notes.append(f"{(lengths > limit).sum()} episodes are longer than the {limit} steps of {name}")
    stops = np.cumsum(lengths) - 1
    cut = raw.get("timeouts", np.zeros(len(raw["terminals"]), bool))[stops] & ~raw["terminals"][stops]
    early = cut & (lengths < (limit or 0))
    if early.any():
        notes.append(f"{early.sum()} of {len(lengths)} episodes were cut off before the {limit} steps of {name}")
    if ended and not raw["terminals"].any():
        notes.append(f"no row is terminal, but {ended} of {EPISODES} episodes of random actions end in a terminal")
    return notes


def _outside(key: str, values: np.ndarray, low: np.ndarray, high: np.ndarray, name: str) -> list[str]:
    beyond = (values < low.astype(np.float32)) | (values > high.astype(np.float32))
    if not beyond.any():
        return []
    row, place = np.argwhere(beyond)[0]
    bounds = _range(low[place], high[place])
    return [
        f"{beyond.any(axis=1).sum()} rows have {key} outside the bounds of {name}, the first is row {row}: number "
        f"{place} is {values[row, place]:.4g}, its bounds {bounds}"
    ]


def _random_episodes(env: gymnasium.Env) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Returns and lengths `[EPISODES]` of random actions, all their rewards, and how many ended in a terminal."""
    env.action_space.seed(0)
    episodes, ended = [], 0
    for seed in range(EPISODES):
        contract.reset(env, seed, seed)
        paid: list[float] = []
        terminated = truncated = False
        while not (terminated or truncated):
            action = env.action_space.sample()
            _, reward, terminated, truncated, _ = contract.step(env, action, len(paid), seed)
            paid.append(reward)
        ended += terminated
        episodes.append(np.array(paid))
    return np.array([e.sum() for e in episodes]), np.array([len(e) for e in episodes]), np.concatenate(episodes), ended


def _observation_bounds(env: gymnasium.Env) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds `[width]` of flat observations: the environment's own where they are a box, else none."""
    flat, own = env.observation_space, env.unwrapped.observation_space
    assert isinstance(flat, gymnasium.spaces.Box), "what is fitted has boxes of one axis"
    if isinstance(own, gymnasium.spaces.Box) and own.low.size == flat.low.size:
        return own.low.ravel(), own.high.ravel()
    return flat.low, flat.high


def _range(low, high=None) -> str:
    """ "[LOW, HIGH]" of one array's values, or of two."""
    return f"[{np.min(low):.4g}, {np.max(low if high is None else high):.4g}]"
