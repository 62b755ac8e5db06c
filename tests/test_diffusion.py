import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import gaussian_kernel, gaussian_noise

from bdpo_jax import diffusion
from bdpo_jax.errors import UserError

MEAN, VARIANCE = 0.3, 0.04

# Compiled whole: op by op, their many small compilations would take most of the time here.
kl, add_noise = jax.jit(diffusion.kl), jax.jit(diffusion.add_noise)
reverse_mean, denoise, ddim = (
    jax.jit(f, static_argnames="clip") for f in (diffusion.reverse_mean, diffusion.denoise, diffusion.ddim)
)


def halving(posterior_variance=False):
    """N = 2 and alpha_1 = alpha_2 = 1/2, so abar = 1/2, 1/4: a schedule for sums on paper."""
    rate = 2 * np.log(2)
    return diffusion.variance_preserving(2, rate, rate, posterior_variance)


def chain_moments(schedule, mean=MEAN, variance=VARIANCE):
    """Mean and variance of `a^0` by the Gaussian recursion of the chain that starts from N(0, 1)."""
    gains, offsets = gaussian_kernel(schedule, mean, variance)
    m, v = 0.0, 1.0
    for n in range(schedule.steps, 0, -1):
        m, v = gains[n] * m + offsets[n], gains[n] ** 2 * v + (n > 1) * schedule.variances[n]
    return m, v


def exact_predictor(schedule):
    return jax.jit(lambda noisy, n: gaussian_noise(schedule, noisy, n, MEAN, VARIANCE))


def sample(schedule, predict, *arguments, **options):
    """`diffusion.sample`, compiled, with numpy arrays."""
    path = jax.jit(lambda s: diffusion.sample(s, predict, *arguments, **options))(schedule)
    return jax.tree.map(np.asarray, path)


# The schedule.


def test_the_schedule_is_the_formula_with_an_identity_in_front():
    schedule = diffusion.variance_preserving(5)
    # n = 3: exp(-.1/5 - 9.9 * 5 / 50) = exp(-1.01).
    assert schedule.alphas[3] == pytest.approx(np.exp(-1.01), rel=1e-6)
    # The product telescopes to exp(-(bmin + bmax) / 2) whatever N is.
    for steps in (1, 5, 50):
        schedule = diffusion.variance_preserving(steps)
        assert schedule.steps == steps
        assert schedule.alpha_bars[-1] == pytest.approx(np.exp(-5.05), rel=1e-5)
        assert (schedule.betas[0], schedule.alphas[0], schedule.alpha_bars[0], schedule.kl_weights[0]) == (0, 1, 1, 0)
        np.testing.assert_array_equal(schedule.variances, schedule.betas)
        assert all(array.shape == (steps + 1,) for array in jax.tree.leaves(schedule))


def test_the_cosine_schedule_is_the_formula_but_for_its_last_step():
    schedule = diffusion.cosine(2)
    # cos^2(.508 / 1.008 pi / 2) / cos^2(.008 / 1.008 pi / 2); then alpha_2 = .001 in place of 0.
    assert schedule.alpha_bars[1] == pytest.approx(0.493844, rel=1e-5)
    np.testing.assert_allclose(schedule.betas, [0, 1 - 0.493844, 0.999], rtol=1e-5)
    # beta_2 (1 - abar_1) / (1 - abar_2), which stands in at n = 1.
    variance = 0.999 * (1 - 0.493844) / (1 - 0.000493844)
    np.testing.assert_allclose(schedule.variances, [0, variance, variance], rtol=1e-5)


def test_posterior_variance_by_hand():
    # n = 2: (1/2)(1/2)/(3/4) = 1/3, which also stands in at n = 1, where the formula gives 0.
    np.testing.assert_allclose(halving(True).variances, [0, 1 / 3, 1 / 3], rtol=1e-6)
    single = diffusion.variance_preserving(1, posterior_variance=True)
    np.testing.assert_array_equal(single.variances, single.betas)


# One step.


def test_kl_by_hand():
    predicted, reference = jnp.array([[1.0, 2.0]] * 2), jnp.array([[0.0, 0.0], [2.0, 0.0]])
    n = jnp.array([1, 2])
    # Squared distances 5, 5. beta^2 / (2 sigma^2 alpha (1 - abar)) = 1, 2/3; with sigma^2 = 1/3: 3/2, 1.
    np.testing.assert_allclose(kl(halving(), n, predicted, reference), [5, 10 / 3], rtol=1e-6)
    np.testing.assert_allclose(kl(halving(True), n, predicted, reference), [7.5, 5], rtol=1e-6)


@pytest.mark.parametrize("posterior_variance", [False, True])
@pytest.mark.parametrize("steps", [1, 5, 50])
def test_kl_is_that_of_the_two_reverse_kernels(steps, posterior_variance):
    schedule = diffusion.variance_preserving(steps, posterior_variance=posterior_variance)
    rng = np.random.default_rng(0)
    n = np.arange(1, steps + 1)
    noisy, predicted, reference = rng.normal(size=(3, steps, 4)).astype(np.float32)
    means = [np.float64(reverse_mean(schedule, noisy, n, e, clip=None)) for e in (predicted, reference)]
    # The KL of two Gaussians of covariance sigma^2 I.
    expected = np.sum((means[0] - means[1]) ** 2, axis=-1) / (2 * np.float64(schedule.variances[1:]))
    # 1e-3: beta_1 = .004 at N = 50 and 1 - abar_1 is formed from float32 numbers near 1.
    np.testing.assert_allclose(kl(schedule, n, predicted, reference), expected, rtol=1e-3)


def test_add_noise_by_hand_and_in_distribution():
    noisy = add_noise(halving(), np.full((3, 1), 2.0), np.array([0, 1, 2]), np.ones((3, 1)))
    np.testing.assert_allclose(noisy[:, 0], [2, 3 * np.sqrt(1 / 2), 2 * np.sqrt(1 / 4) + np.sqrt(3 / 4)], rtol=1e-6)
    # Noising step by step with alpha_n is the same distribution as noising at once with abar_n.
    schedule = diffusion.variance_preserving(5)
    draws = 200_000
    noise = np.random.default_rng(0).normal(size=(4, draws, 1))
    chain = np.full((draws, 1), 0.7)
    for n in (1, 2, 3):
        chain = np.sqrt(schedule.alphas[n]) * chain + np.sqrt(schedule.betas[n]) * noise[n]
    once = np.asarray(add_noise(schedule, np.full((draws, 1), 0.7), 3, noise[0]))
    # Variances are at most 1: standard errors of a difference .0032 for means, .0045 for variances; 4 of them.
    assert chain.mean() == pytest.approx(once.mean(), abs=0.013)
    assert chain.var() == pytest.approx(once.var(), abs=0.018)


def test_reverse_mean_with_an_inactive_clip_is_the_unclipped_one():
    schedule = diffusion.variance_preserving(5)
    rng = np.random.default_rng(0)
    noisy, predicted = rng.normal(size=(2, 5, 3)).astype(np.float32)
    n = np.arange(1, 6)
    np.testing.assert_allclose(
        reverse_mean(schedule, noisy, n, predicted, clip=1e6),
        reverse_mean(schedule, noisy, n, predicted, clip=None),
        rtol=1e-4,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        ddim(schedule, noisy, n, predicted, clip=1e6),
        ddim(schedule, noisy, n, predicted, clip=None),
        rtol=1e-6,
    )


def test_an_active_clip_by_hand():
    # n = 2, a^n = 1, e = -1: the clean action (1 + sqrt(3)/2) / (1/2) = 3.7 is clipped to 1, and
    # mu = [sqrt(1/2) (1/2) 1 + sqrt(1/2) (1/2) 1] / (3/4).
    one = jnp.ones((1,))
    mean = reverse_mean(halving(), one, 2, -one, clip=1.0)
    np.testing.assert_allclose(mean, np.sqrt(1 / 2) / (3 / 4), rtol=1e-6)
    # DDIM keeps the noise direction: sqrt(1/2) 1 + sqrt(1/2) (-1).
    np.testing.assert_allclose(ddim(halving(), one, 2, -one, clip=1.0), 0, atol=1e-6)
    # At n = 1 the mean is the clipped clean action itself.
    np.testing.assert_allclose(reverse_mean(halving(), one, 1, -5 * one, clip=0.8), 0.8, rtol=1e-6)


def test_the_last_step_adds_no_noise_and_the_others_do():
    schedule = diffusion.variance_preserving(3)
    noisy, noise = jnp.ones((3, 2)), jnp.full((3, 2), 7.0)
    n = jnp.array([1, 2, 3])
    step = denoise(schedule, noisy, n, noisy, noise, clip=None)
    mean = reverse_mean(schedule, noisy, n, noisy, clip=None)
    np.testing.assert_allclose(
        step - mean, 7 * np.sqrt([[0.0], schedule.betas[2:3], schedule.betas[3:4]]) * [1, 1], rtol=1e-5
    )
    assert (step[0] == mean[0]).all()


def test_n_broadcasts_against_leading_axes():
    schedule = diffusion.variance_preserving(4)
    rng = np.random.default_rng(0)
    noisy, predicted, noise = rng.normal(size=(3, 4, 6, 2)).astype(np.float32)
    n = np.arange(1, 5)
    together = denoise(schedule, noisy, n[:, None], predicted, noise, clip=1.0)
    alone = [denoise(schedule, noisy[i], n[i], predicted[i], noise[i], clip=1.0) for i in range(4)]
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-6)
    assert kl(schedule, n[:, None], noisy, predicted).shape == (4, 6)


# Draws of n.


@pytest.mark.parametrize(("steps", "size"), [(5, 256), (5, 255), (3, 3), (1, 4), (50, 512)])
def test_stratified_draw_weighs_every_n_alike(steps, size):
    n, weights, ones = diffusion.draw_steps(steps, size, jax.random.key(0), stratified=True)
    n = np.asarray(n)
    counts = np.bincount(n, minlength=steps + 1)
    assert n.shape == weights.shape == (size,)
    assert counts[0] == 0 and counts[1:].sum() == size and np.ptp(counts[1:]) <= 1
    assert (n[:ones] == 1).all() and (n[ones:] > 1).all()
    # A weighted mean over rows gives each n a share of exactly 1 / N.
    np.testing.assert_allclose(np.bincount(n, weights)[1:] / size, 1 / steps, rtol=1e-5)


def test_independent_draw_is_uniform_and_unweighted():
    n, weights, ones = diffusion.draw_steps(5, 50_000, jax.random.key(0), stratified=False)
    assert ones == 0 and (weights == 1).all()
    counts = np.bincount(np.asarray(n), minlength=6)
    assert counts[0] == 0 and len(counts) == 6
    # Standard deviation of a count: sqrt(50,000 * .2 * .8) = 89; 4 of them.
    np.testing.assert_allclose(counts[1:], 10_000, atol=360)


def test_a_batch_smaller_than_the_steps_cannot_be_stratified():
    with pytest.raises(ValueError, match="batch of 4 .* 5 steps"):
        diffusion.draw_steps(5, 4, jax.random.key(0), stratified=True)


# Paths.


@pytest.mark.parametrize(("steps", "variance"), [(5, 0.013), (50, 0.0433)])
def test_samples_with_an_exact_predictor_follow_the_chain_s_own_recursion(steps, variance):
    schedule = diffusion.variance_preserving(steps)
    mean, own_variance = chain_moments(schedule)
    assert own_variance == pytest.approx(variance, rel=0.01)  # not the .04 of the Gaussian
    draws = 40_000
    actions = sample(schedule, exact_predictor(schedule), jax.random.key(0), (draws, 1), None).actions
    # Four standard errors: sqrt(v / draws) of a mean, v sqrt(2 / draws) of a variance.
    assert float(actions.mean()) == pytest.approx(mean, abs=4 * np.sqrt(own_variance / draws))
    assert float(actions.var()) == pytest.approx(own_variance, rel=4 * np.sqrt(2 / draws))


def test_the_chain_approaches_the_gaussian_as_the_steps_grow():
    errors = []
    for steps in (100, 200, 400, 800):
        mean, variance = chain_moments(diffusion.variance_preserving(steps))
        errors.append(abs(variance - VARIANCE))
        assert (
            abs(mean - MEAN) < 0.02
        )  # the prior forgets sqrt(abar_N) = 8% of the mean, of which the chain keeps little
    # First order in 1 / N.
    ratios = np.divide(errors[:-1], errors[1:])
    assert ((ratios > 1.7) & (ratios < 2.3)).all(), ratios
    assert errors[-1] < 0.01 * VARIANCE


def test_ddim_transports_the_prior_to_the_gaussian():
    # The probability flow of a Gaussian is the affine map that matches mean and deviation at both ends.
    def error(steps):
        schedule = diffusion.variance_preserving(steps)
        path = sample(
            schedule, exact_predictor(schedule), jax.random.key(1), (64, 1), None, solver="ddim", trajectory=True
        )
        last = np.float64(schedule.alpha_bars[-1])
        standard = (np.asarray(path.trajectory[-1]) - np.sqrt(last) * MEAN) / np.sqrt(last * VARIANCE + 1 - last)
        return np.abs(path.actions - (MEAN + np.sqrt(VARIANCE) * standard)).max()

    errors = [error(steps) for steps in (200, 1600)]
    assert 7 < errors[0] / errors[1] < 9, errors  # first order: 8
    assert errors[-1] < 0.02 * np.sqrt(VARIANCE)


def test_ddim_finds_a_point_in_any_number_of_steps():
    schedule = diffusion.variance_preserving(3)

    def predict(noisy, n):
        return gaussian_noise(schedule, noisy, n, 0.6, 0.0)

    actions = sample(schedule, predict, jax.random.key(0), (16, 2), None, solver="ddim").actions
    np.testing.assert_allclose(actions, 0.6, atol=1e-5)


@pytest.mark.parametrize("solver", ["ddpm", "ddim"])
def test_a_trajectory_is_indexed_by_n(solver):
    schedule = diffusion.variance_preserving(4)
    predict = exact_predictor(schedule)
    arguments = (schedule, predict, jax.random.key(0), (500, 2), 1.0)
    path = sample(*arguments, solver=solver, trajectory=True)
    assert path.trajectory.shape == (5, 500, 2)
    np.testing.assert_array_equal(path.trajectory[0], path.actions)
    # Asking for it changes nothing.
    plain = sample(*arguments, solver=solver)
    assert plain.trajectory is None
    np.testing.assert_array_equal(plain.actions, path.actions)
    # At n = N a standard normal: 1,000 numbers, standard errors .03 and .045; 4 of them.
    assert abs(path.trajectory[4].mean()) < 0.13 and abs(path.trajectory[4].var() - 1) < 0.18
    step = ddim if solver == "ddim" else reverse_mean
    later, n = path.trajectory[1:], np.arange(1, 5)[:, None]
    links = path.trajectory[:-1] - step(schedule, later, n, predict(later, n), clip=1.0)
    np.testing.assert_allclose(links[0], 0, atol=1e-6)
    if solver == "ddim":
        np.testing.assert_allclose(links, 0, atol=1e-5)
        return
    # What is left is the noise: 1,000 numbers of variance beta_n for each n > 1, four standard errors sqrt(2 / 1000),
    # and each step's its own: correlations within 4 / sqrt(1000).
    links = links[1:].reshape(3, -1)
    np.testing.assert_allclose(links.var(axis=1), schedule.variances[2:], rtol=0.18)
    assert np.abs(np.corrcoef(links) - np.eye(3)).max() < 0.127


def test_the_penalty_of_a_path_is_the_sum_over_its_steps():
    schedule = diffusion.variance_preserving(4)
    predict = exact_predictor(schedule)

    def reference(noisy, n):
        return 0.5 * noisy

    arguments = (schedule, predict, jax.random.key(0), (6, 2), None)
    path = sample(*arguments, reference=reference, trajectory=True)
    later, n = path.trajectory[1:], np.arange(1, 5)[:, None]
    expected = kl(schedule, n, predict(later, n), reference(later, n))
    np.testing.assert_allclose(path.kl, expected.sum(axis=0), rtol=1e-4)
    np.testing.assert_array_equal(sample(*arguments).kl, np.zeros(6))


def test_an_unknown_solver_is_named():
    schedule = diffusion.variance_preserving(2)
    with pytest.raises(ValueError, match="'dpm'.*'ddpm' or 'ddim'"):
        sample(schedule, exact_predictor(schedule), jax.random.key(0), (1, 1), None, solver="dpm")


def test_a_schedule_beyond_float32_is_a_mistake():
    with pytest.raises(UserError, match="schedule of 5 steps leaves float32's range: lower beta_max"):
        diffusion.variance_preserving(5, beta_max=1e5)
