"""Behavior models that diffuse in continuous time: settings and network, their training, and drawing actions."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from bdpo_jax import networks, vpsde
from bdpo_jax.agents import common
from bdpo_jax.agents.base import Metrics
from bdpo_jax.agents.critics import check_batch
from bdpo_jax.settings import frequencies, number, widths
from bdpo_jax.types import Array, Batch

CHUNK = 4096  # rows whose support actions are drawn at once

# (observations `[..., 1, S]`, noisy actions `[..., K, A]`, scalar t) -> a log density's gradient in them, `[..., K, A]`
Guide = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreModel:
    """A predictor of noise in continuous time: the part of a `Static` that describes it and its solver."""

    action_dim: int
    diffusion_steps: int = number(15, "evaluations of the solver [rel], DPM-Solver's second order", least=1)
    beta_min: float = number(0.1, "of the variance-preserving process at t = 0 [rel]", least=0)
    beta_max: float = number(20.0, "of the variance-preserving process at t = 1 [rel]", above=0)
    action_bound: float = number(1.0, "half-width of the action box, to which draws are clipped", above=0)
    actor_widths: tuple[int, ...] = widths((512, 256, 128), "levels of the U-shaped noise predictor [rel]")
    actor_frequencies: tuple[float, ...] = frequencies("the noise predictor")

    @property
    def process(self) -> vpsde.VPSDE:
        return vpsde.VPSDE(self.beta_min, self.beta_max)

    @property
    def noise_predictor(self) -> Any:
        """`(s, a^t, t) -> [..., action_dim]`."""
        return networks.UShapedMLP(self.actor_widths, self.action_dim, self.actor_frequencies)


def noised(static: ScoreModel, actions: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns t, uniform on `T_MIN` to 1, noise z and `a^t`, for actions `[batch, A]` or `[batch, K, A]`.

    A row's actions share its t, `[batch]` or `[batch, 1]`; z and `a^t` have the actions' shape.
    """
    t_key, noise_key = jax.random.split(key)
    shape = (len(actions), *(1,) * (actions.ndim - 2))
    t = jax.random.uniform(t_key, shape, minval=vpsde.T_MIN)
    noise = jax.random.normal(noise_key, actions.shape)
    return t, noise, vpsde.add_noise(static.process, actions, t, noise)


def score_loss(params: Any, static: ScoreModel, batch: Batch, key: jax.Array) -> jax.Array:
    """Returns `E || eps(s, a^t, t) - z ||^2`: denoising score matching (Song et al., 2021), weighted by `sigma_t^2`.

    Args:
      params: of the noise predictor; its score is `-eps / sigma_t`.
      static: of the model.
      batch: transitions; only observations and actions are read.
      key: PRNG key.
    """
    t, noise, noisy = noised(static, batch.actions, key)
    predicted = static.noise_predictor.apply(params, batch.observations, noisy, t)
    return jnp.sum(jnp.square(predicted - noise), axis=-1).mean()


def draw(
    static: ScoreModel,
    params: Any,
    observations: jax.Array,
    key: jax.Array,
    candidates: int,
    guide: Guide | None = None,
    trajectory: bool = False,
) -> tuple[jax.Array, jax.Array | None]:
    """Draws actions of the model, or of the model times a density.

    Args:
      static: of the model.
      params: of its noise predictor.
      observations: `[..., observation_dim]`.
      key: PRNG key.
      candidates: how many independent actions for each.
      guide: gradient of the logarithm of the density by which the model's, at each t, is multiplied.
      trajectory: keep every step.

    Returns:
      Actions `[..., candidates, action_dim]` in the box, and the noisy ones `[steps + 1, ..., candidates, action_dim]`
      from t = `T_MIN` to 1, not clipped, or None.
    """
    states = observations[..., None, :]

    def predict(noisy, t):
        noise = static.noise_predictor.apply(params, states, noisy, t)
        if guide is None:
            return noise
        return noise - static.process.marginal(t)[1] * guide(states, noisy, t)

    start = jax.random.normal(key, (*observations.shape[:-1], candidates, static.action_dim))
    end, path = vpsde.solve(static.process, predict, start, static.diffusion_steps, trajectory)
    return jnp.clip(end, -static.action_bound, static.action_bound), path


def each_row(function: Callable, observations: Array, key: jax.Array) -> jax.Array:
    """Returns `function(observation, key)` of each row of observations `[size, S]`, in chunks: `[size, ...]`.

    A row's key is folded with its index: what it gives depends on that and its observation alone.
    """
    rows = (jnp.arange(len(observations)), observations)
    return jax.lax.map(lambda row: function(row[1], jax.random.fold_in(key, row[0])), rows, batch_size=CHUNK)


def draw_support(static: ScoreModel, params: Any, observations: Array, key: jax.Array, candidates: int) -> jax.Array:
    """Returns actions `[size, candidates, action_dim]` of the model for observations `[size, S]`, see `each_row`."""
    return each_row(lambda observation, key: draw(static, params, observation, key, candidates)[0], observations, key)


def update_behavior(state: Any, batch: Batch, key: jax.Array) -> tuple[Any, Metrics]:
    """One update of `state.behavior` by `score_loss`; `state.step` is folded into the key, and moves."""
    check_batch(batch, state.static.action_dim)
    key = jax.random.fold_in(key, state.step)
    loss, gradients = jax.value_and_grad(score_loss)(state.behavior.params, state.static, batch, key)
    behavior = common.apply_gradients(state.behavior, gradients, jnp.inf, state.hyper.behavior_lr)
    metrics = {"behavior_loss": loss, "behavior_grad_norm": optax.tree.norm(gradients)}
    return state.replace(step=state.step + 1, behavior=behavior), metrics


def act_as_behavior(state: Any, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Returns one draw of the behavior model, `[..., action_dim]`, for observations `[..., observation_dim]`."""
    return draw(state.static, state.behavior.acting, observations, key, 1)[0][..., 0, :]
