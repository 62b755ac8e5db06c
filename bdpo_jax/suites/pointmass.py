"""The generated point mass: a sequential task without downloads, and its picture."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from bdpo_jax import evaluation, networks, plotting
from bdpo_jax.agents import bdpo
from bdpo_jax.data import d4rl, pointmass
from bdpo_jax.suites.common import act, data_seed
from bdpo_jax.suites.simulated import Simulated, task_environment


class PointMass(Simulated):
    """Episodes of the point mass, which know success, collision and the way taken."""

    environment = staticmethod(task_environment)

    def load(self):
        self.raw = pointmass.generate(data_seed(self.config), self.config.dataset_size)
        self.dataset = d4rl.transitions(self.raw, pointmass.MAX_EPISODE_STEPS, "the generated point mass data")
        self.returns, _ = d4rl.episodes(self.raw, pointmass.MAX_EPISODE_STEPS)

    def score(self, found: evaluation.Episodes) -> dict:
        infos = found.infos
        return super().score(found) | {
            "collision": np.mean([info["collision"] for info in infos]),
            "above": np.mean([info["way"] == "above" for info in infos]),
            "below": np.mean([info["way"] == "below" for info in infos]),
        }

    def results(self, scores: dict) -> dict:
        """Returns rates and returns beside the data's and the optimum."""
        quartile = np.quantile(self.returns, 0.75)
        return {
            **{f"bdpo_{k}": scores["bdpo"][k] for k in ("return", "success", "collision", "above", "below")},
            "data_return": self.returns.mean(),
            "data_best_quartile": self.returns[self.returns >= quartile].mean(),
            "data_third_quartile": quartile,
            "optimal_return": float(pointmass.shortest_path_return()),
        }

    def headline(self, results: dict) -> tuple[str, float]:
        return "return", results["bdpo_return"]

    def summary(self, results: dict) -> str:
        return (
            f"return {results['bdpo_return']:.2f}, success {results['bdpo_success']:.0%} "
            f"(data: mean {results['data_return']:.2f}, best quartile {results['data_best_quartile']:.2f}; "
            f"shortest path {results['optimal_return']:.2f})"
        )

    def draw(self, directory: Path, state, key, results: dict) -> Path:
        """Draws the data, episodes of the behavior model and of BDPO, and the values over the positions."""
        path, scene = directory / "pointmass.png", pointmass
        ends = np.flatnonzero(self.raw["terminals"] | self.raw["timeouts"])[:200] + 1
        data = np.split(self.raw["observations"], ends)[:-1]
        (right, top), (left, bottom) = scene.WALLS, -scene.WALLS
        shown = {"behavior model": "behavior", "BDPO": "bdpo"}
        rollouts = {name: self._rollouts(state, key, policy) for name, policy in shown.items()}
        corners = np.array([[-scene.HALF_LENGTH, 0], [0, scene.HALF_HEIGHT], [scene.HALF_LENGTH, 0]])
        plotting.pointmass(
            path,
            f"Point mass, eta = {self.config.eta:g}",
            data,
            self.returns[: len(data)],
            rollouts,
            np.asarray(_state_values(state, key, np.linspace(left, right, 40), np.linspace(bottom, top, 40))),
            np.concatenate([corners, [[0, -scene.HALF_HEIGHT]]]),
            (*scene.GOAL, scene.GOAL_RADIUS),
            extent=(left, right, bottom, top),
            captions={"BDPO": self.summary(results)},
        )
        return path

    def _rollouts(self, state, key, policy: str, episodes: int = 100):
        """Returns the positions of every episode, each `[length + 1, 2]`, and the returns `[episodes]`."""
        positions = pointmass.start_positions(np.random.default_rng(self.config.seed), episodes)
        running, returns = np.ones(episodes, bool), np.zeros(episodes)
        paths = [[position] for position in positions]
        for step in range(pointmass.MAX_EPISODE_STEPS):
            step_key = jax.random.fold_in(key, step)
            actions = np.asarray(act(state, positions.astype(np.float32), step_key, policy), np.float64)
            moved, rewards, success, collision = pointmass.advance(positions, np.clip(actions, -1, 1))
            returns += np.where(running, rewards, 0)
            for i in np.flatnonzero(running):
                paths[i].append(moved[i])
            running &= ~(success | collision)
            positions = moved
        return [np.array(path) for path in paths], returns


@jax.jit
def _state_values(state, key, horizontal, vertical) -> jax.Array:
    """Returns the ensemble mean of Q at the actor's own actions on the grid of positions, `[rows, columns]`."""
    grid = jnp.stack(jnp.meshgrid(horizontal, vertical), axis=-1)
    actions = bdpo.sample_actions(state, grid, key)
    return networks.apply_ensemble(state.static.q_network, state.q.ema, grid, actions).mean(axis=0)
