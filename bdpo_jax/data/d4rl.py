"""D4RL's datasets, and files in their format, read by h5py alone.

The rules are those of D4RL's `qlearning_dataset`: a row's successor is the next row of the file, rows without
a stored successor are dropped, and only `terminals` are terminal.
"""

import os
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from bdpo_jax.data.dataset import Dataset, check, check_arrays, unknown_name
from bdpo_jax.types import UserError

REQUIRED_KEYS = ("observations", "actions", "rewards", "terminals")
ACTION_BOUND = 1 - 1e-5  # keeps actions off the edge of the box, as in the released code


class Task(NamedTuple):
    """Where a task's data lies (`folder` is the one on D4RL's host) and how long its episodes may be."""

    name: str
    family: str
    folder: str
    file: str
    max_episode_steps: int


def _locomotion(robot: str, quality: str) -> Task:
    file = f"{robot}_{quality.replace('-', '_')}-v2.hdf5"
    return Task(f"{robot}-{quality}-v2", "locomotion", "gym_mujoco_v2", file, 1000)


def _antmaze(maze: str, file_maze: str, multistart: bool, multigoal: bool, limit: int, version: str) -> Task:
    folder, suffix = {"v0": ("ant_maze_new", ""), "v2": ("ant_maze_v2", "_fixed")}[version]
    file = f"Ant_maze_{file_maze}_noisy_multistart_{multistart}_multigoal_{multigoal}_sparse{suffix}.hdf5"
    return Task(f"antmaze-{maze}-{version}", "antmaze", folder, file, limit)


_ROBOTS = ("halfcheetah", "hopper", "walker2d")
_QUALITIES = ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert")
_MAZES = (
    ("umaze", "u-maze", False, False, 700),
    ("umaze-diverse", "u-maze", True, True, 700),
    ("medium-play", "big-maze", True, False, 1000),
    ("medium-diverse", "big-maze", True, True, 1000),
    ("large-play", "hardest-maze", True, False, 1000),
    ("large-diverse", "hardest-maze", True, True, 1000),
)
_ENTRIES = (
    *(_locomotion(robot, quality) for robot in _ROBOTS for quality in _QUALITIES),
    *(_antmaze(*maze, version) for maze in _MAZES for version in ("v0", "v2")),
)


class _Tasks(dict):
    """Task name -> `Task`; an unknown name raises a UserError that names the nearest known task."""

    def __missing__(self, name):
        raise unknown_name("D4RL task", name, self)


TASKS = _Tasks({entry.name: entry for entry in _ENTRIES})


def find(task: str, dataset_path: str = "", cache_dir: str = "") -> Path:
    """The path of a task's file.

    Args:
      task: a key of `TASKS`.
      dataset_path: a file of one's own in D4RL's format, or a folder with the task's file; "" for the cache.
      cache_dir: where D4RL's files are kept; "" for `$D4RL_DATASET_DIR`, else `~/.d4rl/datasets`.

    Raises:
      UserError: unknown task, or no such file.
    """
    entry = TASKS[task]
    if dataset_path:
        path = Path(dataset_path).expanduser()
        path = path / entry.file if path.is_dir() else path
        if not path.is_file():
            raise UserError(f"There is no file {path}; let dataset_path name an HDF5 file in D4RL's format.")
        return path
    folder = cache_dir or os.environ.get("D4RL_DATASET_DIR") or "~/.d4rl/datasets"
    path = Path(folder).expanduser() / entry.file
    if not path.is_file():
        raise UserError(
            f"The dataset of {task} is missing: put {entry.file} into {path.parent}, or let dataset_path name the file."
        )
    return path


def read(path: str | Path) -> dict:
    """Reads and checks the raw arrays of a D4RL-format HDF5 file; every other key of it is ignored.

    Returns:
      `observations [rows, observation_dim]`, `actions [rows, action_dim]`, `rewards [rows]` as float32,
      `terminals [rows]` and, where the file has them, `timeouts [rows]` as bool.

    Raises:
      UserError: not a readable HDF5 file, a missing key, or what `check_arrays` finds.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no file {path}; give the path of an HDF5 file in D4RL's format.")
    try:
        arrays, found = _stored_arrays(path)
    except Exception as error:  # in a damaged file h5py raises nearly anything, from OSError to TypeError
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} is not a readable HDF5 file, perhaps truncated ({reason}); copy or download it again."
        ) from error
    missing = [key for key in REQUIRED_KEYS if key not in arrays]
    if missing:
        listed = ", ".join(found) or "none"
        raise UserError(f"{path} lacks the key {missing[0]} (found: {listed}); a D4RL file has it.")
    raw = check_arrays(arrays, str(path))
    return {key: value != 0 if key in ("terminals", "timeouts") else value for key, value in raw.items()}


def transitions(raw: dict, max_episode_steps: int, where: str = "the dataset") -> Dataset:
    """Turns rows into transitions by the rules of D4RL's `qlearning_dataset`.

    The next observation is the next row's. Dropped are the file's last row and every row at which its episode
    timed out, even one that is terminal too, because the observation after it is not stored. Where a file
    has no `timeouts`, D4RL counts steps up to `max_episode_steps`: from 0 at first and after a time-out, but
    from 1 after a terminal, so that the episode after one times out a row early.

    Args:
      raw: the arrays of `read`.
      max_episode_steps: the environment's limit; used only without `timeouts`.
      where: what error messages call the data.

    Returns:
      The transitions in the file's order; rewards unscaled, actions untouched.

    Raises:
      UserError: no transition is left.
    """
    terminals = np.asarray(raw["terminals"], bool)
    timeouts = raw.get("timeouts")
    if timeouts is None:
        timeouts = _limit_reached(terminals, max_episode_steps, count_after_end=1)
    rows = np.flatnonzero(~np.asarray(timeouts, bool)[:-1])
    if not rows.size:
        raise UserError(
            f"No transition is left of the {len(terminals)} rows of {where}: each is the last of the file "
            "or of a timed-out episode; give longer episodes."
        )
    observations = np.asarray(raw["observations"], np.float32)
    return Dataset(
        observations=observations[rows],
        actions=np.asarray(raw["actions"], np.float32)[rows],
        rewards=np.asarray(raw["rewards"], np.float32)[rows],
        next_observations=observations[rows + 1],
        terminals=terminals[rows].astype(np.float32),
    )


def episodes(raw: dict, max_episode_steps: int, terminals_end_episodes: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Undiscounted returns and lengths of the complete episodes in the file, over all their rows.

    An episode is complete when it ends in a terminal, a time-out or, without `timeouts`, after
    `max_episode_steps` rows. The cut episode after the last end is left out, unless it is all there is.

    Args:
      raw: the arrays of `read`.
      max_episode_steps: the environment's limit; used only without `timeouts`.
      terminals_end_episodes: False for antmaze, whose terminals mark rows near the goal inside an episode.

    Returns:
      `(returns [episodes] float64, lengths [episodes] int64)`, in the file's order.
    """
    ends = np.asarray(raw["terminals"], bool) & terminals_end_episodes
    timeouts = raw.get("timeouts")
    if timeouts is None:
        timeouts = _limit_reached(ends, max_episode_steps, count_after_end=0)
    stops = np.flatnonzero(ends | np.asarray(timeouts, bool)) + 1
    if not stops.size:
        stops = np.array([len(ends)])
    starts = np.concatenate([[0], stops[:-1]])
    rewards = np.asarray(raw["rewards"], np.float64)[: stops[-1]]
    return np.add.reduceat(rewards, starts), stops - starts


def load(task: str, dataset_path: str = "", reward_scaling: str | float = "auto", cache_dir: str = "") -> Dataset:
    """The transitions of a D4RL task, rewards scaled and actions clipped to +-(1 - 1e-5), on the host.

    Args:
      task: a key of `TASKS`.
      dataset_path: see `find`.
      reward_scaling: "auto" multiplies rewards by `1000 / (max - min return over complete episodes)` in
        locomotion, by 100 in antmaze (the released code's scalings); "none" by 1; a number by itself.
      cache_dir: see `find`.

    Raises:
      UserError: see `find`, `read`, `transitions`; or a reward scaling that is unknown or undefined.
    """
    entry = TASKS[task]
    path = find(task, dataset_path, cache_dir)
    raw = read(path)
    factor = _reward_factor(entry, raw, reward_scaling, str(path))
    data = check(transitions(raw, entry.max_episode_steps, str(path)), str(path), clip_actions=True)
    return data.replace(
        rewards=data.rewards * np.float32(factor),
        actions=np.clip(data.actions, -ACTION_BOUND, ACTION_BOUND, dtype=np.float32),
    )


def _stored_arrays(path: Path) -> tuple[dict, list[str]]:
    """The arrays that we use, as stored, and the names of all arrays at the file's top level."""
    with h5py.File(path, "r") as file:
        nodes = {key: node for key, node in file.items() if isinstance(node, h5py.Dataset)}
        arrays = {key: nodes[key][()] for key in (*REQUIRED_KEYS, "timeouts") if key in nodes}
        return arrays, sorted(str(key) for key in nodes)


def _reward_factor(entry: Task, raw: dict, reward_scaling: str | float, where: str) -> float:
    if reward_scaling == "none":
        return 1.0
    if reward_scaling != "auto":
        try:
            factor = float(reward_scaling)
        except (TypeError, ValueError):
            factor = np.nan
        if not np.isfinite(factor) or factor == 0:
            raise UserError(f"reward_scaling is {reward_scaling!r}; give 'auto', 'none' or a number but 0.")
        return factor
    if entry.family == "antmaze":
        return 100.0
    returns, _ = episodes(raw, entry.max_episode_steps)
    spread = returns.max() - returns.min()
    if not spread > 0:
        raise UserError(
            f"All {len(returns)} complete episodes of {where} have the same return, so its range cannot "
            "scale the rewards; set reward_scaling to 'none' or a number."
        )
    return 1000.0 / spread


def _limit_reached(ends: np.ndarray, limit: int, count_after_end: int) -> np.ndarray:
    """Marks the rows at which a step counter reaches `limit`.

    The counter starts from 0 after such a row and from `count_after_end` after a row of `ends`.
    """
    reached = np.zeros(len(ends), bool)
    following = limit - 1  # the next row at which the counter reaches the limit, if no end comes before
    for end in np.append(np.flatnonzero(ends), len(ends) - 1):
        reached[following : end + 1 : limit] = True
        following = end + limit - (0 if reached[end] else count_after_end)
    return reached
