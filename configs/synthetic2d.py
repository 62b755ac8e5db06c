"""Synthetic 2D tasks of the paper (section 5.1, B.2); the quick start.

    python launch.py                                                   # 8gaussians, laptop-sized
    python launch.py --config=configs/synthetic2d.py:2spirals
    python launch.py --config=configs/synthetic2d.py:8gaussians,paper  # the authors' sizes and budget, for a GPU

Those are what the authors released; B.2 names "basically" Table 2's: networks of 512x4 and two million updates.

Tasks: 8gaussians, 2spirals, checkerboard, moons, rings, swissroll.

Expected of the first: sliced Wasserstein distance 0.090 to the truth (data 2.48, two samples of the truth 0.04), mass
of the best mode 0.88 (truth 0.91); on seeds 1 to 4 0.073, 0.097, 0.055 and 0.091. A minute and a half of one core of
an AMD EPYC; on slower ones of that name less than four (jax 0.10.2). The other sets have more updates and take two to
three times as long: 2spirals 0.032 (floor 0.01), checkerboard 0.077 (0.03), moons 0.048 (0.02), rings 0.038
(0.03), swissroll 0.068 (0.03), seed 0. What keeps them from the truth: docs/synthetic2d-gap.md; the other algorithms,
hardly tuned, beside them: docs/reproduce.md.

At the authors' sizes an update of everything takes .32 s of one such core, so that an hour holds the 100,000 of the
behavior model and 10,000 of the 100,000 others: then the distance is 1.2 (`--config.train_steps=10000`, seed 0). The
actor, whose learning rate is 1e-5, is still on its way from the data, most of its samples in the second-best mode.
"""

from configs import base

PAPER = {"batch_size": 512, "evaluate_every": 20_000, "checkpoint_every": 20_000}
QUICK = {"evaluate_every": 20_000, "log_every": 500, "checkpoint_every": 5_000}


def get_config(argument: str = ""):
    """Returns the config of "TASK[,ALGORITHM][,VARIANT]"; the laptop's size is the default variant."""
    choice = base.read(argument, "8gaussians", ("quick", "paper"))
    return base.compose(choice, "synthetic2d", {"dataset_size": 200_000}, {"quick": QUICK, "paper": PAPER})
