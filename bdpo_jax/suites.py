"""Kinds of tasks: where the data come from, how a policy is scored, what is drawn.

A suite is made from a config and has `dataset` (host arrays), `evaluate(state, key, policies, ...)`,
`results(scores)`, `summary(results)` and `draw(directory, state, key, results)`; `POLICIES` names what can be
evaluated.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from bdpo_jax import diffusion, distances, envs, evaluation, networks, plotting
from bdpo_jax.agents import bdpo
from bdpo_jax.data import d4rl, pointmass, synthetic2d
from bdpo_jax.data.dataset import unknown_name
from bdpo_jax.types import UserError

# name -> how `sample_actions` is called; None: the config's `greedy_candidates`
POLICIES = {
    "bdpo": {"policy": "actor", "candidates": None},
    "behavior": {"policy": "behavior", "candidates": 1},
    "behavior_best_of": {"policy": "behavior", "candidates": None},
}


@functools.partial(jax.jit, static_argnames=("policy", "candidates"))
def _act(state, observations, key, policy, candidates):
    return bdpo.sample_actions(state, observations, key, candidates, policy)


def make(config):
    """Returns the suite of `config.suite`.

    Raises:
      UserError: there is no such suite or task, or its data cannot be read.
    """
    suites = {"synthetic2d": Synthetic2D, "pointmass": PointMass, "d4rl": D4RL}
    if config.suite not in suites:
        raise unknown_name("suite", config.suite, suites)
    return suites[config.suite](config)


class Synthetic2D:
    """The paper's 2D sets (B.2): samples are compared with the Boltzmann distribution of the data's energy."""

    samples = 10_000
    intervals = (50, 30, 15, 5, 0)

    def __init__(self, config):
        self.config = config
        self.dataset = synthetic2d.dataset(config.task, config.dataset_size, config.seed)
        points, energies = synthetic2d.generate(config.task, 1_000_000, config.seed + 1)
        self.data = points[: self.samples], energies[: self.samples]
        self.truth, self.other_truth = (
            synthetic2d.boltzmann(points, energies, config.eta, self.samples, seed) for seed in (0, 1)
        )

    @functools.cached_property
    def references(self) -> dict:
        """Distances to the truth that no policy decides: of another sample of the truth, and of the data."""
        return {"floor": self._distances(self.other_truth), "data": self._distances(self.data[0])}

    def evaluate(self, state, key, policies, episodes, before_step) -> dict:
        """Returns distances of each policy's samples to the truth, and the same of truth to truth and of the data."""
        scores = {}
        for name in policies:
            actions = _act(state, jnp.zeros((self.samples, 1)), key, **POLICIES[name])
            scores[name] = self._distances(np.asarray(actions))
        return scores | self.references

    def results(self, scores: dict) -> dict:
        """Returns the figures of the last evaluation that lead the results."""
        best = scores["bdpo"]
        result = {
            "sliced_wasserstein": best["sliced_wasserstein"],
            "floor": scores["floor"]["sliced_wasserstein"],
            "data_to_truth": scores["data"]["sliced_wasserstein"],
            "energy_distance": best["energy_distance"],
        }
        if "mode_mass" in best:
            result["mode_mass"] = best["mode_mass"]
            result["true_mode_mass"] = distances.mode_mass(self.truth, synthetic2d.centres(self.config.task))
        return result

    def summary(self, results: dict) -> str:
        return (
            f"sliced Wasserstein distance to the truth {results['sliced_wasserstein']:.3f} "
            f"(data {results['data_to_truth']:.3f}, floor {results['floor']:.3f})"
        )

    def _distances(self, samples: np.ndarray) -> dict:
        scores = {
            "sliced_wasserstein": distances.sliced_wasserstein(samples, self.truth),
            "energy_distance": distances.energy_distance(samples, self.truth),
        }
        if self.config.task == "8gaussians":
            scores["mode_mass"] = distances.mode_mass(samples, synthetic2d.centres(self.config.task))
        return scores

    def draw(self, directory: Path, state, key, results: dict) -> Path:
        """Draws data, truth, samples, generation paths and value landscapes as in the paper's Figure 4."""
        static, path = state.static, directory / f"{self.config.task}.png"
        samples = _act(state, jnp.zeros((self.samples, 1)), key, **POLICIES["bdpo"])
        intervals = sorted({min(n, static.diffusion_steps) for n in self.intervals}, reverse=True)
        bound = self.config.action_bound
        plotting.synthetic2d(
            path,
            f"BDPO on {self.config.task}, eta = {self.config.eta:g}",
            *self.data,
            self.truth,
            np.asarray(samples),
            np.asarray(_paths(state, key)),
            {n: np.asarray(_landscape(state, n, bound)) for n in intervals},
            intervals=intervals,
            extent=(-bound, bound, -bound, bound),
            caption=self.summary(results),
        )
        return path


@jax.jit
def _paths(state, key) -> jax.Array:
    """Returns 200 DDIM paths of the averaged actor at the dummy state, `[N + 1, 200, action_dim]`."""
    static = state.static

    def predict(noisy, n):
        return static.noise_predictor.apply(state.actor.ema, jnp.zeros((200, 1)), noisy, n)

    shape = (200, static.action_dim)
    path = diffusion.sample(static.schedule, predict, key, shape, static.clip, solver="ddim", trajectory=True)
    return path.trajectory


@functools.partial(jax.jit, static_argnames=("n", "bound"))
def _landscape(state, n: int, bound: float, size: int = 80) -> jax.Array:
    """Returns the ensemble mean of V_n (Q for n = 0) at the dummy state on a grid, `[size, size]`, rows along y."""
    line = jnp.linspace(-bound, bound, size)
    grid = jnp.stack(jnp.meshgrid(line, line), axis=-1)
    observations = jnp.zeros((size, size, 1))
    if n == 0:
        return networks.apply_ensemble(state.static.q_network, state.q.ema, observations, grid).mean(axis=0)
    steps = jnp.full((size, size), n)
    return networks.apply_ensemble(state.static.v_network, state.v.ema, observations, grid, steps).mean(axis=0)


class Simulated:
    """Tasks whose policies are scored by episodes in a simulation."""

    def __init__(self, config):
        self.config = config
        self.load()
        env = envs.make(config.task)
        widths = env.observation_space.shape[0], env.action_space.shape[0]
        env.close()
        for kind, found, expected in zip(
            ("observations", "actions"), (self.dataset.observation_dim, self.dataset.action_dim), widths, strict=True
        ):
            if found != expected:
                raise UserError(
                    f"The {kind} of the dataset are {found} wide, those of {config.task} {expected}: "
                    "give the task that the data come from, or another dataset_path."
                )

    def evaluate(self, state, key, policies, episodes, before_step) -> dict:
        """Returns for each policy the scores of `episodes` episodes, the same starts for all and at every call.

        `before_step` is called before each step; what it raises ends the evaluation.
        """
        scores = {}
        for name in policies:

            def act(observations, key, how=POLICIES[name]):
                before_step()
                return _act(state, observations, key, **how)

            scores[name] = self.score(evaluation.evaluate(act, self.config.task, episodes, self.config.seed))
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
        if envs.reference_scores(self.config.task) is not None:
            normalized = envs.normalized_score(self.config.task, found.returns)
            scores["normalized_score"] = {"mean": normalized.mean(), "std": normalized.std()}
            scores["normalized_interval"] = interval(normalized)
        return scores


class D4RL(Simulated):
    """The tasks of D4RL, scored by normalised return."""

    def load(self):
        config = self.config
        self.dataset = d4rl.load(config.task, config.dataset_path, config.reward_scaling)

    def results(self, scores: dict) -> dict:
        """Returns the normalised score that leads the results."""
        return {"normalized_score": scores["bdpo"]["normalized_score"]}

    def summary(self, results: dict) -> str:
        score = results["normalized_score"]
        return f"normalized score {score['mean']:.1f} +- {score['std']:.1f}"

    def draw(self, directory: Path, state, key, results: dict) -> None:
        return None


class PointMass(Simulated):
    """The generated point mass."""

    def load(self):
        self.raw = pointmass.generate(self.config.seed, self.config.dataset_size)
        self.dataset = d4rl.transitions(self.raw, pointmass.MAX_EPISODE_STEPS, "the generated point mass data")
        self.returns, _ = d4rl.episodes(self.raw, pointmass.MAX_EPISODE_STEPS)

    def score(self, found: evaluation.Episodes) -> dict:
        infos = found.infos
        return super().score(found) | {
            "success": np.mean([info["success"] for info in infos]),
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
            actions = np.asarray(_act(state, positions.astype(np.float32), step_key, **POLICIES[policy]), np.float64)
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
