"""D4RL antmaze: {umaze, umaze-diverse, medium-play, medium-diverse, large-play, large-diverse}, -v0 or -v2.

python launch.py --config=configs/antmaze.py                               # antmaze-umaze-v0, released settings
python launch.py --config=configs/antmaze.py:antmaze-large-play-v0,paper   # Tables 2 and 3 as printed
python launch.py --config=configs/antmaze.py:antmaze-umaze-v0,quick        # laptop-sized

Quick, 64,000 updates of 128x3 networks with twenty rewards of the data in each target of Q, ten minutes of one core of
an AMD EPYC. On stand-in data (docs/reproduce.md) for antmaze-umaze-diverse-v0 (26% of whose episodes see a reward),
success in 50 episodes, seeds 10 to 14, mean and 95% interval over seeds (t); "best of ten" is `behavior_best_of`:

  behavior model                        0   0   0   0   0%   0
  best of ten by Q                     16  24   8  12  20%  16.0 [8.1, 23.9]
  BDPO                                 10  18  14  10  32%  16.8 [5.5, 28.1]
  IQL (`,iql,quick --config.train_steps=50000`, by targets of one step)
                                        0   0   0   0   0%   0
  after four times the updates (twelve minutes of a faster core):
  best of ten by Q                     46   6   4  28  66%  30 [-3, 63]
  BDPO                                 62   6  16  20  44%  30 [1, 58]

The settings are the first that were tried so, on seed 0. Four times the updates (`--config.pretrain_steps=160000
--config.value_steps=80000 --config.train_steps=16000 --config.value_warmup_steps=4000`) mostly add to the spread; what
they change was not taken apart.

Where there is little to stitch, the policy loses: on stand-in data for antmaze-umaze-v0, 85% of whose episodes reach
their goal, seeds 10, 11, the behavior model succeeds in 96, 82%, its best of ten in 96, 78%, BDPO in 84, 64%, which the
program says at the end (docs/antmaze.png: seed 10). The values are right along the whole maze, but their error from one
action to the next is as large as what an action can gain: one step is worth .5% of them.
"""

from configs import base, locomotion

MAZES = ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse")
QUICK = locomotion.QUICK | {"evaluate_every": 15_000, "eval_episodes": 20, "final_episodes": 50}


def get_config(argument: str = ""):
    """Returns the config of "TASK[,ALGORITHM][,VARIANT]"."""
    choice = base.read(argument, "antmaze-umaze-v0", locomotion.VARIANTS)
    base.nearest("antmaze", choice.task.rpartition("-v")[0] or choice.task, [f"antmaze-{maze}" for maze in MAZES])
    return base.compose(choice, "d4rl", {"eval_episodes": 100}, {"quick": QUICK})
