"""Evaluation on environments whose returns are known by hand."""

import dataclasses
import warnings

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bdpo_jax import envs
from bdpo_jax.errors import UserError
from bdpo_jax.evaluation import Episodes, bootstrap_interval, episode_seed, evaluate


class Countdown(gymnasium.Env):
    """Starts at a number drawn from its seed and loses one a step; the reward is 0.1 plus the action."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 20))
        return np.array([self.left], float), {}

    def step(self, action):
        assert self.left > 0, "an episode that was over was stepped"
        self.left -= 1
        info = {"left": self.left}
        return np.array([self.left], float), 0.1 + float(action[0]), self.left == 0, False, info


def zero_policy(observations, key):
    return np.zeros((len(observations), 1))


def test_returns_lengths_and_infos():
    episodes = evaluate(zero_policy, Countdown, 12, seed=0)
    expected = [np.random.default_rng(episode_seed(0, i)).integers(1, 20) for i in range(12)]
    np.testing.assert_array_equal(episodes.lengths, expected)
    assert len(set(expected)) > 3
    assert episodes.returns.dtype == np.float64
    np.testing.assert_allclose(episodes.returns, 0.1 * np.array(expected), rtol=1e-12)
    assert episodes.infos == [{"left": 0}] * 12
    assert episodes.policy_seconds > 0 and episodes.env_seconds > 0


@pytest.mark.parametrize("key", ["success", "is_success"])
def test_success_has_two_names(key):
    found = Episodes(
        np.zeros(4), np.ones(4, int), [{key: value} for value in (True, 0.0, np.array([1.0]), 1)], 1.0, 1.0
    )
    assert found.success == 0.75
    for other in ({}, {key: None}, {key: np.ones(2)}, {key: "yes"}, {key: [1, [2]]}):
        assert dataclasses.replace(found, infos=[{key: 1}, other]).success is None


def test_the_policy_sees_one_fixed_batch_and_its_own_keys():
    shapes, keys = [], []

    def policy(observations, key):
        shapes.append((observations.shape, observations.dtype))
        keys.append(tuple(jax.random.key_data(key).tolist()))
        return np.zeros((5, 1))

    lengths = evaluate(policy, Countdown, 5, seed=1).lengths
    assert shapes == [((5, 1), np.float32)] * lengths.max()
    assert len(set(keys)) == len(keys)


def test_an_episode_does_not_depend_on_its_company():
    def steady_policy(observations, key):
        return np.full((len(observations), 3), 0.1)

    few, many = (evaluate(steady_policy, "hopper-medium-v2", n, seed=4) for n in (2, 5))
    np.testing.assert_array_equal(few.returns, many.returns[:2])
    assert len(set(many.returns)) == 5


def test_the_number_of_threads_changes_no_result():
    def policy(observations, key):
        return np.sin(7 * observations[:, :6])

    alone, *others = (evaluate(policy, "halfcheetah-medium-v2", 5, seed=2, workers=n) for n in (1, 2, 5, 16))
    for other in others:
        np.testing.assert_array_equal(alone.returns, other.returns)
        np.testing.assert_array_equal(alone.lengths, other.lengths)
    assert 0 < alone.policy_share < 1 and alone.env_ms_per_step > 0


def test_an_error_in_a_thread_reaches_the_caller():
    class Broken(Countdown):
        def step(self, action):
            raise RuntimeError("the simulation broke")

    sentence = r"Broken raised RuntimeError: the simulation broke \(test_evaluation.py line \d+\), at step 0"
    with pytest.raises(UserError, match=sentence):
        evaluate(zero_policy, Broken, 4, seed=0, workers=2)


def test_a_compiled_random_policy_is_reproducible_and_compiled_once():
    traces = []

    @jax.jit
    def policy(observations, key):
        traces.append(observations.shape)
        return jnp.clip(jax.random.normal(key, (observations.shape[0], 3)), -1, 1)

    first = evaluate(policy, "hopper-medium-v2", 4, seed=0)
    again = evaluate(policy, "hopper-medium-v2", 4, seed=0)
    other = evaluate(policy, "hopper-medium-v2", 4, seed=1)
    np.testing.assert_array_equal(first.returns, again.returns)
    assert (first.returns != other.returns).all()
    assert len(traces) == 1
    assert (first.lengths > 1).all() and (first.lengths < 1000).all()
    # A random hopper falls within a second or so: about D4RL's random return, -20 to 20.
    assert (np.abs(envs.normalized_score("hopper-medium-v2", first.returns)) < 5).all()


def test_a_non_finite_action_is_named_by_step_and_episode():
    def policy(observations, key):
        actions = np.zeros((len(observations), 2))
        actions[2, 1] = np.nan if observations[2, 0] < -0.625 else 0.0
        actions[2, 0] = -0.5
        return actions

    with pytest.raises(UserError, match="not finite at step 3 of episode 2"):
        evaluate(policy, "pointmass", 4, seed=0)


def test_actions_of_another_task_are_refused():
    with pytest.raises(UserError, match=r"shape \[2, 1\] where the task needs \[2, 2\]"):
        evaluate(zero_policy, "pointmass", 2, seed=0)


def test_no_episodes_is_an_error():
    with pytest.raises(UserError, match="at least one episode"):
        evaluate(zero_policy, Countdown, 0, seed=0)


def test_bootstrap_interval():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    low, high = bootstrap_interval(values)
    # The normal theory's interval is mean +- 1.96 s / sqrt(n) = +- 0.196; resampling noise is about 2% of it.
    half_width = 1.96 * values.std() / 20
    np.testing.assert_allclose([low, high], [values.mean() - half_width, values.mean() + half_width], atol=0.02)
    assert bootstrap_interval(values) == (low, high)
    assert bootstrap_interval(values, seed=1) != (low, high)
    # A quarter of the resamples hold two 0, another two 1.
    assert bootstrap_interval([0.0, 1.0]) == (0.0, 1.0)
    # 37% of the resamples hold no 1 and 1.8% more than three (a binomial of 100 draws).
    assert bootstrap_interval([1.0] + [0.0] * 99) == (0.0, 0.03)


def test_a_bootstrap_interval_of_equal_values_is_that_value():
    for values in ([5.0], [0.1] * 7):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert bootstrap_interval(values) == (values[0], values[0])


def test_a_bootstrap_interval_of_no_values_is_an_error():
    with pytest.raises(UserError, match="at least one value"):
        bootstrap_interval([])
