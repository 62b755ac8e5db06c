"""What BDPO and the ablations of its policy class share: settings of critics and training, starts of Q and actor."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from bdpo_jax import ensembles
from bdpo_jax.agents import common
from bdpo_jax.agents.base import Metrics, Phase
from bdpo_jax.agents.critics import aggregate, ahead, check_batch, fit_q, followed, rewards_ahead
from bdpo_jax.errors import UserError
from bdpo_jax.settings import anything, choice, frequencies, number, read, read_traced, widths
from bdpo_jax.types import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Critics:
    """The ensemble and the delayed actor: a part of a `Static`."""

    aggregation: str = choice("lcb", ("min", "mean"), "of the ensemble's values: lcb (17), min [rel] or mean [ours]")
    actor_update_interval: int = number(5, "critic updates per actor update [T2]", least=1)
    value_warmup_steps: int = number(50_000, "training updates before the actor begins to move [T2]", least=0)
    one_step: bool = anything(False, "every transition is terminal: nothing is sampled at s'")

    value_widths: tuple[int, ...] = widths((256,) * 3, "hidden layers of each critic [T2]")
    ensemble_size: int = number(10, "K, members of an ensemble of critics [T2]; hopper-medium 20", least=1)
    q_frequencies: tuple[float, ...] = frequencies("Q")
    q_layer_norm: bool = anything(False, "layer norm in Q; BDPO's V has it always [rel]; antmaze True")
    clip_norm: float = number(1.0, "global gradient norm, of each model [T2, rel]", above=0)
    n_step: int = number(1, "rewards of the data before the value in Q's targets; the paper 1, more [ours]", least=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Samples:
    """How many actions a stochastic policy draws: a part of a `Static`."""

    actor_samples: int = number(10, "M, actions per state in targets and in the actor's objective [T2]", least=1)
    max_q_backup: bool = anything(False, "max instead of mean over the action samples at s'; antmaze True")
    greedy_candidates: int = number(10, "actions drawn when acting, the one of highest Q is taken [rel]", least=1)


class Hyper(struct.PyTreeNode):
    """The numbers that one sweeps, traced scalars in a state: changing one never recompiles."""

    eta: jax.Array = number(1.0, "KL strength, reward units [T3], per task", least=0)
    rho: jax.Array = number(1.0, "pessimism: standard deviations below the ensemble's mean [T3], per task", least=0)
    discount: jax.Array = number(0.99, "per environment step [T2]; antmaze 0.995", least=0, most=1)
    behavior_lr: jax.Array = number(3e-4, "Adam; antmaze 1e-4 [rel]", least=0)
    actor_lr: jax.Array = number(1e-5, "Adam, cosine decay [T2]", least=0)
    value_lr: jax.Array = number(3e-4, "Adam, cosine decay [T2, rel]", least=0)
    behavior_decay_steps: jax.Array = number(
        0.0, "cosine horizon in behavior updates; 0: constant [rel]; -1: pretrain_steps, so that it ends at 0", least=-1
    )
    actor_decay_steps: jax.Array = number(
        0.0, "cosine horizon in actor updates; 0: train_steps [rel]; -1: the budget, so that it ends at 0", least=-1
    )
    value_decay_steps: jax.Array = number(0.0, "cosine horizon in critic updates; 0: train_steps [rel]", least=0)
    ema_rate: jax.Array = number(0.005, "of every moving average [T2]", least=0, most=1)


@dataclasses.dataclass(frozen=True)
class Budget:
    """Updates of each phase."""

    pretrain_steps: int = number(2_000_000, "updates of the behavior model [T2]", least=0, may_change=True)
    value_steps: int = number(
        0, "updates of Q along the data's own actions, before the others [ours]", least=0, may_change=True
    )
    train_steps: int = number(2_000_000, "critic updates [T2]", least=0, may_change=True)


def read_hyper(owner: type, config: Any) -> Any:
    """Returns `owner`, a `Hyper`, from a config: traced, its horizons in updates."""
    found, budget, critics = read(owner, config), read(Budget, config), read(Critics, config)
    everything = max(budget.train_steps, 1)
    behavior = found.behavior_decay_steps or common.FOREVER
    if behavior < 0:
        behavior = max(budget.pretrain_steps, 1)
    actor, value = found.actor_decay_steps or everything, found.value_decay_steps or everything
    if actor < 0:
        actor = max((budget.train_steps - critics.value_warmup_steps) // critics.actor_update_interval, 1)
    horizons = {"behavior_decay_steps": behavior, "actor_decay_steps": actor, "value_decay_steps": value}
    return read_traced(owner, config, **horizons)


def check(config: Any) -> None:
    """Raises a `UserError` where Q is to learn from what does not follow."""
    for name, none in (("value_steps", 0), ("n_step", 1)):
        value = getattr(config, name)
        if config.one_step and value != none:
            raise UserError(
                f"config.{name} is {value}, but no action follows in a task of one step; set {name}={none}."
            )


def value_phase(config: Any) -> tuple[Phase, ...]:
    """Returns what comes between behavior model and training: the start of Q by `update_data_q`, if it is asked for."""
    if not config.value_steps:
        return ()
    return (Phase("value", config.value_steps, update_data_q, prepare=look_ahead, check_data=check_ahead),)


def check_ahead(dataset: Any) -> None:
    """Raises a `UserError` where no row has a reward and a value ahead: a `Phase.check_data` of `look_ahead`."""
    if not (dataset.terminals.any() or followed(dataset).any()):
        raise UserError(
            "No row of the data is terminal or followed by the next one of its episode, so that Q cannot learn from "
            "the data's own next steps: give longer episodes, rows in order, or value_steps=0 and n_step=1."
        )


def look_ahead(state: Any, dataset: Any, key: jax.Array) -> dict[str, jax.Array]:
    """Returns `critics.rewards_ahead` of `n_step` steps: a `Phase.prepare`; `key` is not used."""
    return rewards_ahead(dataset, state.hyper.discount, state.static.n_step)


def update_data_q(state: Any, batch: Batch, key: jax.Array) -> tuple[Any, Metrics]:
    """One update of Q and its average towards `R + gamma^n lcb_k(Qbar_k(s_n, a_n))` along the data: SARSA [ours].

    R is the discounted sum of n rewards, `n_step` or what is left of the episode. The actor starts as the
    behavior model, whose Q this is but for the sampling of actions by a model: it costs no path, no penalty and no V,
    and the rewards of the data's own policy need no correction. The learning rate is constant; no counter moves and
    nothing is random.

    Args:
      state: with `q`, `static` and `hyper` of BDPO or a policy class.
      batch: transitions; `extra` as of `look_ahead`.
      key: not used.
    """
    static, hyper = state.static, state.hyper
    check_batch(batch, static.action_dim)
    assert batch.extra is not None, "in this phase a batch has rewards ahead"
    found = ahead(batch, hyper.discount)
    values = ensembles.apply_frozen(static.q_network, state.q.ema, found.observations, batch.extra["later_actions"])
    target = found.target(aggregate(values, static.aggregation, hyper.rho))
    rates = (static.clip_norm, hyper.value_lr, hyper.ema_rate)
    q, metrics = fit_q(state, batch, target, rates, found.weights)
    return state.replace(q=q), metrics | {"q_target": target.mean()}


def value_rates(state: Any) -> tuple:
    """Returns the `rates` of `critics.fit` in the training phase: the learning rate has a cosine horizon."""
    static, hyper = state.static, state.hyper
    value_lr = common.cosine_decay(hyper.value_lr, state.step, hyper.value_decay_steps)
    return static.clip_norm, value_lr, hyper.ema_rate


def start_actor(state: Any) -> Any:
    """Makes the actor and its average copies of the behavior model's average (Algorithm 1, line 3)."""
    copy = jax.tree.map(jnp.copy, state.behavior.ema)
    return state.replace(actor=state.actor.replace(params=copy, ema=jax.tree.map(jnp.copy, copy)))
