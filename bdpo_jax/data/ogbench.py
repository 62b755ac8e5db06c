"""OGBench's single-task datasets, through its own package (extra `ogbench`)."""

import contextlib
import functools
import importlib
import io
from collections.abc import Callable

import gymnasium
import numpy as np

from bdpo_jax.data import d4rl, rewards
from bdpo_jax.data.dataset import Dataset, check
from bdpo_jax.envs import foreign
from bdpo_jax.errors import UserError
from bdpo_jax.workdir import expanded


def _package(name: str):
    if "singletask" not in name.split("-"):
        raise UserError(f"OGBench's {name!r} has no rewards; give its single-task form (...-singletask-task1-v0).")
    try:
        return importlib.import_module("ogbench")
    except ImportError as error:
        raise UserError(f"OGBench's datasets need its package ({error}): pip install '.[ogbench]'.") from error


def load(name: str, dataset_path: str = "", reward_scaling: str | float = "auto") -> Dataset:
    """The dataset of `load_scaled`."""
    return load_scaled(name, dataset_path, reward_scaling)[0]


def load_scaled(
    name: str, dataset_path: str = "", reward_scaling: str | float = "auto"
) -> tuple[Dataset, rewards.Scaling]:
    """The training transitions of a single-task dataset, relabelled with its task's rewards by the package.

    Args:
      name: for instance `antmaze-large-navigate-singletask-task1-v0`.
      dataset_path: its npz file, whose `-val.npz` lies beside it; "" for the package's cache, or a download.
      reward_scaling: "auto" and "none" leave the rewards (-1 a step, 0 at the goal) as they are; a number scales them.

    Raises:
      UserError: no such dataset, or the package is missing.
    """
    package = _package(name)
    path = str(expanded(dataset_path)) if dataset_path else None
    try:
        # The package prints where it downloads from.
        with contextlib.redirect_stdout(io.StringIO()):
            arrays, _ = package.make_env_and_datasets(name, dataset_path=path)[1:]
    except Exception as error:  # its download, NumPy's reader and gymnasium's registry raise what they like
        reason = " ".join(str(error).split())
        raise UserError(
            f"OGBench cannot load {name!r} ({type(error).__name__}: {reason}); put its npz files into ~/.ogbench/data, "
            "or let dataset_path name the one without -val."
        ) from error
    data = Dataset(
        observations=arrays["observations"],
        actions=arrays["actions"],
        rewards=arrays["rewards"],
        next_observations=arrays["next_observations"],
        terminals=1 - np.asarray(arrays["masks"], np.float32),  # its `terminals` are ends of episodes
    )
    data = check(data, f"OGBench's {name}", clip_actions=True)
    none = np.zeros(0)  # the package gives transitions, not whole episodes
    scaling = rewards.find_scaling(reward_scaling, 1.0, none, none, np.asarray(data.rewards), name)
    return d4rl.finish(data, scaling, name), scaling


def environment(name: str) -> Callable[[], gymnasium.Env]:
    """A function that makes the task's environment, fitted (see `foreign.Fitted`).

    To make one takes seconds; those that are closed are used again.

    Raises:
      UserError: no single-task name, or the package is missing.
    """
    package = _package(name)

    def construct() -> gymnasium.Env:
        return package.make_env_and_datasets(name, env_only=True)

    return foreign.kept(functools.partial(foreign.make, f"of OGBench's {name!r}", construct))
