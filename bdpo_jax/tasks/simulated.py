"""Tasks whose policies are scored by episodes in a simulation: D4RL's, Minari's, OGBench's, and files of one's own."""

import copy
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import gymnasium
import jax
import numpy as np

from bdpo_jax import envs, evaluation, plotting
from bdpo_jax.data import custom, d4rl, minari, ogbench, rewards
from bdpo_jax.data.dataset import Dataset
from bdpo_jax.envs import antmaze, contract
from bdpo_jax.errors import UserError
from bdpo_jax.tasks.base import Acting
from bdpo_jax.workdir import expanded


class Simulated:
    """What such tasks share; one of them adds `load`, which sets `dataset`, and `environment`."""

    dataset: Dataset
    scaling: rewards.Scaling | None = None
    source: dict[str, str | None]
    references: dict
    takes_env = False  # whether `config.env` may name the environment

    def __init__(self, config):
        self.config, self.references, self.source = config, {}, {}
        self.make_env, self.trial = self.tried_environment(config)
        self.load()
        if config.reward_shift:
            self.dataset = rewards.shift(self.dataset, config.reward_shift)
        self._check_widths()

    def for_run(self, config) -> "Simulated":
        """Returns the task of a config that differs in numbers of the method alone."""
        other = copy.copy(self)
        other.config = config
        return other

    @classmethod
    def tried_environment(cls, config) -> tuple[Callable[[], gymnasium.Env] | None, contract.Trial | None]:
        """Returns a function that makes the config's environment, and what a trial of one found; None without one.

        Raises:
          UserError: see `contract.trial`; or the task does not take the environment.
        """
        if config.env == custom.NO_ENVIRONMENT:
            return None, None
        if config.env and not cls.takes_env:
            raise UserError(
                f"config.env is {config.env!r}; {config.task} has an environment of its own: leave it empty, or "
                "'none' to train without scores."
            )
        make = cls.environment(config)
        if make is None:
            return None, None
        return make, contract.trial(make, evaluation.episode_seed(config.seed, 0))

    @staticmethod
    def environment(config) -> Callable[[], gymnasium.Env] | None:
        """Returns a function that makes the config's environment, not tried yet, or None."""
        raise NotImplementedError

    def load(self) -> None:
        raise NotImplementedError

    @staticmethod
    def normalize(config, returns: np.ndarray) -> np.ndarray | None:
        """Returns the normalised scores of returns, None for a task without reference scores."""
        return None

    def _check_widths(self) -> None:
        if self.trial is None:
            return
        pairs = {
            "observations": (self.dataset.observation_dim, self.trial.observation_dim),
            "actions": (self.dataset.action_dim, self.trial.action_dim),
        }
        for kind, (found, expected) in pairs.items():
            if found != expected:
                raise UserError(
                    f"The {kind} of the dataset are {found} wide, those of {self.config.env or self.config.task} "
                    f"{expected}: give the task that the data come from, or another dataset_path."
                )

    def evaluate(
        self, acting: Acting, policies: Sequence[str], episodes: int, key: jax.Array, before_step: Callable[[], None]
    ) -> dict[str, dict]:
        """Returns what `score` says of each policy's episodes; {} without an environment."""
        if self.make_env is None:
            return {}
        scores = {}
        for name in policies:

            def policy(observations, key, act=acting.policies[name]):
                before_step()
                return act(observations, key)

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
        if found.success is not None:
            scores["success"] = found.success
        normalized = self.normalize(self.config, found.returns)
        if normalized is not None:
            scores["normalized_score"] = {"mean": normalized.mean(), "std": normalized.std()}
            scores["normalized_interval"] = interval(normalized)
        return scores

    def headline(self, scores: dict) -> dict | None:
        """Returns the normalised score where there is one, else the return."""
        if "policy" not in scores:
            return None
        own = scores["policy"]
        if "normalized_score" in own:
            value, interval = own["normalized_score"]["mean"], own["normalized_interval"]
            return {"name": "normalized score", "value": value, "interval": interval}
        return {"name": "return", "value": own["return"], "interval": own["return_interval"]}

    def summary(self, scores: dict) -> str:
        if "policy" not in scores:
            return (
                "nothing was scored: there is no environment (config.env)"
                if self.make_env is None
                else ("the policy was not scored")
            )
        own, parts = scores["policy"], []
        if "normalized_score" in own:
            score = own["normalized_score"]
            parts.append(f"normalized score {score['mean']:.1f} +- {score['std']:.1f}")
        else:
            parts.append(f"return {own['return']:.2f}")
        if "success" in own:
            parts.append(f"success {own['success']:.0%}")
        return ", ".join(parts)

    def advice(self, scores: dict) -> str:
        """Says when the policy scores below the behavior model, and which policy to use instead."""
        found = {name: self.headline({"policy": score}) for name, score in scores.items()}
        heads = {name: head for name, head in found.items() if head is not None}
        own, behavior = heads.get("policy"), heads.get("behavior")
        if own is None or behavior is None or own["value"] >= behavior["value"]:
            return ""
        best = max(heads, key=lambda name: heads[name]["value"])

        def told(head: dict) -> str:
            low, high = head["interval"]
            return f"{head['value']:.2f} [{low:.2f}, {high:.2f}]"

        third = "" if best == "behavior" else f", {best} {told(heads[best])}"
        apart = own["interval"][1] < heads[best]["interval"][0]
        return (
            f"The policy's {own['name']} is below the behavior model's: {told(own)} against {told(behavior)}{third} "
            f"(95% intervals{'' if apart else '; those of the policy and of the best overlap'}); "
            f'load_policy(..., policy="{best}") gives the one that scored best'
        )

    def draw(self, directory: Path, acting: Acting, key: jax.Array, scores: dict) -> Path | None:
        return None


def task_environment(task: str, backend: str = "mujoco") -> Callable[[], gymnasium.Env]:
    """Returns a function that makes the environment of a task of ours."""
    envs.max_episode_steps(task)  # an unknown task is an error here
    return functools.partial(envs.make, task, backend)


class D4RL(Simulated):
    """The tasks of D4RL, scored by normalised return."""

    @staticmethod
    def environment(config) -> Callable[[], gymnasium.Env]:
        return task_environment(config.task, config.backend)

    def load(self) -> None:
        config = self.config
        found = d4rl.load_scaled(config.task, config.dataset_path, config.reward_scaling, mirrors=config.mirrors)
        self.dataset, self.scaling = found
        self.source = d4rl.source(d4rl.find(config.task, config.dataset_path))

    @staticmethod
    def normalize(config, returns: np.ndarray) -> np.ndarray | None:
        if envs.reference_scores(config.task) is None:
            return None
        return envs.normalized_score(config.task, returns)

    def draw(self, directory: Path, acting: Acting, key: jax.Array, scores: dict) -> Path | None:
        """Draws the values of the data's states over an antmaze; other tasks have no picture."""
        if not self.config.task.startswith("antmaze") or "q" not in acting.views:
            return None
        maze = self.config.task.split("-")[1]
        rows = np.random.default_rng(0).choice(self.dataset.size, min(4000, self.dataset.size), replace=False)
        observations = np.asarray(self.dataset.observations)[rows]
        values = acting.views["q"](observations, acting.policies["policy"](observations, key))
        path = directory / "values.png"
        plotting.maze_values(
            path,
            f"{self.config.task}: value of the data's states",
            observations[:, :2],
            np.asarray(values),
            antmaze.cells(maze, "1"),
            antmaze.cells(maze, "G")[0],
            antmaze.CELL_SIZE,
            caption=self.summary(scores),
        )
        return path


class Minari(Simulated):
    """A dataset of Minari's, scored in the environment that it or `config.env` names, or not at all."""

    takes_env = True

    @staticmethod
    def environment(config) -> Callable[[], gymnasium.Env] | None:
        return minari.environment(config.task, config.env)

    def load(self) -> None:
        self.dataset, self.scaling = minari.load_scaled(self.config.task, self.config.reward_scaling)

    @staticmethod
    def normalize(config, returns: np.ndarray) -> np.ndarray | None:
        return minari.normalized_score(config.task, returns)


class OGBench(Simulated):
    """A single-task dataset of OGBench's, scored in its environment; `success` is its measure."""

    @staticmethod
    def environment(config) -> Callable[[], gymnasium.Env]:
        return ogbench.environment(config.task)

    def load(self) -> None:
        config = self.config
        self.dataset, self.scaling = ogbench.load_scaled(config.task, config.dataset_path, config.reward_scaling)


class File(Simulated):
    """A file of one's own, scored in any registered gymnasium environment, or not at all."""

    takes_env = True

    @staticmethod
    def environment(config) -> Callable[[], gymnasium.Env] | None:
        return custom.environment(config.env)

    def load(self) -> None:
        config = self.config
        space = None if self.trial is None else self.trial.action_space
        self.dataset, self.scaling = custom.load_scaled(
            config.dataset_path, config.reward_scaling, space, config.columns, config.action_bounds
        )
        self.source = d4rl.source(expanded(config.dataset_path))
