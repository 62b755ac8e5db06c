"""D4RL locomotion: {halfcheetah, hopper, walker2d}-{medium, medium-replay, medium-expert}-v2.

python launch.py --config=configs/locomotion.py:hopper-medium-v2               # released settings, for a GPU
python launch.py --config=configs/locomotion.py:hopper-medium-v2,paper         # Table 3 as printed
python launch.py --config=configs/locomotion.py:hopper-medium-v2,quick         # laptop-sized

Quick: 60,000 + 40,000 updates of 128x3 networks, 19 to 22 minutes on one core of an AMD EPYC (jax 0.10.2). Measured
with version 0.1 (layer norm in noise predictors) on stand-in data, normalised scores of 20 episodes with 95%
bootstrap intervals, seeds 0 and 1:

                          behavior model      its best of ten by Q   BDPO
  hopper-medium-replay    11.6 [6.4, 17.5]    66.7 [57.3, 77.0]      60.4 [52.0, 70.1]
                           6.4 [3.4, 9.9]     32.4 [31.6, 33.2]      34.9 [34.0, 36.0]
  hopper-medium           48.1 [37.5, 61.1]   56.4 [45.5, 69.9]      71.0 [56.4, 86.1]
                          51.0 [39.5, 64.6]   39.4 [38.0, 40.6]      38.5 [37.4, 39.6]
  halfcheetah-medium      43.6 [36.7, 48.5]   22.3 [14.8, 30.3]      41.8 [34.5, 48.3]
                          46.5 [42.4, 48.6]   30.5 [23.8, 37.1]      46.1 [41.4, 48.5]

So it gains on the first, not on the others: a demonstration, not a result. The full budgets have not been run.
"""

from configs import base

ROBOTS = ("halfcheetah", "hopper", "walker2d")
VARIANTS = ("released", "paper", "quick")
QUICK = {  # laptop-sized
    "evaluate_every": 10_000,
    "eval_episodes": 5,
    "final_episodes": 20,
    "log_every": 200,
    "checkpoint_every": 5_000,
}


def get_config(argument: str = ""):
    """Returns the config of "TASK[,ALGORITHM][,VARIANT]"."""
    choice = base.read(argument, "hopper-medium-v2", VARIANTS)
    base.nearest("locomotion robot", choice.task.split("-")[0], ROBOTS)
    return base.compose(choice, "d4rl", {}, {"quick": QUICK})
