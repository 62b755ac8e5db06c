import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bdpo_jax.agents import critics
from bdpo_jax.data import custom
from bdpo_jax.data.dataset import Dataset, batch_key, check, draw_rows
from bdpo_jax.errors import UserError


def make_dataset(size=6, **arrays):
    rows = np.arange(size, dtype=np.float32)
    default = {
        "observations": np.stack([rows, -rows, rows**2], axis=1),
        "actions": np.stack([rows, -rows], axis=1) / size,
        "rewards": 10 * rows,
        "next_observations": np.stack([rows + 1, -rows - 1, (rows + 1) ** 2], axis=1),
        "terminals": (rows == size - 1).astype(np.float32),
    }
    return Dataset(**{**default, **arrays})


def test_dimensions_are_those_of_the_arrays():
    data = make_dataset()
    assert (data.size, data.observation_dim, data.action_dim) == (6, 3, 2)


def test_each_phase_has_a_random_stream_of_its_own():
    key = jax.random.key(5)
    # Other numbers for these names would go on with other batches than a run began with.
    for phase, stream in (("pretrain", 1_895_301_804), ("train", 1_550_247_075)):
        expected = jax.random.fold_in(jax.random.fold_in(key, stream), 3)
        assert batch_key(key, phase, 3) == expected
    phases = ("pretrain", "train", "critic", "policy", "trian", "")
    draws = {tuple(draw_rows(batch_key(key, phase, step), 10**6, 4).tolist()) for phase in phases for step in range(3)}
    assert len(draws) == 18


def test_sample_returns_whole_rows_inside_jit():
    data = jax.device_put(make_dataset())
    sample = jax.jit(Dataset.sample, static_argnums=2)
    batch = sample(data, jax.random.key(0), 64)
    assert batch.observations.shape == (64, 3) and batch.rewards.shape == (64,)
    rows = np.asarray(batch.observations[:, 0]).astype(int)
    for name in ("observations", "actions", "rewards", "next_observations", "terminals"):
        np.testing.assert_array_equal(getattr(batch, name), np.asarray(getattr(data, name))[rows])


def test_sample_is_uniform_and_a_function_of_the_key():
    data = jax.device_put(make_dataset())
    first = data.sample(jax.random.key(1), 6000)
    np.testing.assert_array_equal(first.rewards, data.sample(jax.random.key(1), 6000).rewards)
    assert not np.array_equal(first.rewards, data.sample(jax.random.key(2), 6000).rewards)
    counts = np.bincount(np.asarray(first.rewards / 10).astype(int), minlength=6)
    # A count is binomial(6000, 1/6) with a deviation of 29; 150 is more than five of them.
    assert np.all(np.abs(counts - 1000) < 150)


def test_sample_differs_across_vmapped_keys():
    data = jax.device_put(make_dataset())
    batches = jax.vmap(lambda key: data.sample(key, 32))(jax.random.split(jax.random.key(0), 3))
    assert batches.actions.shape == (3, 32, 2)
    assert not np.array_equal(batches.rewards[0], batches.rewards[1])


def test_readers_say_where_episodes_are_cut():
    """Two episodes that begin and end alike; of the rows that timed out nothing is known to follow."""
    states = np.array([0.0, 1, 0, 0, 1, 0])[:, None]
    raw = {"observations": states, "actions": states / 2, "rewards": np.ones(6), "terminals": np.zeros(6, bool)}
    raw["timeouts"] = np.array([0, 0, 1, 0, 0, 1], bool)
    for more in ({}, {"next_observations": np.roll(states, -1, axis=0)}):
        data = custom.by_rules(raw | more, "here").data
        assert critics.returns(data, 1.0).tolist() == ([3, 2, 1] * 2 if more else [2, 1] * 2)


def test_check_returns_float32_on_the_host():
    data = make_dataset(rewards=np.arange(6, dtype=np.float64)[:, None], terminals=jnp.zeros(6, bool))
    checked = check(data, "here")
    assert checked.rewards.shape == (6,)
    for value in checked.transitions.values():
        assert isinstance(value, np.ndarray) and value.dtype == np.float32


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"rewards": np.array([0, 1, np.nan, 3, np.nan, 5])}, "rewards of here has the value nan in row 2"),
        ({"actions": np.full((6, 2), -np.inf)}, "actions of here has the value -inf in row 0"),
        ({"observations": np.full((6, 3), 1e300)}, "observations of here has the value inf in row 0"),
        ({"rewards": np.zeros(5)}, "unequal lengths .*observations 6.*rewards 5"),
        ({"rewards": np.zeros((6, 2))}, r"rewards of here has the shape \[6, 2\]; it must be \[rows\]"),
        ({"actions": np.zeros(6)}, r"actions of here has the shape \[6\]; it must be \[rows, width\]"),
        ({"actions": np.zeros((6, 0))}, r"actions of here has the shape \[6, 0\]"),
        ({"actions": np.array([["left"]] * 6)}, "actions of here has the type .*; it must hold numbers"),
        ({"next_observations": np.zeros((6, 4))}, "different widths, 3 and 4"),
        ({"next_observations": np.full((6, 3), np.nan)}, r"next_observations of here .* nan in row 0 \(5 such rows"),
        (
            {"observations": np.stack([np.zeros(6), 1.7e12 + np.arange(6)] * 2, axis=1)[:, :3]},
            "observations of here goes from 1700000000000.0 to 1700000000005.0 in column 1, which float32 cannot tell",
        ),
        ({"rewards": 2**40 + np.arange(6)}, "rewards of here goes from 1099511627776 to 1099511627781, which float32"),
    ],
)
def test_check_names_the_fault(arrays, message):
    with pytest.raises(UserError, match=message):
        check(make_dataset(**arrays), "here")


def test_a_constant_with_rounding_errors_is_taken():
    check(make_dataset(rewards=0.1 + 1e-16 * np.arange(6)), "here")


def test_next_observations_of_terminal_rows_may_be_missing():
    given = make_dataset().next_observations.copy()
    given[5, 1] = np.nan
    found = check(make_dataset(next_observations=given), "here").next_observations
    np.testing.assert_array_equal(found, [*given[:5], make_dataset().observations[5]])
    assert np.isnan(given[5, 1])


def test_check_refuses_an_empty_dataset():
    with pytest.raises(UserError, match="here is empty"):
        check(make_dataset(size=0), "here")


def test_actions_outside_the_box_are_counted_and_clipped_on_demand():
    actions = np.zeros((6, 2), np.float32)
    actions[1], actions[4, 0] = (1.5, -3), -1.25
    data = make_dataset(actions=actions)
    with pytest.warns(UserWarning, match=r"2 of 6 actions of here .*magnitude 3\)") as warnings:
        clipped = check(data, "here", clip_actions=True).actions
    assert len(warnings) == 1
    np.testing.assert_array_equal(clipped[[1, 4]], [[1, -1], [-1, 0]])
    np.testing.assert_array_equal(check(data, "here").actions, actions)


@pytest.mark.filterwarnings("error")
def test_actions_on_the_edge_of_the_box_are_silent():
    actions = np.tile(np.array([[1, -1]], np.float32), (6, 1))
    np.testing.assert_array_equal(check(make_dataset(actions=actions), "here", clip_actions=True).actions, actions)
