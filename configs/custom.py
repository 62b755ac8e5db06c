"""Data from elsewhere: Minari, OGBench, or a file of one's own. The D4RL locomotion settings, for a GPU.

python launch.py --config=configs/custom.py:minari:mujoco/hopper/medium-v0
python launch.py --config=configs/custom.py:ogbench:antmaze-large-navigate-singletask-task1-v0
python launch.py --config=configs/custom.py:mine.hdf5 --config.env=Pendulum-v1  # or .npz; no env: no scores
python launch.py --config=configs/custom.py:mine.npz,quick  # laptop-sized

`eta` weighs the KL divergence in units of the scaled reward and is the first number to tune.
"""

from pathlib import Path

from configs import base, locomotion


def get_config(arg: str = ""):
    """Returns the config of "minari:NAME", "ogbench:NAME" or "FILE", each with ",quick" if wanted."""
    source, variant = base.task_and_variant(arg, "", ("released", "quick"))
    c = base.get_config()
    kind, _, name = source.partition(":")
    if kind in ("minari", "ogbench"):
        c.suite, c.task = kind, name
    else:
        c.suite, c.task, c.dataset_path = "file", Path(source).stem or "file", source
    c.actor_widths = (256,) * 4
    c.eta = 0.2
    c.rho = 1.0
    if kind == "ogbench":
        c.max_q_backup = True
        c.q_layer_norm = True
        c.discount = 0.995
    if variant == "quick":
        locomotion.quick(c)
        c.eta = 2.0
    return c
