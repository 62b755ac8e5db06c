"""The paper's experiments as tables of runs, at the paper's size and at a laptop's.

python -m bdpo_jax.experiments --list
python -m bdpo_jax.experiments figure7 --size=laptop --workdir=runs/figure7
python -m bdpo_jax.experiments table1_locomotion --size=laptop --data=DIR  # with the files DIR/TASK.hdf5

The laptop's size takes tasks that need no download, but for table 1 and equal_time, whose files are D4RL's. The full
size is for GPUs and has not been run.
"""

from bdpo_jax.agents import AGENTS
from bdpo_jax.experiments import Runs, Script
from configs.antmaze import MAZES
from configs.locomotion import ROBOTS

SEEDS = (0, 1, 2, 3, 4)  # the paper's number
POLICY_CLASSES = ("bdpo", "gaussian", "deterministic")
METHODS = tuple(name for name in AGENTS if name not in ("gaussian", "deterministic"))  # the latter are ablations
LOCOMOTION = tuple(f"{robot}-{data}-v2" for data in ("medium", "medium-replay", "medium-expert") for robot in ROBOTS)
ANTMAZE = tuple(f"antmaze-{maze}-v0" for maze in MAZES)
SETS = ("8gaussians", "2spirals", "checkerboard", "moons", "rings", "swissroll")
PLANAR = tuple(n for n in ("bdpo", "dac", "diffusion_ql", "qgpo", "sfbc", "gaussian", "deterministic") if n in AGENTS)

# Updates that three minutes of one core of an AMD EPYC had time for, evaluations and compilation apart: each method's
# "quick" counts on hopper-medium-replay times one number.
THREE_MINUTES = {
    "bdpo": {"pretrain_steps": 10_400, "value_steps": 10_400, "train_steps": 2_000, "value_warmup_steps": 400},
    "dac": {"train_steps": 9_600},
    "diffusion_ql": {"train_steps": 8_000},
    "iql": {"train_steps": 17_000},
    "idql": {"pretrain_steps": 12_200, "train_steps": 18_400},
    "dtql": {"pretrain_steps": 3_600, "train_steps": 17_600},
    "qgpo": {"pretrain_steps": 13_600, "value_steps": 10_200, "train_steps": 10_200},
    "sfbc": {"pretrain_steps": 72_000, "train_steps": 27_000},
    "decision_diffuser": {"train_steps": 1_800, "final_episodes": 5},
    "cql": {"cloning_steps": 1_400, "train_steps": 7_000},
    "fql": {"train_steps": 14_000},
    "rebrac": {"train_steps": 31_000},
    "gaussian": {"pretrain_steps": 14_200, "value_steps": 14_200, "train_steps": 2_800, "value_warmup_steps": 600},
    "deterministic": {"pretrain_steps": 14_800, "value_steps": 14_800, "train_steps": 3_000, "value_warmup_steps": 600},
}
MEDIUM = ("halfcheetah-medium-v2", "hopper-medium-v2", "walker2d-medium-v2")

EXPERIMENTS = {
    "table1_locomotion": {  # and the curves of figure 12
        "full": [Runs("locomotion", LOCOMOTION, METHODS, seeds=SEEDS)],
        "laptop": [Runs("locomotion", ("hopper-medium-replay-v2",), METHODS, "quick", seeds=(0, 1))],
    },
    "table1_antmaze": {  # and the curves of figure 13
        "full": [Runs("antmaze", ANTMAZE, METHODS, seeds=SEEDS)],
        "laptop": [Runs("antmaze", ("antmaze-umaze-v0",), METHODS, "quick", seeds=(0, 1))],
    },
    "equal_time": {  # every method on the same three minutes of one core
        "laptop": [
            Runs(
                "locomotion",
                ("hopper-medium-replay-v2", "halfcheetah-medium-v2"),
                (agent,),
                "quick",
                seeds=(10, 11, 12),
                changes={"evaluate_every": 1_000_000, "eval_episodes": 1, "final_episodes": 20} | updates,
            )
            for agent, updates in THREE_MINUTES.items()
        ],
    },
    "figure1": {  # its argument: what each policy class makes of a distribution with several modes
        "full": [Runs("synthetic2d", SETS, PLANAR, "paper")],
        "laptop": [Runs("synthetic2d", SETS, PLANAR, "quick")],
    },
    "figure4": {  # the two sets of its rows, which are also those of figure 5
        "full": [Runs("synthetic2d", ("8gaussians", "2spirals"), variant="paper")],
        "laptop": [Runs("synthetic2d", ("8gaussians", "2spirals"), variant="quick")],
    },
    "figure6": {
        "full": [
            Runs("locomotion", ("halfcheetah-medium-expert-v2", "walker2d-medium-v2"), POLICY_CLASSES, seeds=SEEDS)
        ],
        "laptop": [
            Runs("pointmass", ("pointmass",), POLICY_CLASSES, seeds=(0, 1, 2), changes={"evaluate_every": 2_000})
        ],
    },
    "figure7": {  # the paper's text prints neither its tasks nor its values; these are ours, around the released ones
        "full": [
            Runs("locomotion", MEDIUM, seeds=SEEDS, sweep={"eta": (0.01, 0.05, 0.15, 0.5, 1.0)}, label="eta"),
            Runs("locomotion", MEDIUM, seeds=SEEDS, sweep={"rho": (0.0, 0.5, 1.0, 2.0, 4.0)}, label="rho"),
        ],
        "laptop": [
            Runs("pointmass", ("pointmass",), seeds=(0, 1), sweep={"eta": (0.01, 0.03, 0.1, 0.3, 1.0)}, label="eta"),
            Runs("pointmass", ("pointmass",), seeds=(0, 1), sweep={"rho": (0.0, 0.5, 1.0, 2.0, 4.0)}, label="rho"),
        ],
    },
    "figure10": {
        "full": [Script("benchmarks/runtime.py")],
        "laptop": [Script("benchmarks/runtime.py", ("--steps", "5", "10", "--repeats", "2"))],
    },
    "figure11": {
        "full": [Runs("synthetic2d", SETS, variant="paper")],
        "laptop": [Runs("synthetic2d", SETS, variant="quick")],
    },
    "pointmass": {"laptop": [Runs("pointmass", ("pointmass",), tuple(AGENTS), seeds=(0, 1, 2))]},
}
