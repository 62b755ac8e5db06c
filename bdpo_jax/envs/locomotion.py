"""HalfCheetah, Hopper and Walker2d as D4RL's -v2 data sets and scores know them."""

import functools

import numpy as np

from bdpo_jax.envs.physics import MujocoEnv, legacy_model, read_asset


@functools.cache
def _model(file_name):
    """One compiled model for all environments of a robot: a model is never written to."""
    return legacy_model(read_asset(file_name))


class _Runner(MujocoEnv):
    """What the three share: forward speed is paid, control costs, and the x position is not observed."""

    asset: str
    frame_skip: int
    start_noise: float
    control_cost: float
    alive_bonus = 0.0

    def __init__(self, render_mode=None):
        model = _model(self.asset)
        super().__init__(model, self.frame_skip, model.nq + model.nv - 1, render_mode)

    def step(self, action):
        action = self._clipped(action)
        x_before = self.data.qpos[0]
        self._simulate(action)
        velocity = (self.data.qpos[0] - x_before) / self.dt
        # The bonus is paid on the step that ends the episode, too, as in gym's v2 environments.
        reward = velocity + self.alive_bonus - self.control_cost * np.dot(action, action)
        terminated = not self._is_healthy()
        return self._observation(), float(reward), terminated, False, {}

    def _is_healthy(self):
        return True

    def _observation(self):
        return np.concatenate((self.data.qpos[1:], self.data.qvel))

    def _start(self):
        noise = self.start_noise
        qpos = self.init_qpos + self.np_random.uniform(-noise, noise, self.model.nq)
        return qpos, self._start_velocity(noise)

    def _start_velocity(self, noise):
        return self.init_qvel + self.np_random.uniform(-noise, noise, self.model.nv)


class HalfCheetahEnv(_Runner):
    """Observations `[17]`, actions `[6]`; never terminates."""

    asset = "half_cheetah.xml"
    frame_skip = 5
    start_noise = 0.1
    control_cost = 0.1

    def _start_velocity(self, noise):
        return self.init_qvel + noise * self.np_random.standard_normal(self.model.nv)


class _Walker(_Runner):
    """A robot that can fall: it earns 1 a step, and velocities are clipped to +-10 in its observation."""

    frame_skip = 4
    start_noise = 0.005
    control_cost = 1e-3
    alive_bonus = 1.0

    def _observation(self):
        return np.concatenate((self.data.qpos[1:], np.clip(self.data.qvel, -10.0, 10.0)))


class HopperEnv(_Walker):
    """Observations `[11]`, actions `[3]`; terminates where z <= 0.7, |angle| >= 0.2 or a state leaves +-100."""

    asset = "hopper.xml"

    def _is_healthy(self):
        _, height, angle = self.data.qpos[:3]
        if not (height > 0.7 and abs(angle) < 0.2):
            return False
        joints, velocities = self.data.qpos[2:], self.data.qvel
        return bool(np.abs(joints).max() < 100.0 and np.abs(velocities).max() < 100.0)


class Walker2dEnv(_Walker):
    """Observations `[17]`, actions `[6]`; terminates unless 0.8 < z < 2 and |angle| < 1."""

    asset = "walker2d.xml"

    def _is_healthy(self):
        _, height, angle = self.data.qpos[:3]
        return bool(0.8 < height < 2.0 and abs(angle) < 1.0)
