"""D4RL's antmaze tasks: an ant of D4RL's own make in a maze of boxes, paid only at the goal."""

import functools
import math
import xml.etree.ElementTree as ElementTree

import numpy as np

from bdpo_jax.envs.physics import MujocoEnv, legacy_model, read_asset

CELL_SIZE = 4.0
WALL_HEIGHT = 0.5 * CELL_SIZE
GOAL_RADIUS = 0.5
FORCE = 30.0  # that an action of 1 stands for

# Rows from top (low y) to bottom; 1 is a wall, R the start cell, G the goal cell.
MAZES = {
    "umaze": "11111 1R001 11101 1G001 11111",
    "medium": "11111111 1R011001 10010001 11000111 10010001 10100101 100010G1 11111111",
    "large": (
        "111111111111 1R0001000001 101101010101 100000010001 101111011101 100101000001 110101010111 "
        "100100010G01 111111111111"
    ),
}


def cells(maze: str, kind: str) -> np.ndarray:
    """Centres `[cells, 2]` (x, y) of a maze's cells of a kind ("1", "R", "G"); the start cell is the origin."""
    rows = MAZES[maze].split()
    found = [(x, y) for y, row in enumerate(rows) for x, letter in enumerate(row) if letter in kind]
    start = next((row.index("R"), y) for y, row in enumerate(rows) if "R" in row)
    return CELL_SIZE * (np.array(found, np.float64) - start)


def ant_in_maze(maze: str) -> ElementTree.Element:
    """The MJCF tree: gymnasium's ant with D4RL's time step, motors and soft contacts, and the maze's walls."""
    root = read_asset("ant.xml")
    next(root.iterfind("option")).set("timestep", "0.02")
    geoms = next(root.iterfind("default/geom"))
    geoms.set("solref", ".02 1")
    geoms.set("solimp", ".8 .8 .01")
    for motor in root.iter("motor"):
        motor.set("ctrlrange", f"-{FORCE} {FORCE}")
        motor.set("gear", "1")
    world = next(root.iterfind("worldbody"))
    for number, (x, y) in enumerate(cells(maze, "1")):
        wall = {"name": f"wall_{number}", "type": "box", "contype": "1", "conaffinity": "1"}
        wall["pos"] = f"{x} {y} {WALL_HEIGHT / 2}"
        wall["size"] = f"{CELL_SIZE / 2} {CELL_SIZE / 2} {WALL_HEIGHT / 2}"
        ElementTree.SubElement(world, "geom", wall, rgba="0.4 0.4 0.4 1")
    return root


@functools.cache
def _model(maze):
    return legacy_model(ant_in_maze(maze))


class AntMazeEnv(MujocoEnv):
    """Reward 1 within 0.5 of the goal, where the episode ends; 0 elsewhere.

    Observations `[29]` are `qpos[:15] ++ qvel[:14]`, actions `[8]`. Every `info` of a step holds `success`.

    Args:
      maze: a key of `MAZES`.
      goal_every_reset: whether every reset draws a goal (D4RL's -v2) or only the first one and those with a
        seed do (-v0), so that a seed fixes an episode's goal in both.
      render_mode: None or "rgb_array".
    """

    def __init__(self, maze: str, goal_every_reset: bool, render_mode: str | None = None):
        super().__init__(_model(maze), 5, 29, render_mode)
        self.goal_every_reset = goal_every_reset
        self.goal: np.ndarray  # (x, y) in the frame of the observations, from the first reset on
        self._goal_cell = cells(maze, "G")[0]

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed, options=options)
        if not hasattr(self, "goal") or seed is not None or self.goal_every_reset:
            self.goal = self._draw_goal()
        return observation, info

    def step(self, action):
        self._simulate(FORCE * self._clipped(action))
        observation = self._observation()
        success = math.dist(observation[:2], self.goal) <= GOAL_RADIUS
        return observation, float(success), success, False, {"success": success}

    def _draw_goal(self):
        cell_noise = self.np_random.uniform(0.0, 0.25 * CELL_SIZE, 2)
        goal = np.maximum(self._goal_cell + cell_noise, 0.0)
        return np.maximum(goal + self.np_random.uniform(0.0, GOAL_RADIUS, 2), 0.0)

    def _observation(self):
        return np.concatenate((self.data.qpos[:15], self.data.qvel[:14]))

    def _start(self):
        qpos = self.init_qpos + self.np_random.uniform(-0.1, 0.1, self.model.nq)
        qvel = self.init_qvel + 0.1 * self.np_random.standard_normal(self.model.nv)
        return qpos, qvel
