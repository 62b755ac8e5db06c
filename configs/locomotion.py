"""D4RL locomotion: {halfcheetah, hopper, walker2d}-{medium, medium-replay, medium-expert}-v2.

python launch.py --config=configs/locomotion.py:hopper-medium-v2               # released settings, for a GPU
python launch.py --config=configs/locomotion.py:hopper-medium-v2,paper         # Table 3 as printed
python launch.py --config=configs/locomotion.py:hopper-medium-v2,quick         # laptop-sized

Quick: 15,000 + 14,000 updates of 128x3 networks, about 20 CPU minutes. So small a budget is a demonstration, not a
result: earlier quick settings raised hopper-medium-replay from 7 (behavior model) to 12 on stand-in data, while in
halfcheetah-medium choosing the best of ten actions by so young a Q still costs score (15 against 27);
--config.greedy_candidates=1 leaves the choice out. The full budgets have not been run.
"""

from configs import base

# robot: (rho, eta) as printed in Table 3, as released, and for the laptop
VALUES = {
    "halfcheetah": {"paper": (0.5, 0.5), "released": (0.5, 0.05), "quick": (1.0, 20.0)},
    "hopper": {"paper": (2.0, 2.0), "released": (2.0, 0.2), "quick": (2.0, 2.0)},
    "walker2d": {"paper": (1.0, 1.0), "released": (1.0, 0.15), "quick": (1.0, 1.5)},
}


def get_config(arg: str = "hopper-medium-v2"):
    """Returns the config of "TASK", "TASK,paper" or "TASK,quick"."""
    task, variant = base.task_and_variant(arg, "hopper-medium-v2", ("released", "paper", "quick"))
    robot = base.nearest("locomotion robot", task.split("-")[0], VALUES)
    c = base.get_config()
    c.suite = "d4rl"
    c.task = task
    c.rho, c.eta = VALUES[robot][variant]
    c.actor_widths = (256,) * 4
    if task == "hopper-medium-v2":
        c.ensemble_size = 20
    if variant == "quick":
        quick(c)
        if robot == "halfcheetah":
            c.greedy_candidates = 1
    return c


def quick(c) -> None:
    """Laptop-sized: 128x3 networks, ensembles of 4, 2 action samples, 60,000 + 40,000 updates.

    So few updates need larger steps that decay to nothing, faster averages and a stronger penalty than the full budget,
    values that have risen before the actor follows them (they do for about 1 / (ema_rate (1 - discount)) updates), and
    layer norm in Q. In halfcheetah-medium, whose data are one policy with little noise, the best of ten actions by a
    young Q is among the worst, so it draws one; and the chain of 5 steps ends in a kernel that is much wider than such
    data, so that moving away from them costs little KL: hence its eta.
    """
    c.actor_widths = (128,) * 3
    c.value_widths = (128,) * 3
    c.ensemble_size = 4
    c.actor_samples = 2
    c.q_layer_norm = True
    c.behavior_lr = 1e-3
    c.actor_lr = 3e-4
    c.value_lr = 1e-3
    c.ema_rate = 0.02
    c.pretrain_steps = 60_000
    c.train_steps = 40_000
    c.value_warmup_steps = 6_000
    c.actor_decay_steps = -1
    c.evaluate_every = 10_000
    c.eval_episodes = 5
    c.final_episodes = 20
    c.log_every = 200
    c.checkpoint_every = 5_000
