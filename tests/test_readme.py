"""The example of `update`, the configs and the commands of the README work as they stand."""

import importlib
import re
from pathlib import Path

import jax
import pytest

from configs import antmaze, custom, experiments, locomotion, pointmass, synthetic2d

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
REPRODUCE = (ROOT / "docs" / "reproduce.md").read_text("utf-8")
CONFIGS = {
    "antmaze": antmaze,
    "custom": custom,
    "locomotion": locomotion,
    "pointmass": pointmass,
    "synthetic2d": synthetic2d,
}


def test_the_example_of_update_runs():
    (example,) = [code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "bdpo.update" in code]
    names: dict = {}
    exec(example, names)
    assert names["actions"].shape == (3, 256, 3)
    assert int(names["states"].step[0]) == 1
    assert all(bool(jax.numpy.isfinite(leaf).all()) for leaf in jax.tree.leaves(names["states"].q.params))


@pytest.mark.parametrize("file, arg", re.findall(r"launch\.py --config=configs/(\w+)\.py:?([\w,:/.-]*)", README))
def test_every_config_named_exists(file, arg):
    config = CONFIGS[file].get_config(arg) if arg else CONFIGS[file].get_config()
    named = re.sub(r"^(minari|ogbench):|\.(npz|csv)$", "", arg.split(",")[0])
    assert config.task == (named or config.task)


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m (bdpo_jax\w*(?:\.\w+)*)", README + REPRODUCE))))
def test_every_command_named_exists(module, capsys):
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(module).main(["--help"])
    assert ended.value.code == 0 and module in capsys.readouterr().out


def test_every_setting_named_exists():
    config = locomotion.get_config()
    for name in re.findall(r"--config\.([\w.]+)=", README):
        group, _, key = name.partition(".")
        assert group in config and (not key or key in config[group])


def test_the_test_command_is_the_one_of_ci():
    (command,) = re.findall(r'\[test\]" && (python -m pytest.*)', README)
    assert command in [line.strip() for line in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()]


def test_the_paper_s_experiments_are_those_that_have_a_command():
    named = set(re.findall(r"python -m bdpo_jax\.experiments (\w+)", REPRODUCE))
    assert named - {"NAME"} == set(experiments.EXPERIMENTS) - {"pointmass"}  # which is not the paper's
