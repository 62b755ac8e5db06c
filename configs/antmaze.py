"""D4RL antmaze: {umaze, umaze-diverse, medium-play, medium-diverse, large-play, large-diverse}, -v0 or -v2.

python launch.py --config=configs/antmaze.py                               # antmaze-umaze-v0, released settings
python launch.py --config=configs/antmaze.py:antmaze-large-play-v0,paper   # Table 3 as printed
python launch.py --config=configs/antmaze.py:antmaze-umaze-v0,quick        # laptop-sized

Quick, on stand-in data for antmaze-umaze-v0 (85% of whose episodes reach their goal), 50 episodes: success of the
behavior model 90%, of BDPO 84% (95% intervals 80 to 98 and 74 to 94), 25 minutes on one core. The values are right
along the whole maze (the run's values.png, docs/antmaze.png), but their error from one action to the next is as large
as what an action can gain: one step is worth 0.5% of them. So eta is kept high, the policy stays near the behavior
model, and the best of ten of the behavior model's actions by Q never arrives. Improving on it takes the full budget.
"""

from configs import base, locomotion

# maze: (rho, eta) as printed in Table 3, and as released
VALUES = {
    "antmaze-umaze": {"paper": (1.0, 5.0), "released": (0.8, 0.5)},
    "antmaze-umaze-diverse": {"paper": (0.5, 5.0), "released": (0.8, 0.5)},
    "antmaze-medium-play": {"paper": (1.0, 1.0), "released": (0.8, 0.2)},
    "antmaze-medium-diverse": {"paper": (0.5, 1.0), "released": (0.8, 0.2)},
    "antmaze-large-play": {"paper": (1.0, 10.0), "released": (0.8, 1.0)},
    "antmaze-large-diverse": {"paper": (0.5, 5.0), "released": (0.8, 1.0)},
}


def get_config(arg: str = "antmaze-umaze-v0"):
    """Returns the config of "TASK", "TASK,paper" or "TASK,quick"."""
    task, variant = base.task_and_variant(arg, "antmaze-umaze-v0", ("released", "paper", "quick"))
    maze = base.nearest("antmaze", task.rpartition("-v")[0] or task, VALUES)
    c = base.get_config()
    c.suite = "d4rl"
    c.task = task
    c.rho, c.eta = VALUES[maze]["paper" if variant == "paper" else "released"]
    c.max_q_backup = True
    c.q_layer_norm = True
    c.discount = 0.995
    c.behavior_lr = 1e-4
    c.eval_episodes = 100
    if maze == "antmaze-umaze-diverse":
        c.greedy_candidates = 1
    if variant == "quick":
        locomotion.quick(c)
        c.eta = 40.0
        c.ema_rate = 0.03
        c.actor_samples = 4
        c.greedy_candidates = 1
        c.pretrain_steps = 80_000
        c.train_steps = 30_000
        c.value_warmup_steps = 8_000
        c.evaluate_every = 15_000
        c.eval_episodes = 20
        c.final_episodes = 50
    return c
