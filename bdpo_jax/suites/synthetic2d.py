"""The paper's 2D sets (B.2): samples are compared with the Boltzmann distribution of the data's energy."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from bdpo_jax import diffusion, distances, networks, plotting
from bdpo_jax.data import synthetic2d
from bdpo_jax.suites.common import act, data_seed


class Synthetic2D:
    """One of the 2D sets and the distances that score a policy on it."""

    policies = ("bdpo", "behavior")

    samples = 10_000
    intervals = (50, 30, 15, 5, 0)

    def __init__(self, config):
        self.config = config
        self.dataset = synthetic2d.dataset(config.task, config.dataset_size, data_seed(config))
        points, energies = synthetic2d.generate(config.task, 1_000_000, data_seed(config) + 1)
        self.data = points[: self.samples], energies[: self.samples]
        self.truth, self.other_truth = (
            synthetic2d.boltzmann(points, energies, config.eta, self.samples, seed) for seed in (0, 1)
        )

    def of_member(self, config):
        """Returns the suite of another member; eta decides the truth."""
        return Synthetic2D(config)

    @functools.cached_property
    def references(self) -> dict:
        """Distances to the truth that no policy decides: of another sample of the truth, and of the data."""
        return {"floor": self._distances(self.other_truth), "data": self._distances(self.data[0])}

    def evaluate(self, state, key, policies, episodes, before_step) -> dict:
        """Returns distances of each policy's samples to the truth, and the same of truth to truth and of the data."""
        scores = {}
        for name in policies:
            actions = act(state, jnp.zeros((self.samples, 1)), key, name)
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

    def headline(self, results: dict) -> tuple[str, float]:
        return "sliced Wasserstein distance to its own truth", results["sliced_wasserstein"]

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
        samples = act(state, jnp.zeros((self.samples, 1)), key, "bdpo")
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
