"""What no true value can exceed, and the sentence when an algorithm's values do."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bdpo_jax.data.dataset import Dataset

METRIC = "q_mean"  # what algorithms call the mean of Q over a batch
TOLERANCE = 2e-3  # of the range: what untrained networks and averages may be off


class Range(NamedTuple):
    """The least and the largest discounted sum of rewards: a reward at once, then all of the same or an end."""

    low: float
    high: float

    def left_by(self, metrics: Mapping[str, float]) -> str | None:
        """Returns the sentence for metrics whose values have left the range; None where they have not.

        A penalty on leaving the data lowers values and never raises them, so that only what lies above is wrong for
        certain.
        """
        value = metrics.get(METRIC, np.nan)
        margin = TOLERANCE * (self.high - self.low)
        if value > self.high + margin:
            return f"{METRIC} is {value:.6g}, but no policy's value exceeds {self.high:.6g}: the values diverge"
        if value < self.low - margin:
            return (
                f"{METRIC} is {value:.6g}, but rewards alone sum up to {self.low:.6g} at least: the values diverge, or "
                "a penalty outweighs the rewards"
            )
        return None


def possible(dataset: Dataset, discount: float) -> Range | None:
    """Returns the range of values that the rewards of a dataset allow; None where they bound nothing.

    With `h = 1 / (1 - discount)` a value lies between `min(r_min, h r_min)` and `max(r_max, h r_max)`: an end may come
    at once, but one reward is paid before. Where every step is terminal, h is 1.
    """
    rewards = np.asarray(dataset.rewards)
    terminal = bool(np.all(dataset.terminals))
    if discount >= 1 and not terminal:
        return None
    horizon = 1.0 if terminal else 1 / (1 - discount)
    low, high = float(rewards.min()), float(rewards.max())
    return Range(min(low, horizon * low), max(high, horizon * high))
