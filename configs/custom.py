"""Data from elsewhere: Minari, OGBench, or a file of one's own, for a GPU.

Sizes and budgets are D4RL locomotion's, of OGBench antmaze's critics; eta and rho are our choice. The variant is called
`released` as there, though nobody released settings for these data.

python launch.py --config=configs/custom.py:minari:mujoco/hopper/medium-v0
python launch.py --config=configs/custom.py:ogbench:antmaze-large-navigate-singletask-task1-v0
python launch.py --config=configs/custom.py:mine.hdf5 --config.env=Pendulum-v1  # no env: no scores
python launch.py --config=configs/custom.py:log.csv --config.columns="observations=q,v_*;actions=torque;episodes=run"
python launch.py --config=configs/custom.py:mine.npz,quick  # laptop-sized
"""

from pathlib import Path

from bdpo_jax.text import as_text
from configs import base, locomotion


def get_config(argument: str = ""):
    """Returns the config of "minari:NAME", "ogbench:NAME" or "FILE", each with "[,ALGORITHM][,quick]"."""
    choice = base.read(argument, "", ("released", "quick"))
    family, _, name = choice.task.partition(":")
    values = {}
    if family not in ("minari", "ogbench"):
        family, name, values = "file", as_text(Path(choice.task).stem) or "file", {"dataset_path": choice.task}
    return base.compose(choice._replace(task=name), family, values, {"quick": locomotion.QUICK})
