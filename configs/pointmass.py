"""A point mass behind an obstacle: a sequential task that needs no download.

python launch.py --config=configs/pointmass.py

Expected over seeds 0 to 2, 100 episodes each: returns 1.08, 1.15, 1.13 (data: mean -1.85 to -2.10, mean of the best
quartile 0.84 to 0.97; shortest path 1.80), success 100%, no collisions, shares above : below 90:10, 51:49, 1:99; the
behavior model collides in 39 to 47% of its episodes. Two and a half minutes on one core of an AMD EPYC (jax 0.10.2).
"""

from configs import base


def get_config(argument: str = ""):
    """Returns the config of the point mass, the only task here: "[pointmass][,ALGORITHM]"."""
    choice = base.read(argument, "pointmass", ("laptop",))
    base.nearest("point mass task", choice.task, ("pointmass",))
    values = {
        "dataset_size": 750,
        "batch_size": 128,
        "eval_episodes": 100,
        "evaluate_every": 8_000,
        "log_every": 500,
        "checkpoint_every": 2_000,
    }
    return base.compose(choice, "pointmass", values)
