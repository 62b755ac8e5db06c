"""SfBC: selecting from behavior candidates (Chen et al., 2023), as pure functions.

    L_b  = E || eps(s, a^t, t) - z ||^2, t uniform on (0, 1]                                          (A)
    V_n  = sum_j softmax_j(beta q_j) q_j,  q_j = Q_{i-1}(s_n, a_j),  a_j ~ behavior(s_n)              (B)
    R_n  = r_n + gamma (1 - d_n) max(R_{n+1}, V_{n+1})                                                (C)
    L_i  = E (R_n - Q_i(s_n, a_n))^2                                                                  (D)

The data's own trajectories are planned along, (C), with the values of the iteration before, (B); the first iteration
has returns alone. Each Q_i starts anew and is regressed on returns of mean 0 and deviation 1, in which units both
softmaxes are. R_{n+1} is that of the next row where it begins at s_{n+1}; the last row of an episode that was cut has
V_{n+1} alone, in the first iteration nothing. The policy draws candidates of the behavior model and takes one by
softmax(alpha Q), or the mean of several, drawn so one after another without replacement. The last checkpoint is
scored. The letters are ours.

Differs from the authors' code: there R_n is max(r_n + gamma (1 - d_n) R_{n+1}, V_n), with V of the row's own state,
which values an action by what another would bring; (C) is the planning of the paper's idea, whose printed form could
not be compared. The solver is of second order, not third, and the noise predictor built otherwise
(`networks.UShapedMLP`). A deviation of returns below .1 counts as .1 there.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from bdpo_jax import networks
from bdpo_jax.agents import common
from bdpo_jax.agents.base import Metrics, Phase
from bdpo_jax.agents.common import Model
from bdpo_jax.agents.critics import check_batch, pick, returns
from bdpo_jax.agents.score_model import ScoreModel, act_as_behavior, draw, each_row, update_behavior
from bdpo_jax.settings import frequencies, number, read, read_traced, widths
from bdpo_jax.types import Array, Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Static(ScoreModel):
    """Sizes and switches: what changes shapes or control flow."""

    actor_samples: int = number(16, "actions of the behavior model in (B) [rel]", least=1)
    value_widths: tuple[int, ...] = widths((256, 256), "hidden layers of each Q, SiLU [rel]")
    q_frequencies: tuple[float, ...] = frequencies("each Q")
    iterations: int = number(2, "how many Q are learned, each planned with the one before; per task [quoted]", least=1)
    greedy_candidates: int = number(32, "actions drawn when acting [rel]", least=1)
    averages: int = number(1, "chosen candidates whose mean acts, at most all; locomotion 4 [rel]", least=1)

    @property
    def q_network(self) -> Any:
        return networks.MLP(self.value_widths, 1, nn.silu, frequencies=self.q_frequencies)


class Hyper(struct.PyTreeNode):
    """The numbers that one sweeps."""

    planning_inverse_temperature: jax.Array = number(20.0, "beta of (B), per deviation of returns [rel]", least=0)
    selection_inverse_temperature: jax.Array = number(100.0, "alpha of the choice when acting [rel]", least=0)
    discount: jax.Array = number(0.99, "per environment step [rel]", least=0, most=1)
    behavior_lr: jax.Array = number(1e-4, "Adam, constant [rel]", least=0)
    value_lr: jax.Array = number(1e-3, "Adam, constant [rel]", least=0)


@dataclasses.dataclass(frozen=True)
class Budget:
    """Updates: 600 passes over four million rows and 100 over one (antmaze two), 4,096 at once."""

    pretrain_steps: int = number(586_000, "updates of the behavior model [rel]", least=0, may_change=True)
    train_steps: int = number(25_000, "updates of each Q [rel]", least=0, may_change=True)


class State(struct.PyTreeNode):
    """Everything that training changes or depends on."""

    step: jax.Array  # number of updates done, of all phases
    behavior: Model
    q: tuple[Model, ...]  # one per iteration
    scales: jax.Array  # [iterations, 2], mean and deviation of the returns that each was regressed on
    iteration: jax.Array  # the last one begun, whose Q acts
    hyper: Hyper
    static: Static = struct.field(pytree_node=False)


def check(config: Any) -> None:
    """There are no relations between the settings."""


def phases(config: Any) -> tuple[Phase, ...]:
    """Returns the behavior model's phase, and one for each iteration."""
    last = config.iterations - 1
    return (
        Phase("pretrain", config.pretrain_steps, update_behavior, score=("behavior",)),
        *(
            Phase(
                f"values {i + 1}",
                config.train_steps,
                update_of(i),
                prepare=plan_of(i),
                watch=("policy",),
                score=("policy", "behavior") if i == last else (),
            )
            for i in range(config.iterations)
        ),
    )


def init(config: Any, key: jax.Array, observation_dim: int, action_dim: int) -> State:
    """Returns the initial state, see `Agent.init`."""
    static = read(Static, config, action_dim=action_dim)
    return _init_models(static, key, observation_dim, read_traced(Hyper, config))


@functools.partial(jax.jit, static_argnums=(0, 2))
def _init_models(static: Static, key: jax.Array, observation_dim: int, hyper: Hyper) -> State:
    observations, actions = jnp.zeros((1, observation_dim)), jnp.zeros((1, static.action_dim))
    behavior_key, *q_keys = jax.random.split(key, 1 + static.iterations)
    behavior = static.noise_predictor.init(behavior_key, observations, actions, jnp.ones((1,)))
    values = [static.q_network.init(q_key, observations, actions) for q_key in q_keys]
    return State(
        step=jnp.int32(0),
        behavior=common.create(behavior, jnp.inf, average=False),
        q=tuple(common.create(q, jnp.inf, average=False) for q in values),
        scales=jnp.tile(jnp.array([0.0, 1.0], jnp.float32), (static.iterations, 1)),
        iteration=jnp.int32(0),
        hyper=hyper,
        static=static,
    )


def planned_values(state: State, i: int, observations: Array, key: jax.Array) -> jax.Array:
    """Returns (B) by Q of iteration `i`, in units of the rewards, `[size]`, for observations `[size, S]`."""
    static, hyper = state.static, state.hyper
    mean, deviation = state.scales[i]

    def value(observation, key):
        actions, _ = draw(static, state.behavior.params, observation, key, static.actor_samples)
        q = static.q_network.apply(state.q[i].params, observation[None], actions)[..., 0]
        return (jax.nn.softmax(hyper.planning_inverse_temperature * q) * q).sum()

    return mean + deviation * each_row(value, observations, key)


@functools.cache  # phases are equal where their functions are
def plan_of(i: int):
    """Returns the `Phase.prepare` of iteration `i`: `returns [size]`, standardised, and their `scale [size, 2]`."""

    def plan(state: State, dataset: Any, key: jax.Array) -> dict[str, jax.Array]:
        if i == 0:
            values = jnp.full(dataset.rewards.shape, -jnp.inf)
        else:
            values = planned_values(state, i - 1, dataset.next_observations, key)
        found = returns(dataset, state.hyper.discount, values)
        mean, deviation = found.mean(), jnp.maximum(found.std(), 1e-6)
        scale = jnp.broadcast_to(jnp.stack([mean, deviation]), (len(found), 2))
        return {"returns": (found - mean) / deviation, "scale": scale}

    return plan


@functools.cache
def update_of(i: int):
    """Returns the update of iteration `i`'s Q, (D)."""

    def update(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
        check_batch(batch, state.static.action_dim)
        extra = batch.extra
        assert extra is not None, "a batch of SfBC has planned returns"

        def loss(params):
            values = state.static.q_network.apply(params, batch.observations, batch.actions)[..., 0]
            return jnp.square(values - extra["returns"]).mean()

        found, gradients = jax.value_and_grad(loss)(state.q[i].params)
        q = common.apply_gradients(state.q[i], gradients, jnp.inf, state.hyper.value_lr)
        mean, deviation = extra["scale"][0]
        metrics = {"q_loss": found, "q_grad_norm": optax.tree.norm(gradients), "return_mean": mean}
        state = state.replace(
            step=state.step + 1,
            q=(*state.q[:i], q, *state.q[i + 1 :]),
            scales=state.scales.at[i].set(jnp.stack([mean, deviation])),
            iteration=jnp.int32(i),
        )
        return state, metrics

    return update


def _standard_q(state: State, observations: jax.Array, actions: jax.Array) -> jax.Array:
    """Returns the acting Q in deviations of its returns, `[...]`."""
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves)[state.iteration], *(q.acting for q in state.q))
    return state.static.q_network.apply(params, observations, actions)[..., 0]


def act(state: State, observations: jax.Array, key: jax.Array, candidates: int | None = None) -> jax.Array:
    """Returns the mean of `averages` candidates, chosen by softmax(alpha Q), `[..., action_dim]` for `[..., S]`.

    Without `candidates` these are `greedy_candidates`.
    """
    static = state.static
    draw_key, choice_key = jax.random.split(key)
    count = candidates or static.greedy_candidates
    actions, _ = draw(static, state.behavior.acting, observations, draw_key, count)
    logits = state.hyper.selection_inverse_temperature * _standard_q(state, observations[..., None, :], actions)
    # Those with the largest of logits + Gumbel noises are distributed as draws by the softmax without replacement.
    noisy = logits + jax.random.gumbel(choice_key, logits.shape)
    _, chosen = jax.lax.top_k(noisy, min(static.averages, count))
    return pick(actions[..., None, :, :], chosen).mean(axis=-2)


def q_values(state: State, observations: jax.Array, actions: jax.Array) -> jax.Array:
    """Returns the acting Q in units of the rewards, `[...]`."""
    mean, deviation = state.scales[state.iteration]
    return mean + deviation * _standard_q(state, observations, actions)


POLICIES = {"policy": act, "behavior": act_as_behavior}
VIEWS = {"q": q_values}
