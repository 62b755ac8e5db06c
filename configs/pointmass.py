"""A point mass behind an obstacle: a sequential task that needs no download.

python launch.py --config=configs/pointmass.py

Expected over seeds 0 to 2, 100 episodes each: returns 1.08, 1.15, 1.13 (data: mean -1.85 to -2.10, mean of the best
quartile 0.84 to 0.97; shortest path 1.80), success 100%, no collisions, shares above : below 90:10, 51:49, 1:99; the
behavior model collides in 39 to 47% of its episodes. Two and a half minutes on one core of an AMD EPYC (jax 0.10.2).
"""

from configs import base


def get_config(arg: str = "pointmass"):
    """Returns the config of the point mass, the only task here."""
    base.nearest("point mass task", arg or "pointmass", ("pointmass",))
    c = base.get_config()
    c.suite = "pointmass"
    c.task = "pointmass"
    c.dataset_size = 750
    c.discount = 0.97
    c.eta = 0.1
    c.actor_samples = 2
    c.greedy_candidates = 4  # few enough to leave both ways round their share
    c.diffusion_steps = 10
    c.actor_widths = (64,) * 3
    c.value_widths = (64,) * 3
    c.ensemble_size = 4
    c.batch_size = 128
    c.behavior_lr = 1e-3
    c.actor_lr = 1e-3
    c.value_lr = 1e-3
    c.ema_rate = 0.02
    c.pretrain_steps = 5_000
    c.train_steps = 8_000
    c.value_warmup_steps = 2_000
    c.eval_episodes = 100
    c.evaluate_every = 8_000
    c.log_every = 500
    c.checkpoint_every = 2_000
    return c
