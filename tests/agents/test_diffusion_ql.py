"""Diffusion-QL where the answer is known: differences of the loss, targets of a table, the clip of a sum."""

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_trees, make_batch, set_hyper

from bdpo_jax import settings
from bdpo_jax.agents import common, diffusion_ql
from bdpo_jax.agents.denoiser import draw

TINY = {"actor_widths": (8,), "value_widths": (8,), "diffusion_steps": 2}


@dataclasses.dataclass(frozen=True)
class TableStatic(diffusion_ql.Static):
    """Draws are the signs of pure noise; Q knows the sign of the first dimension: `table [2]`, below 0 first."""

    @property
    def noise_predictor(self):
        def apply(params, observations, noisy, n):
            alpha_bar = jnp.broadcast_to(jnp.asarray(self.schedule.alpha_bars)[n][..., None], noisy.shape)
            return (noisy - jnp.sqrt(alpha_bar) * params["size"] * jnp.sign(noisy)) / jnp.sqrt(1 - alpha_bar)

        return SimpleNamespace(apply=apply)

    @property
    def q_network(self):
        return SimpleNamespace(apply=lambda params, s, a: params["table"][(a[..., 0] > 0).astype(int)][..., None])


TABLE = np.array([[1.0, 2.0], [4.0, 0.0]])  # of two members; the least are 1 and 0, the least of the largest is 2


@dataclasses.dataclass(frozen=True)
class SmoothStatic(diffusion_ql.Static):
    """A predictor that is linear in a^n, with parameters of each n, and `Q(a) = offset - |a - wish|^2`."""

    @property
    def noise_predictor(self):
        def apply(params, s, noisy, n):
            gain, shift = (jnp.broadcast_to(x, noisy.shape) for x in (params["gain"][n][..., None], params["shift"][n]))
            return gain * noisy + shift

        return SimpleNamespace(apply=apply)

    @property
    def q_network(self):
        def apply(params, s, a):
            wish = jnp.broadcast_to(params["wish"], a.shape)
            return params["offset"] - jnp.square(a - wish).sum(axis=-1, keepdims=True)

        return SimpleNamespace(apply=apply)


def exact_state(static, actor, q, **changes):
    state = diffusion_ql.init(settings.make(diffusion_ql, **TINY, **changes), jax.random.key(0), 3, 2)
    return state.replace(
        static=static(**dataclasses.asdict(state.static)),
        actor=common.create(jax.tree.map(jnp.asarray, actor), 1.0, online=True),
        q=common.create(jax.tree.map(jnp.asarray, q), 1.0),
    )


def table_state(**changes):
    return exact_state(TableStatic, {"size": jnp.float32(0.5)}, {"table": TABLE}, **changes)


def without_average(model):
    return model.replace(ema=jax.tree.map(lambda p: p * jnp.nan, model.ema))


def smooth_state(**changes):
    actor = {"gain": np.array([0.0, 0.4, 0.7]), "shift": np.array([[0, 0], [0.3, -0.2], [0.5, 0.1]])}
    wishes = {"offset": np.array([0.5, -3.0]), "wish": np.array([[0.8, -0.8], [0.1, 0.4]])}
    state = exact_state(SmoothStatic, actor, wishes, action_bound=0.7, **changes)
    return state.replace(q=without_average(state.q))  # the actor's critics are the parameters


def values_of(state, actions):
    """The members' values `[2, batch]` of actions `[batch, 2]`."""
    offset, wish = state.q.params["offset"], state.q.params["wish"]
    return offset[:, None] - jnp.square(actions[None] - wish[:, None]).sum(axis=-1)


@pytest.fixture
def float64():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def test_the_actor_s_gradient_is_that_of_differences_through_the_whole_chain(float64):
    """In float64, central differences of h = 1e-6 are right to about 1e-9."""
    state, key, eta = smooth_state(), jax.random.key(2), 1.7
    state = state.replace(hyper=state.hyper.replace(eta=jnp.float64(eta)))
    batch = jax.tree.map(lambda x: x.astype(jnp.float64), make_batch(size=16))

    @jax.jit
    def parts(params):
        """The cloning loss, and the members' means over the path's ends."""
        _, metrics = diffusion_ql.actor_loss(params, state, batch, key)
        actions = draw(state.static, params, batch.observations, jax.random.split(key, 3)[1], 1)[:, 0]
        values = values_of(state, actions)
        return metrics["cloning_loss"], values, metrics["relative_q"], actions

    params = state.actor.params
    _, values, relative, actions = parts(params)
    ratios = [values[i].mean() / jnp.abs(values[1 - i]).mean() for i in (0, 1)]
    i = int(np.argmin(np.abs(np.array(ratios) - relative)))
    assert relative == pytest.approx(float(ratios[i]), rel=1e-12)
    inside = np.abs(actions) < 0.7 - 1e-9
    assert 0.2 < inside.mean() < 0.8, "some ends are clipped and others are not"

    gradients = jax.grad(lambda p: diffusion_ql.actor_loss(p, state, batch, key)[0])(params)
    scale = jnp.abs(values[1 - i]).mean()  # held fixed
    for name, where in [("shift", (1, 0)), ("shift", (2, 0)), ("shift", (2, 1)), ("gain", (1,)), ("gain", (2,))]:
        losses = []
        for h in (1e-6, -1e-6):
            cloning, moved, *_ = parts({**params, name: params[name].at[where].add(h)})
            losses.append(cloning - eta * moved[i].mean() / scale)
        assert gradients[name][where] == pytest.approx(float(losses[0] - losses[1]) / 2e-6, rel=1e-6), name
        assert abs(float(gradients[name][where])) > 1e-3

    # What the first of the two steps is worth is felt through the second.
    by_q = jax.grad(lambda p: diffusion_ql.actor_loss(p, state, batch, key)[1]["relative_q"])(params)
    assert float(jnp.abs(by_q["shift"][2]).max()) > 1e-3


def test_outside_the_box_there_is_no_gradient():
    state = smooth_state()
    far = {"gain": jnp.zeros(3), "shift": jnp.full((3, 2), -100.0)}  # clean actions far above the box
    by_q = jax.grad(lambda p: diffusion_ql.actor_loss(p, state, make_batch(), jax.random.key(0))[1]["relative_q"])(far)
    assert_trees(np.testing.assert_array_equal, by_q, jax.tree.map(jnp.zeros_like, by_q))


def test_a_coin_says_which_critic_leads_and_which_scales():
    state, batch, wins = smooth_state(), make_batch(), []

    @jax.jit
    def compare(key):
        actions = draw(state.static, state.actor.params, batch.observations, jax.random.split(key, 3)[1], 1)[:, 0]
        values = values_of(state, actions)
        ratios = [values[i].mean() / jnp.abs(values[1 - i]).mean() for i in (0, 1)]
        return jnp.array(ratios), diffusion_ql.actor_loss(state.actor.params, state, batch, key)[1]["relative_q"]

    for seed in range(30):
        ratios, found = compare(jax.random.key(seed))
        wins.append(int(jnp.argmin(jnp.abs(ratios - found))))
        np.testing.assert_allclose(found, ratios[wins[-1]], rtol=1e-4)
    assert 5 <= sum(wins) <= 25  # a fair coin leaves this range in 4 of 100,000 cases


def test_targets_of_a_table():
    """One draw: the least of the members' values at its sign. Ten: each member's largest, then the least."""
    state, batch, key = set_hyper(table_state(), discount=0.5), make_batch(size=32), jax.random.key(1)
    state = state.replace(actor=state.actor.replace(params={"size": jnp.nan}))  # the average draws
    state = state.replace(q=state.q.replace(params={"table": TABLE * np.nan}))  # and judges
    signs = draw(state.static, state.actor.ema, batch.next_observations, key, 1)[:, 0, 0] > 0
    assert 0 < signs.sum() < 32 and 0 < batch.terminals.sum() < 32
    expected = batch.rewards + 0.5 * (1 - batch.terminals) * jnp.where(signs, 0.0, 1.0)
    np.testing.assert_allclose(diffusion_ql.q_target(state, batch, key), expected, rtol=1e-6)

    ten = state.replace(static=dataclasses.replace(state.static, actor_samples=10))
    signs = draw(ten.static, ten.actor.ema, batch.next_observations, key, 10)[..., 0] > 0
    least_of_largest = np.where(signs.all(axis=1), 0.0, np.where((~signs).all(axis=1), 1.0, 2.0))
    assert (least_of_largest == 2).sum() > 25
    expected = batch.rewards + 0.5 * (1 - batch.terminals) * least_of_largest
    np.testing.assert_allclose(diffusion_ql.q_target(ten, batch, key), expected, rtol=1e-6)


def test_the_critics_clip_is_that_of_the_members_sum():
    sizes = {"value_widths": (8,), "diffusion_steps": 2, "actor_widths": (8,)}
    config = settings.make(diffusion_ql, **sizes, one_step=True, clip_norm=0.5, value_lr=0.1)
    state = diffusion_ql.init(config, jax.random.key(0), 3, 2)
    network, params = state.static.q_network, state.q.params
    adam = optax.chain(optax.clip_by_global_norm(0.5), optax.scale_by_adam(eps=0, eps_root=0))
    inner, norms = adam.init(params), []
    for seed, size in ((0, 5.0), (1, 0.02)):  # the clip cuts the first gradient alone, so Adam sees it
        batch = make_batch(seed)
        values = jax.vmap(lambda p, b=batch: network.apply(p, b.observations, b.actions)[:, 0])(params)
        batch = batch.replace(rewards=values[0] + size * batch.rewards)

        def total(params, batch=batch):
            values = jax.vmap(lambda p: network.apply(p, batch.observations, batch.actions)[:, 0])(params)
            return jnp.square(values - batch.rewards[None]).mean(axis=1).sum()

        gradients = jax.grad(total)(params)
        norms.append(float(optax.global_norm(gradients)))
        updates, inner = adam.update(gradients, inner)
        params = jax.tree.map(lambda p, u: p - 0.1 * u, params, updates)
        state, _ = jax.jit(diffusion_ql.update)(state, batch, jax.random.key(0))
    assert norms[0] > 0.5
    assert_trees(functools.partial(np.testing.assert_allclose, atol=1e-3), state.q.params, params)


def test_the_policy_is_the_parameters_draw_by_the_softmax_of_the_least_value():
    observations = jnp.zeros((4_000, 3))
    state = table_state(greedy_candidates=2)
    state = state.replace(actor=without_average(state.actor))
    actions = jax.jit(diffusion_ql.act)(state, observations, jax.random.key(0))
    # Of two candidates with independent signs: below 0 (least value 1) against above (0) where they differ.
    expected = 0.25 + 0.5 / (1 + np.exp(-1))
    share = float((actions[:, 0] < 0).mean())
    assert share == pytest.approx(expected, abs=5 * np.sqrt(expected * (1 - expected) / 4_000))  # five standard errors
    np.testing.assert_allclose(np.abs(actions), 0.5, rtol=1e-5)
    cold = set_hyper(state, selection_temperature=1e-3)
    share = float((jax.jit(diffusion_ql.act)(cold, observations, jax.random.key(0))[:, 0] < 0).mean())
    assert share == pytest.approx(0.75, abs=5 * np.sqrt(0.75 * 0.25 / 4_000))
