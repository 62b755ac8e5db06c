"""Targets on hand-made arrays, the stratified draw of n, and one-step tasks."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import break_params, config, exact_state, make_batch, random_state

from bdpo_jax import diffusion
from bdpo_jax.agents import bdpo
from bdpo_jax.agents.critics import regression, rewards_ahead
from bdpo_jax.agents.draws import Visited, noisy_actions
from bdpo_jax.data.dataset import Dataset
from bdpo_jax.errors import UserError
from bdpo_jax.policy import precision


def table_q(params, observations, actions):
    """Q of actions that are row numbers of a table."""
    return params["table"][actions[..., 0].astype(int)][..., None]


def table_v(params, observations, noisy, n):
    """The same table, plus 10 n."""
    return params["table"][noisy[..., 0].astype(int)][..., None] + 10.0 * n[..., None]


def shifted_noise(params, observations, noisy, n):
    return jnp.broadcast_to(params["shift"][n][..., None], noisy.shape)


def observed_noise(params, observations, noisy, n):
    return noisy + observations[..., :1]


def changed(left, right):
    return any((a != b).any() for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True))


def step_q(params, observations, actions):
    """Q that is one number."""
    return 0 * actions + params["offset"][0]


def step_v(params, observations, noisy, n):
    """V that knows n alone."""
    return jnp.zeros_like(noisy[..., :1]) + params["offset"][n][..., None]


def linear_v(params, observations, noisy, n):
    return (noisy @ params["slope"])[..., None] + params["offset"][n][..., None]


# Two members and actions 0, 1, 2: the members disagree about which is better.
TABLE = {"table": jnp.array([[0.0, 1.0, 2.0], [0.0, 3.0, -5.0]])}


@pytest.mark.parametrize(
    ("aggregation", "max_q_backup", "value"),
    [
        # Members' means over the two samples: 1.5, -1. Mean .25, deviation 1.25: .25 - .4 * 1.25.
        ("lcb", False, -0.25),
        ("mean", False, 0.25),
        ("min", False, -1.0),
        # Each member's own maximum: 2, 3.
        ("lcb", True, 2.5 - 0.4 * 0.5),
        ("mean", True, 2.5),
        ("min", True, 2.0),
    ],
)
def test_q_target_by_hand(monkeypatch, aggregation, max_q_backup, value):
    settings = config(
        aggregation=aggregation, max_q_backup=max_q_backup, actor_samples=2, eta=0.1, rho=0.4, discount=0.5
    )
    state = exact_state(settings, 1, {"q": TABLE}, predict=shifted_noise, q=table_q, v=table_v)
    state = break_params(state, "q")  # the target network alone is asked
    actions, penalty = jnp.array([[[1.0], [2.0]]] * 2), jnp.array([[0.2, 0.4], [0.2, 0.4]])
    monkeypatch.setattr(diffusion, "sample", lambda *args, **kwargs: diffusion.Path(actions, penalty, None))
    batch = make_batch(size=2, action_dim=1).replace(rewards=jnp.array([10.0, 20.0]), terminals=jnp.array([0.0, 1.0]))
    target, metrics, _ = bdpo.q_target(state, batch, jax.random.key(0))
    # The mean penalty .3 costs eta = .1 times itself; after a terminal there is nothing.
    np.testing.assert_allclose(target, [10 + 0.5 * (value - 0.03), 20], rtol=1e-6)
    np.testing.assert_allclose(metrics["path_penalty"], 0.3, rtol=1e-6)


@pytest.mark.parametrize("draw", ["data", "path"])
def test_q_target_of_several_steps_by_hand(monkeypatch, draw):
    """What was prepared stands in for the reward, its discount and the next observation; unknown rows weigh nothing."""
    settings = config(actor_samples=2, aggregation="mean", eta=0.1, discount=0.5, n_step=3, draw=draw)
    state = exact_state(settings, 1, {"q": TABLE}, predict=shifted_noise, q=table_q, v=table_v)
    batch = make_batch(size=3, action_dim=1)
    later = jnp.arange(9.0).reshape(3, 3)
    extra = {
        "rewards": jnp.array([7.0, 8.0, 0.0]),
        "discounts": jnp.array([0.125, 0.0, 1.0]),
        "weights": jnp.array([1.0, 1.0, 0.0]),
        "later_observations": later,
        "later_actions": jnp.full((3, 1), jnp.nan),
    }
    seen = []

    def sample(schedule, predict, key, shape, clip, reference, trajectory):
        actions, steps = jnp.broadcast_to(jnp.array([[1.0], [2.0]]), shape), settings.diffusion_steps + 1
        return diffusion.Path(
            actions, jnp.full((3, 2), 0.3), jnp.zeros((steps, *shape)) if trajectory else None, jnp.zeros((steps, 3, 2))
        )

    monkeypatch.setattr(diffusion, "sample", sample)
    batch = batch.replace(extra=extra)
    target, _, visited = bdpo.q_target(state, batch, jax.random.key(0))
    # The members' values of 1 and 2 are 1.5 and -1 in the mean, and the penalty costs .03.
    np.testing.assert_allclose(target[:2], [7 + 0.125 * (0.25 - 0.03), 8], rtol=1e-6)
    if draw == "path":
        np.testing.assert_array_equal(visited.observations, later)
        np.testing.assert_array_equal(visited.missing, [0, 0, 0])  # an episode's last state is one, too

    def fit_q(state, batch, target, rates, weights):
        seen.append(weights)
        return state.q, {}

    monkeypatch.setattr(bdpo, "fit_q", fit_q)
    monkeypatch.setattr(bdpo, "fit", lambda *args: (args[1], {}))
    bdpo.update_critics(random_state(settings, 3, 1), batch, jax.random.key(0))
    np.testing.assert_array_equal(seen[0], extra["weights"])


def test_q_target_asks_for_paths_of_the_target_actor_at_the_next_observations(monkeypatch):
    state = exact_state(config(actor_samples=4), 1, {}, predict=lambda p, s, a, n: (p, s), q=table_q, v=table_v)
    state = state.replace(
        q=state.q.replace(ema=TABLE),
        **{name: getattr(state, name).replace(params="new", ema=f"{name} average") for name in ("actor", "behavior")},
    )
    batch = make_batch(size=5, action_dim=1)

    def sample(schedule, predict, key, shape, clip, reference, trajectory):
        (policy, observations), (behavior, _) = predict(None, None), reference(None, None)
        assert (policy, behavior, shape, clip) == ("actor average", "behavior average", (5, 4, 1), 1.0)
        assert (observations == batch.next_observations[:, None]).all()
        return diffusion.Path(jnp.ones(shape), jnp.zeros(shape[:-1]), None)

    monkeypatch.setattr(diffusion, "sample", sample)
    bdpo.q_target(state, batch, jax.random.key(0))


@pytest.mark.parametrize("ones", [0, 2])
@pytest.mark.parametrize(("aggregation", "value"), [("lcb", -0.25), ("min", -1.0), ("mean", 0.25)])
def test_v_target_by_hand(monkeypatch, aggregation, value, ones):
    # Rows with n = 1, 1, 2, 3. Continuations of n > 1 are actions 1 and 2 of the table, 10 (n - 1) more; at n = 1 the
    # only one is action 1, of Q = 1, 3.
    settings = config(aggregation=aggregation, rho=0.4, eta=0.1, actor_samples=2)
    shift = {"shift": jnp.array([0.0, 1.0, 2.0, 3.0])}
    params = {"q": TABLE, "v": TABLE, "actor": shift, "behavior": {"shift": jnp.zeros(4)}}
    state = exact_state(settings, 1, params, predict=shifted_noise, q=table_q, v=table_v)
    state = break_params(state, *params)
    monkeypatch.setattr(diffusion, "reverse_mean", lambda schedule, noisy, *_: jnp.ones_like(noisy))
    monkeypatch.setattr(
        diffusion,
        "denoise",
        lambda *inputs: jnp.broadcast_to(jnp.array([[1.0], [2.0]]), inputs[4].shape),  # of the noise
    )
    n = jnp.array([1, 1, 2, 3])
    target, penalty = bdpo.v_target(state, jnp.zeros((4, 1)), jnp.zeros((4, 1)), n, ones, jax.random.key(0))
    last = {"lcb": 2 - 0.4 * 1, "min": 1, "mean": 2}[aggregation]
    costs = state.static.schedule.kl_weights[n] * np.array([1, 1, 4, 9])
    np.testing.assert_allclose(penalty, costs, rtol=1e-6)
    np.testing.assert_allclose(target, [last, last, 10 + value, 20 + value] - 0.1 * costs, rtol=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_values_along_paths_by_hand(decay):
    """Two paths of two steps. Q of their ends, actions 1 and 2, by its LCB: 1.6 and -2.9; V at n = 1: 14 for both."""
    settings = config(diffusion_steps=2, draw="path", path_lambda=decay, rho=0.4, eta=0.1)
    state = exact_state(settings, 1, {"q": TABLE, "v": TABLE}, predict=shifted_noise, q=table_q, v=table_v)
    state = break_params(state, "q", "v")
    actions = jnp.array([[1.0, 2.0], [0.0, 0.0], [7.0, 7.0]])[..., None]  # at n = 1 action 0: 10 of both members
    kls = jnp.array([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]])
    found = bdpo.path_returns(state, Visited(jnp.zeros((2, 1)), actions, jnp.zeros(2), kls))
    ends = np.array([2 - 0.4 * 1, -1.5 - 0.4 * 3.5])
    first = ends - 0.1 * np.array([1, 2])
    second = (1 - decay) * 10 + decay * first - 0.1 * np.array([3, 4])
    np.testing.assert_allclose(found, [ends, first, second], rtol=1e-5)


def test_without_bootstrapping_v_is_regressed_on_what_its_paths_gain():
    """Where Q is 7 everywhere and a step costs a number, every path from n gains 7 less the penalties up to n."""
    changes = {"draw": "path", "path_lambda": 1.0, "one_step": True, "eta": 0.1}
    state = stratified_state(**changes)
    costs = np.cumsum(np.float64(state.static.schedule.kl_weights[1:]) * np.array([1, 0.25, 4, 0.09, 0.49]))
    offset = jnp.concatenate([jnp.zeros(1), jnp.asarray(7 - 0.1 * costs)])
    params = {"offset": jnp.broadcast_to(offset, (2, 6)).astype(jnp.float32)}
    state = state.replace(v=state.v.replace(params=params))
    _, metrics = jax.jit(bdpo.update_critics)(state, make_batch(size=64, action_dim=1), jax.random.key(0))
    assert metrics["v_loss"] < 1e-9  # V's own average is far away from these numbers, and is not asked
    np.testing.assert_allclose(metrics["step_penalty"], costs[-1] / 5, rtol=1e-5)


def test_values_along_paths_leave_a_state_s_types_alone_where_jax_has_64_bits():
    with precision(wide=True):
        state = random_state(config(draw="path", path_lambda=0.5, one_step=True), 3, 2)
        after, _ = jax.eval_shape(bdpo.update_critics, state, make_batch(), jax.random.key(0))
        assert [leaf.dtype for leaf in jax.tree.leaves(after)] == [leaf.dtype for leaf in jax.tree.leaves(state)]


@pytest.mark.parametrize("changes", [{"draw": "data"}, {"draw": "path", "path_share": 0.5}])
def test_values_along_paths_need_paths_alone(changes):
    with pytest.raises(UserError, match="path_lambda is 0.5.*set draw='path' and path_share=1"):
        bdpo.check(SimpleNamespace(**config(path_lambda=0.5, **changes), batch_size=64))


# The draw of n.


@pytest.mark.parametrize(("steps", "size"), [(3, 7), (5, 256), (4, 8)])
def test_the_weighted_stratified_value_loss_is_the_loss_over_all_n(steps, size):
    rng = np.random.default_rng(0)
    params = {"slope": rng.normal(size=(2, 2)), "offset": rng.normal(size=(2, steps + 1))}
    state = exact_state(config(diffusion_steps=steps), 2, {}, predict=shifted_noise, q=table_q, v=linear_v)
    # A fixed a^n and target for every row and n.
    noisy, target = rng.normal(size=(size, steps + 1, 2)), rng.normal(size=(size, steps + 1))
    n, weights, _ = diffusion.draw_steps(steps, size, jax.random.key(0), stratified=True)

    @jax.jit
    def mean_loss(weights):
        def loss(shift):
            rows = (jnp.arange(size) + shift) % size
            inputs = (None, jnp.asarray(noisy)[rows, n], n)
            return regression(state.static.v_network, params, inputs, jnp.asarray(target)[rows, n], weights)[0]

        return jax.vmap(loss)(jnp.arange(size)).mean()

    # Over all rotations of the batch each row takes each place once, so the mean is the expectation over permutations.
    values = np.einsum("bna,ka->kbn", noisy, params["slope"]) + params["offset"][:, None]
    expected = np.square(values - target)[..., 1:].mean()
    np.testing.assert_allclose(mean_loss(weights), expected, rtol=1e-5)
    if size % steps:  # without the weights it would not be
        assert abs(mean_loss(np.ones_like(weights)) / expected - 1) > 1e-4


def stratified_state(**changes):
    """Five steps; penalty and value depend on n alone."""
    shift = {"shift": jnp.array([0.0, 1.0, -0.5, 2.0, 0.3, 0.7])}
    offset = {"offset": jnp.array([[9.0, 1.0, 4.0, 2.0, 8.0, 5.0]] * 2)}
    params = {"actor": shift, "behavior": {"shift": jnp.zeros(6)}, "q": TABLE, "v": offset}
    settings = config(diffusion_steps=5, clip_denoised=False, **changes)
    return exact_state(settings, 1, params, predict=shifted_noise, q=lambda p, s, a: 0 * a + 7.0, v=step_v)


def test_the_weighted_stratified_actor_loss_is_the_loss_over_all_n():
    state = stratified_state(eta=0.1)
    params, state = state.actor.params, break_params(state, "actor", "behavior", "q", "v")

    @jax.jit
    def loss(batch, key):
        inputs = noisy_actions(state.static, batch, key)
        return bdpo.actor_loss(params, state, *inputs, key)

    costs = np.float64(state.static.schedule.kl_weights[1:]) * np.array([1, 0.25, 4, 0.09, 0.49])
    values = np.array([7, 1, 4, 2, 8])  # Q, then V_1 .. V_4
    for size in (256, 255):
        result, metrics = loss(make_batch(size=size, action_dim=1), jax.random.key(0))
        np.testing.assert_allclose(result, -(values - 0.1 * costs).mean(), rtol=1e-5)
        np.testing.assert_allclose(metrics["actor_penalty"], costs.mean(), rtol=1e-5)


def test_stratified_and_independent_draws_agree_in_the_mean():
    batch = make_batch(size=9, action_dim=1)
    losses = {}
    for stratified in (True, False):
        state = stratified_state(stratified=stratified)

        @jax.jit
        @jax.vmap
        def losses_of(key, state=state):
            row_key, step_key = jax.random.split(key)
            observations, noisy, n, weights, ones = noisy_actions(state.static, batch, row_key)
            target, _ = bdpo.v_target(state, observations, noisy, n, ones, step_key)
            params = {"offset": state.v.params["offset"] + 0.5}
            inputs = (observations, noisy, n)
            return regression(state.static.v_network, params, inputs, target, weights)[0]

        losses[stratified] = np.asarray(losses_of(jax.random.split(jax.random.key(1), 2000)), np.float64)
    error = np.hypot(*(x.std() / np.sqrt(2000) for x in losses.values()))
    assert abs(losses[True].mean() - losses[False].mean()) < 4 * error
    # All of this loss's spread is that of n, which the stratified draw has not.
    assert losses[True].std() < 1e-3 * losses[False].std()


# One-step tasks.


def one_step_state(**changes):
    state = stratified_state(**changes)
    return state.replace(static=dataclasses.replace(state.static, q=step_q), q=state.v)


def test_a_one_step_task_traces_no_path(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("a path was sampled")

    def trace(one_step):
        def update(*arguments):  # a new function: the trace of an old one would be remembered
            return bdpo.update(*arguments)

        return str(
            jax.make_jaxpr(update)(one_step_state(one_step=one_step), make_batch(action_dim=1), jax.random.key(0))
        )

    assert trace(False).count(" scan[") == trace(True).count(" scan[") + 1
    monkeypatch.setattr(diffusion, "sample", fail)
    trace(True)
    with pytest.raises(AssertionError, match="a path was sampled"):
        trace(False)


def test_a_one_step_task_never_reads_the_next_observations():
    state = one_step_state(one_step=True)
    batch = make_batch(size=9, action_dim=1)
    batch = batch.replace(next_observations=jnp.full_like(batch.next_observations, jnp.nan))
    new, metrics = jax.jit(bdpo.update_critics)(state, batch, jax.random.key(0))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((new, metrics)))
    np.testing.assert_allclose(metrics["q_target"], batch.rewards.mean(), rtol=1e-6)
    # With paths they would reach the targets.
    state = state.replace(static=dataclasses.replace(state.static, one_step=False, predict=observed_noise))
    assert np.isnan(bdpo.q_target(state, batch, jax.random.key(0))[0]).any()


def test_the_critics_paths_cost_no_evaluation_of_a_network():
    """The jitted update has as many matrix products with either draw."""

    def products(draw):
        state = bdpo.init(config(draw=draw), jax.random.key(0), 3, 2)
        return str(jax.make_jaxpr(bdpo.update_critics)(state, make_batch(size=12), jax.random.key(0))).count(
            "dot_general"
        )

    assert products("path") == products("data") > 0


@pytest.mark.parametrize("one_step", [False, True])
def test_v_is_trained_on_paths_at_the_next_state_but_after_a_terminal(monkeypatch, one_step):
    """At s itself where nothing follows it; terminals keep the data's action."""
    seen = {}
    settings = config(draw="path", one_step=one_step, diffusion_steps=2)
    state = bdpo.init(settings, jax.random.key(0), 3, 2)

    class Seen(Exception):
        """The rest of the update is not needed."""

    def record(static, batch, key, visited):
        seen["visited"] = visited
        raise Seen

    monkeypatch.setattr(bdpo, "noisy_actions", record)
    batch = make_batch(size=12)
    batch = batch.replace(terminals=jnp.zeros(12).at[3].set(1.0))
    with pytest.raises(Seen):
        bdpo.update_critics(state, batch, jax.random.key(0))
    visited = seen["visited"]
    expected = batch.observations if one_step else batch.next_observations
    assert same_rows(visited.observations, expected)
    np.testing.assert_array_equal(visited.missing, jnp.zeros(12) if one_step else batch.terminals)
    assert visited.actions.shape == (3, 12, 2)
    with pytest.raises(Seen):
        bdpo.update_actor(state, batch, jax.random.key(0))
    assert same_rows(seen["visited"].observations, batch.observations)


def same_rows(left, right):
    return sorted(map(tuple, np.asarray(left))) == sorted(map(tuple, np.asarray(right)))


@pytest.mark.parametrize("changes", [{"discount": 0.0}, {"discount": 0.0, "n_step": 3}, {}])
def test_v_is_trained_on_paths_wherever_someone_acts_at_their_state(changes):
    """Whatever the discount; no path starts where a terminal step leads to, by whose numbers V is not moved."""
    state = random_state(config(draw="path", path_lambda=0.5, diffusion_steps=3, **changes), 3, 2)
    batch = make_batch(size=64)
    if "n_step" in changes:
        batch = batch.replace(extra=rewards_ahead(Dataset(*jax.tree.leaves(batch)), 0.0, 3))
    update = jax.jit(bdpo.update_critics)
    after, metrics = update(state, batch, jax.random.key(0))
    assert metrics["v_loss"] > 0 and changed(after.v.params, state.v.params)
    beyond = jnp.where(batch.terminals[:, None] > 0, 7.0, batch.next_observations)
    assert batch.terminals.any() and not batch.terminals.all()
    same, _ = update(state, batch.replace(next_observations=beyond), jax.random.key(0))
    assert not changed(after.v.params, same.v.params)


@pytest.mark.parametrize("one_step", [False, True])
def test_data_without_a_next_state_are_refused_where_paths_start_at_one(one_step):
    checks = [phase.check_data for phase in bdpo.phases(config(draw="path", one_step=one_step))]
    batch = make_batch()
    ended = batch.replace(terminals=jnp.ones_like(batch.terminals))
    if one_step:
        assert not any(checks)
    else:
        checks[-1](batch)
        with pytest.raises(UserError, match="Every row of the data is terminal.*config.one_step=True"):
            checks[-1](ended)
