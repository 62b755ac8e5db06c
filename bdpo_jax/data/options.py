"""The settings of data and environment, the same for every algorithm."""

import dataclasses

from bdpo_jax.settings import anything, choice, number

GENERATED = ("synthetic2d", "pointmass")
SIMULATED = ("pointmass", "d4rl", "minari", "ogbench", "file")  # scored by episodes


@dataclasses.dataclass(frozen=True)
class Data:
    """What to train on, and what to score in."""

    family: str = choice("d4rl", ("synthetic2d", "pointmass", "minari", "ogbench", "file"), "kind of task")
    task: str = anything("", "name of the task within its family")
    dataset_path: str = anything(
        "",
        "a file in D4RL's format, or the folder that holds the task's; empty: D4RL's cache, or download",
        may_change=True,
        of=("d4rl", "ogbench", "file"),
    )
    columns: str = anything(
        "",
        "of a file of one's own, where its keys lie: 'observations=a,b_*;actions=c' (docs/own-data.md)",
        of=("file",),
    )
    env: str = anything(
        "",
        "gymnasium id to score in, of one's own file or a Minari dataset; empty: the task's own; none: no scores",
        nothing=("", "none"),
        of=SIMULATED,
    )
    action_bounds: tuple = anything(
        (),
        "(low, high) of the actions of one's own file, or such a pair for each component; empty: env's, else -1 and 1",
        may_change=True,  # what changes the data is found there
        of=("file",),
    )
    backend: str = anything(
        "mujoco", "of D4RL tasks: mujoco (D4RL's physics), gymnasium (-v4), d4rl (original stack)", of=("d4rl",)
    )
    mirrors: tuple[str, ...] = anything(
        ("http://rail.eecs.berkeley.edu/datasets/offline_rl",),
        "where D4RL's files are looked for, in turn",
        may_change=True,
        of=("d4rl",),
    )
    dataset_memory: str = choice(
        "auto",
        ("device", "host"),
        "where the data lie while training; auto: on the host where they would take over half of the device's memory",
        may_change=True,
    )
    dataset_size: int = number(0, "generated transitions (2D) or episodes (point mass)", least=0, of=GENERATED)
    dataset_seed: int = number(-1, "of generated data; -1: the run's seed", least=-1, of=GENERATED)
    reward_scaling: str = anything(
        "auto",
        "auto: 1000 / (max - min return), in D4RL's antmaze 100 [rel], in OGBench 1; none; or a number",
        of=("d4rl", "minari", "ogbench", "file"),
    )
    reward_shift: float = number(
        0.0, "added to every reward after scaling, as some methods want in antmaze", of=SIMULATED
    )
    temperature: float = number(
        0.0, "of the 2D sets' Boltzmann truth, reward units; 0: the algorithm's eta", least=0, of=("synthetic2d",)
    )
