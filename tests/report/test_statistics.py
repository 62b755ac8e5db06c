"""Statistics over runs and Appendix D's limit, against answers by hand."""

import numpy as np
import pytest
from scipy import stats

from bdpo_jax.report import limit, statistics


def test_the_interquartile_mean_leaves_a_quarter_out_at_each_end():
    samples = [np.array([1.0, 100.0, 3.0, 4.0]), np.array([-50.0, 2.0, 5.0, 6.0])]
    assert statistics.interquartile_mean(samples) == (2 + 3 + 4 + 5) / 4
    assert statistics.interquartile_mean(samples) == stats.trim_mean(np.concatenate(samples), 0.25)


def test_resamples_are_drawn_within_tasks():
    # Each task's runs are alike, so that nothing varies within the strata; mixed, the tasks' difference would.
    same = [np.full(4, 10.0), np.full(4, 90.0)]
    assert statistics.interquartile_interval(same) == (50.0, 50.0)
    low, high = statistics.interquartile_interval([np.array([0.0, 10.0, 20.0, 30.0]), np.full(4, 15.0)])
    assert 0 <= low < 15 < high <= 30


def test_a_single_run_has_neither_deviation_nor_interval():
    assert statistics.deviation(np.array([3.0])) is None
    assert statistics.deviation(np.array([1.0, 3.0])) == pytest.approx(np.sqrt(2))
    assert statistics.interquartile_interval([np.array([3.0]), np.array([1.0, 2.0])]) is None


@pytest.mark.parametrize("lower_is_better", [False, True])
def test_probability_of_improvement_by_hand(lower_is_better):
    # First task: 5 beats 1 and 4, 3 beats 1 alone: 3 of 4. Second: one tie: 1 of 2.
    first, second = [np.array([5.0, 3.0]), np.array([1.0, 1.0])], [np.array([1.0, 4.0]), np.array([1.0, 1.0])]
    value, interval = statistics.improvement(first, second, lower_is_better)
    expected = (0.75 + 0.5) / 2
    assert value == (1 - expected if lower_is_better else expected)
    assert interval[0] <= value <= interval[1]


def test_a_profile_is_the_mean_of_its_tasks_shares():
    samples, thresholds = [np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 2.0])], np.array([0.0, 1.5, 3.5])
    shares, low, high = statistics.profile(samples, thresholds, lower_is_better=False)
    np.testing.assert_allclose(shares, [1, (0.75 + 1) / 2, (0.25 + 0) / 2])
    assert (low <= shares).all() and (shares <= high).all()
    np.testing.assert_allclose(statistics.profile(samples, thresholds, lower_is_better=True)[0], 1 - shares)


def test_the_path_s_kl_tends_to_the_integral():
    # Equal variances: the integral is d^2 / (2 s^2) at t = 0 less what is left of it at T = 1.
    last = np.exp(-5.05)
    assert limit.integral(1.0, 0.25, 0.25) == pytest.approx(0.5 * (1 / 0.25 - last / (last * 0.25 + 1 - last)))
    for mean, variance in [(1.0, 0.25), (0.5, 0.09)]:
        integral = limit.integral(mean, variance, 0.25)
        for posterior in (False, True):
            errors = [abs(limit.path_kl(n, mean, variance, 0.25, posterior) / integral - 1) for n in (100, 200, 400)]
            assert errors[0] > 1.6 * errors[1] > 2.5 * errors[2], errors  # order 1/N, with the posterior's log N / N
            assert errors[2] < 0.05


def test_a_path_of_one_step_by_hand():
    # N = 1: the path's only penalty is w_1 E (eps - eps')^2 with a^1 ~ N(0, 1), and the variances differ.
    alpha = np.exp(-5.05)
    root, beta = np.sqrt(1 - alpha), 1 - alpha
    slopes = [root / (alpha * v + 1 - alpha) for v in (0.09, 0.25)]
    offset = -slopes[0] * np.sqrt(alpha) * 0.5
    expected = beta / (2 * alpha * (1 - alpha)) * ((slopes[0] - slopes[1]) ** 2 + offset**2)
    assert limit.path_kl(1, 0.5, 0.09, 0.25, False) == pytest.approx(expected, rel=1e-5)
