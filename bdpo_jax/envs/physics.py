"""MuJoCo as D4RL knew it: models with the capsule inertia of MuJoCo 2.1, and the base of our robots.

Up to 2.1.1 MuJoCo took the mass and inertia of a capsule as those of a cylinder of half-length
`h + radius / 2`; later versions are exact, which makes D4RL's robots others. The old numbers are not stored
here: MuJoCo computes them from a twin of the model in which every capsule is that cylinder.
"""

import copy
import ctypes.util
import functools
import importlib
import importlib.util
import os
import re
import sys
import warnings
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from bdpo_jax.errors import Notice, UserError

# Versions whose physics are held to D4RL's by tests: of Python 3.10 to 3.12, and of 3.13.
VERIFIED_MUJOCO = "3.1.6"
ALSO_VERIFIED = ((3, 2, 7), (3, 5, 0))  # from the first on, before the second
INSTALL = f"pip install mujoco=={VERIFIED_MUJOCO} (Python 3.10 to 3.12) or 'mujoco>=3.2.7,<3.5' (Python 3.13)"
# Values of $MUJOCO_GL: what draws on a system, beside glfw; the system's own choice; nothing.
GL = {"linux": ("egl", "osmesa", "glx"), "darwin": ("cgl",), "win32": ("wgl",)}
GL_ON = ("enable", "enabled", "on", "true", "1")
GL_OFF = ("disable", "disabled", "off", "false", "0")
INERTIA_ARRAYS = ("body_mass", "body_inertia", "body_ipos", "body_iquat")

_unable: list[str] = []  # why this process cannot draw, once that is known


@functools.cache
def import_mujoco():
    """The `mujoco` module; warns once when its version is none of those whose physics are verified.

    Without a screen, and unless `$MUJOCO_GL` says otherwise, pictures are made by OSMesa, or EGL where that is missing.
    Where neither can be loaded there are no pictures, but physics all the same.

    Raises:
      UserError: mujoco is not installed, or `$MUJOCO_GL` is none of its values.
    """
    mujoco, _ = _imported()
    if not is_verified(mujoco.__version__):
        warnings.warn(
            f"mujoco {mujoco.__version__} is installed, but D4RL's physics are verified for mujoco {VERIFIED_MUJOCO} "
            f"and 3.2.7 to 3.4.0 alone: scores may not be comparable with D4RL's ({INSTALL}).",
            Notice,
            stacklevel=2,
        )
    return mujoco


@functools.cache
def _imported() -> tuple[Any, str]:
    """The `mujoco` module, and why it cannot draw: "" where it may be able to."""
    _choose_gl()
    if importlib.util.find_spec("mujoco") is None:
        raise UserError(f"MuJoCo tasks need the package mujoco: {INSTALL}.")
    before = {name: os.environ.get(name) for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    try:
        return importlib.import_module("mujoco"), "MUJOCO_GL is disable" if _gl() in GL_OFF else ""
    except Exception as error:  # noqa: BLE001 (a GL library that is missing or broken raises anything)
        told = "".join(f", {name}={value}" for name, value in before.items() if value is not None)
        why = " ".join(str(error).split()) + told
    os.environ["MUJOCO_GL"] = "disable"
    try:
        return importlib.import_module("mujoco"), why
    except Exception as error:
        raise UserError(f"The package mujoco cannot be imported ({error}): {INSTALL}.") from error
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _make_renderer(model: Any) -> Any:
    """A renderer, or the same error each time: a second try ends the process where $DISPLAY's screen is gone."""
    if _unable:
        raise UserError(_unable[0])
    mujoco, why = _imported()
    try:
        if why:
            raise RuntimeError(why)
        return mujoco.Renderer(model, height=480, width=480)
    except Exception as error:  # noqa: BLE001 (as at the import: MuJoCo's own, PyOpenGL's, GLFW's by its version)
        screen = os.environ.get("DISPLAY") if _gl() in ("", "glfw") else None
        unset = f"unset DISPLAY, which is {screen}, if there is no such screen; " if screen else ""
        reason = " ".join(str(error).split())
        _unable.append(
            f"MuJoCo cannot draw here ({reason}): {unset}on a machine without a screen install Debian's libosmesa6 "
            "(or libegl1, with MUJOCO_GL=egl)."
        )
        raise UserError(_unable[0]) from error


def _gl() -> str:
    return os.environ.get("MUJOCO_GL", "").strip().lower()


def _choose_gl() -> None:
    """Sets `$MUJOCO_GL` where it is not and there is no screen; refuses a value that MuJoCo does not know."""
    known = (*GL.get(sys.platform, ()), "glfw")
    if _gl() not in ("", *known, *GL_ON, *GL_OFF):
        raise UserError(
            f"The environment variable MUJOCO_GL is {os.environ['MUJOCO_GL']!r}; it must be one of {', '.join(known)} "
            "(which draw pictures) or disable: mend or unset it."
        )
    if not _gl() and sys.platform == "linux" and not os.environ.get("DISPLAY"):
        platform = os.environ.get("PYOPENGL_PLATFORM")  # MuJoCo takes no other than this
        found = "osmesa" if ctypes.util.find_library("OSMesa") else "egl"
        os.environ["MUJOCO_GL"] = platform if platform in ("osmesa", "egl") else found


def is_verified(version: str) -> bool:
    """Whether the physics of a version of mujoco are held to D4RL's by tests."""
    first, end = ALSO_VERIFIED
    return version == VERIFIED_MUJOCO or first <= tuple(map(int, re.findall(r"\d+", version)))[:3] < end


def read_asset(file_name: str) -> ElementTree.Element:
    """The root of one of the robot descriptions that gymnasium ships."""
    path = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / file_name
    return ElementTree.parse(path).getroot()


def legacy_model(root: ElementTree.Element):
    """Compiles an MJCF tree with the capsule inertia of MuJoCo 2.1 and returns the `MjModel`."""
    mujoco = import_mujoco()
    model, twin = (
        mujoco.MjModel.from_xml_string(ElementTree.tostring(tree, encoding="unicode"))
        for tree in (root, _capsules_as_cylinders(root))
    )
    for name in INERTIA_ARRAYS:
        getattr(model, name)[:] = getattr(twin, name)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def _capsules_as_cylinders(root):
    twin = ElementTree.fromstring(ElementTree.tostring(root))
    for geom in twin.iter("geom"):
        if geom.get("type") != "capsule":
            continue
        geom.set("type", "cylinder")
        size = [float(number) for number in geom.attrib["size"].split()]
        if geom.get("fromto"):
            ends = np.array(geom.attrib["fromto"].split(), dtype=np.float64).reshape(2, 3)
            axis = ends[1] - ends[0]
            extension = size[0] / 2 * axis / np.linalg.norm(axis)
            geom.set("fromto", _numbers([*(ends[0] - extension), *(ends[1] + extension)]))
        else:
            geom.set("size", _numbers([size[0], size[1] + size[0] / 2]))
    return twin


def _numbers(values):
    return " ".join(repr(float(value)) for value in values)


class MujocoEnv(gymnasium.Env):
    """Stepping, seeding and pictures; a robot adds its model, reward, observation and start.

    Deliberately leaner than gymnasium's class of that name: no contact forces are computed after a step, and
    nothing is imported for windows. A pickle or a deep copy goes on exactly as the original would.

    Args:
      model: an `MjModel`.
      frame_skip: physics steps per environment step.
      observation_dim: width of the observation.
      render_mode: None or "rgb_array".
    """

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, model, frame_skip: int, observation_dim: int, render_mode: str | None = None):
        self._mujoco = import_mujoco()
        self.model = model
        self.data = self._mujoco.MjData(model)
        self.frame_skip = frame_skip
        self.dt = model.opt.timestep * frame_skip
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": round(1.0 / self.dt)}
        self.init_qpos, self.init_qvel = self.data.qpos.copy(), self.data.qvel.copy()
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (observation_dim,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (model.nu,), np.float32)
        self._renderer: Any = None  # a `mujoco.Renderer`, once there was a picture

    def __getstate__(self):
        # Neither a module nor a renderer can be copied; both are found again.
        return vars(self) | {"_mujoco": None, "_renderer": None}

    def __setstate__(self, state):
        vars(self).update(state, _mujoco=import_mujoco())

    def __deepcopy__(self, memo):
        memo[id(self.model)] = self.model  # never written to, so copies share it
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return twin

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._mujoco.mj_resetData(self.model, self.data)
        self.set_state(*self._start())
        return self._observation(), {}

    def set_state(self, qpos: np.ndarray, qvel: np.ndarray):
        """Puts the robot into the state `qpos [nq]`, `qvel [nv]`; the solver's warm start stays as it is."""
        self.data.qpos[:] = qpos
        self.data.qvel[:] = qvel
        self._mujoco.mj_forward(self.model, self.data)

    def _clipped(self, action):
        # Not np.clip, which takes several times as long for so few numbers.
        return np.minimum(np.maximum(np.asarray(action, np.float64), -1.0), 1.0)

    def _simulate(self, control):
        self.data.ctrl[:] = control
        self._mujoco.mj_step(self.model, self.data, self.frame_skip)

    def _start(self):
        """`(qpos, qvel)` of a new episode, drawn from `self.np_random`."""
        raise NotImplementedError

    def _observation(self):
        raise NotImplementedError

    def render(self):
        """A picture `[480, 480, 3]` (uint8) from the tracking camera, when `render_mode` is "rgb_array".

        Raises:
          UserError: no OpenGL library is found.
        """
        if self.render_mode != "rgb_array":
            return None
        if self._renderer is None:
            self._renderer = _make_renderer(self.model)
        self._renderer.update_scene(self.data, camera="track")
        return self._renderer.render()

    def close(self):
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
