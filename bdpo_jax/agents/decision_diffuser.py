"""Decision Diffuser: planning states by conditional diffusion, acting by inverse dynamics (Ajay et al., 2023).

    x    = (s_t, s_{t+1}, ..., s_{t+H-1})                                                              (A)
    L    = ( E || z - eps(x^n, n, y or nothing) ||^2  +  E || a - f(s, s') ||^2 ) / 2                   (B)
    eps' = eps(x^n, n, nothing) + w (eps(x^n, n, y) - eps(x^n, n, nothing))                            (C)
    a_t  = f(s_t, s_{t+1}),  s_{t+1} of a plan whose noise is eps', given s_t                          (D)

The letters are ours. y is the discounted return from s_t to the end of the episode; it is withheld from a share of the
rows (by an embedding of 0), which teaches eps both of its forms. n is uniform on 1..N, the schedule a cosine. The first
state of x^n is the clean one, in (B) and after every reverse step of a plan, and has no loss. A plan starts from noise
and adds noise of deviation `plan_temperature` (the paper's alpha scales the variance, the authors' code the deviation).
Means are taken over what norms add, which Adam does not see: the two networks share no parameters. The last checkpoint
is scored.

As in the authors' code: each component of a state is replaced by its rank in the data, between -1 and 1; after a
terminal, windows are padded with the observation 0, which is also the s' of the last step. A window that a time-out has
cut has no loss of noise; theirs never begin so late.

Differs: a policy here sees one observation, so a plan is given the current state and not the paper's 20 last ones. f is
learned from the first pair of each window, theirs from all; the data's pairs have the same weight but at the ends of
episodes. Actions are not replaced by ranks. Averages move in every update. With `return_scale=0` the data's best return
is 1; where a loss is larger, the worst is 0, else no reward is.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from bdpo_jax import diffusion, networks
from bdpo_jax.agents import common
from bdpo_jax.agents.base import Metrics, Phase
from bdpo_jax.agents.common import Model
from bdpo_jax.agents.critics import check_batch, returns
from bdpo_jax.agents.windows import QUANTILES, check_data_of, ranked, rows_left, windows_of
from bdpo_jax.errors import UserError
from bdpo_jax.settings import number, read, read_traced, widths
from bdpo_jax.types import Batch


@dataclasses.dataclass(frozen=True)
class Static:
    """Sizes: what changes shapes."""

    action_dim: int
    horizon: int = number(100, "H, states of a plan [paper]", least=2)
    diffusion_steps: int = number(200, "N [rel]; the paper's 100", least=1)
    actor_widths: tuple[int, ...] = widths((128, 512, 1024), "channels of each level of the U-Net [rel]")
    inverse_widths: tuple[int, ...] = widths((256, 256), "hidden layers of f, ReLU [rel]; the paper's 512")
    action_bound: float = number(1.0, "half-width of the action box", above=0)

    @property
    def schedule(self) -> diffusion.NoiseSchedule:
        return diffusion.cosine(self.diffusion_steps)

    def planner(self, observation_dim: int) -> Any:
        """The network eps of states of this width."""
        return networks.TemporalUNet(self.actor_widths, observation_dim, self.diffusion_steps)

    @property
    def inverse_dynamics(self) -> Any:
        return networks.MLP(self.inverse_widths, self.action_dim)


class Hyper(struct.PyTreeNode):
    """The numbers that one sweeps."""

    guidance: jax.Array = number(1.2, "w of (C) [rel]; per task between 1.2 and 1.8 [paper]", least=0)
    target_return: jax.Array = number(0.9, "y that plans are given, per return_scale [rel]")
    return_scale: jax.Array = number(400.0, "unit of y, in rewards [rel]; 0: made from the data", least=0)
    termination_penalty: jax.Array = number(100.0, "taken from a terminal step's reward [rel]", least=0)
    condition_dropout: jax.Array = number(0.25, "share of rows without y in training [paper]", least=0, most=1)
    plan_temperature: jax.Array = number(0.5, "deviation of a plan's noises, of training's [rel]", least=0)
    discount: jax.Array = number(0.99, "of returns, per environment step [rel]", least=0, most=1)
    actor_lr: jax.Array = number(2e-4, "Adam, of both networks, constant [paper]", least=0)
    ema_rate: jax.Array = number(0.005, "of both networks' averages, which act [rel]", least=0, most=1)


@dataclasses.dataclass(frozen=True)
class Budget:
    """Updates."""

    train_steps: int = number(1_000_000, "updates [rel]; the paper's 2,000,000", least=0, may_change=True)


class State(struct.PyTreeNode):
    """Everything that training changes or depends on."""

    step: jax.Array  # number of updates done
    planner: Model  # eps
    inverse: Model  # f
    quantiles: jax.Array  # [QUANTILES, observation_dim], of the data's observations
    hyper: Hyper
    static: Static = struct.field(pytree_node=False)


def check(config: Any) -> None:
    """Raises a `UserError` where the U-Net cannot halve the horizon, or the task has no trajectories."""
    factor = 2 ** (len(config.actor_widths) - 1)
    if config.horizon % factor:
        raise UserError(
            f"config.horizon is {config.horizon}; it must be a multiple of {factor}, because a U-Net of "
            f"{len(config.actor_widths)} levels (config.actor_widths) halves it {len(config.actor_widths) - 1} times."
        )
    if config.family == "synthetic2d":
        raise UserError("decision_diffuser plans trajectories, of which the 2D sets have none; choose another task.")


def phases(config: Any) -> tuple[Phase, ...]:
    """Returns the only phase."""
    return (
        Phase(
            "train",
            config.train_steps,
            update,
            prepare=prepare,
            gather=windows_of(config.horizon),
            check_data=check_data_of(config.horizon),
            watch=("policy",),
            score=("policy", "behavior"),
        ),
    )


def init(config: Any, key: jax.Array, observation_dim: int, action_dim: int) -> State:
    """Returns the initial state, see `Agent.init`."""
    static = read(Static, config, action_dim=action_dim)
    return _init_models(static, key, observation_dim, read_traced(Hyper, config))


@functools.partial(jax.jit, static_argnums=(0, 2))
def _init_models(static: Static, key: jax.Array, observation_dim: int, hyper: Hyper) -> State:
    planner_key, inverse_key = jax.random.split(key)
    plan = jnp.zeros((1, static.horizon, observation_dim))
    planner = static.planner(observation_dim).init(planner_key, plan, 1, 0.0)
    return State(
        step=jnp.int32(0),
        planner=common.create(planner, jnp.inf),
        inverse=common.create(static.inverse_dynamics.init(inverse_key, plan[:, 0], plan[:, 1]), jnp.inf),
        quantiles=jnp.tile(jnp.linspace(-1, 1, QUANTILES, dtype=jnp.float32)[:, None], (1, observation_dim)),
        hyper=hyper,
        static=static,
    )


def prepare(state: State, dataset: Any, key: jax.Array) -> dict[str, jax.Array]:
    """Returns what windows are gathered from.

    These are states by ranks (`observations`, `next_observations` `[size, S]`, that of 0 as `padding [S]`), how many
    rows of the episode follow (`left [size]`), scaled `returns [size]`, and `quantiles [QUANTILES, S]`.
    """
    hyper = state.hyper
    quantiles = jnp.quantile(dataset.observations, jnp.linspace(0, 1, QUANTILES), axis=0)
    penalised = dataset.replace(rewards=dataset.rewards - hyper.termination_penalty * dataset.terminals)
    found = returns(penalised, hyper.discount)
    worst = jnp.where(-found.min() > found.max(), found.min(), 0.0)
    units = (found - worst) / jnp.maximum(found.max() - worst, jnp.finfo(found.dtype).tiny)
    return {
        "observations": ranked(quantiles, dataset.observations),
        "next_observations": ranked(quantiles, dataset.next_observations),
        "padding": ranked(quantiles, jnp.zeros(dataset.observations.shape[1:])),
        "left": rows_left(dataset).astype(jnp.float32),
        "returns": jnp.where(hyper.return_scale > 0, found / hyper.return_scale, units),
        "quantiles": quantiles,
    }


def inverse_loss(params: Any, static: Static, windows: jax.Array, actions: jax.Array) -> jax.Array:
    """Returns the second part of (B), of the windows' first two states: a mean over rows and components."""
    return jnp.square(static.inverse_dynamics.apply(params, windows[:, 0], windows[:, 1]) - actions).mean()


def noise_loss(params: Any, state: State, extra: Mapping[str, jax.Array], key: jax.Array) -> jax.Array:
    """Returns the first part of (B), a mean over whole windows, their states but the first, and components."""
    windows, static = extra["windows"], state.static
    n_key, noise_key, known_key = jax.random.split(key, 3)
    n = jax.random.randint(n_key, windows.shape[:1], 1, static.diffusion_steps + 1)
    noise = jax.random.normal(noise_key, windows.shape)
    noisy = diffusion.add_noise(static.schedule, windows, n[:, None], noise).at[:, 0].set(windows[:, 0])
    known = jax.random.bernoulli(known_key, 1 - state.hyper.condition_dropout, n.shape)
    predicted = static.planner(windows.shape[-1]).apply(params, noisy, n, extra["returns"], known)
    errors = jnp.square(predicted - noise)[:, 1:].mean(axis=(1, 2))
    return (extra["whole"] * errors).sum() / jnp.maximum(extra["whole"].sum(), 1.0)


def update(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One step of (B) and of both averages.

    Args:
      state: the train state.
      batch: transitions with their windows.
      key: PRNG key; `state.step` is folded in.

    Returns:
      The new state and scalar metrics.
    """
    check_batch(batch, state.static.action_dim)
    extra, hyper, key = batch.extra, state.hyper, jax.random.fold_in(key, state.step)
    assert extra is not None, "a batch of the Decision Diffuser has windows"

    def loss(params):
        parts = {
            "noise_loss": noise_loss(params["planner"], state, extra, key),
            "inverse_loss": inverse_loss(params["inverse"], state.static, extra["windows"], batch.actions),
        }
        return (parts["noise_loss"] + parts["inverse_loss"]) / 2, parts

    models = {"planner": state.planner, "inverse": state.inverse}
    gradients, metrics = jax.grad(loss, has_aux=True)({name: model.params for name, model in models.items()})
    for name, model in models.items():
        models[name] = common.apply_gradients(model, gradients[name], jnp.inf, hyper.actor_lr, hyper.ema_rate)
        metrics[f"{name}_grad_norm"] = optax.tree.norm(gradients[name])
    metrics["return_mean"] = extra["returns"].mean()
    return state.replace(step=state.step + 1, quantiles=extra["quantiles"][0], **models), metrics


def guided_noise(state: State, noisy: jax.Array, n: jax.Array, guidance: jax.Array | float) -> jax.Array:
    """Returns eps' of (C) for noisy plans `[..., H, S]`, given `target_return`."""
    network = state.static.planner(noisy.shape[-1])
    known = jnp.arange(2.0).reshape(2, *(1,) * (noisy.ndim - 2))
    both = jnp.broadcast_to(noisy, (2, *noisy.shape))
    without, told = network.apply(state.planner.acting, both, n, state.hyper.target_return, known)
    return without + guidance * (told - without)


def plan(
    state: State, observations: jax.Array, key: jax.Array, guidance: jax.Array | float, temperature: jax.Array | float
) -> diffusion.Path:
    """Returns the reverse paths of plans `[..., H, S]`, of ranks, that begin at observations `[..., S]`."""
    first = ranked(state.quantiles, observations)
    return diffusion.sample(
        state.static.schedule,
        lambda noisy, n: guided_noise(state, noisy, n, guidance),
        key,
        (*first.shape[:-1], state.static.horizon, first.shape[-1]),
        clip=1.0,
        trajectory=True,
        temperature=temperature,
        hold=lambda x: x.at[..., 0, :].set(first),
    )


def _follow(state: State, plans: jax.Array) -> jax.Array:
    """Returns the action (D) of plans `[..., H, S]`, in the box, `[..., action_dim]`."""
    bound, network = state.static.action_bound, state.static.inverse_dynamics
    return jnp.clip(network.apply(state.inverse.acting, plans[..., 0, :], plans[..., 1, :]), -bound, bound)


def act(state: State, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Returns the first action of a plan for `target_return`, (D), `[..., action_dim]` for `[..., S]`."""
    hyper = state.hyper
    return _follow(state, plan(state, observations, key, hyper.guidance, hyper.plan_temperature).actions)


def act_as_behavior(state: State, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Returns the first action of a plan for no return and at temperature 1: a model of the data; as `act`."""
    return _follow(state, plan(state, observations, key, 0.0, 1.0).actions)


POLICIES = {"policy": act, "behavior": act_as_behavior}
VIEWS: dict[str, Any] = {}
