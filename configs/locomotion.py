"""D4RL locomotion: {halfcheetah, hopper, walker2d}-{medium, medium-replay, medium-expert}-v2.

python launch.py --config=configs/locomotion.py:hopper-medium-v2               # released settings, for a GPU
python launch.py --config=configs/locomotion.py:hopper-medium-v2,paper         # Table 3 as printed
python launch.py --config=configs/locomotion.py:hopper-medium-v2,quick         # laptop-sized

Quick trains 128x3 networks: the behavior model, then Q on the data's own actions, then everything. Halfcheetah: 40,000,
40,000 and 10,000 updates, nine minutes of one core of an AMD EPYC, evaluations included.
Hopper and walker2d: 20,000, 20,000 and 4,000, with twenty rewards of the data in each target of Q, six minutes. All
with jax 0.10.2, on files made by D4RL's protocol, which are not D4RL's; settings chosen on seed 0. Normalised scores of
20 episodes of the last checkpoint:

                             seeds     behavior model      its best of ten by Q   BDPO
  halfcheetah-medium         10 to 14  41 41 41 41 41      44.7 44.6 44.8 44.7    45.0 44.9 44.6 44.8
                                                           44.8                   45.1
  halfcheetah-medium-replay  10 to 14  18 12 17 20 15      42.6 42.5 42.2 41.8    42.5 42.7 42.4 42.1
                                                           42.3                   42.5
  hopper-medium-replay       10 to 14  9.0 8.5 9.5 10 9.1  30 32 25 26 29         31.5 43.3 38.9 28.1 38.6
  hopper-medium              10 to 14  65 67 63 66 62      81 40 71 27 55         47.1 67.1 75.0 31.5 83.5

Intervals of 95% over five seeds (t), behavior model, best of ten, BDPO: hopper-medium-replay 9.2 [8.5, 10.0], 28 [25,
32], 36.1 [28.4, 43.7]; halfcheetah-medium 41.1 [40.9, 41.3], 44.7 [44.6, 44.8], 44.9 [44.6, 45.1];
halfcheetah-medium-replay 16.4 [12.6, 20.2], 42.3 [41.9, 42.7], 42.4 [42.2, 42.7]; hopper-medium 64.7 [62.3, 67.0], 55
[28, 82], 60.8 [34, 87].

IQL, 50,000 updates, which take three to four minutes of a core on which BDPO's take two to three, seeds 10 to 14:
hopper-medium-replay 34.6, 35.8, 68.3, 16.4, 9.0, 32.8 [4.3, 61.3]; halfcheetah-medium 41.7, 41.2, 41.3, 41.2, 38.0,
40.7 [38.8, 42.6]; halfcheetah-medium-replay 27.7, 26.5, 25.4, 30.7, 27.1, 27.5 [25.0, 30.0]; hopper-medium 30.7, 51.8,
23.9, 22.1, 43.7, 34.4 [18.4, 50.4]. So BDPO is above it on both halfcheetah files; on hopper's five seeds do not tell
them apart. After four times the updates BDPO's seed 10 has 48.8 on halfcheetah-medium (45.0 before; its best of ten
47.8), 45.3 on halfcheetah-medium-replay (42.5 before; 44.9), 29.0 on hopper-medium-replay (31.5 before) and 48.1 on
hopper-medium (47.1 before; behavior model 64.4): what Q ranks wrongly there does not mend itself.
On hopper-medium, on average, the policy gains nothing: on seeds 0 and 1, on which eta was chosen, it scores 70 and 79
against 60 and 61, on 12 and 14 it is above the behavior model, on 10 and 13 below, which the program says at the end.
What varies is how Q ranks. The policies of seeds 0 and 1, scored on other starts: one draw 42 and 40, the best of ten
70 and 67, of a hundred 79 and 80; but those of seeds 10 and 11 with a hundred 59 and 59, with ten 47 and 67. Twelve
members instead of four (71 on seed 0, the behavior model's best of ten 34), sixty rewards in each target instead of
twenty (49) and 60,000 updates of Q (51) do not mend it; the paper has twenty members there and fifty times the
updates. walker2d and the full budgets have not been run.
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
