"""What the config files share: reading "TASK,ALGORITHM,VARIANT", and composing a config from its parts."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from bdpo_jax import settings
from bdpo_jax.agents import AGENTS
from bdpo_jax.data.dataset import unknown_name
from bdpo_jax.data.options import Data
from bdpo_jax.errors import UserError
from bdpo_jax.training.options import Training
from configs import methods


class Choice(NamedTuple):
    """What the argument of a config file asks for."""

    task: str
    agent: str
    variant: str


def read(argument: str | None, default: str, variants: Sequence[str]) -> Choice:
    """Returns what "TASK", "TASK,ALGORITHM", "TASK,VARIANT" or "TASK,ALGORITHM,VARIANT" names.

    Args:
      argument: the text; "": the default task.
      default: the task.
      variants: those of the file; the first is the default one.

    Raises:
      UserError: a word is neither an algorithm nor a variant, or one of these is where the task should be.
    """
    task, *words = (argument or default).split(",")
    for kind, known in (("the algorithm", AGENTS), ("the variant", variants)):
        if task in known:
            raise UserError(f"{argument!r} begins with {kind} {task!r}; the task comes first: TASK,ALGORITHM,VARIANT.")
    for word in words:
        nearest("algorithm or variant", word, [*AGENTS, *variants])
    agents, others = ([word for word in words if word in known] for known in (AGENTS, variants))
    for named in (agents, others):
        if len(named) > 1:
            raise UserError(f"The argument {argument!r} names both {named[0]!r} and {named[1]!r}; give one of them.")
    return Choice(task or default, *(agents or [Training.agent]), *(others or [variants[0]]))


def compose(choice: Choice, family: str, values: Mapping[str, Any], by_variant: Mapping[str, Mapping] | None = None):
    """Returns the config of a task: defaults, what the family says, then the algorithm's own values.

    Args:
      choice: of `read`.
      family: kind of task.
      values: of the trainer and of the data.
      by_variant: more of those, by variant.
    """
    config: ConfigDict = settings.make(Training, Data, AGENTS[choice.agent])
    recipe = f"{family}/{choice.task},{choice.agent},{choice.variant}"
    made = {"agent": choice.agent, "family": family, "task": choice.task, "recipe": recipe}
    settings.update(config, {**made, **values})
    settings.update(config, (by_variant or {}).get(choice.variant, {}))
    for pattern, row in methods.TABLES[choice.agent]:
        if re.fullmatch(pattern, f"{family}/{choice.task},{choice.variant}"):
            settings.update(config, row)
    return config


def nearest(kind: str, name: str, known) -> str:
    """Returns `name` if it is known, else raises a `UserError` that names the nearest known one."""
    if name not in known:
        raise unknown_name(kind, name, known)
    return name
