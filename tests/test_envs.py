"""The environments against D4RL's own stack, and the rules that no trajectory shows."""

import copy
import ctypes.util
import importlib.util
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from bdpo_jax import envs
from bdpo_jax.envs import antmaze, parity, physics
from bdpo_jax.errors import UserError
from bdpo_jax.evaluation import evaluate

TESTS = Path(__file__).parent
FULL_DATA = Path(os.environ.get("BDPO_TEST_DATA") or TESTS.parent.parent / "shared") / "physics"

# Reference trajectories were recorded under MuJoCo 2.1.0 through mujoco-py, float64 throughout. Whatever
# differs is rounding, about 1e-15 a step; legs amplify it within an open loop and contacts amplify it more.
# One wrong inertia shows at 1e-2 after one step, so that every threshold below is far from both.
STEP_ERROR = 1e-10  # one environment step from a recorded state; measured 2e-12 (HalfCheetah), 2e-13 (others)
OPEN_LOOP_ERROR = {  # after 200 steps; measured over ten starts
    "hopper-medium-v2": 1e-10,  # 3e-12
    "walker2d-medium-v2": 1e-8,  # 2e-10
    "antmaze-umaze-v0": 1e-3,  # 1e-9 in the open, 7e-6 where the ant is pushed at walls
}
original_stack = pytest.mark.skipif(
    not (importlib.util.find_spec("mujoco_py") and importlib.util.find_spec("d4rl")),
    reason="the original stack (d4rl, gym, mujoco-py) is not installed",
)
BACKENDS = ("mujoco", pytest.param("d4rl", marks=original_stack))
TASKS = ("hopper-medium-v2", "walker2d-medium-v2", "halfcheetah-medium-v2", "antmaze-umaze-v0")


def trajectories(task, source):
    path = TESTS / "data" / f"physics_{task}.npz" if source == "shipped" else FULL_DATA / f"{task}.npz"
    if not path.exists():
        pytest.skip(f"no reference trajectories at {path}")
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def assert_step_matches(env, reference, start, step, tolerance):
    observation, reward, terminated, truncated, _ = env.step(reference["actions"][start, step])
    expected = reference["observations"][start, step + 1]
    np.testing.assert_allclose(observation, expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(reward, reference["rewards"][start, step], rtol=0, atol=tolerance)
    assert terminated == reference["dones"][start, step]
    assert not truncated


def leg_is_in_a_wall(env):
    """Whether a leg's axis is: the leg is in there by more than its radius."""
    geoms = [env.model.geom(i) for i in range(env.model.ngeom)]
    centers, sizes = (np.array([getattr(g, a) for g in geoms if g.name.startswith("wall")]) for a in ("pos", "size"))
    legs = [geom for geom in geoms if geom.name.endswith(("leg_geom", "ankle_geom"))]
    assert len(legs) == 8
    along = np.linspace(-1, 1, 21)[:, None]
    axes = [env.data.geom_xpos[g.id] + along * g.size[1] * env.data.geom_xmat[g.id][2::3] for g in legs]
    return (np.abs(np.concatenate(axes)[:, None] - centers) < sizes).all(axis=-1).any()


def starts_and_steps_in_walls(env, backend, reference):
    """The recorded states in which mujoco pushes a leg out of a wall otherwise than MuJoCo 2.1 did.

    The version of Python 3.13 does where the leg is in the wall by more than its radius, which takes an ant that is
    thrown at it: one of 2,010 states in the full recordings, none in the shipped ones.
    """
    if backend != "mujoco" or "target" not in reference or mujoco_version() == physics.VERIFIED_MUJOCO:
        return set()
    found = set()
    for start, step in np.ndindex(reference["qpos"].shape[:2]):
        parity.put(env, reference, start, step)
        if leg_is_in_a_wall(env):
            found.add((start, step))
    assert len(found) <= 1
    return found


def mujoco_version():
    return physics.import_mujoco().__version__


@pytest.mark.parametrize("source", ["shipped", "full"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_step_from_a_recorded_state_is_d4rls(backend, task, source):
    reference = trajectories(task, source)
    env = parity.environment(task, backend, reference)
    in_walls = starts_and_steps_in_walls(env, backend, reference)
    for start, step in np.ndindex(reference["rewards"].shape):
        if in_walls.isdisjoint({(start, step), (start, step + 1)}):
            parity.put(env, reference, start, step)
            assert_step_matches(env, reference, start, step, STEP_ERROR)


@pytest.mark.parametrize("source", ["shipped", "full"])
@pytest.mark.parametrize("task", OPEN_LOOP_ERROR)
@pytest.mark.parametrize("backend", BACKENDS)
def test_open_loop_trajectories_are_d4rls(backend, task, source):
    reference = trajectories(task, source)
    env = parity.environment(task, backend, reference)
    starts, steps = reference["rewards"].shape
    for start in set(range(starts)) - {start for start, _ in starts_and_steps_in_walls(env, backend, reference)}:
        parity.put(env, reference, start, 0)
        for step in range(steps):
            assert_step_matches(env, reference, start, step, OPEN_LOOP_ERROR[task])


def test_shipped_trajectories_hold_falls_goals_and_wall_contacts():
    for task in ("hopper-medium-v2", "walker2d-medium-v2", "antmaze-umaze-v0"):
        dones = trajectories(task, "shipped")["dones"]
        assert dones.any() and not dones.all()


def expert_hopper():
    """A policy that others trained under mujoco-py: tanh layers on standardised observations, without noise."""
    with np.load(TESTS / "experts" / "hopper.npz") as file:
        arrays = {key: file[key] for key in file.files}
    deviation = np.sqrt(arrays["mean_square"] - arrays["mean"] ** 2) + 1e-6

    def policy(observations, key):
        hidden = (observations - arrays["mean"]) / deviation
        for layer in range(2):
            hidden = np.tanh(hidden @ arrays[f"weights{layer}"] + arrays[f"bias{layer}"])
        return hidden @ arrays["weights2"] + arrays["bias2"]

    return policy


def test_a_policy_trained_under_mujoco_py_earns_what_it_earned_there():
    """Its log has 3770.7 and 3774.6 under mujoco-py, 3717.2 and 3717.9 in gymnasium's -v4.

    D4RL clips actions before they are charged for, plain gym and gymnasium do not, so the excess (5.4 an episode) is
    taken off. The deviation of a return is 2.7 (10 episodes here), so that means of two and of three episodes differ by
    less than three standard errors, 3 * 2.7 * sqrt(1/2 + 1/3) = 7.4; the two robots are 55 apart.
    """
    act, excess = expert_hopper(), []

    def policy(observations, key):
        actions = act(observations, key)
        excess.append(1e-3 * (actions**2 - np.clip(actions, -1, 1) ** 2).sum(axis=1))
        return actions

    here = evaluate(policy, "hopper-medium-v2", 3, seed=0)
    assert (here.lengths == 1000).all()
    assert (here.returns - np.sum(excess, axis=0)).mean() == pytest.approx(3772.65, abs=7.4)


def test_the_same_policy_earns_in_gymnasiums_robot_what_it_earned_there():
    """The other robot of the test above, with the same tolerance."""
    pytest.importorskip("imageio", reason="gymnasium's robots import imageio")
    there = evaluate(expert_hopper(), "hopper-medium-v2", 3, seed=0, backend="gymnasium")
    assert there.returns.mean() == pytest.approx(3717.55, abs=7.4)


def copied(env):
    return copy.deepcopy(env)


def pickled(env):
    return pickle.loads(pickle.dumps(env))


@pytest.mark.parametrize("duplicate", [copied, pickled])
@pytest.mark.parametrize("task", ["hopper-medium-v2", "antmaze-umaze-v0"])
def test_a_copy_goes_on_as_the_original_would(task, duplicate):
    """Equal to the bit: state, solver's warm start, goal, step count and random stream are all taken over."""
    env = envs.make(task)
    env.action_space.seed(0)
    env.reset(seed=3)
    actions = [env.action_space.sample() for _ in range(20)]
    for action in actions[:10]:
        env.step(action)
    twin = duplicate(env)
    seen = [[made.step(action)[0] for action in actions[10:]] + [made.reset()[0]] for made in (env, twin)]
    np.testing.assert_array_equal(*seen)
    assert twin.unwrapped.data is not env.unwrapped.data
    assert twin._elapsed_steps == env._elapsed_steps == 0


def test_a_copy_shares_the_model_and_draws_its_own_pictures():
    env = envs.make("hopper-medium-v2")
    twin = copy.deepcopy(env)
    assert twin.unwrapped.model is env.unwrapped.model
    assert twin.unwrapped._renderer is None


def test_a_capsule_has_the_mass_of_its_legacy_cylinder():
    model = envs.make("hopper-medium-v2").unwrapped.model
    radius, half_length = model.geom("torso_geom").size[:2]
    legacy_mass = 1000 * np.pi * radius**2 * 2 * (half_length + radius / 2)
    assert model.body("torso").mass[0] == pytest.approx(legacy_mass, rel=1e-12)
    assert sum(envs.make("halfcheetah-medium-v2").unwrapped.model.body_mass) == pytest.approx(14)


@pytest.mark.parametrize("task, sizes", [("hopper-medium-v2", (11, 3)), ("halfcheetah-expert-v2", (17, 6)),
                                         ("walker2d-random-v2", (17, 6)), ("antmaze-large-play-v2", (29, 8)),
                                         ("pointmass", (2, 2))])  # fmt: skip
def test_spaces_and_seeds(task, sizes):
    env, twin = envs.make(task), envs.make(task)
    first, _ = env.reset(seed=3)
    assert (env.observation_space.shape, env.action_space.shape) == ((sizes[0],), (sizes[1],))
    assert first.shape == env.observation_space.shape
    np.testing.assert_array_equal(first, twin.reset(seed=3)[0])
    assert (first != twin.reset(seed=4)[0]).any()
    action = 0.5 * np.ones(env.action_space.shape)
    np.testing.assert_array_equal(env.reset(seed=3)[0], first)
    after = env.step(action)[0]
    twin.reset(seed=3)
    np.testing.assert_array_equal(after, twin.step(action)[0])


@pytest.mark.parametrize("task, qpos_noise, qvel_noise", [("hopper-medium-v2", 0.005, 0.005),
                                                          ("walker2d-medium-v2", 0.005, 0.005),
                                                          ("halfcheetah-medium-v2", 0.1, None),
                                                          ("antmaze-umaze-v0", 0.1, None)])  # fmt: skip
def test_start_noise(task, qpos_noise, qvel_noise):
    env = envs.make(task).unwrapped
    starts = [(env.reset(seed=seed), env.data.qpos.copy(), env.data.qvel.copy())[1:] for seed in range(200)]
    qpos, qvel = (np.array(part) for part in zip(*starts, strict=True))
    # The largest of at least 1,200 uniform draws lies within 2% of the bound but with probability 1e-10.
    free = np.delete(qpos - env.init_qpos, [3, 4, 5, 6], axis=1) if "antmaze" in task else qpos - env.init_qpos
    assert 0.98 * qpos_noise < np.abs(free).max() <= qpos_noise
    if qvel_noise is None:  # normal; the sample deviation of n draws is off by 1 / sqrt(2 n), n >= 1,800
        assert qvel.std() == pytest.approx(0.1, rel=0.07)
    else:
        assert 0.98 * qvel_noise < np.abs(qvel).max() <= qvel_noise


@pytest.mark.parametrize("task", TASKS)
def test_actions_are_clipped_to_the_box(task):
    env, twin = envs.make(task), envs.make(task)
    env.reset(seed=0), twin.reset(seed=0)
    action = np.linspace(-3, 3, env.action_space.shape[0])
    observation, reward, *_ = env.step(action)
    clipped_observation, clipped_reward, *_ = twin.step(np.clip(action, -1, 1))
    np.testing.assert_array_equal(observation, clipped_observation)
    assert reward == clipped_reward


def test_velocities_are_clipped_for_walkers_alone():
    for task, bound in (("hopper-medium-v2", 10), ("walker2d-medium-v2", 10), ("halfcheetah-medium-v2", 50)):
        env = envs.make(task).unwrapped
        env.reset(seed=0)
        env.set_state(env.init_qpos, 50 * np.ones(env.model.nv))
        assert env._observation()[-1] == bound


@pytest.mark.parametrize(
    "task, index, inside, outside",
    [
        ("hopper-medium-v2", 1, (0.71, 5.0), (0.69,)),
        ("hopper-medium-v2", 2, (-0.19, 0.19), (-0.21, 0.21)),
        ("hopper-medium-v2", 4, (99.0,), (101.0, -101.0, np.nan)),
        ("hopper-medium-v2", 11, (99.0,), (101.0, -101.0, np.inf)),
        ("walker2d-medium-v2", 1, (0.81, 1.99), (0.79, 2.01)),
        ("walker2d-medium-v2", 2, (-0.99, 0.99), (-1.01, 1.01)),
        ("halfcheetah-medium-v2", 2, (-9.0, 9.0), ()),
    ],
)
def test_healthy_ranges(task, index, inside, outside):
    env = envs.make(task).unwrapped
    for value in (*inside, *outside):
        state = np.concatenate((env.init_qpos, env.init_qvel))
        state[index] = value
        env.data.qpos[:], env.data.qvel[:] = state[: env.model.nq], state[env.model.nq :]
        assert env._is_healthy() == (value in inside)


def test_step_limit_is_a_truncation():
    env = envs.make("halfcheetah-medium-v2")
    env.reset(seed=0)
    ends = [env.step(np.zeros(6))[2:4] for _ in range(1000)]
    assert ends == [(False, False)] * 999 + [(False, True)]
    assert envs.max_episode_steps("antmaze-umaze-diverse-v0") == 700
    assert envs.max_episode_steps("antmaze-large-play-v2") == 1000
    assert envs.max_episode_steps("pointmass") == 50


def test_maze_cells_and_walls():
    np.testing.assert_array_equal(antmaze.cells("umaze", "RG"), [[0, 0], [0, 8]])
    np.testing.assert_array_equal(antmaze.cells("medium", "G"), [[20, 20]])
    np.testing.assert_array_equal(antmaze.cells("large", "G"), [[32, 24]])
    model = envs.make("antmaze-umaze-v0").unwrapped.model
    walls = [model.geom(i) for i in range(model.ngeom) if model.geom(i).name.startswith("wall")]
    assert len(walls) == 25 - 7  # all cells but the seven of the U
    np.testing.assert_array_equal(walls[0].pos, [-4, -4, 1])
    np.testing.assert_array_equal(walls[0].size, [2, 2, 1])


def test_goals_are_drawn_from_the_goal_cell_and_the_seed():
    env = envs.make("antmaze-medium-play-v2").unwrapped
    goals = np.array([(env.reset(seed=seed), env.goal)[1] for seed in range(300)])
    offset = goals - [20, 20]
    assert offset.min() >= 0 and offset.max() <= 1.5
    # U(0, 1) + U(0, 0.5) has mean 0.75 and deviation 0.32; five standard errors of 300 draws are 0.09.
    np.testing.assert_allclose(offset.mean(axis=0), 0.75, atol=0.09)
    env.reset(seed=7)
    np.testing.assert_array_equal(env.goal, goals[7])


@pytest.mark.parametrize("version, redraws", [("v0", False), ("v2", True)])
def test_goal_of_an_unseeded_reset(version, redraws):
    env = envs.make(f"antmaze-umaze-{version}").unwrapped
    env.reset(seed=0)
    goal = env.goal
    env.reset()
    assert (env.goal != goal).any() == redraws
    env.reset(seed=1)
    other_goal = env.goal
    env.reset(seed=0)
    assert (env.goal == goal).all() and (env.goal != other_goal).any()


def test_normalized_scores():
    assert envs.reference_scores("pointmass") is None
    for task in ("halfcheetah-medium-v2", "hopper-expert-v2", "walker2d-random-v2", "antmaze-umaze-v2"):
        np.testing.assert_allclose(envs.normalized_score(task, envs.reference_scores(task)), [0, 100])
    returns = np.array([3234.3, 1607.013848])
    np.testing.assert_allclose(envs.normalized_score("hopper-medium-v2", returns), [100, 50], atol=1e-6)
    with pytest.raises(UserError, match="pointmass has no reference scores"):
        envs.normalized_score("pointmass", returns)


def test_neither_version_of_an_ant_maze_is_called_out_of_date():
    """In a process of its own: the test tools have filters of theirs."""
    code = "import bdpo_jax.envs, gymnasium; gymnasium.make('bdpo/antmaze-umaze-v0')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "out of date" not in done.stderr


def test_unknown_names_are_met_with_the_nearest_one():
    with pytest.raises(UserError, match="'hopper-medium-v2'"):
        envs.make("hoper-medium-v2")
    with pytest.raises(UserError, match="'pointmass'"):
        envs.max_episode_steps("pointmas")
    with pytest.raises(UserError, match="'mujoco'"):
        envs.make("hopper-medium-v2", backend="mujocco")


def test_another_mujoco_is_met_with_one_warning(monkeypatch):
    mujoco = physics.import_mujoco()
    physics.import_mujoco.cache_clear()
    monkeypatch.setattr(mujoco, "__version__", "3.5.0")
    with pytest.warns(UserWarning, match=r"mujoco 3\.5\.0 is installed.*verified for mujoco 3\.1\.6 and 3\.2\.7"):
        physics.import_mujoco()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        physics.import_mujoco()
    physics.import_mujoco.cache_clear()


def test_a_python_without_the_verified_mujoco_is_named():
    with pytest.warns(UserWarning, match=r"Python 3\.14 has no mujoco whose physics.*Python 3\.10 to 3\.13"):
        envs._warn_of_unsupported((3, 14))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs._warn_of_unsupported((3, 13))


@pytest.mark.parametrize("version", ["3.1.5", "3.1.7", "3.2.6", "3.5.0", "3.17.0", "4.0.0"])
def test_other_versions_are_not_verified(version):
    assert not physics.is_verified(version)


@pytest.mark.parametrize("version", ["3.1.6", "3.2.7", "3.3.0", "3.3.7", "3.4.0"])
def test_verified_versions(version):
    assert physics.is_verified(version)


@pytest.fixture
def not_imported(monkeypatch):
    """As before mujoco was asked for."""
    for function in (physics.import_mujoco, physics._imported):
        function.cache_clear()
    yield monkeypatch
    for function in (physics.import_mujoco, physics._imported):
        function.cache_clear()


def test_a_missing_mujoco_is_named(not_imported):
    not_imported.setitem(sys.modules, "mujoco", None)
    with pytest.raises(UserError, match=r"pip install mujoco==3\.1\.6"):
        physics.import_mujoco()


@pytest.mark.parametrize(("asked", "platform", "taken"), [("", "egl", "egl"), (" EGL ", "osmesa", " EGL ")])
def test_what_draws_is_what_the_environment_says(not_imported, asked, platform, taken):
    for name, value in (("MUJOCO_GL", asked), ("PYOPENGL_PLATFORM", platform), ("DISPLAY", "")):
        not_imported.setenv(name, value)
    physics._choose_gl()
    assert os.environ["MUJOCO_GL"] == taken


def test_an_unknown_way_to_draw_is_one_sentence(not_imported):
    not_imported.setenv("MUJOCO_GL", "nonsense")
    with pytest.raises(UserError, match="MUJOCO_GL is 'nonsense'; it must be one of egl, osmesa, glx, glfw .*disable"):
        envs.make("hopper-medium-v2")


def test_without_a_gl_library_there_are_physics_and_no_pictures():
    """MuJoCo's import fails where what MUJOCO_GL names cannot be loaded, as here, where PyOpenGL has loaded another."""
    program = (
        "import os; from bdpo_jax import envs; from bdpo_jax.errors import UserError\n"
        "env = envs.make('hopper-medium-v2', render_mode='rgb_array'); env.reset(seed=0); env.step([0, 0, 0])\n"
        "assert (os.environ['MUJOCO_GL'], os.environ['PYOPENGL_PLATFORM']) == ('egl', 'osmesa')\n"
        "try: env.render()\n"
        "except UserError as error: print(error)"
    )
    variables = {**os.environ, "MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "osmesa"}
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, cwd=TESTS.parent, env=variables, capture_output=True, text=True
    )
    assert done.stdout.startswith("MuJoCo cannot draw here (Cannot use EGL") and "Traceback" not in done.stderr


def test_a_screen_that_is_gone_is_said_each_time():
    """A second try by GLFW would end the process."""
    program = (
        "from bdpo_jax import envs; from bdpo_jax.errors import UserError\n"
        "for _ in range(2):\n"
        "    env = envs.make('hopper-medium-v2', render_mode='rgb_array'); env.reset(seed=0)\n"
        "    try: env.render()\n"
        "    except UserError as error: print(error)"
    )
    variables = {**os.environ, "DISPLAY": ":4077"}
    variables.pop("MUJOCO_GL", None)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=TESTS.parent, env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == second and "unset DISPLAY, which is :4077, if there is no such screen" in first


def test_the_point_mass_needs_no_mujoco():
    program = (
        "import sys; from bdpo_jax import envs; envs.make('pointmass').reset(); assert 'mujoco' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=TESTS.parent)


@pytest.mark.parametrize("task", ["hopper-medium-v2", "halfcheetah-medium-v2", "walker2d-expert-v2",
                                  "antmaze-large-play-v0", "antmaze-umaze-diverse-v2", "pointmass"])  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*(out of date|Box observation space)")
def test_registered_environments_pass_gymnasiums_checks(task):
    env = gymnasium.make(f"bdpo/{task}")
    assert env.spec.max_episode_steps == envs.max_episode_steps(task)
    check_env(env.unwrapped, skip_render_check=True)
    observation, _ = env.reset(seed=3)
    np.testing.assert_array_equal(observation, envs.make(task).reset(seed=3)[0])


def test_environments_have_what_mujoco_users_reach_for():
    env = envs.make("walker2d-medium-v2")
    env.reset(seed=0)
    assert env.unwrapped.model.nq == 9 and env.unwrapped.data.qpos.shape == (9,)


@pytest.mark.parametrize("task", ["halfcheetah-medium-v2", "antmaze-medium-play-v2"])
def test_pictures(task):
    env = gymnasium.make(f"bdpo/{task}", render_mode="rgb_array")
    env.reset(seed=0)
    try:
        before = env.render()
    except UserError as error:  # EGL may lack a device, OSMesa needs none
        if ctypes.util.find_library("OSMesa") and os.environ.get("MUJOCO_GL") == "osmesa":
            raise
        pytest.skip(str(error))
    assert before.shape == (480, 480, 3) and before.dtype == np.uint8 and before.std() > 10
    for _ in range(20):
        env.step(env.action_space.high)
    assert (env.render() != before).any()
    env.close()


def test_gymnasiums_own_robots_are_another_world():
    pytest.importorskip("imageio", reason="gymnasium's robots import imageio")
    start = np.random.default_rng(0)
    for robot in ("hopper", "halfcheetah", "walker2d"):
        ours, theirs = (envs.make(f"{robot}-medium-v2", backend) for backend in ("mujoco", "gymnasium"))
        ours.reset(seed=0), theirs.reset(seed=0)
        state = ours.unwrapped.data.qpos.copy(), ours.unwrapped.data.qvel.copy()
        theirs.unwrapped.set_state(*state)
        ours.unwrapped.set_state(*state)
        action = start.uniform(-1, 1, ours.action_space.shape)
        (observation, reward, *_), (other, other_reward, *_) = ours.step(action), theirs.step(action)
        assert 1e-4 < np.abs(observation - other).max() < 10
        assert reward == pytest.approx(other_reward, abs=0.1)
    with pytest.raises(UserError, match="backend 'mujoco'"):
        envs.make("antmaze-umaze-v0", "gymnasium")


def test_the_parity_command_prints_differences(capsys):
    parity.main([str(TESTS / "data"), "--backend", "mujoco"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 2 * len(TASKS)
    for line in lines[2:]:
        single_step, after_one = (float(cell) for cell in line.split(" | ")[3:5])
        assert max(single_step, after_one) <= STEP_ERROR


@original_stack
@pytest.mark.parametrize("task", ["hopper-medium-v2", "antmaze-umaze-v0", "antmaze-umaze-v2"])
def test_the_original_stack_is_reproducible_from_a_seed(task):
    env, twin = envs.make(task, "d4rl"), envs.make(task, "d4rl")
    first, again = env.reset(seed=3)[0], twin.reset(seed=3)[0]
    np.testing.assert_array_equal(first, again)
    assert (twin.reset(seed=4)[0] != first).any()
    np.testing.assert_array_equal(env.reset(seed=3)[0], first)
    assert env.unwrapped.model.nq == envs.make(task).unwrapped.model.nq
    if "antmaze" in task:
        goals = [(env.reset(seed=seed), env.unwrapped.goal)[1] for seed in (0, 0, 1)]
        assert (goals[0] == goals[1]).all() and (goals[0] != goals[2]).any()
        assert (goals[0] >= [0, 8]).all() and (goals[0] <= [1.5, 9.5]).all()
    observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
    assert observation.dtype == np.float64 and not terminated and not truncated


@pytest.mark.skipif(importlib.util.find_spec("d4rl") is not None, reason="the original stack is installed")
def test_a_missing_original_stack_is_one_sentence():
    with pytest.raises(UserError, match=r"docs/original-stack\.md"):
        envs.make("hopper-medium-v2", "d4rl")
