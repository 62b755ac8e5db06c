"""Training without pictures, which would take most of the time; as a program, `launch.py` so."""

import runpy
from pathlib import Path

import pytest

from bdpo_jax import plotting
from bdpo_jax.tasks import PointMass

ROOT = Path(__file__).resolve().parents[1]


CURVES, DRAW = plotting.curves, PointMass.draw


def put_back(patch):
    patch.setattr(plotting, "curves", CURVES)
    patch.setattr(PointMass, "draw", DRAW)


def leave_out(patch):
    patch.setattr(plotting, "curves", lambda *_: None)
    patch.setattr(PointMass, "draw", lambda *_: None)


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        leave_out(patch)
        runpy.run_path(str(ROOT / "launch.py"), run_name="__main__")
