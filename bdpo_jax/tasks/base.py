"""What the trainer knows of a task, and what a task knows of an algorithm: policies, and views for pictures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import jax

from bdpo_jax.data.dataset import Dataset
from bdpo_jax.data.rewards import Scaling
from bdpo_jax.types import Array

Act = Callable[[Array, jax.Array], jax.Array]  # (observations [..., S], key) -> actions [..., A]


class Acting(NamedTuple):
    """An algorithm's policies and views with a state, see `agents.base.Agent`; both by name."""

    policies: Mapping[str, Act]
    views: Mapping[str, Callable]


class Task(Protocol):
    """Data, scores and pictures of a task.

    Attributes:
      dataset: on the host.
      scaling: of its rewards; None where they are used as they are.
      source: the file that the data come from, see `data.d4rl.source`; {} where they are made or a package has them.
      references: what to compare scores with: figures that no policy decides.
    """

    dataset: Dataset
    scaling: Scaling | None
    source: dict[str, str | None]

    @property
    def references(self) -> dict: ...

    def for_run(self, config) -> "Task":
        """Returns the task of another run of the same group."""

    def evaluate(
        self, acting: Acting, policies: Sequence[str], episodes: int, key: jax.Array, before_step: Callable[[], None]
    ) -> dict[str, dict]:
        """Returns the scores of some policies by name; {} where nothing can be scored.

        Args:
          acting: with these policies.
          policies: which of them.
          episodes: of each, with the same starts for all and at every call.
          key: of a policy's noise, where no episodes are run.
          before_step: called before each step; what it raises ends the evaluation.
        """

    def headline(self, scores: dict[str, dict]) -> dict | None:
        """Returns the number to compare runs by, `{"name", "value", "interval"}`; None where nothing was scored."""

    def summary(self, scores: dict[str, dict]) -> str:
        """Returns the headline and what it is to be compared with, as text."""

    def advice(self, scores: dict[str, dict]) -> str:
        """Returns the sentence that names a better policy than the algorithm's own; "" where none scores better."""

    def draw(self, directory: Path, acting: Acting, key: jax.Array, scores: dict[str, dict]) -> Path | None:
        """Draws the task's picture into a directory and returns its path; None for a task without one."""


def data_seed(config) -> int:
    """Returns the seed of generated data: `config.dataset_seed`, or the run's own where that is negative."""
    return config.seed if config.dataset_seed < 0 else config.dataset_seed


def title(config) -> str:
    """Returns what a picture is headed with: algorithm, task and strength of the penalty, if there is one."""
    eta = getattr(config, "eta", None)
    return f"{config.agent.upper()} on {config.task}" + ("" if eta is None else f", eta = {eta:g}")
