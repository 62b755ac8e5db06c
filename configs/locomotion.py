"""D4RL locomotion: {halfcheetah, hopper, walker2d}-{medium, medium-replay, medium-expert}-v2.

python launch.py --config=configs/locomotion.py:hopper-medium-v2               # released settings, for a GPU
python launch.py --config=configs/locomotion.py:hopper-medium-v2,paper         # Tables 2 and 3 as printed
python launch.py --config=configs/locomotion.py:hopper-medium-v2,quick         # laptop-sized

Quick trains 128x3 networks: the behavior model, then Q on the data's own actions, then everything. Halfcheetah: 40,000,
40,000 and 10,000 updates, nine minutes of one core of an AMD EPYC, evaluations included. Hopper and walker2d: 20,000,
20,000 and 4,000, with twenty rewards of the data in each target of Q (hopper-medium fifty, and a discount of .997), two
to six minutes of such cores. All with jax 0.10.2, on files made by D4RL's protocol, which are not D4RL's; settings
chosen on seeds 0 to 2.

Normalised scores of 20 episodes of the last checkpoint, seeds 10 to 14, mean and 95% interval over seeds (t). "Best of
ten" is `behavior_best_of`: of ten actions of the behavior model the one of highest Q. IQL has 50,000 updates
(`,iql,quick --config.train_steps=50000`), which take a core about 1.4 times as long as BDPO's 44,000. "Four times" is
BDPO's seed 10 after four times all its updates:

  halfcheetah-medium         behavior model  41    41    41    41    41      41.1 [40.9, 41.3]
                             best of ten     44.7  44.6  44.8  44.7  44.8    44.7 [44.6, 44.8]
                             BDPO            45.0  44.9  44.6  44.8  45.1    44.9 [44.6, 45.1]   four times: 48.8
                             IQL             41.7  41.2  41.3  41.2  38.0    40.7 [38.8, 42.6]
  halfcheetah-medium-replay  behavior model  18    12    17    20    15      16.4 [12.6, 20.2]
                             best of ten     42.6  42.5  42.2  41.8  42.3    42.3 [41.9, 42.7]
                             BDPO            42.5  42.7  42.4  42.1  42.5    42.4 [42.2, 42.7]   four times: 45.3
                             IQL             27.7  26.5  25.4  30.7  27.1    27.5 [25.0, 30.0]
  hopper-medium-replay       behavior model   9.0   8.5   9.5  10     9.1     9.2 [8.5, 10.0]
                             best of ten     30    32    25    26    29      28   [25, 32]
                             BDPO            31.5  43.3  38.9  28.1  38.6    36.1 [28.4, 43.7]   four times: 29.0
                             IQL             34.6  35.8  68.3  16.4   9.0    32.8 [4.3, 61.3]
  hopper-medium              behavior model  65    67    63    68    62      64.9 [62.1, 67.8]
                             best of ten     75.4  73.9  75.4  75.5  75.6    75.1 [74.3, 76.0]
                             BDPO            79.0  74.5  77.4  77.3  78.6    77.4 [75.1, 79.6]   four times: 74.5
                             IQL             30.7  51.8  23.9  22.1  43.7    34.4 [18.4, 50.4]

So BDPO is above its behavior model on all four files, and above IQL on three; on hopper-medium-replay five seeds do not
tell these two apart.

On hopper-medium it is the discount that does it, .997 here, where the paper has .99 (and twenty members, and eighty
times Q's updates): by values of the next 100 steps Q prefers what pays now to not falling later. With .99 and twenty
rewards in each target, BDPO had 47.1, 67.1, 75.0, 31.5, 83.5 (60.8 [34, 87]), the best of ten 55 [28, 82], and neither
twelve members instead of four, nor fifty or sixty rewards, nor three times the updates of Q mended it (seed 0). IQL has
.99; with .997 it has 27.7 on seed 10. walker2d and the full budgets have not been run.
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
