"""Acting, and the checks of what the public functions are given."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import break_params, config, exact_state, make_batch, random_state

from bdpo_jax import diffusion
from bdpo_jax.agents import bdpo


def distance_q(params, observations, actions):
    wish = jnp.broadcast_to(params["wish"], actions.shape)
    return -jnp.square(actions - wish).sum(axis=-1, keepdims=True)


def observed_noise(params, observations, noisy, n):
    return params["gain"] * noisy + 0.1 * observations[..., :2]


def acting_state(**changes):
    """Two members of Q whose mean is highest at (.4, -.4); only the averages are right."""
    wish = {"wish": jnp.array([[0.8, -0.8], [0.0, 0.0]])}
    params = {"actor": {"gain": jnp.float32(0.5)}, "behavior": {"gain": jnp.float32(0.2)}, "q": wish}
    state = exact_state(config(**changes), 2, params, predict=observed_noise, q=distance_q)
    return break_params(state, "actor", "behavior", "q")


@pytest.mark.parametrize("policy", ["policy", "behavior"])
def test_greedy_acting_takes_the_candidate_of_highest_mean_target_q(policy):
    state = acting_state(greedy_candidates=6)
    observations = make_batch(size=5).observations
    gain = {"gain": {"policy": 0.5, "behavior": 0.2}[policy]}

    @jax.jit
    def act(state, observations, key):
        def candidates(count):
            schedule, clip = state.static.schedule, state.static.clip
            predict = lambda noisy, n: observed_noise(gain, observations[:, None], noisy, n)  # noqa: E731
            return diffusion.sample(schedule, predict, key, (5, count, 2), clip).actions

        no_q = state.replace(q=state.q.replace(ema={}))
        plain = bdpo.sample_actions(no_q, observations, key, candidates=1, policy=policy)
        return candidates(6), bdpo.sample_actions(state, observations, key, policy=policy), candidates(1), plain

    candidates, greedy, single, plain = (np.asarray(x) for x in act(state, observations, jax.random.key(12)))
    wishes = np.array([[0.8, -0.8], [0.0, 0.0]])[:, None, None]
    best = -np.square(candidates - wishes).sum(axis=-1).mean(axis=0)
    assert len(set(best.argmax(axis=1))) > 1
    np.testing.assert_allclose(greedy, candidates[np.arange(5), best.argmax(axis=1)], rtol=1e-5, atol=1e-6)
    # One candidate is a plain sample, and asks no Q.
    np.testing.assert_allclose(plain, single[:, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("candidates", [1, 3])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_observations_may_have_any_leading_shape(shape, candidates):
    state = acting_state()
    observations = jnp.asarray(np.random.default_rng(0).normal(size=(*shape, 3)), jnp.float32)
    actions = jax.eval_shape(lambda s, o: bdpo.sample_actions(s, o, jax.random.key(0), candidates), state, observations)
    assert actions.shape == (*shape, 2) and actions.dtype == jnp.float32


@pytest.mark.parametrize("solver", ["ddpm", "ddim"])
def test_clipped_policies_act_inside_the_box(solver):
    state, observations = acting_state(action_bound=0.25), 10 * make_batch(size=64).observations
    act = jax.jit(lambda state, observations, key: bdpo.sample_actions(state, observations, key, solver=solver))
    assert 0.2 < np.abs(act(state, observations, jax.random.key(13))).max() <= 0.25 + 1e-6


def test_an_unknown_policy_is_named():
    with pytest.raises(ValueError, match="'actor'.*'policy' or 'behavior'"):
        bdpo.sample_actions(acting_state(), jnp.zeros(3), jax.random.key(0), policy="actor")


@pytest.mark.parametrize(("greedy", "candidates"), [(1, 10), (3, 3)])
def test_the_policies_of_the_behavior_model(greedy, candidates):
    state, observations, key = (
        acting_state(greedy_candidates=greedy),
        make_batch(size=5).observations,
        jax.random.key(4),
    )

    @jax.jit
    def act(state, observations, key):
        found = [bdpo.POLICIES[name](state, observations, key) for name in ("behavior", "behavior_best_of")]
        expected = [bdpo.sample_actions(state, observations, key, n, "behavior") for n in (1, candidates)]
        return found, expected

    found, expected = act(state, observations, key)
    np.testing.assert_array_equal(found, expected)
    assert np.abs(found[0] - found[1]).max() > 0.1


def test_views_are_the_averages_means():
    state = acting_state()
    rng = np.random.default_rng(2)
    observations, actions = rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
    expected = [-np.square(actions - wish).sum(axis=-1) for wish in ([0.8, -0.8], [0.0, 0.0])]
    np.testing.assert_allclose(bdpo.VIEWS["q"](state, observations, actions), np.mean(expected, axis=0), rtol=1e-5)
    # V adds n to the same; its members' wishes are Q's.
    state = state.replace(
        v=state.q, static=dataclasses.replace(state.static, v=lambda p, s, a, n: distance_q(p, s, a) + n[:, None])
    )
    values = bdpo.VIEWS["value"](state, observations, actions, np.arange(4))
    np.testing.assert_allclose(values, np.mean(expected, axis=0) + np.arange(4), rtol=1e-5)


def test_the_view_of_a_path_ends_in_the_actions_of_the_deterministic_solver():
    state, observations, key = acting_state(), make_batch(size=5).observations, jax.random.key(3)
    path = jax.jit(bdpo.VIEWS["path"])(state, observations, key)
    assert path.shape == (state.static.diffusion_steps + 1, 5, 2)
    actions = jax.jit(lambda *inputs: bdpo.sample_actions(*inputs, candidates=1, solver="ddim"))(
        state, observations, key
    )
    np.testing.assert_allclose(path[0], actions, rtol=1e-5, atol=1e-6)


# Checks at trace time.


@pytest.mark.parametrize(
    "broken",
    [
        {"actions": jnp.zeros((8, 3))},
        {"actions": jnp.zeros((7, 2))},
        {"rewards": jnp.zeros((8, 1))},
        {"terminals": jnp.zeros((8, 1))},
        {"terminals": jnp.zeros((8,), bool)},
        {"rewards": jnp.zeros((8,), jnp.int32)},
        {"actions": jnp.zeros((8, 2), jnp.float16)},
        {"observations": jnp.zeros((8, 4))},
        {"observations": jnp.zeros((8, 3, 1)), "next_observations": jnp.zeros((8, 3, 1))},
        {"observations": jnp.zeros((1, 3)), "next_observations": jnp.zeros((1, 3))},
        {"observations": jnp.zeros((9, 3)), "next_observations": jnp.zeros((9, 3))},
    ],
    ids=lambda broken: "-".join(f"{name}{list(x.shape)}{x.dtype}" for name, x in broken.items()),
)
def test_wrong_shapes_and_types_raise_when_traced(broken):
    state, batch = random_state(config(), 3, 2), make_batch().replace(**broken)
    for function in (bdpo.update, bdpo.pretrain):
        with pytest.raises(AssertionError):
            jax.eval_shape(function, state, batch, jax.random.key(0))
