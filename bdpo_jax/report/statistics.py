"""What several runs come to: means, interquartile means, stratified bootstrap intervals (Agarwal et al., 2021).

Samples are lists with an array of scores `[runs]` for each task; the tasks are the strata, so that a resample has as
many runs of each task as there are. SciPy does the resampling.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

RESAMPLES = 2_000
Samples = Sequence[np.ndarray]
Interval = tuple[float, float]
Profile = tuple[np.ndarray, np.ndarray, np.ndarray]  # shares, and the lower and upper edge of their band


def deviation(values: np.ndarray) -> float | None:
    """Returns the standard deviation over seeds (n - 1), None of one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def interquartile_mean(samples: Samples) -> float:
    """Returns the mean of the middle half of all runs' scores (of fewer than four: of all)."""
    return float(_interquartile_mean(*samples))


def interquartile_interval(samples: Samples) -> Interval | None:
    """Returns the 95% stratified bootstrap interval of the interquartile mean, None where a task has a single run."""
    return _interval(_interquartile_mean, samples)


def profile(samples: Samples, thresholds: np.ndarray, lower_is_better: bool) -> Profile:
    """Returns the share of runs beyond each threshold, and the edges of its 95% band, `[thresholds]` each.

    Where a task has a single run, the band has no width.

    Every task counts the same, however many runs it has.
    """
    found = []
    for threshold in thresholds:

        def share(*arrays, axis=-1, threshold=threshold):
            beyond = [(a < threshold if lower_is_better else a > threshold).mean(axis=axis) for a in arrays]
            return np.mean(beyond, axis=0)

        value = float(share(*samples))
        found.append((value, *(_interval(share, samples) or (value, value))))
    shares, low, high = np.array(found).T
    return shares, low, high


def improvement(first: Samples, second: Samples, lower_is_better: bool) -> tuple[float, Interval | None]:
    """Returns the probability that a run of the first is better than one of the second, and its 95% interval.

    None in the interval's place where a task has a single run.

    Mean over tasks of the Mann-Whitney statistic; ties count half.
    """
    count = len(first)
    sign = -1 if lower_is_better else 1

    def probability(*arrays, axis=-1):
        shares = []
        for x, y in zip(arrays[:count], arrays[count:], strict=True):
            difference = sign * (x[..., :, None] - y[..., None, :])
            shares.append((np.sign(difference) / 2 + 0.5).mean(axis=(-2, -1)))
        return np.mean(shares, axis=0)

    samples = [*first, *second]
    return float(probability(*samples)), _interval(probability, samples)


def _interquartile_mean(*arrays: np.ndarray, axis: int = -1) -> Any:
    return stats.trim_mean(np.concatenate(arrays, axis=axis), 0.25, axis=axis)


def _interval(statistic: Callable, samples: Samples) -> Interval | None:
    if any(len(values) < 2 for values in samples):  # nothing to resample
        return None
    generator = np.random.default_rng(0)
    found = stats.bootstrap(
        tuple(samples), statistic, n_resamples=RESAMPLES, method="percentile", vectorized=True, rng=generator
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
