"""The generated point mass: a sequential task without downloads, and its picture."""

from collections.abc import Callable
from pathlib import Path

import gymnasium
import jax
import numpy as np

from bdpo_jax import evaluation, plotting
from bdpo_jax.data import d4rl, pointmass
from bdpo_jax.tasks.base import Act, Acting, data_seed, title
from bdpo_jax.tasks.simulated import Simulated, task_environment


class PointMass(Simulated):
    """Episodes of the point mass, which know success, collision and the way taken."""

    @staticmethod
    def environment(config) -> Callable[[], gymnasium.Env]:
        return task_environment(config.task)

    def load(self) -> None:
        self.raw = pointmass.generate(data_seed(self.config), self.config.dataset_size)
        self.dataset = d4rl.transitions(self.raw, pointmass.MAX_EPISODE_STEPS, "the generated point mass data")
        self.returns, _ = d4rl.episodes(self.raw, pointmass.MAX_EPISODE_STEPS)
        quartile = np.quantile(self.returns, 0.75)
        self.references = {
            "data_return": self.returns.mean(),
            "data_best_quartile": self.returns[self.returns >= quartile].mean(),
            "data_third_quartile": quartile,
            "optimal_return": float(pointmass.shortest_path_return()),
        }

    def score(self, found: evaluation.Episodes) -> dict:
        infos = found.infos
        return super().score(found) | {
            "collision": np.mean([info["collision"] for info in infos]),
            "above": np.mean([info["way"] == "above" for info in infos]),
            "below": np.mean([info["way"] == "below" for info in infos]),
        }

    def summary(self, scores: dict) -> str:
        found = self.references
        return (
            f"{super().summary(scores)} (data: mean {found['data_return']:.2f}, best quartile "
            f"{found['data_best_quartile']:.2f}; shortest path {found['optimal_return']:.2f})"
        )

    def draw(self, directory: Path, acting: Acting, key: jax.Array, scores: dict) -> Path:
        """Draws the data, episodes of the policies, and the values over the positions."""
        path, scene = directory / "pointmass.png", pointmass
        ends = np.flatnonzero(self.raw["terminals"] | self.raw["timeouts"])[:200] + 1
        data = np.split(self.raw["observations"], ends)[:-1]
        (right, top), (left, bottom) = scene.WALLS, -scene.WALLS
        own = self.config.agent.upper()
        shown = {"behavior model": "behavior", own: "policy"}
        rollouts = {
            name: self._rollouts(acting.policies[policy], key)
            for name, policy in shown.items()
            if policy in acting.policies
        }
        values = None
        if "q" in acting.views:
            grid = np.stack(np.meshgrid(np.linspace(left, right, 40), np.linspace(bottom, top, 40)), axis=-1)
            grid = grid.astype(np.float32)
            values = np.asarray(acting.views["q"](grid, acting.policies["policy"](grid, key)))
        corners = np.array([[-scene.HALF_LENGTH, 0], [0, scene.HALF_HEIGHT], [scene.HALF_LENGTH, 0]])
        plotting.pointmass(
            path,
            title(self.config),
            data,
            self.returns[: len(data)],
            rollouts,
            values,
            np.concatenate([corners, [[0, -scene.HALF_HEIGHT]]]),
            (*scene.GOAL, scene.GOAL_RADIUS),
            extent=(left, right, bottom, top),
            captions={own: self.summary(scores)},
        )
        return path

    def _rollouts(self, act: Act, key: jax.Array, episodes: int = 100) -> tuple[list[np.ndarray], np.ndarray]:
        """Returns the positions of every episode, each `[length + 1, 2]`, and the returns `[episodes]`."""
        positions = pointmass.start_positions(np.random.default_rng(self.config.seed), episodes)
        running, returns = np.ones(episodes, bool), np.zeros(episodes)
        paths = [[position] for position in positions]
        for step in range(pointmass.MAX_EPISODE_STEPS):
            actions = np.asarray(act(positions.astype(np.float32), jax.random.fold_in(key, step)), np.float64)
            moved, rewards, success, collision = pointmass.advance(positions, np.clip(actions, -1, 1))
            returns += np.where(running, rewards, 0)
            for i in np.flatnonzero(running):
                paths[i].append(moved[i])
            running &= ~(success | collision)
            positions = moved
        return [np.array(path) for path in paths], returns
