"""Kinds of tasks: data and environment must fit, and the 2D run ends with its figures and its picture."""

import json

import h5py
import numpy as np
import pytest

from bdpo_jax import settings, tasks, training
from bdpo_jax.errors import UserError
from configs import antmaze, locomotion, synthetic2d


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
    results = json.loads((tmp_path / "results.json").read_text())
    # Untrained: far from the truth, while a second sample of the truth is near it.
    own, found = results["scores"]["policy"], results["references"]
    assert found["floor"]["sliced_wasserstein"] < 0.1 < 1.0 < own["sliced_wasserstein"]
    assert results["headline"]["value"] == own["sliced_wasserstein"]
    assert found["data"]["sliced_wasserstein"] == pytest.approx(2.44, abs=0.1)
    assert sum(own["mode_mass"]) == pytest.approx(1) == sum(found["truth"]["mode_mass"])
    assert found["truth"]["mode_mass"][-1] == pytest.approx(0.906, abs=0.015)  # 5 standard errors of 10,000 draws
    for picture in ("8gaussians.png", "curves.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
