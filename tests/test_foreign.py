"""Environments of other packages: what is accepted, what is refused, and when."""

import random

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Tuple

from bdpo_jax import evaluation, settings, tasks, training
from bdpo_jax.data import custom, fit, minari, spaces
from bdpo_jax.envs import contract, foreign
from bdpo_jax.errors import UserError
from configs import custom as config_file

pytestmark = pytest.mark.filterwarnings("ignore")  # gymnasium's own remarks on such environments


class Line(gymnasium.Env):
    """A point that moves by its action, from a start in [0, 1]; its steps count in `steps`."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = self.np_random.uniform(), 0
        return self.observe(), {}

    def step(self, action):
        self.place, self.steps = self.place + float(action[0]), self.steps + 1
        return self.observe(), self.reward(), False, False, {}

    def observe(self):
        return np.array([self.place, self.steps])

    def reward(self):
        return 1.0


class ArrayReward(Line):
    def reward(self):
        return np.array([[1.0]])


class TwoRewards(Line):
    def reward(self):
        return np.array([1.0, 2.0])


class NoReward(Line):
    def reward(self):
        return None


class NaNReward(Line):
    def reward(self):
        return np.nan if self.steps == 1 else 1.0


class NaNObservation(Line):
    def observe(self):
        return np.array([self.place, np.nan if self.steps == 1 else 0.0])


class HugeObservation(Line):
    def observe(self):
        return np.array([1e300, 0.0])


class WrongShape(Line):
    def observe(self):
        return np.zeros(3)


class Column(Line):
    def observe(self):
        return super().observe()[:, None]


class NoSeed(Line):
    def reset(self):
        return Line.reset(self)


class OnlySeed(Line):
    def reset(self, seed=None):
        return Line.reset(self, seed=seed)


class NoInfo(Line):
    def reset(self, *, seed=None, options=None):
        return Line.reset(self, seed=seed)[0]


class FourValues(Line):
    def step(self, action):
        return super().step(action)[:3] + ({},)


class BreaksAtMaking(Line):
    def __init__(self):
        raise RuntimeError("no screen,\nno GL")


class BreaksAtReset(Line):
    def reset(self, *, seed=None, options=None):
        raise OSError("libEGL.so.1 is missing")


class BreaksLater(Line):
    def step(self, action):
        if self.steps == 3:
            raise KeyError("joint")
        return super().step(action)


class GlobalStart(Line):
    """Draws its start from what a seed of gymnasium's does not reach."""

    def reset(self, *, seed=None, options=None):
        Line.reset(self, seed=seed)
        self.place = np.random.uniform() + random.random() + float(self.action_space.sample()[0])
        return self.observe(), {}


KINDS = (
    *(Line, ArrayReward, TwoRewards, NoReward, NaNReward, NaNObservation, HugeObservation, WrongShape, Column),
    *(NoSeed, OnlySeed, NoInfo, FourValues, BreaksAtMaking, BreaksAtReset, BreaksLater, GlobalStart),
)


def register(name, kind, limit):
    gymnasium.register(f"bdpo-tests/{name}-v0", f"{__name__}:{kind.__name__}", max_episode_steps=limit)


for kind in KINDS:
    register(kind.__name__, kind, 5)
register("NoLimit", Line, None)


def still(observations, key):
    return np.zeros((len(observations), 1))


def own_file(tmp_path, env="", bounds=1.0, **changes):
    """A config of a file for these environments, whose actions are in +-bounds."""
    generator = np.random.default_rng(0)
    rows = {
        "observations": generator.normal(size=(40, 2)),
        "actions": generator.uniform(-bounds, bounds, (40, 1)),
        "rewards": generator.normal(size=40),
        "terminals": np.zeros(40, bool),
        "timeouts": np.arange(1, 41) % 10 == 0,
    }
    np.savez(tmp_path / "line.npz", **rows)
    config = config_file.get_config(str(tmp_path / "line.npz"))
    settings.update(config, {"env": env, "reward_scaling": "none", **changes})
    return config


@pytest.mark.parametrize("kind", [Line, ArrayReward, Column, NoSeed, OnlySeed, GlobalStart])
def test_what_can_be_accepted_is(kind, tmp_path):
    """Each of five steps is paid 1; a start is a function of its seed, and differs from another's."""
    task = tasks.make(own_file(tmp_path, f"bdpo-tests/{kind.__name__}-v0"))
    seen = []

    def policy(observations, key):
        seen.append(observations.copy())
        return still(observations, key)

    state = np.random.get_state()[1].copy()
    for _ in range(2):
        found = evaluation.evaluate(policy, task.make_env, 2, seed=0)
        np.testing.assert_array_equal(found.returns, [5, 5])
    np.testing.assert_array_equal(seen[0], seen[5])
    assert seen[0][0, 0] != seen[0][1, 0]
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # other code's numbers stay as they are


FAULTS = {
    "TwoRewards": r"raised ValueError: a reward must be one number, not array\(\[1., 2.\]\) .*at step 0 of episode 0",
    "NoReward": "raised TypeError: .*at step 0 of episode 0",
    "NaNReward": "gave the reward nan at step 0 of episode 0",
    "NaNObservation": "gave an observation whose component 1 is nan at step 0 of episode 0",
    "HugeObservation": "gave an observation whose component 0 is inf at the reset of episode 0",
    "WrongShape": r"raised ValueError: an observation has the shape \[3\], its space \[2\]",
    "NoInfo": "raised .*at the reset of episode 0",
    "FourValues": "raised ValueError: not enough values to unpack .*at step 0 of episode 0",
    "BreaksAtMaking": r"cannot be made, RuntimeError: no screen, no GL \(test_foreign.py line \d+\)",
    "BreaksAtReset": r"raised OSError: libEGL.so.1 is missing \(test_foreign.py line \d+\), at the reset",
    "NoLimit": "has no step limit",
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_an_environment_is_told_in_its_name_before_the_first_update(name, tmp_path):
    config = own_file(tmp_path, f"bdpo-tests/{name}-v0")
    with pytest.raises(UserError, match=f"^The environment 'bdpo-tests/{name}-v0' {FAULTS[name]}.*env=none") as caught:
        training.run(config, tmp_path / "run")
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_a_fault_in_a_later_step_is_the_environments_not_the_policys():
    make = custom.environment("bdpo-tests/BreaksLater-v0")
    contract.trial(make, 0)
    with pytest.raises(UserError, match=r"BreaksLater-v0' raised KeyError: 'joint' .*at step 3 of episode \d"):
        evaluation.evaluate(still, make, 2, seed=0)
    raw = {"observations": np.zeros((2, 2)), "actions": np.zeros((2, 1)), "rewards": np.zeros(2)}
    with pytest.raises(UserError, match=r"BreaksLater-v0' raised KeyError: 'joint' .*at step 3 of episode 0"):
        fit.compare(raw | {"terminals": np.zeros(2, bool)}, make, "BreaksLater-v0")

    class NaNLater(Line):
        def observe(self):
            return np.array([self.place, np.nan if self.steps == 2 else 0.0])

    make = lambda: gymnasium.wrappers.TimeLimit(NaNLater(), 5)  # noqa: E731
    with pytest.raises(UserError, match=r"^The environment NaNLater gave an observation .* at step 1 of episode \d"):
        evaluation.evaluate(lambda observations, key: observations[:, 1:], make, 2, seed=0)
    last = lambda: gymnasium.wrappers.TimeLimit(NaNLater(), 2)  # noqa: E731
    assert list(evaluation.evaluate(still, last, 2, seed=0).lengths) == [2, 2]  # nobody acts on the last one


def test_without_its_environment_a_file_needs_the_bounds_of_its_actions(tmp_path):
    """A box of +-2 made the data's actions half as large; so do bounds given by hand."""
    scored = own_file(tmp_path, "Pendulum-v1", bounds=2.0)
    space = gymnasium.make("Pendulum-v1").action_space
    actions = custom.load_scaled(scored.dataset_path, "none", space)[0].actions
    for bounds in ((-2, 2), ((-2, 2),)):
        config = own_file(tmp_path, "none", bounds=2.0, action_bounds=bounds)
        np.testing.assert_array_equal(tasks.make(config).dataset.actions, actions)
    for bounds, sentence in (
        ((-2, 2, 1), "must be"),
        (((-2, 2), (0, 1)), "each of 1 columns"),
        ((2, -2), "must be"),
        ((2, 2), "not a finite box"),
    ):
        with pytest.raises(UserError, match=sentence):
            tasks.make(own_file(tmp_path, "none", bounds=2.0, action_bounds=bounds))
    with pytest.raises(UserError, match="leave it out"):
        tasks.make(own_file(tmp_path, "bdpo-tests/Line-v0", action_bounds=(-2, 2)))


# --- spaces ---


def nested(order):
    """The same space, its keys in one of two orders, not sorted."""
    inner = {"velocity": Box(-9, 9, (1,)), "angles": Box(-9, 9, (2, 2))}
    outer = {
        "state": Dict(list(inner.items())[::order]),
        "goal": Box(-9, 9, (2,)),
        "pair": Tuple([Box(-9, 9, (1,))] * 2),
    }
    return Dict(list(outer.items())[::order])


VALUE = {
    "state": {"velocity": [1], "angles": [[2, 3], [4, 5]]},
    "goal": [6, 7],
    "pair": ([8], [9]),
}


def test_one_order_whatever_the_order_of_the_values():
    one, other = nested(1), nested(-1)
    assert list(spaces.flatten(one, VALUE)) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert list(spaces.flatten(other, VALUE)) == [8, 9, 6, 7, 2, 3, 4, 5, 1]
    reversed_value = {key: VALUE[key] for key in reversed(VALUE)}
    assert list(spaces.flatten(one, reversed_value)) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    sample = one.sample()
    np.testing.assert_array_equal(spaces.flatten(one, sample), gymnasium.spaces.flatten(one, sample))
    assert list(spaces.flatten(Discrete(3), [2, 0], batch=True).ravel()) == [0, 0, 1, 1, 0, 0]


def test_where_spaces_differ():
    assert spaces.difference(nested(1), nested(-1)) == ""
    pairs = {
        "state.angles: the shapes [4] and [2, 2]": Dict(
            state=Dict(velocity=Box(-9, 9, (1,)), angles=Box(-9, 9, (4,))),
            goal=Box(-9, 9, (2,)),
            pair=nested(1)["pair"],
        ),
        "the keys ['goal', 'state'] and ['goal', 'pair', 'state']": Dict(
            state=nested(1)["state"], goal=Box(-9, 9, (2,))
        ),
    }
    for sentence, space in pairs.items():
        assert spaces.difference(space, nested(1)) == sentence
    assert spaces.difference(Box(-1, 1, (9,)), nested(1)).startswith("Box(-1.0, 1.0, (9,), float32) and Dict(")
    assert spaces.difference(Discrete(3), Discrete(4)) == "Discrete(3) and Discrete(4)"


class Goals(Line):
    """Observations in a dictionary whose keys are not in alphabetical order, nested as well."""

    observation_space = Dict(state=Dict(place=Box(-9, 9, (1,)), count=Box(0, 9, (1,))), goal=Box(-9, 9, (2,)))

    def observe(self):
        return {
            "state": {"place": np.array([self.place], np.float32), "count": np.array([self.steps], np.float32)},
            "goal": np.array([7, 8], np.float32),
        }


class OtherGoals(Goals):
    observation_space = Dict(state=Goals.observation_space["state"], goal=Box(-9, 9, (3,)))

    def observe(self):
        return super().observe() | {"goal": np.zeros(3, np.float32)}


class WiderGoals(Goals):
    action_space = Box(-2.0, 2.0, (1,), np.float32)


for kind in (Goals, OtherGoals, WiderGoals):
    register(kind.__name__, kind, 5)
register("EndlessGoals", Goals, None)


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A function that writes a dataset of `Goals` with Minari's writer and returns its config and what was seen."""
    package = pytest.importorskip("minari", reason="the extra minari is not installed")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    minari._dataset.cache_clear()

    def record(eval_env):
        collector, seen = package.DataCollector(gymnasium.make("bdpo-tests/Goals-v0")), []
        for seed in range(3):
            seen.append(collector.reset(seed=seed)[0])
            over = False
            while not over:
                following, _, terminated, truncated, _ = collector.step(np.array([0.5], np.float32))
                over = terminated or truncated
                seen.append(following)
            seen.pop()
        collector.create_dataset("tests/goals-v0", eval_env=eval_env)
        config = config_file.get_config("minari:tests/goals-v0")
        config.reward_scaling = "none"
        return config, seen

    yield record
    minari._dataset.cache_clear()


def test_data_and_environment_lie_in_one_order(recorded):
    """A start of the data, made again by its seed, is the row of the data."""
    config, seen = recorded("bdpo-tests/Goals-v0")
    task = tasks.make(config)
    env, space = task.make_env(), minari._dataset("tests/goals-v0").observation_space
    expected = np.array([spaces.flatten(space, value) for value in seen])
    np.testing.assert_array_equal(task.dataset.observations, expected)
    for seed in range(3):
        observation, _ = env.reset(seed=seed)
        np.testing.assert_array_equal(observation, task.dataset.observations[5 * seed])
    assert sorted(observation)[-2:] == [7, 8] and observation[np.flatnonzero(observation == 7)[0] + 1] == 8
    moved = env.step(np.array([0.5], np.float32))[0]
    np.testing.assert_array_equal(moved, task.dataset.observations[11])


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ("OtherGoals", r"observations of Minari's .* differ \(goal: the shapes \[2\] and \[3\]\)"),
        ("WiderGoals", r"actions of Minari's .* differ \(Box\(-1.0, 1.0, .* and Box\(-2.0, 2.0"),
        ("EndlessGoals", "no step limit"),
    ],
)
def test_data_of_another_environment_than_its_own_are_refused(recorded, env, sentence):
    config, _ = recorded(f"bdpo-tests/{env}-v0")
    with pytest.raises(UserError, match=f"{sentence}.*env=none"):
        tasks.make(config)
    for other, scored in (("none", False), ("bdpo-tests/Goals-v0", True)):
        config.env = other
        assert (tasks.make(config).make_env is not None) == scored


def test_data_whose_environment_is_lost_are_trained_on_without_one(recorded, monkeypatch):
    config, _ = recorded(None)
    monkeypatch.setattr(Goals, "__init__", BreaksAtMaking.__init__)
    with pytest.raises(UserError, match="of Minari's 'tests/goals-v0' cannot be made, RuntimeError: .*env=none"):
        tasks.make(config)
    config.env = "none"
    assert tasks.make(config).make_env is None and tasks.environment(config) is None


def test_environments_that_are_kept_are_made_once_for_each_episode():
    made = []

    def construct():
        made.append(1)
        return gymnasium.wrappers.TimeLimit(Line(), 5)

    make, fresh = foreign.kept(construct), lambda: gymnasium.wrappers.TimeLimit(Line(), 5)
    for episodes in (2, 3, 3):
        found = evaluation.evaluate(lambda observations, key: observations[:, :1], make, episodes, seed=1)
        again = evaluation.evaluate(lambda observations, key: observations[:, :1], fresh, episodes, seed=1)
        np.testing.assert_array_equal(found.returns, again.returns)
    assert len(made) == 3
    env = make()
    env.close()
    env.close()
    assert make() is env and make() is not env
