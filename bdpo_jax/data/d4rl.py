"""D4RL's datasets, and files in their format, downloaded where they are missing and read by h5py alone.

The rules are those of D4RL's `qlearning_dataset`: a row's successor is the next row of the file, rows without
a stored successor are dropped, and only `terminals` are terminal.
"""

import functools
import os
import warnings
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pooch

from bdpo_jax.data import download, rewards
from bdpo_jax.data.dataset import Dataset, check, unknown_name
from bdpo_jax.data.files import read
from bdpo_jax.errors import Notice, UserError
from bdpo_jax.workdir import expanded

ACTION_BOUND = 1 - 1e-5  # keeps actions off the edge of the box, as in the released code


# Mean returns of a random and of an expert policy, as D4RL fixed them.
REFERENCE_SCORES = {
    "halfcheetah": (-280.178953, 12135.0),
    "hopper": (-20.272305, 3234.3),
    "walker2d": (1.629008, 4592.3),
    "antmaze": (0.0, 1.0),
}


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


def find(task: str, dataset_path: str = "", cache_dir: str = "", mirrors: Sequence[str] = ()) -> Path:
    """The path of a task's file, which is downloaded into the cache if it is not there.

    A download must be D4RL's file byte for byte where `known_files` has its checksum, and readable otherwise. A file
    that is there already, or that `dataset_path` names, may be any.

    Args:
      task: a key of `TASKS`.
      dataset_path: a file of one's own in D4RL's format, or a folder with the task's file; "" for the cache.
      cache_dir: where D4RL's files are kept; "" for `$D4RL_DATASET_DIR`, else `~/.d4rl/datasets`.
      mirrors: where to download from, tried in turn; none: nothing is downloaded. Each is the URL of a folder laid
        out as D4RL's host, or a URL with `{file}` in place of the file's name.

    Raises:
      UserError: unknown task, no such file, or no mirror gave it.
    """
    entry = TASKS[task]
    if dataset_path:
        path = expanded(dataset_path)
        path = path / entry.file if os.path.isdir(path) else path
        if not os.path.isfile(path):
            raise UserError(f"There is no file {path}; let dataset_path name an HDF5 file in D4RL's format.")
        return path
    folder = cache_dir or os.environ.get("D4RL_DATASET_DIR") or "~/.d4rl/datasets"
    path = expanded(folder) / entry.file
    if path.is_file():
        return path
    if not mirrors:
        raise UserError(
            f"The dataset of {task} is missing: put {entry.file} into {path.parent}, or let dataset_path name the file."
        )
    return download.fetch([_url(mirror, entry) for mirror in mirrors], path, check=_check_download)


def _url(mirror: str, entry: Task) -> str:
    if "{file}" in mirror:
        return mirror.replace("{file}", entry.file)
    return f"{mirror.rstrip('/')}/{entry.folder}/{entry.file}"


def _check_download(path: Path) -> None:
    if path.name not in known_files():
        read(path)
        return
    size, known = known_files()[path.name]
    found = pooch.file_hash(path)
    if found != known:
        raise UserError(
            f"its SHA-256 is {found} ({path.stat().st_size} bytes), that of D4RL's file is {known} ({size} bytes); "
            "a file packed anew is used where --config.dataset_path=FILE names it"
        )


@functools.cache
def known_files() -> dict[str, tuple[int, str]]:
    """File name -> (bytes, SHA-256) of D4RL's files; of all but that of antmaze-medium-play-v2."""
    table = resources.files("bdpo_jax.data").joinpath("d4rl_files.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in table.splitlines()[1:])
    return {file: (int(size), sha256) for file, size, sha256 in rows}


def known_file(path: str | Path) -> str | None:
    """The name of D4RL's file that equals the one at `path` byte for byte, whatever that is called; None without one.

    A file is read only if one of D4RL's has its size.

    Raises:
      OSError: there is no such file.
    """
    actual = Path(path).stat().st_size
    for name, (size, sha256) in known_files().items():
        if size == actual and pooch.file_hash(path) == sha256:
            return name
    return None


def source(path: Path) -> dict[str, str | None]:
    """Returns what tells the data of one file from those of another.

    Returns:
      `file` (its name), `sha256`, and `d4rl_file`, the name of D4RL's file that it equals byte for byte, or None.
    """
    found = pooch.file_hash(path)
    names = {sha256: name for name, (_, sha256) in known_files().items()}
    return {"file": path.name, "sha256": found, "d4rl_file": names.get(found)}


def transitions(raw: dict, max_episode_steps: int, where: str = "the dataset", keep_terminals: bool = False) -> Dataset:
    """Turns rows into transitions by the rules of D4RL's `qlearning_dataset`.

    The next observation is the next row's. Dropped are the file's last row and every row at which its episode
    timed out, even one that is terminal too, because the observation after it is not stored. Where a file
    has no `timeouts`, D4RL counts steps up to `max_episode_steps`: from 0 at first and after a time-out, but
    from 1 after a terminal, so that the episode after one times out a row early.

    Args:
      raw: the arrays of `read`.
      max_episode_steps: the environment's limit; used only without `timeouts`.
      where: what error messages call the data.
      keep_terminals: unlike D4RL, keep a row that is both terminal and timed out, whose next observation is not
        needed.

    Returns:
      The transitions in the file's order; rewards unscaled, actions untouched.

    Raises:
      UserError: no transition is left.
    """
    terminals = np.asarray(raw["terminals"], bool)
    timeouts = raw.get("timeouts")
    if timeouts is None:
        timeouts = _limit_reached(terminals, max_episode_steps, count_after_end=1)
    dropped = np.array(timeouts, bool)
    dropped[-1] = True
    if keep_terminals:
        dropped &= ~terminals
    rows = np.flatnonzero(~dropped)
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
        next_observations=observations[np.minimum(rows + 1, len(observations) - 1)],
        terminals=terminals[rows].astype(np.float32),
        last=np.diff(rows, append=len(terminals)) != 1,
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
    paid = np.asarray(raw["rewards"], np.float64)[: stops[-1]]
    return np.add.reduceat(paid, starts), stops - starts


class Reading(NamedTuple):
    """A file by the rules that training reads it by, before its rewards are scaled.

    Attributes:
      where: what error messages call it.
      raw: the arrays of `files.read`, actions mapped to the box [-1, 1], but not clipped.
      data: the transitions, actions clipped.
      returns, lengths: `[episodes]` of the complete episodes, undiscounted, and in rows.
      auto: what the reward scaling "auto" is; None: 1000 / (max - min return).
      doubt: why `returns` and the rows' order mean nothing; "" where they do.
      remedy: of the doubt.
      notices: what else is odd in the ends of episodes, in whole sentences.
    """

    where: str
    raw: dict
    data: Dataset
    returns: np.ndarray
    lengths: np.ndarray
    auto: float | None = None
    doubt: str = ""
    remedy: str = ""
    notices: tuple[str, ...] = ()

    def scaling(self, scaling: str | float) -> rewards.Scaling:
        """Returns what "auto", "none" or a number multiplies rewards by.

        Raises:
          UserError: see `rewards.find_scaling`, or "auto" where there is a doubt.
        """
        if scaling == "auto" and self.doubt:
            raise UserError(
                f"{self.doubt}: the returns of its episodes cannot scale the rewards; {self.remedy}, or set "
                "reward_scaling to 'none' or a number."
            )
        found = self.returns, self.lengths, self.raw["rewards"]
        return rewards.find_scaling(scaling, self.auto, *found, self.where)

    def scaled(self, scaling: str | float) -> tuple[Dataset, rewards.Scaling]:
        """Returns the dataset to train on, and the scaling of its rewards; see `scaling` and `finish`."""
        found = self.scaling(scaling)
        if self.doubt:
            warnings.warn(
                f"{self.doubt}: what reads the data's own next actions, returns or windows (value_steps, n_step, "
                f"nu='data', ReBRAC, SfBC, the Decision Diffuser) finds few of them; {self.remedy}.",
                Notice,
                stacklevel=2,
            )
        for notice in self.notices:
            warnings.warn(notice, Notice, stacklevel=2)
        return finish(self.data, found, self.where), found


def by_rules(raw: dict, task: str, where: str = "the dataset") -> Reading:
    """Reads the arrays of `read` by the rules of a D4RL task.

    In antmaze terminals mark rows near the goal, inside episodes, which time-outs alone end.

    Raises:
      UserError: see `transitions` and `dataset.check`.
    """
    entry = TASKS[task]
    is_antmaze = entry.family == "antmaze"
    data = check(transitions(raw, entry.max_episode_steps, where), where, clip_actions=True)
    found = episodes(raw, entry.max_episode_steps, terminals_end_episodes=not is_antmaze)
    return Reading(where, raw, data, *found, auto=100.0 if is_antmaze else None)


def load(
    task: str,
    dataset_path: str = "",
    reward_scaling: str | float = "auto",
    cache_dir: str = "",
    mirrors: Sequence[str] = (),
) -> Dataset:
    """The dataset of `load_scaled`."""
    return load_scaled(task, dataset_path, reward_scaling, cache_dir, mirrors)[0]


def load_scaled(
    task: str,
    dataset_path: str = "",
    reward_scaling: str | float = "auto",
    cache_dir: str = "",
    mirrors: Sequence[str] = (),
) -> tuple[Dataset, rewards.Scaling]:
    """The transitions of a D4RL task, rewards scaled and actions clipped to +-(1 - 1e-5), on the host; and the scaling.

    Args:
      task: a key of `TASKS`.
      dataset_path: see `find`.
      reward_scaling: "auto" multiplies rewards by `1000 / (max - min return over complete episodes)` in
        locomotion, by 100 in antmaze (the released code's scalings); "none" by 1; a number by itself.
      cache_dir, mirrors: see `find`.

    Raises:
      UserError: see `find`, `read`, `transitions`; or a reward scaling that is unknown or undefined.
    """
    path = find(task, dataset_path, cache_dir, mirrors)
    return by_rules(read(path), task, str(path)).scaled(reward_scaling)


def finish(data: Dataset, scaling: rewards.Scaling, where: str = "the dataset") -> Dataset:
    """Scales the rewards and keeps the actions off the edge of the box, as in the released code.

    Raises:
      UserError: see `rewards.scale`.
    """
    actions = np.clip(data.actions, -ACTION_BOUND, ACTION_BOUND, dtype=np.float32)
    return rewards.scale(data, scaling, where).replace(actions=actions)


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
