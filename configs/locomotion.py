"""D4RL locomotion: {halfcheetah, hopper, walker2d}-{medium, medium-replay, medium-expert}-v2.

python launch.py --config=configs/locomotion.py:hopper-medium-v2               # released settings, for a GPU
python launch.py --config=configs/locomotion.py:hopper-medium-v2,paper         # Table 3 as printed
python launch.py --config=configs/locomotion.py:hopper-medium-v2,quick         # laptop-sized

Quick: 40,000 updates of the behavior model, 40,000 (hopper 20,000) of Q on the data's own next actions, 10,000 of
everything, with 128x3 networks: 9 (hopper 7) minutes of one core of an AMD EPYC, evaluations included (jax 0.10.2).
Measured on files made by D4RL's protocol, which are not D4RL's; settings chosen on seed 0. Normalised scores of 20
episodes of the last checkpoint, for seeds 10, 11 and 12:

                             behavior model     its best of ten by Q   BDPO               IQL, seed 10
  halfcheetah-medium         41.4, 41.0, 40.9   44.7, 44.6, 44.8       45.0, 44.9, 44.6   41.7
  halfcheetah-medium-replay  17.7 (seed 10)     42.6                   42.5               not run
  hopper-medium-replay       10.1, 8.4, 8.8     18.3, 18.1, 17.8       17.5, 17.3, 17.3   34.6
  hopper-medium              68.8 (seed 10)     24.1                   42.9               not run

IQL's 50,000 updates took six minutes of one core. It is better on hopper-medium-replay, BDPO on halfcheetah-medium.
On hopper-medium Q misleads, after so few updates or with four members (the paper has twenty): the best of ten is worst,
and a policy that follows Q falls; the program says so at the end. With --config.eta=20 it stays by its behavior model
(58.3 against 64.5, seed 1). The full budgets have not been run.
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
