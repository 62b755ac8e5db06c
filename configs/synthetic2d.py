"""Synthetic 2D tasks of the paper (section 5.1, B.2); the quick start.

    python launch.py                                                   # 8gaussians, laptop-sized
    python launch.py --config=configs/synthetic2d.py:2spirals
    python launch.py --config=configs/synthetic2d.py:8gaussians,paper  # the paper's sizes and budget, for a GPU

Tasks: 8gaussians, 2spirals, checkerboard, moons, rings, swissroll.

Expected of the first: sliced Wasserstein distance 0.067 to the truth (data 2.48, two samples of the truth 0.04), mass
of the best mode 0.88 (truth 0.90); seeds 1 and 2 0.062 and 0.113. With `--config.path_lambda=0` 0.089, 0.074 and 0.118;
with `--config.draw=data` too, as the paper's sizes have it, 0.185, 0.129 and 0.221; docs/synthetic2d-gap.md says where
the rest is. Three to five minutes on two cores (jax 0.10.2). The paper's sizes have not been run. Seed 0 of others,
hardly tuned: Gaussian 0.43, deterministic 0.98, Diffusion-QL 1.19, DAC 2.13, SfBC 0.12 (docs/8gaussians-methods.png).
"""

from configs import base

PAPER = {"batch_size": 512, "evaluate_every": 20_000, "checkpoint_every": 20_000}
QUICK = {"evaluate_every": 20_000, "log_every": 500, "checkpoint_every": 5_000}


def get_config(argument: str = ""):
    """Returns the config of "TASK[,ALGORITHM][,VARIANT]"; the laptop's size is the default variant."""
    choice = base.read(argument, "8gaussians", ("quick", "paper"))
    return base.compose(choice, "synthetic2d", {"dataset_size": 200_000}, {"quick": QUICK, "paper": PAPER})
