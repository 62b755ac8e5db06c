"""D4RL antmaze: {umaze, umaze-diverse, medium-play, medium-diverse, large-play, large-diverse}, -v0 or -v2.

python launch.py --config=configs/antmaze.py                               # antmaze-umaze-v0, released settings
python launch.py --config=configs/antmaze.py:antmaze-large-play-v0,paper   # Table 3 as printed
python launch.py --config=configs/antmaze.py:antmaze-umaze-v0,quick        # laptop-sized

Quick, measured with version 0.1 (layer norm in noise predictors), on stand-in data for antmaze-umaze-v0 (85% of whose
episodes reach their goal), 50 episodes: success of the behavior model 90%, of BDPO 84% (95% intervals 80 to 98 and 74
to 94), 25 minutes on one core. The values are right along the whole maze (the run's values.png, docs/antmaze.png),
but their error from one action to the next is as large as what an action can gain: one step is worth 0.5% of them. So
eta is kept high, the policy stays near the behavior model, and the best of ten of the behavior model's actions by Q
never arrives. Improving on it takes the full budget.
"""

from configs import base, locomotion

MAZES = ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse")
QUICK = locomotion.QUICK | {"evaluate_every": 15_000, "eval_episodes": 20, "final_episodes": 50}


def get_config(argument: str = ""):
    """Returns the config of "TASK[,ALGORITHM][,VARIANT]"."""
    choice = base.read(argument, "antmaze-umaze-v0", locomotion.VARIANTS)
    base.nearest("antmaze", choice.task.rpartition("-v")[0] or choice.task, [f"antmaze-{maze}" for maze in MAZES])
    return base.compose(choice, "d4rl", {"eval_episodes": 100}, {"quick": QUICK})
