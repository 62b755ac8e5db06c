"""The range of possible values, and the sentences about what leaves it or scores badly."""

import numpy as np
import pytest

from bdpo_jax.data.dataset import Dataset
from bdpo_jax.tasks.simulated import Simulated
from bdpo_jax.training import values


def dataset(rewards, terminals=0.0):
    size = len(rewards)
    zeros = np.zeros((size, 1), np.float32)
    return Dataset(zeros, zeros, np.array(rewards, np.float32), zeros, np.full(size, terminals, np.float32))


@pytest.mark.parametrize(
    ("rewards", "terminals", "discount", "expected"),
    [
        ([-16, -0.5], 0, 0.9, (-160, -0.5)),  # one reward is paid at least: nothing is above -0.5
        ([0, 1], 0, 0.99, (0, 100)),
        ([-2, 3], 0, 0.5, (-4, 6)),
        ([2, 5], 0, 0.5, (2, 10)),  # an end may come at once
        ([-2, 3], 1, 0.99, (-2, 3)),  # one step
        ([-2, 3], 1, 1.0, (-2, 3)),
    ],
)
def test_the_geometric_sum_bounds_values(rewards, terminals, discount, expected):
    np.testing.assert_allclose(values.possible(dataset(rewards, terminals), discount), expected, rtol=1e-6)


def test_without_a_discount_nothing_bounds_values():
    assert values.possible(dataset([0, 1]), 1.0) is None


def test_positive_values_of_negative_rewards_are_told():
    found = values.possible(dataset([-16, 0]), 0.99)
    assert found.left_by({"q_mean": 19.0}) == "q_mean is 19, but no policy's value exceeds 0: the values diverge"
    assert "rewards alone sum up to -1600 at least" in found.left_by({"q_mean": -2000.0})
    for inside in (-1600.0, -1.0, 1.0):  # 1 is within 2e-3 of the range: an untrained network
        assert found.left_by({"q_mean": inside}) is None
    assert found.left_by({"loss": 1e9}) is None


def test_a_policy_below_the_behavior_model_is_told_with_both_intervals_and_the_way_out():
    task = object.__new__(Simulated)

    def scores(**means):
        return {name: {"return": mean, "return_interval": (mean - 1, mean + 1)} for name, mean in means.items()}

    worse = task.advice(scores(policy=1.0, behavior=2.0))
    assert (
        "1.00 [0.00, 2.00] against 2.00 [1.00, 3.00] (95% intervals; those of the policy and of the best overlap)"
        in worse
    )
    assert "(95% intervals);" in task.advice(scores(policy=1.0, behavior=3.5))
    assert 'load_policy(..., policy="behavior")' in worse
    assert 'policy="behavior_best_of")' in task.advice(scores(policy=1.0, behavior=2.0, behavior_best_of=3.0))
    assert task.advice(scores(policy=2.0, behavior=2.0)) == "" and task.advice(scores(policy=1.0)) == ""
