"""The paper's 2D sets (B.2): samples are compared with the Boltzmann distribution of the data's energy."""

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from bdpo_jax import distances, plotting
from bdpo_jax.data import synthetic2d
from bdpo_jax.data.rewards import Scaling
from bdpo_jax.errors import UserError
from bdpo_jax.tasks.base import Act, Acting, data_seed, title


class Synthetic2D:
    """One of the 2D sets and the distances that score a policy on it."""

    scaling: Scaling | None = None
    source: dict[str, str | None] = {}  # the data are made
    samples = 10_000
    intervals = (50, 30, 15, 5, 0)  # diffusion steps between which the paths are drawn
    grid = 80  # points of a value landscape along each axis

    def __init__(self, config):
        self.dataset = synthetic2d.dataset(config.task, config.dataset_size, data_seed(config))
        self._points, self._energies = synthetic2d.generate(config.task, 1_000_000, data_seed(config) + 1)
        self.data = self._points[: self.samples], self._energies[: self.samples]
        self._set(config)

    def _set(self, config) -> None:
        self.config = config
        temperature = config.temperature or getattr(config, "eta", 0.0)
        if not temperature:
            raise UserError("Neither config.temperature nor config.eta is above 0; give the temperature of the truth.")
        self.truth, self.other_truth = (
            synthetic2d.boltzmann(self._points, self._energies, temperature, self.samples, seed) for seed in (0, 1)
        )

    def for_run(self, config) -> "Synthetic2D":
        """Returns the task of another run of the group, whose eta decides its truth."""
        if config == self.config:
            return self
        other = copy.copy(self)
        vars(other).pop("references", None)
        other._set(config)
        return other

    @functools.cached_property
    def references(self) -> dict:
        """Distances to the truth that no policy decides: of another sample of the truth, and of the data."""
        found = {"floor": self._distances(self.other_truth), "data": self._distances(self.data[0])}
        if self.config.task == "8gaussians":
            found["truth"] = {"mode_mass": distances.mode_mass(self.truth, synthetic2d.centres(self.config.task))}
        return found

    def evaluate(
        self, acting: Acting, policies: Sequence[str], episodes: int, key: jax.Array, before_step: Callable[[], None]
    ) -> dict[str, dict]:
        """Returns the distances of each policy's samples to the truth; there are no episodes."""
        scores = {}
        for name in policies:
            before_step()
            scores[name] = self._distances(self._draw(acting.policies[name], key))
        return scores

    def _draw(self, act: Act, key: jax.Array) -> np.ndarray:
        return np.asarray(act(np.zeros((self.samples, 1), np.float32), key))

    def headline(self, scores: dict) -> dict | None:
        if "policy" not in scores:
            return None
        value = scores["policy"]["sliced_wasserstein"]
        return {"name": "sliced Wasserstein distance to its own truth", "value": value, "interval": None}

    def summary(self, scores: dict) -> str:
        if "policy" not in scores:
            return "the policy was not scored"
        distance, data, floor = (
            each["sliced_wasserstein"] for each in (scores["policy"], self.references["data"], self.references["floor"])
        )
        return f"sliced Wasserstein distance to the truth {distance:.3f} (data {data:.3f}, floor {floor:.3f})"

    def _distances(self, samples: np.ndarray) -> dict:
        scores: dict[str, float | np.ndarray] = {
            "sliced_wasserstein": distances.sliced_wasserstein(samples, self.truth),
            "energy_distance": distances.energy_distance(samples, self.truth),
        }
        if self.config.task == "8gaussians":
            scores["mode_mass"] = distances.mode_mass(samples, synthetic2d.centres(self.config.task))
        return scores

    def advice(self, scores: dict) -> str:
        """Nothing: the behavior model aims at the data, not at the truth."""
        return ""

    def draw(self, directory: Path, acting: Acting, key: jax.Array, scores: dict) -> Path:
        """Draws data, truth, samples, generation paths and value landscapes as in the paper's Figure 4."""
        path, bound = directory / f"{self.config.task}.png", synthetic2d.BOUND
        paths, values = None, None
        intervals: Sequence[int] = self.intervals
        if "path" in acting.views:
            paths = np.asarray(acting.views["path"](np.zeros((200, 1), np.float32), key))
            intervals = sorted({min(n, len(paths) - 1) for n in intervals}, reverse=True)
            values = self._landscapes(acting.views, intervals)
        plotting.synthetic2d(
            path,
            title(self.config),
            *self.data,
            self.truth,
            self._draw(acting.policies["policy"], key),
            paths,
            values,
            intervals=intervals,
            extent=(-bound, bound, -bound, bound),
            caption=self.summary(scores),
        )
        return path

    def _landscapes(self, views: Mapping[str, Callable], intervals: Sequence[int]) -> dict[int, np.ndarray]:
        """Returns V_n, and Q for n = 0, at the dummy state on a grid, `[grid, grid]`, rows along the second axis."""
        line = np.linspace(-synthetic2d.BOUND, synthetic2d.BOUND, self.grid, dtype=np.float32)
        points = np.stack(np.meshgrid(line, line), axis=-1)
        observations = np.zeros((self.grid, self.grid, 1), np.float32)
        values = {}
        for n in intervals:
            if n == 0 and "q" in views:
                values[n] = np.asarray(views["q"](observations, points))
            if n > 0 and "value" in views:
                values[n] = np.asarray(views["value"](observations, points, np.full((self.grid, self.grid), n)))
        return values
