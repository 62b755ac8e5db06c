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
  hopper-medium              10, 11    65.3 66.6           80.9 40.3              47.1 67.1

Intervals of 95% over five seeds (t), behavior model, best of ten, BDPO: hopper-medium-replay 9.2 [8.5, 10.0], 28 [25,
32], 36.1 [28.4, 43.7]; halfcheetah-medium 41.1 [40.9, 41.3], 44.7 [44.6, 44.8], 44.9 [44.6, 45.1];
halfcheetah-medium-replay 16.4 [12.6, 20.2], 42.3 [41.9, 42.7], 42.4 [42.2, 42.7].

IQL, seed 10, 50,000 updates: 41.7 on halfcheetah-medium, 34.6 on hopper-medium-replay; there 25.2 after 33,000, which
take the six minutes of BDPO.
On hopper-medium the policy is above the behavior model on seeds 0 and 1, on which eta was chosen (71 and 76 against
60 and 59), below it or equal on 10 and 11; the program says so at the end. On seeds 0 and 1 a single draw of the
actor's falls within its 3,000 updates, from 60 and 49 to 40 and 41, while the best of ten of them goes from 70 and
37 by way of 48, 59; 68, 38; 80, 69 (every 500 updates) to 71 and 68, intervals of ten to either side: what helps is
the choice, not the step. The best of ten of the behavior model's draws by the last Q has 52, 39, 81 and 40 on seeds
0, 1, 10 and 11. 60,000 updates of Q do not mend it (51 against 60, seed 0); the paper has twenty members there,
quick four. walker2d and the full budgets have not been run.
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
