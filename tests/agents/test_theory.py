"""Where the truth is known in closed form: a Gaussian behavior with linear Q, Appendix D's limit, a two-state MDP."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from helpers import config, exact_state, gaussian_kernel, gaussian_noise, make_batch, random_state

from bdpo_jax import diffusion, ensembles
from bdpo_jax.agents import bdpo
from bdpo_jax.agents.draws import noisy_actions
from bdpo_jax.types import Batch

# A Gaussian behavior N(MEAN, VARIANCE) and Q(a) = SLOPE . a. Then V_n(a) = slopes[n] . a + offsets[n], and in each
# step the optimal actor moves the behavior's mean by u = sigma_n^2 slopes[n-1] / eta, the maximum of
# slopes[n-1] . u - eta |u|^2 / (2 sigma_n^2).
STEPS, ETA, MEAN, VARIANCE = 5, 0.5, 0.3, 0.04
SLOPE = np.array([1.0, -0.5])


class Optimum:
    """The backward recursion in float64; arrays are indexed by n."""

    def __init__(self, posterior_variance):
        self.schedule = diffusion.variance_preserving(STEPS, posterior_variance=posterior_variance)
        self.gains, self.moves = gaussian_kernel(self.schedule, MEAN, VARIANCE)
        self.variances = np.float64(self.schedule.variances)
        self.slopes, self.offsets = np.zeros((STEPS + 1, 2)), np.zeros(STEPS + 1)
        self.slopes[0] = SLOPE
        self.shifts, self.penalties = np.zeros((STEPS + 1, 2)), np.zeros(STEPS + 1)
        for n in range(1, STEPS + 1):
            slope = self.slopes[n - 1]
            self.slopes[n] = self.gains[n] * slope
            self.shifts[n] = self.variances[n] * slope / ETA
            self.penalties[n] = self.variances[n] * slope @ slope / (2 * ETA**2)
            self.offsets[n] = self.offsets[n - 1] + self.moves[n] * slope.sum() + ETA * self.penalties[n]

    def noise_shifts(self):
        """The shifts of the means as shifts of the predicted noise."""
        betas, alphas, bars = (
            np.float64(x) for x in (self.schedule.betas, self.schedule.alphas, self.schedule.alpha_bars)
        )
        return -self.shifts * np.sqrt(alphas * (1 - bars))[:, None] / np.maximum(betas, 1e-9)[:, None]


def predict(params, observations, noisy, n):
    schedule = diffusion.variance_preserving(STEPS)  # the exact noise of a Gaussian knows no reverse variance
    exact = gaussian_noise(schedule, noisy, n, MEAN, VARIANCE)
    shift, gain = (jnp.broadcast_to(x, noisy.shape) for x in (params["shift"][n], params["gain"][n][..., None]))
    return exact + shift + gain * noisy


def linear_q(params, observations, actions):
    return (actions @ params["slope"])[..., None]


def linear_v(params, observations, noisy, n):
    return (noisy * params["slope"][n]).sum(axis=-1, keepdims=True) + params["offset"][n][..., None]


def actor_params(shift):
    return {"shift": jnp.asarray(shift, jnp.float32), "gain": jnp.zeros(STEPS + 1)}


def optimal_state(optimum, posterior_variance, shift=None, **changes):
    """A state with exact Q and V of the optimum, and an actor with the optimal (or the given) shift."""
    members = 2
    params = {
        "actor": actor_params(optimum.noise_shifts() if shift is None else shift),
        "behavior": actor_params(np.zeros((STEPS + 1, 2))),
        "q": {"slope": jnp.asarray(np.stack([SLOPE] * members), jnp.float32)},
        "v": {
            "slope": jnp.asarray(np.stack([optimum.slopes] * members), jnp.float32),
            "offset": jnp.asarray(np.stack([optimum.offsets] * members), jnp.float32),
        },
    }
    settings = config(
        diffusion_steps=STEPS,
        posterior_variance=posterior_variance,
        clip_denoised=False,
        eta=ETA,
        discount=1.0,
        **changes,
    )
    return exact_state(settings, 2, params, predict=predict, q=linear_q, v=linear_v)


@pytest.fixture(scope="module", params=[False, True], ids=["beta", "posterior"])
def optimum(request):
    return Optimum(request.param), request.param


def test_the_recursion_is_the_soft_value_of_the_whole_chain(optimum):
    # Were noise added in the last step too, a^0 given a^N would be Gaussian and V_N = eta log E exp(Q / eta) over
    # the behavior's chain: the mean of Q plus half its variance over eta.
    exact, _ = optimum
    gain, move, variance = 1.0, 0.0, 0.0
    for n in range(STEPS, 0, -1):
        gain, move = gain * exact.gains[n], exact.gains[n] * move + exact.moves[n]
        variance = exact.gains[n] ** 2 * variance + exact.variances[n]
    np.testing.assert_allclose(exact.slopes[STEPS], gain * SLOPE, rtol=1e-9)
    np.testing.assert_allclose(
        exact.offsets[STEPS], move * SLOPE.sum() + variance * SLOPE @ SLOPE / (2 * ETA), rtol=1e-9
    )


def test_the_actor_s_gradient_vanishes_at_the_optimum_and_only_there(optimum):
    exact, posterior_variance = optimum
    batch = make_batch(size=16)

    @jax.jit
    def gradient(params, key):
        state = optimal_state(exact, posterior_variance)
        inputs = noisy_actions(state.static, batch, key)
        (loss, _), gradients = jax.value_and_grad(bdpo.actor_loss, has_aux=True)(params, state, *inputs, key)
        return loss, gradients

    key = jax.random.key(0)
    best, gradients = gradient(actor_params(exact.noise_shifts()), key)
    start, start_gradients = gradient(actor_params(np.zeros((STEPS + 1, 2))), key)
    # It vanishes in every row, so also in a parameter that multiplies the action.
    for name in ("shift", "gain"):
        scale = np.abs(start_gradients[name][1:]).min()
        assert scale > 1e-4
        np.testing.assert_allclose(gradients[name], 0, atol=2e-3 * scale)
    # The draws being the same and V linear, the loss falls by exactly the mean of max_u: eta times the penalty.
    np.testing.assert_allclose(start - best, ETA * exact.penalties[1:].mean(), rtol=1e-3)


def test_training_the_actor_gets_to_the_optimum():
    exact = Optimum(posterior_variance=False)
    state = optimal_state(exact, False, np.zeros((STEPS + 1, 2)), actor_lr=0.05, train_steps=400)
    batch = make_batch(size=16)

    @jax.jit
    def train(state):
        def step(state, key):
            state, metrics = bdpo.update_actor(state, batch, key)
            return state, metrics["actor_penalty"]

        return jax.lax.scan(step, state, jax.random.split(jax.random.key(1), 400))

    state, penalties = train(state)
    target = exact.noise_shifts()
    np.testing.assert_allclose(state.actor.params["shift"], target, atol=0.01 * np.abs(target[1:]).max())
    np.testing.assert_allclose(state.actor.params["gain"], 0, atol=0.01)
    assert penalties[0] == 0
    np.testing.assert_allclose(penalties[-1], exact.penalties[1:].mean(), rtol=0.02)


def test_targets_are_the_known_values(optimum):
    exact, posterior_variance = optimum
    state = optimal_state(exact, posterior_variance, actor_samples=100)
    rows = 100
    n = np.tile(np.arange(1, STEPS + 1), rows)
    noisy = np.random.default_rng(0).normal(size=(len(n), 2)).astype(np.float32)
    batch = make_batch(size=500, observation_dim=1).replace(terminals=jnp.zeros(500))

    @jax.jit
    def targets(state, key):
        value, penalty = bdpo.v_target(state, jnp.zeros((len(n), 1)), jnp.asarray(noisy), jnp.asarray(n), 0, key)
        return value, penalty, *bdpo.q_target(state, batch, key)[:2]

    value, penalty, q_target, metrics = targets(state, jax.random.key(2))
    np.testing.assert_allclose(penalty, exact.penalties[n], rtol=1e-3)
    residual = np.asarray(value) - (exact.offsets[n] + (noisy * exact.slopes[n]).sum(axis=-1))
    # A continuation's value has the noise sigma_n |slopes[n-1]|; 100 samples a row, 100 rows: four standard errors.
    # At n = 1 there is none, only rounding.
    np.testing.assert_allclose(residual[n == 1], 0, atol=1e-5)
    for step in range(2, STEPS + 1):
        noise = np.sqrt(exact.variances[step]) * np.linalg.norm(exact.slopes[step - 1])
        assert abs(residual[n == step].mean()) < 4 * noise / np.sqrt(100 * rows)
        assert residual[n == step].std() == pytest.approx(noise / 10, rel=4 / np.sqrt(2 * rows))
    # The path's penalty is the sum over its steps, whatever the draws; its return is V_N at the prior N(0, I).
    np.testing.assert_allclose(metrics["path_penalty"], exact.penalties.sum(), rtol=1e-3)
    returns = np.asarray(q_target - batch.rewards)
    assert returns.mean() == pytest.approx(exact.offsets[STEPS], abs=4 * returns.std() / np.sqrt(500))


# Appendix D: the path's KL tends to the integral of beta(t) / 2 |score^pi - score^nu|^2, T = 1.


def discrete_path_kl(steps, posterior_variance, mean, variance, count):
    """KL of the chain of N(mean, variance) against that of N(0, 1/4), in one dimension."""
    schedule = diffusion.variance_preserving(steps, posterior_variance=posterior_variance)

    @jax.jit
    def kl(schedule, key):
        def predictor(m, v):
            return lambda noisy, n: gaussian_noise(schedule, noisy, n, m, v)

        path = diffusion.sample(
            schedule, predictor(mean, variance), key, (count, 1), None, reference=predictor(0.0, 0.25)
        )
        return path.kl

    return np.asarray(kl(schedule, jax.random.key(0)), np.float64)


def path_integral(mean, variance):
    """The integral along the reverse equation started from N(0, 1): moments by an ODE solver, no steps of ours."""

    def score(t, m, v):  # score(x) = a - b x of the marginal at t
        abar = np.exp(-0.1 * t - 4.95 * t**2)
        marginal = abar * v + 1 - abar
        return np.sqrt(abar) * m / marginal, 1 / marginal

    def slope(tau, y):
        t = 1 - tau
        beta = 0.1 + 9.9 * t
        (a, b), (a_nu, b_nu) = score(t, mean, variance), score(t, 0.0, 0.25)
        # dx = [x / 2 + a - b x] beta dtau + sqrt(beta) dw, with moments y[0], y[1].
        squared = (a - a_nu) ** 2 - 2 * (a - a_nu) * (b - b_nu) * y[0] + (b - b_nu) ** 2 * (y[1] + y[0] ** 2)
        return [beta * (a + (0.5 - b) * y[0]), beta * (2 * (0.5 - b) * y[1] + 1), beta / 2 * squared]

    return scipy.integrate.solve_ivp(slope, (0, 1), [0.0, 1.0, 0.0], rtol=1e-9, atol=1e-11).y[2, -1]


@pytest.mark.parametrize("posterior_variance", [False, True])
def test_the_path_s_kl_tends_to_the_integral(posterior_variance):
    # Equal variances: the scores differ by a constant, so the penalty is the same on every path: no statistics. And the
    # integral is that of the marginals' KLs: d^2 / (2 s^2) at t = 0 less what is left of it at T.
    last = np.exp(-5.05)
    limit = 0.5 * (1 / 0.25 - last / (last * 0.25 + 1 - last))
    assert path_integral(1.0, 0.25) == pytest.approx(limit, rel=1e-6)
    errors = [
        abs(discrete_path_kl(steps, posterior_variance, 1.0, 0.25, 2).mean() / limit - 1) for steps in (50, 200, 800)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2], errors  # order 1/N, with the posterior's log N / N
    assert errors[2] < 0.02


def test_a_state_dependent_path_kl_tends_to_the_integral():
    kl = discrete_path_kl(400, False, 0.5, 0.09, 4000)
    # Four standard errors, and 1% for 400 steps.
    limit = path_integral(0.5, 0.09)
    assert kl.mean() == pytest.approx(limit, abs=4 * kl.std() / np.sqrt(4000) + 0.01 * limit)
    assert kl.std() > 0.1 * limit  # it does depend on the path


# Two states A, B, whose actions do nothing: A -> B (reward 1); B (reward 2) -> A, or ends, half of the time each.
DISCOUNT, BIAS, TASK_ETA = 0.5, 0.4, 0.3


@pytest.fixture(scope="module")
def two_states():
    """An initial state and 1,000 updates of its critics, compiled once for both tests."""
    settings = config(
        value_widths=(64,), aggregation="mean", discount=DISCOUNT, eta=TASK_ETA, value_lr=0.005, ema_rate=0.05
    )
    a, b = np.eye(2)
    rows = [(a, 1, b, 0), (a, 1, b, 0), (b, 2, a, 0), (b, 2, b, 1)] * 8
    observations, rewards, following, terminals = (
        jnp.asarray(np.stack(x), jnp.float32) for x in zip(*rows, strict=True)
    )

    @jax.jit
    def train(state, key):
        def step(state, key):
            actions = jax.random.uniform(key, (32, 1), minval=-1.0)
            return bdpo.update_critics(state, Batch(observations, actions, rewards, following, terminals), key)

        return jax.lax.scan(step, state, jax.random.split(key, 1000))

    state = random_state(settings, 2, 1)
    return state.replace(actor=state.behavior), train


def check_values(state, expected_q, expected_v):
    """Compares Q [2] and V [N + 1, 2], averaged over members and actions."""
    states, actions = np.eye(2)[:, None], np.linspace(-0.9, 0.9, 7)[None, :, None]
    values = ensembles.apply(state.static.q_network, state.q.params, states, actions)
    np.testing.assert_allclose(values.mean(axis=(0, 2)), expected_q, atol=0.05)
    n = np.arange(1, 4)[:, None, None]
    values = ensembles.apply(state.static.v_network, state.v.params, states[None], actions[None], n)
    np.testing.assert_allclose(values.mean(axis=(0, 3)), expected_v[1:], atol=0.05)


def test_a_two_state_task_is_recovered_by_the_critics(two_states):
    state, train = two_states
    state, _ = train(state, jax.random.key(1))
    # Q_A = 1 + Q_B / 2, Q_B = 2 + Q_A / 4. The actor is the behavior model, so V_n = Q.
    expected = np.array([16 / 7, 18 / 7])
    check_values(state, expected, np.stack([expected] * 4))


def test_its_values_with_a_known_penalty(two_states):
    state, train = two_states
    # The bias of the output layer: the predicted noises differ by BIAS everywhere, so l_n = w_n BIAS^2.
    layers = state.actor.ema["params"]
    layers = {**layers, "output": {**layers["output"], "bias": layers["output"]["bias"] + BIAS}}
    state, metrics = train(state.replace(actor=state.actor.replace(ema={"params": layers})), jax.random.key(1))
    costs = TASK_ETA * np.cumsum(np.float64(state.static.schedule.kl_weights)) * BIAS**2
    np.testing.assert_allclose(TASK_ETA * metrics["path_penalty"], costs[-1], rtol=1e-3)
    # Q_A = 1 + g (Q_B - L), Q_B = 2 + g / 2 (Q_A - L), L the cost of a whole path; V_n has that of n steps to come.
    matrix = [[1, -DISCOUNT], [-DISCOUNT / 2, 1]]
    expected = np.linalg.solve(matrix, [1 - DISCOUNT * costs[-1], 2 - DISCOUNT / 2 * costs[-1]])
    assert costs[-1] > 0.3  # far beyond the tolerance
    check_values(state, expected, expected - costs[:, None])
