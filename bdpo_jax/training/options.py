"""The trainer's own settings, the same for every algorithm and task."""

import dataclasses

from bdpo_jax import settings
from bdpo_jax.agents import AGENTS
from bdpo_jax.data.dataset import unknown_name
from bdpo_jax.data.options import SIMULATED, Data
from bdpo_jax.errors import UserError
from bdpo_jax.settings import anything, number

MOST_SEED = 2**32 - 1


@dataclasses.dataclass(frozen=True)
class Training:
    """How a run is trained, scored, logged and saved."""

    agent: str = anything("bdpo", "the algorithm, a name of bdpo_jax.agents.AGENTS")
    recipe: str = anything("", "FAMILY/TASK,ALGORITHM,VARIANT that a config file made this of; empty: made by hand")
    seed: int = number(0, "the seed of the run: networks, batches, noise, episodes", least=0, most=MOST_SEED)
    batch_size: int = number(256, "transitions per update [T2]", least=1)

    # Groups: several runs over one dataset, each in a directory of its own; `sweep` gives several values of a number.
    seeds: tuple[int, ...] = anything((), "several seeds instead of one")
    runs_at_once: int = number(0, "so many runs of a group train side by side; 0: all", least=0, may_change=True)
    devices: int = number(0, "how many to use, runs first, then parts of the batch; 0: all", least=0, may_change=True)

    evaluate_every: int = number(50_000, "updates; the end of a phase is scored, too", least=1, may_change=True)
    eval_episodes: int = number(10, "per evaluation; antmaze 100", least=1, may_change=True, of=SIMULATED)
    final_episodes: int = number(0, "in the last evaluation; 0: eval_episodes", least=0, may_change=True, of=SIMULATED)
    log_every: int = number(1_000, "updates; a stop signal may have to wait as long", least=1, may_change=True)
    checkpoint_every: int = number(50_000, "updates; the end of a phase is saved, too", least=1, may_change=True)
    keep_checkpoints: int = number(3, "how many checkpoints are kept", least=1, may_change=True)
    profile_updates: int = number(
        0, "record so many updates of the last phase with JAX's profiler; 0: none", least=0, may_change=True
    )

    wandb: str = anything("", "name of a Weights & Biases project; empty: none", may_change=True)
    compilation_cache: str = anything(
        "~/.cache/bdpo_jax", "folder of compiled programs, reused by later starts; empty: none", may_change=True
    )
    deterministic: bool = anything(False, "on GPUs, XLA's deterministic operations: resumes are exact there, too")


def owners(config) -> tuple:
    """Returns the classes and the algorithm that a config's keys belong to.

    Raises:
      UserError: there is no such algorithm.
    """
    if config.agent not in AGENTS:
        raise unknown_name("algorithm", config.agent, AGENTS)
    agent = AGENTS[config.agent]
    missing = [field.name for field in settings.fields_of(agent) if field.name not in config]
    if missing:
        raise UserError(
            f"The config has no {missing[0]!r}, a setting of {config.agent}: name the algorithm in the config file's "
            "argument, --config=configs/FILE.py:TASK,ALGORITHM."
        )
    return Training, Data, agent


def check(config) -> None:
    """Raises a `UserError` that names the first key whose value makes no sense, or that the task would not read."""
    settings.check(config, *owners(config))
    made = f"{config.family}/{config.task},{config.agent}"
    if config.recipe and config.recipe.rpartition(",")[0] != made:
        raise UserError(
            f"config.family, task and agent are {made!r}, but the other settings were made for {config.recipe!r}: name "
            "the task and the algorithm in the config file's argument, --config=configs/FILE.py:TASK,ALGORITHM."
        )
    settings.refuse_unread(config, config.family, Training, Data)
    seeds = tuple(config.seeds)
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed <= MOST_SEED for seed in seeds)
    if not whole or len(set(seeds)) != len(seeds):
        raise UserError(
            f"config.seeds is {seeds!r}; it must be a tuple of different whole numbers, from 0 to {MOST_SEED}."
        )
    for name, values in config.sweep.items():
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        if not numbers or len(set(values)) != len(values):
            raise UserError(f"config.sweep.{name} is {tuple(values)!r}; it must be a tuple of different numbers.")
    agent = AGENTS[config.agent]
    agent.check(config)
    if hasattr(agent.Static, "schedule"):  # of diffusion, which refuses what float32 cannot hold
        _ = settings.read(agent.Static, config, action_dim=1).schedule


def describe(config) -> str:
    """Returns a line for each setting of a config: its name, value and meaning; then how several are swept.

    Raises:
      UserError: there is no such algorithm.
    """
    sweeps = "Several values of one of the algorithm's numbers: --config.sweep.NAME=(A,B)."
    return f"{settings.describe(config, *owners(config))}\n{sweeps}"


def may_change(config) -> tuple[str, ...]:
    """Returns the keys in which a run that goes on may differ from its beginning."""
    return settings.changeable(*owners(config))


def unread(config) -> tuple[str, ...]:
    """Returns the keys that the config's kind of tasks does not read, whatever they were when a run began."""
    return tuple(field.name for field in settings.unread(config.get("family", ""), Training, Data))


def may_drop(config) -> dict[str, tuple]:
    """Returns the keys that a run that goes on may drop or add, with the values that stand for none."""
    return settings.droppable(*owners(config))
