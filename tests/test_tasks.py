"""Kinds of tasks: data and environment must fit, and the 2D run ends with its figures and its picture."""

import itertools
import json
import re

import h5py
import numpy as np
import pytest

from bdpo_jax import settings, tasks, training
from bdpo_jax.data import custom as own_files
from bdpo_jax.data import d4rl, minari, ogbench
from bdpo_jax.data.dataset import Dataset
from bdpo_jax.data.options import Data
from bdpo_jax.data.rewards import Scaling
from bdpo_jax.errors import UserError
from bdpo_jax.tasks import FAMILIES
from bdpo_jax.training import options, sweep
from bdpo_jax.training.options import Training
from configs import antmaze, custom, locomotion, methods, pointmass, synthetic2d


def write_file(path, observation_dim, action_dim, rows=60, episode=20):
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["observations"] = random.normal(size=(rows, observation_dim)).astype(np.float32)
        file["actions"] = random.uniform(-1, 1, (rows, action_dim)).astype(np.float32)
        file["rewards"] = random.normal(size=rows).astype(np.float32)
        file["terminals"] = np.zeros(rows, bool)
        file["timeouts"] = np.arange(1, rows + 1) % episode == 0
    return path


def test_data_of_another_robot_are_refused(tmp_path):
    config = locomotion.get_config("hopper-medium-v2,quick")
    config.dataset_path = str(write_file(tmp_path / "data.hdf5", 17, 6))
    with pytest.raises(UserError, match="17 wide, those of hopper-medium-v2 11"):
        tasks.make(config)


@pytest.mark.parametrize(
    ("config", "observation_dim", "action_dim"),
    [(locomotion.get_config("hopper-medium-v2,paper"), 11, 3), (antmaze.get_config(), 29, 8)],
)
def test_a_file_of_the_task_is_read(tmp_path, config, observation_dim, action_dim):
    config.dataset_path = str(write_file(tmp_path / "data.hdf5", observation_dim, action_dim))
    dataset = tasks.make(config).dataset
    assert (dataset.observation_dim, dataset.action_dim) == (observation_dim, action_dim)
    assert dataset.size == 57  # the last rows of three episodes have no successor


def test_released_and_printed_values_are_both_reachable():
    released, printed = (locomotion.get_config(f"walker2d-medium-v2{v}") for v in ("", ",paper"))
    assert (released.eta, printed.eta, printed.rho) == (0.15, 1.0, 1.0)
    released, printed = (antmaze.get_config(f"antmaze-large-diverse-v0{v}") for v in ("", ",paper"))
    assert (released.eta, released.rho, printed.eta, printed.rho) == (1.0, 0.8, 5.0, 0.5)
    assert locomotion.get_config("hopper-medium-v2").ensemble_size == 20
    assert antmaze.get_config("antmaze-umaze-diverse-v2").greedy_candidates == 1


def test_a_tiny_2d_run_leaves_figures_and_a_picture(tmp_path):
    config = synthetic2d.get_config("8gaussians")
    sizes = {"actor_widths": (8,), "value_widths": (8,), "ensemble_size": 1, "actor_samples": 1, "batch_size": 8}
    steps = {"diffusion_steps": 5, "pretrain_steps": 4, "train_steps": 5, "value_warmup_steps": 0, "log_every": 5}
    settings.update(config, {**sizes, **steps, "dataset_size": 1000})
    training.run(config, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    # Untrained: far from the truth, while a second sample of the truth is near it.
    own, found = results["scores"]["policy"], results["references"]
    assert found["floor"]["sliced_wasserstein"] < 0.1 < 1.0 < own["sliced_wasserstein"]
    assert results["headline"]["value"] == own["sliced_wasserstein"]
    assert found["data"]["sliced_wasserstein"] == pytest.approx(2.44, abs=0.1)
    assert sum(own["mode_mass"]) == pytest.approx(1) == sum(found["truth"]["mode_mass"])
    assert found["truth"]["mode_mass"][-1] == pytest.approx(0.906, abs=0.015)  # 5 standard errors of 10,000 draws
    for picture in ("8gaussians.png", "curves.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


# A value of each setting that only some kinds of tasks read.
OTHER = {
    "dataset_path": "data.hdf5",
    "columns": "rewards=r",
    "env": "none",
    "action_bounds": (-2, 2),
    "backend": "gymnasium",
    "mirrors": ("http://nowhere",),
    "dataset_size": 30,
    "dataset_seed": 5,
    "reward_scaling": "none",
    "reward_shift": -1.0,
    "temperature": 0.5,
    "eval_episodes": 3,
    "final_episodes": 3,
}
CONFIGS = {
    "synthetic2d": synthetic2d.get_config,
    "pointmass": pointmass.get_config,
    "d4rl": locomotion.get_config,
    "minari": lambda: custom.get_config("minari:mujoco/hopper/medium-v0"),
    "ogbench": lambda: custom.get_config("ogbench:antmaze-large-navigate-singletask-task1-v0"),
    "file": lambda: custom.get_config("mine.npz"),
}


class Recorded:
    """A config that notes what is read of it."""

    def __init__(self, config):
        self._config, self.read = config, set()

    def __getattr__(self, name):
        self.read.add(name)
        return getattr(self._config, name)


def limited():
    return {field.name: field for field in settings.fields_of(Training, Data) if "of" in field.metadata}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_kind_of_tasks_reads_the_settings_that_it_is_said_to_read(family, monkeypatch, tmp_path):
    """Those of episodes are read while scoring, where a task has any: they are not seen here."""
    rows = np.zeros((2, 1), np.float32)
    data = Dataset(rows, rows, rows[:, 0], rows, rows[:, 0])
    for module in (d4rl, minari, ogbench, own_files):
        monkeypatch.setattr(module, "load_scaled", lambda *_, **__: (data, Scaling(1.0, 1, 0.0, 0.0)))
        if hasattr(module, "environment"):
            monkeypatch.setattr(module, "environment", lambda *_: None)
    monkeypatch.setattr(d4rl, "find", lambda *_: tmp_path)
    monkeypatch.setattr(d4rl, "source", lambda _: {})
    monkeypatch.setattr(tasks.D4RL, "_check_widths", lambda _: None)
    config = Recorded(CONFIGS[family]())
    tasks.make(config)
    of = {name: field.metadata["of"] for name, field in limited().items() if field.metadata["of"]}
    said = {name for name, families in of.items() if family in families}
    assert config.read & set(of) == said - {"eval_episodes", "final_episodes"}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_setting_that_a_kind_of_tasks_would_not_read_is_refused(family):
    fields = {name: field for name, field in limited().items() if field.metadata["of"]}
    assert set(fields) == set(OTHER)
    for name, value in OTHER.items():
        config = CONFIGS[family]()
        config[name] = value
        if family in fields[name].metadata["of"]:
            options.check(config)
            continue
        with pytest.raises(UserError, match=f"config.{name} is .* family {family} do not read it.*leave it out"):
            options.check(config)
        config[name] = fields[name].default  # as the command line may say, too
        options.check(config)


def test_every_config_file_sets_what_its_tasks_read():
    files = [
        (synthetic2d, ("8gaussians", "moons"), ("quick", "paper")),
        (pointmass, ("pointmass",), ("laptop",)),
        (locomotion, ("hopper-medium-v2",), locomotion.VARIANTS),
        (antmaze, ("antmaze-large-play-v0",), locomotion.VARIANTS),
        (custom, ("minari:d", "ogbench:d-singletask", "mine.csv"), ("released", "quick")),
    ]
    for file, names, variants in files:
        for name, agent, variant in itertools.product(names, methods.TABLES, variants):
            if (file, agent) != (synthetic2d, "decision_diffuser"):  # which has no 2D form
                options.check(file.get_config(f"{name},{agent},{variant}"))


def test_a_group_has_one_seed_of_data_only_where_data_are_made():
    for family, seed in (("pointmass", 4), ("d4rl", -1)):
        config = CONFIGS[family]()
        settings.update(config, {"seed": 4, "seeds": (1, 2)})
        for one in sweep.expand(config).values():
            assert one.dataset_seed == seed
            options.check(one)


@pytest.mark.parametrize(("amount", "fault"), [(1e39, "infinite"), (1e20, "all equal")])
def test_a_shift_beyond_what_rewards_can_hold_is_refused(amount, fault):
    config = pointmass.get_config()
    settings.update(config, {"dataset_size": 20, "reward_shift": amount})
    with pytest.raises(UserError, match=f"reward_shift is {re.escape(repr(amount))}, with which rewards are {fault}"):
        tasks.make(config)
    config.reward_shift = -2.0
    shifted = tasks.make(config).dataset.rewards
    config.reward_shift = 0.0
    np.testing.assert_array_equal(shifted, tasks.make(config).dataset.rewards - np.float32(2))
