"""The exported file acts as `load_policy` does, by the lines of docs/deploy.md."""

import functools
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from runs import SIZES, bdpo_config

import bdpo_jax
from bdpo_jax import checkpoint, settings
from bdpo_jax.agents import AGENTS
from bdpo_jax.checkpoint import Checkpointer, Damaged
from bdpo_jax.errors import UserError
from bdpo_jax.export import export, main
from bdpo_jax.policy import precision
from bdpo_jax.workdir import write_json
from configs import pointmass

pytest.importorskip("flatbuffers")
DOC = (Path(__file__).resolve().parents[1] / "docs" / "deploy.md").read_text("utf-8")
(LINES,) = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)


def leaf(shape, rng):
    """A leaf of a state, random where it holds numbers that are trained."""
    if shape.dtype != np.float32:
        return np.zeros(shape.shape, shape.dtype)
    return rng.normal(size=shape.shape, scale=0.5).astype(np.float32)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Directories as a run leaves them: of BDPO, which draws, and of IQL, which does not; with random parameters."""
    iql = pointmass.get_config("pointmass,iql")
    settings.update(iql, {**SIZES, "actor_widths": (8,), "value_widths": (8,)})
    found = {}
    for name, config in {"bdpo": bdpo_config(), "iql": iql}.items():
        path = found[name] = tmp_path_factory.mktemp(name)
        write_json(path / "config.json", config)
        write_json(path / "sizes.json", {"observation_dim": 2, "action_dim": 2})
        shapes = jax.eval_shape(lambda key, c=config: AGENTS[c.agent].init(c, key, 2, 2), jax.random.key(0))
        rng = np.random.default_rng(0)
        with Checkpointer(path / "checkpoints", 1) as checkpoints:
            checkpoints.save(1, jax.tree.map(lambda shape, rng=rng: leaf(shape, rng), shapes), {})
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


def test_a_process_with_64_bits_acts_in_the_32_that_were_trained(trained, tmp_path):
    """Bit for bit: other noise or other sums would show."""
    observations = np.random.default_rng(0).normal(size=(5, 2))
    expected = bdpo_jax.load_policy(trained["bdpo"])(observations)
    with precision(wide=True):
        assert jax.random.normal(jax.random.key(0)).dtype == np.float64
        actions = bdpo_jax.load_policy(trained["bdpo"])(observations)
        text = export(trained["iql"], tmp_path / "policy.bin", calls=1)
    assert actions.dtype == np.float32
    np.testing.assert_array_equal(actions, expected)
    assert "observations [batch, 2]" in text


def test_the_file_is_for_every_platform(trained, tmp_path):
    export(trained["iql"], tmp_path / "policy.bin", calls=1)
    assert jax.export.deserialize(bytearray((tmp_path / "policy.bin").read_bytes())).platforms == ("cpu", "cuda", "tpu")


def test_how_long_a_policy_was_trained_is_said(trained, tmp_path):
    run = shutil.copytree(trained["iql"], tmp_path / "run")
    total = AGENTS["iql"].phases(pointmass.get_config("pointmass,iql"))[0].updates
    said = f"policy of {run} after 1 of {total:,} updates"
    assert f"{said}, observations" in export(run, tmp_path / "policy.bin", calls=1)
    (run / "nonfinite" / "2").mkdir(parents=True)
    assert f"{said}, before its numbers became NaN or infinite, " in export(run, tmp_path / "policy.bin", calls=1)


def test_a_run_of_a_version_with_fewer_numbers_is_read(trained, tmp_path, monkeypatch):
    """A number that it did not save has its default; what is trained may not be missing."""
    expected = bdpo_jax.load_policy(trained["bdpo"])(np.zeros((3, 2)), jax.random.key(0))
    config, named = bdpo_config(), checkpoint._named_leaves
    shapes = jax.eval_shape(lambda key: AGENTS["bdpo"].init(config, key, 2, 2), jax.random.key(0))
    with Checkpointer(trained["bdpo"] / "checkpoints", read_only=True) as checkpoints:
        state, _ = checkpoints.restore(shapes)
    for lacking in (".hyper.behavior_decay_steps", ".step"):
        run = shutil.copytree(trained["bdpo"], tmp_path / lacking, ignore=shutil.ignore_patterns("checkpoints"))
        fewer = functools.partial(lambda name, tree: {k: v for k, v in named(tree).items() if k != name}, lacking)
        with monkeypatch.context() as patch, Checkpointer(run / "checkpoints") as checkpoints:
            patch.setattr(checkpoint, "_named_leaves", fewer)
            checkpoints.save(1, state)
            checkpoints.wait()
        if lacking == ".step":
            with pytest.raises(UserError, match=r"\.step is missing in the checkpoint"):
                bdpo_jax.load_policy(run)
        else:
            np.testing.assert_array_equal(bdpo_jax.load_policy(run)(np.zeros((3, 2)), jax.random.key(0)), expected)


def test_a_checkpoint_that_is_deleted_while_it_is_read_is_not_the_last_word(trained, monkeypatch):
    """As a run that goes on deletes its oldest."""
    read, faults = Checkpointer.restore, [FileNotFoundError("gone"), Damaged("gone, too")]

    def restore(self, *arguments, **others):
        if faults:
            raise faults.pop()
        return read(self, *arguments, **others)

    monkeypatch.setattr(Checkpointer, "restore", restore)
    assert bdpo_jax.load_policy(trained["iql"])(np.zeros(2)).shape == (2,)
    faults += [Damaged("for good")] * 100
    with pytest.raises(Damaged, match="for good"):
        bdpo_jax.load_policy(trained["iql"])


def test_a_mistake_is_one_sentence(trained, tmp_path):
    with pytest.raises(UserError, match="iql has no policy 'behavior'"):
        export(trained["iql"], tmp_path / "policy.bin", policy="behavior")
    with pytest.raises(SystemExit, match="Error: .*holds no run"):
        main([str(tmp_path)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("config.json", "{}", "has no 'agent': it is damaged, or of another version"),
        (
            "config.json",
            '{"agent": "nobody", "seed": 0}',
            "algorithm 'nobody', which this version has not; it has",
        ),
        ("sizes.json", "{", "sizes.json cannot be read .*run the command of the run again"),
        ("sizes.json", '{"observation_dim": 2}', "sizes.json cannot be read .*action_dim.*run the command of the run"),
    ],
)
def test_a_damaged_run_is_one_sentence(tmp_path, monkeypatch, file, content, sentence):
    write_json(tmp_path / "config.json", pointmass.get_config().to_dict())
    (tmp_path / file).write_text(content)
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    for load in (bdpo_jax.load_policy, bdpo_jax.load_q):
        with pytest.raises(UserError, match=sentence):
            load(f"~/{tmp_path.name}")
