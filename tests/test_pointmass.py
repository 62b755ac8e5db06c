"""The point mass: dynamics by hand, data of the promised kind, and the failure of averaging."""

import numpy as np
import pytest

from bdpo_jax import envs
from bdpo_jax.data import pointmass
from bdpo_jax.errors import UserError


def advance_one(position, action):
    return [part[0] for part in pointmass.advance(np.array([position], float), np.array([action], float))]


def test_no_episodes_are_one_sentence():
    with pytest.raises(UserError, match="asked for 0 episodes .dataset_size.; ask for at least 1"):
        pointmass.generate(0, 0)


def test_a_step_moves_by_the_velocity_and_costs():
    position, reward, success, collision = advance_one([-0.6, 0.5], [0.5, -0.5])
    np.testing.assert_allclose(position, [-0.55, 0.45])
    assert (reward, success, collision) == (-0.2, False, False)


def test_long_commands_are_scaled_and_walls_hold():
    position, *_ = advance_one([0.65, 0.5], [1.0, 1.0])
    np.testing.assert_allclose(position, [0.7, 0.5 + 0.1 / np.sqrt(2)])


def test_collisions_end_on_the_rim_even_where_both_ends_are_outside():
    position, reward, success, collision = advance_one([-0.45, 0.0], [1.0, 0.0])
    np.testing.assert_allclose(position, [-0.4, 0.0], atol=1e-12)
    assert (reward, success, collision) == (-5.2, False, True)
    # Across the upper tip (0, 0.6), from one side to the other.
    *_, collision = advance_one([-0.05, 0.59], [1.0, 0.0])
    assert collision
    *_, collision = advance_one([-0.05, 0.61], [1.0, 0.0])
    assert not collision


def test_the_goal_ends_the_episode_even_when_flown_through():
    _, reward, success, collision = advance_one([0.45, 0.0], [1.0, 0.0])
    assert (success, collision) == (True, False) and reward == pytest.approx(4.8)
    # A chord whose ends lie 0.201 from the goal's centre and whose middle 0.195; then one that passes by.
    *_, success, _ = advance_one([0.505, 0.05], [0.0, -1.0])
    assert success
    *_, success, _ = advance_one([0.495, 0.05], [0.0, -1.0])
    assert not success


def follow_shortest_path(env, seed):
    """Full speed along the line to the nearer tip until it is reached, then straight to the goal."""
    position, _ = env.reset(seed=seed)
    start = position.astype(float)
    tip = np.array([0.0, np.copysign(pointmass.HALF_HEIGHT + 1e-6, start[1])])
    heading = (tip - start) / np.linalg.norm(tip - start)
    total, ended = 0.0, False
    while not ended:
        to_goal = pointmass.GOAL - position
        action = heading if position[0] < 0 else to_goal / np.linalg.norm(to_goal)
        position, reward, terminated, truncated, info = env.step(action)
        total, ended = total + reward, terminated or truncated
    return start, total, info


def test_the_optimum_is_reached_by_its_own_policy_and_beaten_by_no_episode():
    env = envs.make("pointmass")
    for seed in range(20):
        start, total, info = follow_shortest_path(env, seed)
        assert info["success"] and info["way"] == ("above" if start[1] > 0 else "below")
        assert total == pytest.approx(pointmass.shortest_path_return(start))
    raw = pointmass.generate(0)
    first, returns = episodes(raw)
    assert (returns <= pointmass.shortest_path_return(raw["observations"][first]) + 1e-5).all()


def test_infos_tell_the_way_and_the_end():
    env = envs.make("pointmass")
    _, info = env.reset(seed=0)
    assert info == {"way": None, "success": False, "collision": False}
    env.step([1.0, 0.0])
    *_, terminated, truncated, info = env.step([1.0, 0.0])
    assert terminated and not truncated
    assert info == {"way": None, "success": False, "collision": True}
    env.reset(seed=0)
    for _ in range(50):
        *_, terminated, truncated, info = env.step([0.0, 0.0])
    assert (terminated, truncated) == (False, True)


def episodes(raw):
    """First rows and returns of the episodes."""
    last = np.flatnonzero(raw["terminals"] | raw["timeouts"])
    assert last[-1] == len(raw["rewards"]) - 1
    first = np.concatenate([[0], last[:-1] + 1])
    return first, np.add.reduceat(raw["rewards"].astype(np.float64), first)


def test_data_has_d4rls_layout_and_replays_in_the_environment():
    raw = pointmass.generate(1, episodes=40)
    rows = len(raw["rewards"])
    assert {key: (value.dtype, value.shape) for key, value in raw.items()} == {
        "observations": (np.float32, (rows, 2)),
        "actions": (np.float32, (rows, 2)),
        "rewards": (np.float32, (rows,)),
        "terminals": (bool, (rows,)),
        "timeouts": (bool, (rows,)),
    }
    assert not (raw["terminals"] & raw["timeouts"]).any()
    next_positions, rewards, success, collision = pointmass.advance(
        raw["observations"].astype(np.float64), raw["actions"].astype(np.float64)
    )
    inside = ~(raw["terminals"] | raw["timeouts"])[:-1]
    np.testing.assert_allclose(next_positions[:-1][inside], raw["observations"][1:][inside], atol=1e-6)
    np.testing.assert_allclose(rewards, raw["rewards"], atol=1e-6)
    np.testing.assert_array_equal(success | collision, raw["terminals"])
    first, _ = episodes(raw)
    lengths = np.diff([*first, rows])
    np.testing.assert_array_equal(lengths[raw["timeouts"][[*(first[1:] - 1), -1]]], 50)
    same = pointmass.generate(1, episodes=40)
    assert all((same[key] == raw[key]).all() for key in raw)


def test_data_is_mostly_bad_and_goes_both_ways():
    raw = pointmass.generate(0)
    first, returns = episodes(raw)
    optimum = pointmass.shortest_path_return()
    assert len(returns) == 750 and 15_000 < len(raw["rewards"]) < 25_000
    assert np.abs(raw["actions"]).max() <= 1
    # The best takes 16 steps; half of the episodes take nearly twice as long or collide, a few come near it.
    assert np.median(returns) < optimum - 2.5
    assert optimum - 2.0 < np.percentile(returns, 75) < optimum - 1.0
    assert returns.max() > optimum - 0.5
    assert 0.05 < (returns < -5).mean() < 0.25  # collisions
    crossed = pointmass.way_round(raw["observations"][:-1], raw["observations"][1:])
    # 750 fair coins: within five deviations, 69, of one half each.
    assert abs((crossed == 1).sum() - (crossed == -1).sum()) < 2 * 69


def test_a_policy_that_averages_the_two_ways_runs_into_the_obstacle():
    raw = pointmass.generate(0)
    random = np.random.default_rng(0)
    positions = pointmass.start_positions(random, 50)
    collided, ended = np.zeros(50, bool), np.zeros(50, bool)
    while not ended.all():  # by collision or success: the data stand still nowhere
        actions = regression_mean(raw, positions, width=0.05)
        next_positions, _, success, collision = pointmass.advance(positions, actions)
        collided |= collision & ~ended
        ended |= success | collision
        positions = np.where(ended[:, None], positions, next_positions)
    # The data's own share of collisions is 16%; averaging makes nearly all.
    assert collided.mean() > 0.9


def regression_mean(raw, positions, width):
    """The mean action of the data around each position, weighted by a Gaussian kernel."""
    squared = np.sum((positions[:, None] - raw["observations"]) ** 2, axis=-1)
    weights = np.exp(-squared / (2 * width**2))
    return weights @ raw["actions"] / weights.sum(axis=1, keepdims=True)
