"""The point mass task as a gymnasium environment; its world is described in `bdpo_jax.data.pointmass`."""

import gymnasium
import numpy as np

from bdpo_jax.data import pointmass

WAYS = {1: "above", -1: "below", 0: None}


class PointMassEnv(gymnasium.Env):
    """Reach the goal behind the obstacle in few steps.

    Observations are positions `[2]` (float32), actions velocity commands `[2]` in [-1, 1]. Every `info` holds
    `way` ("above", "below" or None while the obstacle has not been passed), `success` and `collision`.
    """

    metadata = {"render_modes": []}
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._position = pointmass.start_positions(self.np_random, 1)
        self._way = 0
        return self._observation(), self._info(False, False)

    def step(self, action):
        action = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        position, reward, success, collision = pointmass.advance(self._position, action[None])
        self._way = int(pointmass.way_round(self._position, position)[0]) or self._way
        self._position = position
        info = self._info(bool(success[0]), bool(collision[0]))
        return self._observation(), float(reward[0]), bool(success[0] or collision[0]), False, info

    def _observation(self):
        return self._position[0].astype(np.float32)

    def _info(self, success, collision):
        return {"way": WAYS[self._way], "success": success, "collision": collision}
