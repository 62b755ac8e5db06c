"""Tasks whose policies are scored by episodes in a simulation: D4RL's, Minari's, OGBench's, and files of one's own."""

import copy
from pathlib import Path

import jax
import numpy as np

from bdpo_jax import envs, evaluation, networks, plotting
from bdpo_jax.agents import bdpo
from bdpo_jax.data import custom, d4rl, minari, ogbench
from bdpo_jax.envs import antmaze
from bdpo_jax.suites.common import act
from bdpo_jax.types import UserError


class Simulated:
    """What such tasks share; one of them adds `load`, which sets `dataset`, and `environment`."""

    policies = ("bdpo", "behavior", "behavior_best_of")
    takes_env = False  # whether `config.env` names the environment

    def __init__(self, config):
        self.config = config
        if config.env and not self.takes_env:
            raise UserError(
                f"config.env is {config.env!r}; {config.task} has an environment of its own: leave it empty."
            )
        self.make_env = self.environment(config)
        self.load()
        if self.make_env is not None:
            self._check_widths()

    def of_member(self, config):
        """Returns the suite of a config that differs in numbers of the method alone."""
        other = copy.copy(self)
        other.config = config
        return other

    @staticmethod
    def environment(config):
        """Returns a function that makes the config's environment, or None."""
        raise NotImplementedError

    def load(self) -> None:
        raise NotImplementedError

    @staticmethod
    def normalize(config, returns: np.ndarray) -> np.ndarray | None:
        """Returns the normalised scores of returns, None for a task without reference scores."""
        return None

    def _check_widths(self):
        env = self.make_env()
        widths = env.observation_space.shape[0], env.action_space.shape[0]
        env.close()
        for kind, found, expected in zip(
            ("observations", "actions"), (self.dataset.observation_dim, self.dataset.action_dim), widths, strict=True
        ):
            if found != expected:
                raise UserError(
                    f"The {kind} of the dataset are {found} wide, those of {self.config.env or self.config.task} "
                    f"{expected}: give the task that the data come from, or another dataset_path."
                )

    def evaluate(self, state, key, policies, episodes, before_step) -> dict:
        """Returns for each policy the scores of `episodes` episodes, the same starts for all and at every call.

        `before_step` is called before each step; what it raises ends the evaluation. Without an environment there are
        no scores.
        """
        scores = {}
        if self.make_env is None:
            return scores
        for name in policies:

            def policy(observations, key, name=name):
                before_step()
                return act(state, observations, key, name)

            scores[name] = self.score(evaluation.evaluate(policy, self.make_env, episodes, self.config.seed))
        return scores

    def score(self, found: evaluation.Episodes) -> dict:
        interval = evaluation.bootstrap_interval
        scores = {
            "return": float(found.returns.mean()),
            "return_interval": interval(found.returns),
            "length": float(found.lengths.mean()),
            "returns": found.returns,
            "lengths": found.lengths,
        }
        if all("success" in info for info in found.infos):
            scores["success"] = np.mean([float(info["success"]) for info in found.infos])
        normalized = self.normalize(self.config, found.returns)
        if normalized is not None:
            scores["normalized_score"] = {"mean": normalized.mean(), "std": normalized.std()}
            scores["normalized_interval"] = interval(normalized)
        return scores

    def results(self, scores: dict) -> dict:
        """Returns what leads the results: the normalised score where there is one, else the return."""
        keys = ("normalized_score", "return", "success")
        return {key: scores["bdpo"][key] for key in keys if key in scores.get("bdpo", {})}

    def headline(self, results: dict) -> tuple[str, float] | None:
        """Returns the name and value of the number to compare runs by; None where nothing was scored."""
        if "normalized_score" in results:
            return "normalized score", results["normalized_score"]["mean"]
        return ("return", results["return"]) if "return" in results else None

    def summary(self, results: dict) -> str:
        if not results:
            return "no environment is given (config.env), so nothing was scored"
        parts = []
        if "normalized_score" in results:
            score = results["normalized_score"]
            parts.append(f"normalized score {score['mean']:.1f} +- {score['std']:.1f}")
        else:
            parts.append(f"return {results['return']:.2f}")
        if "success" in results:
            parts.append(f"success {results['success']:.0%}")
        return ", ".join(parts)

    def draw(self, directory: Path, state, key, results: dict) -> Path | None:
        return None


def task_environment(config):
    """Returns a function that makes the environment of a task of ours."""
    envs.max_episode_steps(config.task)  # an unknown task is an error here
    return lambda: envs.make(config.task, config.backend)


class D4RL(Simulated):
    """The tasks of D4RL, scored by normalised return."""

    environment = staticmethod(task_environment)

    def load(self):
        config = self.config
        self.dataset = d4rl.load(config.task, config.dataset_path, config.reward_scaling, mirrors=config.mirrors)

    @staticmethod
    def normalize(config, returns):
        if envs.reference_scores(config.task) is None:
            return None
        return envs.normalized_score(config.task, returns)

    def draw(self, directory: Path, state, key, results: dict) -> Path | None:
        """Draws the values of the data's states over an antmaze; other tasks have no picture."""
        if not self.config.task.startswith("antmaze"):
            return None
        maze = self.config.task.split("-")[1]
        rows = np.random.default_rng(0).choice(self.dataset.size, min(4000, self.dataset.size), replace=False)
        observations = self.dataset.observations[rows]
        path = directory / "values.png"
        plotting.maze_values(
            path,
            f"{self.config.task}: value of the data's states",
            observations[:, :2],
            np.asarray(_values(state, observations, key)),
            antmaze.cells(maze, "1"),
            antmaze.cells(maze, "G")[0],
            antmaze.CELL_SIZE,
            caption=self.summary(results),
        )
        return path


class Minari(Simulated):
    """A dataset of Minari's, scored in the environment that it names."""

    @staticmethod
    def environment(config):
        return minari.environment(config.task)

    def load(self):
        self.dataset = minari.load(self.config.task, self.config.reward_scaling)

    @staticmethod
    def normalize(config, returns):
        return minari.normalized_score(config.task, returns)


class OGBench(Simulated):
    """A single-task dataset of OGBench's, scored in its environment; `success` is its measure."""

    @staticmethod
    def environment(config):
        return ogbench.environment(config.task)

    def load(self):
        config = self.config
        self.dataset = ogbench.load(config.task, config.dataset_path, config.reward_scaling)


class File(Simulated):
    """A file of one's own, scored in any registered gymnasium environment, or not at all."""

    takes_env = True

    @staticmethod
    def environment(config):
        return custom.environment(config.env)

    def load(self):
        config = self.config
        space = None
        if self.make_env is not None:
            env = self.make_env()
            space = env.unwrapped.action_space
            env.close()
        self.dataset = custom.load(config.dataset_path, config.reward_scaling, space)


@jax.jit
def _values(state, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Returns the ensemble mean of Q at one of the actor's own actions, `[rows]`."""
    actions = bdpo.sample_actions(state, observations, key, candidates=1)
    return networks.apply_ensemble(state.static.q_network, state.q.ema, observations, actions).mean(axis=0)
