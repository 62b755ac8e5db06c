"""Synthetic 2D tasks of the paper (section 5.1, B.2); the quick start.

    python launch.py                                                   # 8gaussians, laptop-sized
    python launch.py --config=configs/synthetic2d.py:2spirals
    python launch.py --config=configs/synthetic2d.py:8gaussians,paper  # the paper's sizes and budget, for a GPU

Tasks: 8gaussians, 2spirals, checkerboard, moons, rings, swissroll.

Expected of the first: sliced Wasserstein distance 0.19 to the truth (data 2.48, two samples of the truth 0.04), mass
of the best mode 0.83 (truth 0.90); docs/synthetic2d-gap.md says where the rest is. Seed 0, four and a half minutes on
two cores of an AMD EPYC (jax 0.10.2). The paper's sizes have not been run.
"""

from configs import base


def get_config(arg: str = "8gaussians"):
    """Returns the config of "TASK" (laptop-sized) or "TASK,paper"."""
    task, variant = base.task_and_variant(arg, "8gaussians", ("quick", "paper"))
    c = base.get_config()
    c.suite = "synthetic2d"
    c.task = task
    c.dataset_size = 200_000
    c.one_step = True
    c.rho = 0.0
    c.eta = 0.06
    c.diffusion_steps = 50
    c.clip_denoised = False
    c.action_bound = 4.5
    c.greedy_candidates = 1
    c.actor_widths = (256,) * 4
    c.batch_size = 512
    c.pretrain_steps = 100_000
    c.train_steps = 100_000
    c.value_warmup_steps = 5_000
    c.evaluate_every = 20_000
    c.checkpoint_every = 20_000
    if variant == "quick":
        c.actor_widths = (128,) * 3
        c.value_widths = (128,) * 3
        c.ensemble_size = 2
        c.actor_samples = 2
        c.batch_size = 256
        c.behavior_lr = 1e-3
        c.actor_lr = 1e-3
        c.value_lr = 1e-3
        c.actor_decay_steps = -1
        c.ema_rate = 0.02
        c.pretrain_steps = 10_000
        c.train_steps = 20_000
        c.value_warmup_steps = 1_000
        c.log_every = 500
        c.checkpoint_every = 5_000
    return c
