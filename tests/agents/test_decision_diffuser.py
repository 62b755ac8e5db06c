"""The Decision Diffuser where the answer is known: windows, returns, guidance, plans of one point, a linear system."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bdpo_jax import networks, settings
from bdpo_jax.agents import decision_diffuser, windows
from bdpo_jax.data.dataset import Dataset
from bdpo_jax.data.options import Data
from bdpo_jax.errors import UserError
from bdpo_jax.training.options import Training

TINY = {"actor_widths": (8,), "inverse_widths": (8,), "diffusion_steps": 3, "horizon": 4}


def start(observation_dim=1, action_dim=1, **changes):
    config = settings.make(decision_diffuser, **TINY | changes)
    return decision_diffuser.init(config, jax.random.key(0), observation_dim, action_dim)


def with_networks(state, **found):
    """The state with networks of our own, by the names of the properties of `Static`."""
    static = type(
        "Exact", (decision_diffuser.Static,), {name: property(lambda self, f=f: f) for name, f in found.items()}
    )
    return state.replace(static=static(**dataclasses.asdict(state.static)))


def trajectories():
    """Two episodes: 1, 2, 3 ends at a terminal, whose next observation means nothing; 4, 5 is cut where 3 follows."""
    rows = [(1, 1.0, 2, 0), (2, 2.0, 3, 0), (3, 4.0, 4, 1), (4, 8.0, 5, 0), (5, 1.0, 3, 0)]
    states, rewards, following, terminals = (np.array(column, np.float32) for column in zip(*rows, strict=True))
    data = Dataset(states[:, None], np.zeros((5, 1), np.float32), rewards, following[:, None], terminals)
    return jax.tree.map(jnp.asarray, data)


@pytest.fixture(scope="module")
def prepared():
    state = start(discount=0.5, return_scale=2.0, termination_penalty=2.0)
    return jax.jit(decision_diffuser.prepare)(state, trajectories(), jax.random.key(0))


@pytest.mark.parametrize("horizon", [3, 4])
def test_windows_end_with_padding_after_a_terminal_and_count_for_nothing_where_they_were_cut(prepared, horizon):
    """The data's five states have the ranks -1, -.5, 0, .5 and 1; the padding, 0, lies below them and has -1."""
    gather = windows.windows_of(horizon)
    found = gather(trajectories(), prepared, jnp.arange(5))
    pad = -1
    expected = [[-1, -0.5, 0, pad], [-0.5, 0, pad, pad], [0, pad, pad, pad], [0.5, 1, 0, pad], [1, 0, pad, pad]]
    np.testing.assert_allclose(found["windows"][..., 0], np.array(expected)[:, :horizon], atol=1e-5)
    # 4, 5, 3 are three states that were seen; a fourth was not.
    np.testing.assert_array_equal(found["whole"], [1, 1, 1, horizon == 3, 0])
    some = gather(trajectories(), prepared, jnp.array([3, 0]))
    for name, array in some.items():
        np.testing.assert_array_equal(array, found[name][jnp.array([3, 0])])


def test_returns_are_discounted_penalised_and_scaled(prepared):
    # 4 - 2; 2 + 2 / 2; 1 + 3 / 2. Cut: 1; 8 + 1 / 2. All in units of 2.
    np.testing.assert_allclose(prepared["returns"], np.array([2.5, 3, 2, 8.5, 1]) / 2)
    state = start(discount=0.5, return_scale=0.0, termination_penalty=20.0)
    found = jax.jit(decision_diffuser.prepare)(state, trajectories(), jax.random.key(0))["returns"]
    # 4 - 20; 2 - 16 / 2; 1 - 6 / 2, between the worst and the best.
    np.testing.assert_allclose(found, (np.array([-2, -6, -16, 8.5, 1]) + 16) / 24.5, rtol=1e-6)


def test_the_best_return_is_1_and_larger_losses_begin_at_0():
    """So that a target of .9 asks for what the data have, also where no return is positive; nothing is all 0."""
    state = start(discount=0.5, return_scale=0.0, termination_penalty=0.0)
    data = trajectories()
    for rewards, expected in ((1.0, [1.75, 1.5, 1, 1.5, 1]), (-1.0, [0, 0.25, 0.75, 0.25, 0.75]), (0.0, [0] * 5)):
        changed = data.replace(rewards=jnp.full_like(data.rewards, rewards))
        found = jax.jit(decision_diffuser.prepare)(state, changed, jax.random.key(0))["returns"]
        np.testing.assert_allclose(found, np.array(expected) / (1.75 if rewards > 0 else 0.75), rtol=1e-6)


def test_data_without_a_whole_window_are_a_mistake():
    """Two episodes of at most three rows, so four states; where none ends in a terminal, no window of five is whole."""
    data = trajectories()
    cut = data.replace(terminals=jnp.zeros(5), next_observations=data.next_observations.at[2].set(9.0))
    for horizon in (4, 5):
        windows.check_data_of(horizon)(data)  # a terminal ends the first: what is beyond it is known
    windows.check_data_of(4)(cut)
    (phase,) = decision_diffuser.phases(settings.make(Training, Data, decision_diffuser, **TINY | {"horizon": 5}))
    with pytest.raises(UserError, match="plans 5 states, but the longest episode of the data has 4 and none ends in"):
        phase.check_data(cut)


def test_guidance_extrapolates_from_the_noise_without_a_return():
    network = SimpleNamespace(apply=lambda p, x, n, y, known: 2 * x + 3 * (y * known)[..., None, None])
    state = start(target_return=0.5)
    state = with_networks(state, planner=lambda observation_dim: network)
    noisy = jnp.arange(8.0).reshape(1, 4, 2)
    for guidance in (0.0, 1.0, 1.6):
        found = decision_diffuser.guided_noise(state, noisy, 1, guidance)
        np.testing.assert_allclose(found, 2 * noisy + guidance * 3 * 0.5, rtol=1e-6)


def point_state(point, **changes):
    """A state whose eps knows that every state of the data is `point`: its noise is what leads there."""
    state = start(observation_dim=2, action_dim=2, **changes)
    bars = jnp.asarray(state.static.schedule.alpha_bars)

    def noise(params, x, n, y, known):
        bar = jnp.broadcast_to(bars[n], x.shape[:-2])[..., None, None]
        return (x - jnp.sqrt(bar) * point) / jnp.sqrt(1 - bar)

    return with_networks(
        state,
        planner=lambda observation_dim: SimpleNamespace(apply=noise),
        inverse_dynamics=SimpleNamespace(apply=lambda params, s, following: following - s),
    )


def test_the_loss_leaves_out_the_first_state_and_windows_that_were_cut():
    """An exact eps has no loss where the state is noisy; at the clean first one it has, and in other windows."""
    state = point_state(0.5)
    windows = jnp.full((64, 4, 2), 0.5).at[32:].set(-0.5)
    loss = jax.jit(lambda whole: decision_diffuser.noise_loss(None, state, extra(windows, whole), jax.random.key(0)))
    first_half = (jnp.arange(64) < 32).astype(jnp.float32)
    assert loss(first_half) < 1e-9
    assert loss(1 - first_half) > 1e-3
    assert loss(jnp.zeros(64)) == 0


def extra(windows, whole):
    return {"windows": windows, "whole": whole, "returns": jnp.zeros(len(windows))}


def test_a_plan_begins_at_the_observation_in_every_step_and_leads_where_the_noise_says():
    state, observations = point_state(0.5), jnp.array([[-0.2, 0.4], [0.1, -3.0]])
    plan = jax.jit(decision_diffuser.plan)
    path = plan(state, observations, jax.random.key(0), 1.2, 0.5)
    # Initially the ranks are those of data between -1 and 1: the observation itself, and the end of the range.
    first = jnp.array([[-0.2, 0.4], [0.1, -1.0]])
    assert path.trajectory.shape == (4, 2, 4, 2)
    np.testing.assert_allclose(path.trajectory[:, :, 0], jnp.broadcast_to(first[None], (4, 2, 2)), atol=1e-5)
    np.testing.assert_allclose(path.actions[:, 1:], 0.5, atol=1e-5)
    actions = jax.jit(decision_diffuser.act)(state, observations, jax.random.key(0))
    np.testing.assert_allclose(actions, jnp.minimum(0.5 - first, 1), atol=1e-5)
    # The temperature scales a^N too: without it nothing is random.
    cold = [plan(state, observations, jax.random.key(seed), 1.2, 0.0).trajectory for seed in (0, 1)]
    np.testing.assert_array_equal(*cold)
    assert (path.trajectory[-1, :, 1:] != 0).all() and (cold[0][-1, :, 1:] == 0).all()


def test_inverse_dynamics_of_a_linear_system_are_where_the_gradient_vanishes():
    """s' = s + B a: then a = B^-1 (s' - s). Elsewhere the gradient is that of least squares."""
    static = decision_diffuser.Static(action_dim=2, inverse_widths=())
    random = np.random.default_rng(0)
    response = np.array([[0.5, 0.2], [-0.1, 0.4]])
    states, actions = random.normal(size=(40, 2)), random.normal(size=(40, 2))
    windows = np.stack([states, states + actions @ response, random.normal(size=(40, 2))], axis=1)
    inverse = np.linalg.inv(response)
    solution = np.concatenate([-inverse, inverse])
    gradient = jax.jit(jax.grad(decision_diffuser.inverse_loss), static_argnums=1)

    def found(kernel):
        params = {"params": {"output": {"kernel": jnp.float32(kernel), "bias": jnp.zeros(2)}}}
        return gradient(params, static, jnp.float32(windows), jnp.float32(actions))["params"]["output"]["kernel"]

    np.testing.assert_allclose(found(solution), 0, atol=1e-6)
    inputs = np.concatenate([states, windows[:, 1]], axis=1)
    other = solution + 0.3
    np.testing.assert_allclose(found(other), 2 * inputs.T @ (inputs @ other - actions) / 80, rtol=1e-4, atol=1e-5)


def test_the_u_net_does_not_see_a_return_that_is_withheld():
    network = networks.TemporalUNet((8, 16), 2, 3)
    x, n = jax.random.normal(jax.random.key(0), (3, 4, 2)), jnp.array([1, 2, 3])
    params = jax.jit(network.init)(jax.random.key(1), x, n, 0.0)
    apply = jax.jit(network.apply)
    withheld, other = (apply(params, x, n, y, 0.0) for y in (0.3, 0.9))
    np.testing.assert_array_equal(withheld, other)
    assert withheld.shape == x.shape
    assert (apply(params, x, n, 0.3, 1.0) != apply(params, x, n, 0.9, 1.0)).any()


def test_neighbors_are_those_in_time_and_zero_beyond_the_ends():
    found = networks.neighbors(jnp.array([[[1.0], [2.0], [3.0]]]), 2, 1)
    np.testing.assert_array_equal(found, [[[0, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 0]]])


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"horizon": 6, "actor_widths": (8, 8, 8)}, "multiple of 4"), ({"family": "synthetic2d"}, "2D sets have none")],
)
def test_what_cannot_be_planned_is_refused(changes, said):
    with pytest.raises(UserError, match=said):
        decision_diffuser.check(settings.make(Training, Data, decision_diffuser, **changes))
