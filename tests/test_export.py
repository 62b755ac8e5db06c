"""The exported file acts as `load_policy` does, by the lines of docs/deploy.md."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
from runs import SIZES, bdpo_config

import bdpo_jax
from bdpo_jax import plotting, settings, tasks, training
from bdpo_jax.errors import UserError
from bdpo_jax.export import export, main
from configs import pointmass

pytest.importorskip("flatbuffers")
DOC = (Path(__file__).resolve().parents[1] / "docs" / "deploy.md").read_text()
(LINES,) = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of BDPO, which draws, and one of IQL, which does not."""
    iql = pointmass.get_config("pointmass,iql")
    settings.update(iql, {**SIZES, "actor_widths": (8,), "value_widths": (8,), "train_steps": 12})
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plotting, "curves", lambda *_: None)
        patch.setattr(tasks.PointMass, "draw", lambda *_: None)
        for name, config in {"bdpo": bdpo_config(train_steps=12), "iql": iql}.items():
            found[name] = tmp_path_factory.mktemp(name) / "run"
            training.run(config, found[name])
    return found


@pytest.mark.parametrize(("agent", "candidates"), [("bdpo", None), ("bdpo", 1), ("iql", None)])
def test_the_file_acts_as_the_policy(trained, tmp_path, monkeypatch, agent, candidates):
    monkeypatch.chdir(tmp_path)
    text = export(trained[agent], "policy.bin", candidates=candidates, calls=3)
    assert "median" in text and "99%" in text
    names: dict = {}
    exec(LINES, names)
    policy = bdpo_jax.load_policy(trained[agent], candidates=candidates)
    for size in (1, 5):
        observations = np.random.default_rng(size).normal(size=(size, 2)).astype(np.float32)
        key = jax.random.key(size)
        actions = names["policy"](observations, jax.random.key_data(key))
        # Two compilations of one function: they differ by rounding, of which five diffusion steps make a little more.
        np.testing.assert_allclose(actions, policy(observations, key), atol=1e-5, rtol=0)
    first, again, other = (
        names["policy"](observations, jax.random.key_data(jax.random.key(seed))) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (np.abs(first - other).max() > 1e-3) == (agent == "bdpo")


def test_the_file_is_for_every_platform(trained, tmp_path):
    export(trained["iql"], tmp_path / "policy.bin", calls=1)
    assert jax.export.deserialize(bytearray((tmp_path / "policy.bin").read_bytes())).platforms == ("cpu", "cuda", "tpu")


def test_a_mistake_is_one_sentence(trained, tmp_path):
    with pytest.raises(UserError, match="iql has no policy 'behavior'"):
        export(trained["iql"], tmp_path / "policy.bin", policy="behavior")
    with pytest.raises(SystemExit, match="Error: .*holds no run"):
        main([str(tmp_path)])
    assert not list(tmp_path.iterdir())
