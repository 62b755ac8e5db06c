"""Suites of runs: the tables' commands, what counts as finished, stops and failures."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from directories import make_group, make_run
from ml_collections import config_flags
from runs import SIZES

from bdpo_jax import training
from bdpo_jax.errors import Stopped, UserError
from bdpo_jax.experiments import Runs, Script, command, main, plan
from bdpo_jax.experiments.runner import Runner
from configs.experiments import EXPERIMENTS

ROOT = Path(__file__).resolve().parents[1]
TINY = {**SIZES, "actor_widths": (8,), "value_widths": (8,), "train_steps": 12}


@pytest.fixture(autouse=True)
def root(monkeypatch):
    monkeypatch.chdir(ROOT)


def iql(seeds=(0, 1), **more):
    return Runs("pointmass", ("pointmass",), ("iql",), seeds=seeds, changes=TINY | more)


def parsed(command):
    """The config that launch.py would read from a command."""
    values, words = flags.FlagValues(), [word for word in command[1:] if not word.startswith("--workdir=")]
    config_flags.DEFINE_config_file("config", flag_values=values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)  # where the library looks for the keys that are set
        values(words)
    return values.config


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_commands_of_every_experiment_say_what_its_tables_say(name, separate):
    for tables in EXPERIMENTS[name].values():
        found = plan.items(tables, "runs", "data", separate)
        assert len({item.path for item in found}) == len(found)
        for item in [found[0], found[-1]]:
            assert item.config is None or parsed(item.command).to_dict() == item.config.to_dict()
        assert not separate or all(item.runs == 1 for item in found)
        assert sum(item.runs for item in found) == sum(item.runs for item in plan.items(tables, "runs"))


def test_a_group_has_every_seed_and_value_and_d4rl_files_lie_in_the_folder(tmp_path):
    """Under the task's name, or else under D4RL's own, which a run looks for in a folder."""
    table = Runs("locomotion", ("hopper-medium-v2",), seeds=(0, 3), sweep={"eta": (0.1, 1.0)}, label="eta")
    (group,) = plan.items([table], "runs", tmp_path)
    assert (group.path, group.runs) == (Path("runs/hopper-medium-v2-bdpo-eta"), 4)
    assert group.config.dataset_path == str(tmp_path)
    (tmp_path / "hopper-medium-v2.hdf5").touch()
    assert plan.items([table], "runs", tmp_path)[0].config.dataset_path == str(tmp_path / "hopper-medium-v2.hdf5")
    alone = plan.items([table], "runs", separate=True)
    assert [item.path.name for item in alone] == ["seed0-eta0.1", "seed0-eta1", "seed3-eta0.1", "seed3-eta1"]


def test_finished_is_what_came_to_the_end_of_its_budget_with_these_settings(tmp_path, no_pictures):
    (group,) = plan.items([iql()], tmp_path)
    assert not group.finished()
    training.run(group.config, group.path)
    assert group.finished() and "2 seeds" in plan.outcome(group)
    assert all(item.finished() for item in plan.items([iql()], tmp_path, separate=True))
    for content in ("{", "[]"):
        (tmp_path / "damaged" / group.path.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "damaged" / group.path.name / "results.json").write_text(content)
        assert not plan.items([iql()], tmp_path / "damaged")[0].finished()
    for other in (iql(train_steps=24), iql(discount=0.5), iql(seeds=(0, 1, 2))):
        assert not plan.items([other], tmp_path)[0].finished()


def scripts(tmp_path, **sources):
    """Items of small programs that append their names to a file; `sources` is what they do then."""
    for name, source in sources.items():
        begin = f"import os, signal, sys, time\nopen({str(tmp_path / 'ran')!r}, 'a').write('{name} ')\n"
        (tmp_path / f"{name}.py").write_text(begin + source)
    return plan.items([Script(str(tmp_path / f"{name}.py")) for name in sources], tmp_path / "out")


def test_a_failure_does_not_stop_the_others_and_only_it_runs_again(tmp_path, capfd):
    found = scripts(tmp_path, one="", two="sys.exit('Error: there is no file x.')", three="")
    for ran in ("one two three ", "one two three two "):
        with Runner() as runner:
            failed = runner.run(found, ["", "", ""])
        assert failed == {found[1]: "there is no file x."}
        assert (tmp_path / "ran").read_text("utf-8") == ran
    assert "Error: there is no file x." in capfd.readouterr().err, "what a command says is passed on"


def test_a_signal_ends_the_command_and_the_list(tmp_path):
    # The first tells the suite to stop and waits, longer than any test may take, to be told so itself.
    found = scripts(tmp_path, one="os.kill(os.getppid(), signal.SIGTERM); time.sleep(1000)", two="")
    with Runner() as runner, pytest.raises(Stopped) as stopped:
        runner.run(found, ["", ""])
    assert stopped.value.code == 143 and (tmp_path / "ran").read_text("utf-8") == "one "


def test_a_reader_that_is_gone_ends_nothing(tmp_path, monkeypatch):
    """As after `| head`, or where a terminal was closed under `nohup`."""
    found = scripts(tmp_path, one="print('said', file=sys.stderr)", two="sys.exit('Error: no.')", three="")
    reader, end = os.pipe()
    os.close(reader)
    with open(end, "w") as gone, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", gone)
        patch.setattr(sys, "stderr", gone)
        status = command.run(found, range(3), tmp_path)
    assert status == 1 and (tmp_path / "ran").read_text("utf-8") == "one two three "


def test_what_was_scored_of_a_group_that_failed_is_compared(tmp_path, monkeypatch, capsys):
    """One of its values diverged: the others are results all the same."""
    names = [f"pointmass-{agent}" for agent in ("bdpo", "gaussian", "dac")]
    items = [plan.Item(tmp_path / name, ("python",), object()) for name in names]
    make_run(make_group(items[0].path) / "seed0", 1.0), make_run(items[1].path, 3.0, eta=0.5)
    (make_run(items[0].path / "seed1", seed=1) / "nonfinite" / "9000").mkdir(parents=True)
    monkeypatch.setattr(Runner, "run", lambda *_: {items[0]: "NaN.", items[2]: "no data."})
    monkeypatch.setattr(plan, "outcome", lambda item: "")
    assert command.run(items, range(3), tmp_path / "compare") == 1
    said = capsys.readouterr()
    assert "| bdpo eta=0.1 | 1 | 1 |" in said.out and "| bdpo eta=0.5 | 1 | 3 |" in said.out
    assert f"{items[2].path}: no run of it was scored, so that it is not in the tables." in said.err
    assert str(items[1].path) not in said.err and f"Error: {items[0].path}: NaN." in said.err


def test_the_exit_status_and_the_sentences(tmp_path, monkeypatch, capsys):
    scripts(tmp_path, good="", bad="sys.exit('Error: no.')")
    rows = [Script(str(tmp_path / f"{name}.py")) for name in ("bad", "good")]
    (tmp_path / "own_tables.py").write_text(
        f"from bdpo_jax.experiments import Script\nEXPERIMENTS = {{'both': {{'laptop': {rows!r}}}}}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    arguments = ["both", "--tables=own_tables", f"--workdir={tmp_path / 'out'}"]
    assert main([*arguments, "--dry-run"]) == 0 and not (tmp_path / "ran").exists()
    assert main([*arguments, "--index=1"]) == 0
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert said.err.endswith(f"Error: {tmp_path / 'out' / 'bad'}: no.\n")
    assert (tmp_path / "ran").read_text("utf-8") == "good bad "


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["figure8"], "figure"),
        ([], "Name an experiment: .*figure7"),
        (["figure7", "--tables=configs.absent"], "configs.absent is no module of experiments"),
        (["figure7", "--tables=configs.base"], "configs.base is no module of experiments .*must have EXPERIMENTS"),
        (["figure7", "--index=2"], "figure7 has the commands 0 to 1"),
        (["pointmass", "--size=full"], "pointmass has no full size; it has laptop"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence):
    with pytest.raises(SystemExit, match=f"^Error: .*{sentence}"):
        main(arguments)


@pytest.mark.parametrize(
    ("tables", "sentence"),
    [
        ([iql(), iql()], "share .*pointmass-iql"),
        ([Runs("pointmass", ("pointmass",), ("iql",), sweep={"eta": (1.0,)})], "iql has no number 'eta' to sweep"),
        ([iql(train_stepz=1)], "the nearest known one is 'train_steps'"),
    ],
)
def test_a_mistake_in_a_table_is_one_sentence(tables, sentence):
    with pytest.raises(UserError, match=sentence):
        plan.items(tables, "runs")


def test_planning_takes_no_device():
    """Else the first command would find an accelerator's memory taken."""
    code = (
        "from bdpo_jax.experiments import main; from jax._src import xla_bridge; main(['figure7', '--dry-run']); "
        "assert not xla_bridge.backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)
