"""What a report is made of: the runs in some directories, and their rows by task."""

import dataclasses
import os
from collections.abc import Iterable, Sequence

from bdpo_jax import results
from bdpo_jax.report import tables
from bdpo_jax.report.tables import Row, Table
from bdpo_jax.results import Problem, Run, by_task


@dataclasses.dataclass(frozen=True)
class Contents:
    """What the directories hold.

    Attributes:
      runs: all, finished or not.
      problems: what is missing, broken or not finished.
      rows: of the scored runs, by task.
    """

    runs: Sequence[Run]
    problems: Sequence[Problem]
    rows: dict[str, list[Row]]

    @property
    def by_task(self) -> dict[str, list[Run]]:
        return by_task(self.runs)

    @property
    def going_on(self) -> bool:
        """Whether a run has not come to its end, or has not begun."""
        return any(problem.kind in ("unfinished", "missing") for problem in self.problems)

    def summaries(self) -> dict[str, Table]:
        """A table for each task that has scored runs."""
        return {task: tables.summary(task, own) for task, own in self.rows.items() if own}

    def across(self) -> dict[str, Table]:
        """Tables over several tasks, by the name of their files."""
        beside = tables.beside_published(self.rows)
        found = {} if beside is None else {"table1": beside}
        return found | {f"over_tasks_{i}": table for i, table in enumerate(tables.over_tasks(self.rows))}


def read(directories: Iterable[str | os.PathLike]) -> Contents:
    """Reads the runs in and below some directories.

    Raises:
      UserError: a directory does not exist, or holds no run.
    """
    runs, problems = results.find(directories)
    return Contents(runs, problems, {task: tables.rows(own) for task, own in by_task(runs).items()})
