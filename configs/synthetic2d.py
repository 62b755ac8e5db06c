"""Synthetic 2D tasks of the paper (section 5.1, B.2); the quick start.

    python launch.py                                                   # 8gaussians, laptop-sized
    python launch.py --config=configs/synthetic2d.py:2spirals
    python launch.py --config=configs/synthetic2d.py:8gaussians,paper  # the paper's sizes and budget, for a GPU

Tasks: 8gaussians, 2spirals, checkerboard, moons, rings, swissroll.

Expected of the first: sliced Wasserstein distance 0.090 to the truth (data 2.48, two samples of the truth 0.04), mass
of the best mode 0.88 (truth 0.90); on seeds 1 to 4 0.073, 0.097, 0.055 and 0.091. A minute and a half of one core of
an AMD EPYC; on the slowest that we had, by its time per update, less than four (jax 0.10.2). The other sets have more
updates and take half as long again. These, and what keeps them from the truth: docs/synthetic2d-gap.md. The paper's
sizes have not been run: there an update of everything takes .32 s of one such core, so that an hour gives 11,000 of
the 100,000. Seed 0 of others, hardly tuned: 2spirals, where BDPO has 0.046, SfBC 0.08, Gaussian 0.10, QGPO 0.25,
Diffusion-QL 0.33, deterministic 0.41, DAC 0.55 (docs/2spirals-methods.png); 8gaussians, with networks of the plain
coordinates, SfBC 0.12, Gaussian 0.43, deterministic 0.98, Diffusion-QL 1.19, DAC 2.13 (docs/8gaussians-methods.png).
"""

from configs import base

PAPER = {"batch_size": 512, "evaluate_every": 20_000, "checkpoint_every": 20_000}
QUICK = {"evaluate_every": 20_000, "log_every": 500, "checkpoint_every": 5_000}


def get_config(argument: str = ""):
    """Returns the config of "TASK[,ALGORITHM][,VARIANT]"; the laptop's size is the default variant."""
    choice = base.read(argument, "8gaussians", ("quick", "paper"))
    return base.compose(choice, "synthetic2d", {"dataset_size": 200_000}, {"quick": QUICK, "paper": PAPER})
