"""D4RL locomotion: {halfcheetah, hopper, walker2d}-{medium, medium-replay, medium-expert}-v2.

python launch.py --config=configs/locomotion.py:hopper-medium-v2               # released settings, for a GPU
python launch.py --config=configs/locomotion.py:hopper-medium-v2,paper         # Table 3 as printed
python launch.py --config=configs/locomotion.py:hopper-medium-v2,quick         # laptop-sized

Quick: 60,000 + 40,000 updates of 128x3 networks, 19 to 22 minutes on one core of an AMD EPYC (jax 0.10.2). On stand-in
data, normalised scores of 20 episodes with 95% bootstrap intervals, seeds 0 and 1:

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
