"""Small configurations and batches, and exact functions in the place of networks, for the tests of the core."""

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from bdpo_jax.agents import bdpo, common
from bdpo_jax.agents.regularized import read_hyper
from bdpo_jax.settings import make, read
from bdpo_jax.types import Batch

TINY = {
    "diffusion_steps": 3,
    "actor_widths": (8,),
    "value_widths": (8,),
    "ensemble_size": 2,
    "actor_samples": 3,
    "actor_update_interval": 2,
    "greedy_candidates": 4,
    "eta": 0.1,
    "rho": 0.5,
    "discount": 0.9,
    "behavior_lr": 3e-3,
    "actor_lr": 1e-3,
    "value_lr": 1e-3,
    "ema_rate": 0.1,
    "train_steps": 1000,
    "value_warmup_steps": 0,
}


def config(**changes) -> ConfigDict:
    """The settings of BDPO: its defaults but for `TINY`, and these changes."""
    return make(bdpo, **{**TINY, **changes})


def make_batch(seed: int = 0, size: int = 8, observation_dim: int = 3, action_dim: int = 2) -> Batch:
    """Random transitions, about a quarter of them terminal."""
    rng = np.random.default_rng(seed)
    arrays = {
        "observations": rng.normal(size=(size, observation_dim)),
        "actions": rng.uniform(-1, 1, (size, action_dim)),
        "rewards": rng.normal(size=size),
        "next_observations": rng.normal(size=(size, observation_dim)),
        "terminals": rng.random(size) < 0.25,
    }
    return Batch(**{name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()})


def gaussian_noise(schedule, noisy, n, mean, variance):
    """The exact noise predictor of `N(mean, variance)`: minus `sqrt(1 - abar)` times its score at step n."""
    alpha_bar = jnp.asarray(schedule.alpha_bars)[n][..., None]
    noisy, alpha_bar, mean, variance = jnp.broadcast_arrays(noisy, alpha_bar, mean, variance)
    marginal = alpha_bar * variance + 1 - alpha_bar
    return jnp.sqrt(1 - alpha_bar) * (noisy - jnp.sqrt(alpha_bar) * mean) / marginal


def gaussian_kernel(schedule, mean, variance):
    """The reverse chain of that predictor, `a^{n-1} = gains[n] a^n + offsets[n] + noise`, in float64 `[N + 1]`."""
    betas, alphas, alpha_bars = (np.float64(x) for x in (schedule.betas, schedule.alphas, schedule.alpha_bars))
    rate = betas / (alpha_bars * variance + 1 - alpha_bars)
    return (1 - rate) / np.sqrt(alphas), rate * np.sqrt(alpha_bars) * mean / np.sqrt(alphas)


@dataclasses.dataclass(frozen=True)
class ExactStatic(bdpo.Static):
    """`Static` with plain functions `(params, *inputs) -> [..., outputs]` where a network would be applied."""

    predict: Callable | None = None
    q: Callable | None = None
    v: Callable | None = None

    @property
    def noise_predictor(self):
        return SimpleNamespace(apply=self.predict) if self.predict else super().noise_predictor

    @property
    def q_network(self):
        return SimpleNamespace(apply=self.q) if self.q else super().q_network

    @property
    def v_network(self):
        return SimpleNamespace(apply=self.v) if self.v else super().v_network


def exact_state(settings, action_dim, params: dict, **functions) -> bdpo.State:
    """A state of `functions` (see `ExactStatic`) with `params` of actor, behavior, q and v; {} where not named."""
    static = dataclasses.asdict(read(bdpo.Static, settings, action_dim=action_dim))
    models = {name: common.create(params.get(name, {}), settings.clip_norm) for name in ("actor", "behavior", "q", "v")}
    return bdpo.State(
        step=jnp.int32(0),
        pretrain_step=jnp.int32(0),
        hyper=read_hyper(bdpo.Hyper, settings),
        static=ExactStatic(**static, **functions),
        **models,
    )


def random_state(settings, observation_dim, action_dim, seed=0) -> bdpo.State:
    """A state of the real networks with random parameters, each model's its own: `init` takes seconds to compile."""
    rng = np.random.default_rng(seed)

    def fill(leaf):
        fan_in = leaf.shape[-2] if len(leaf.shape) > 1 else 10
        return jnp.asarray(rng.normal(size=leaf.shape, scale=np.sqrt(2 / fan_in)), jnp.float32)

    shapes = jax.eval_shape(lambda key: bdpo.init(settings, key, observation_dim, action_dim), jax.random.key(0))
    state = exact_state(settings, action_dim, {})
    models = {
        name: common.create(jax.tree.map(fill, getattr(shapes, name).params), settings.clip_norm)
        for name in ("actor", "behavior", "q", "v")
    }
    return state.replace(static=shapes.static, **models)


def break_params(state, *names):
    """The state with NaN parameters in these models: only their averages are right."""
    models = {name: getattr(state, name) for name in names}
    return state.replace(
        **{name: m.replace(params=jax.tree.map(lambda p: p * jnp.nan, m.params)) for name, m in models.items()}
    )


def set_hyper(state, **values):
    """The state with other swept numbers."""
    return state.replace(hyper=state.hyper.replace(**{k: jnp.float32(v) for k, v in values.items()}))


def assert_trees(compare, left, right):
    """Applies a numpy assertion to every pair of leaves."""
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(left), jax.tree.leaves(right), strict=True):
        compare(np.asarray(a), np.asarray(b), err_msg=jax.tree_util.keystr(path))


def two_state_values(agent, state, updates: int, width: int = 2) -> np.ndarray:
    """Trains an algorithm, and returns its Q `[2]` of states A and B, mean over actions.

    A -> B (reward 1); B (reward 2) -> A, or ends, half of the time each; actions are uniform and do nothing. So with
    the discount 0.5, Q of A and B solves x = 1 + y / 2, y = 2 + x / 4.
    """
    a, b = np.eye(2)
    rows = [(a, 1, b, 0), (a, 1, b, 0), (b, 2, a, 0), (b, 2, b, 1)] * 8
    columns = (jnp.asarray(np.stack(column), jnp.float32) for column in zip(*rows, strict=True))
    observations, rewards, following, terminals = columns

    def update(state, _):
        key = jax.random.fold_in(jax.random.key(0), state.step)
        actions = jax.random.uniform(key, (len(rows), width), minval=-1.0)
        return agent.update(state, Batch(observations, actions, rewards, following, terminals), key)[0], None

    state, _ = jax.jit(lambda state: jax.lax.scan(update, state, None, length=updates))(state)
    grid = jnp.linspace(-0.9, 0.9, 7)[:, None] * jnp.ones((1, width))
    return np.asarray(agent.VIEWS["q"](state, jnp.eye(2)[:, None], grid[None]).mean(axis=1))


TWO_STATE_VALUES = np.linalg.solve([[1, -0.5], [-0.25, 1]], [1, 2])


def panels_of(figure):
    """The axes of a figure that have a title, by it."""
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
