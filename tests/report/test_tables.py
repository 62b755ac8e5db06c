"""Tables against numbers by hand: who is bold, who may be compared, and what stands beside the paper's columns."""

import csv
import json
import re
import shlex

import numpy as np
import pytest
from directories import make_run

from bdpo_jax import agents, results
from bdpo_jax.data import d4rl
from bdpo_jax.report import command, commands, contents, tables, writing
from configs import locomotion

HOPPER, SCORE = "hopper-medium-v2", "normalized score"


def make_hopper(path, value, argument=HOPPER, seed=0, data=d4rl.TASKS[HOPPER].file, **changes):
    """Writes the directory of a finished run of D4RL's, with its whole budget."""
    config = locomotion.get_config(argument)
    path.mkdir(parents=True)
    written = config.to_dict() | {"seed": seed} | changes
    (path / "config.json").write_text(json.dumps(written))
    scores = {"policy": {"returns": [1.0] * 10}}
    found = {"step": agents.budget(written), "headline": {"name": SCORE, "value": value}, "scores": scores}
    source = {"file": "some.hdf5", "sha256": "ab" * 32, "d4rl_file": data}
    found |= {"data": source, "seconds": {"train": 7200.0}, "device": "NVIDIA H100", "config_hash": "0123"}
    (path / "results.json").write_text(json.dumps(found))


def rows_of(path):
    return tables.rows(results.find([path])[0])


def cells(table, row):
    return dict(zip(table.columns, table.rows[row], strict=True))


def test_a_row_has_the_statistics_of_its_seeds(tmp_path):
    for seed, value in enumerate((80.0, 90.0, 100.0, 110.0)):
        make_hopper(tmp_path / str(seed), value, seed=seed)
    (row,) = rows_of(tmp_path)
    assert row.conditions == tables.PUBLISHED and not row.notes
    found = cells(tables.summary("pointmass", [row]), 0)
    assert found[SCORE].value == 95 and found["sd"].value == pytest.approx(np.sqrt(500 / 3))
    assert found["IQM"].value == 95  # of 90 and 100
    low, high = json.loads(found["95% interval of the IQM"].text)
    assert 80 <= low < 95 < high <= 110
    texts = {name: found[name].text for name in ("seeds", "episodes", "candidates", "selection", "wall-clock")}
    assert texts == {"seeds": "4", "episodes": "10", "candidates": "10", "selection": "last", "wall-clock": "2.0 h"}
    assert (
        found["hardware"].text == "NVIDIA H100" and found["updates"].text == "4,000,000"
    )  # pre-training and training, two million each


def test_bold_is_within_five_percent_of_the_best():
    assert tables.near_best({"a": 100.0, "b": 95.0, "c": 94.9}) == {"a", "b"}
    assert tables.near_best({"a": -1.0, "b": -1.05, "c": -1.06}) == {"a", "b"}  # returns may be negative
    assert tables.near_best({"a": 1.0, "b": 1.05, "c": 1.06}, lower_is_better=True) == {"a", "b"}


def test_what_may_not_be_compared_is_apart_and_marked(tmp_path):
    make_hopper(tmp_path / "own", 90.0)
    make_hopper(tmp_path / "physics", 99.0, backend="gymnasium")
    make_hopper(tmp_path / "data", 98.0, data=None)
    make_hopper(tmp_path / "quick", 97.0, argument=f"{HOPPER},iql,quick")
    make_hopper(tmp_path / "longer", 96.0, argument=f"{HOPPER},iql", train_steps=2_000_000)
    found = rows_of(tmp_path)
    notes = {row.runs[0].path.name: row.notes for row in found}
    assert notes == {
        "own": (),
        "physics": ("physics: gymnasium's -v4, not D4RL's",),
        "data": ("data: some.hdf5 (abababab), not D4RL's file",),
        "quick": ("budget: quick, not full",),
        "longer": ("budget: 2,000,000 updates, not full",),
    }
    table = tables.summary("hopper", found)
    assert [cells(table, i)[SCORE].bold for i in range(5)] == [False] * 4 + [True]  # the least, of the right conditions
    assert [tables.MARK in row[0].text for row in table.rows] == [row.runs[0].path.name != "own" for row in found]


def test_own_columns_stand_beside_the_published_ones(tmp_path):
    make_hopper(tmp_path / "a", 99.0), make_hopper(tmp_path / "b", 101.0, seed=1)
    make_hopper(tmp_path / "c", 150.0, argument=f"{HOPPER},iql,quick")
    table = tables.beside_published({HOPPER: rows_of(tmp_path)})
    lines = {row[0].text: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert len(lines) == 9 + 1  # locomotion alone, and its sum
    hopper = lines[HOPPER]
    assert (hopper["BDPO"].text, hopper["own bdpo"].text) == ("99.3 ± 2.9", "100.0 ± 1.4")
    assert hopper["own iql"].text == "150.0 †" and "budget: quick" in hopper["own iql"].note
    # 95% of DAC's 101.2 is 96.1; the 150 of another budget makes nobody smaller.
    bold = {name for name, cell in hopper.items() if cell.bold}
    assert bold == {"DAC", "BDPO", "DTQL", "QGPO", "own bdpo"}
    # IQL's entries in the paper add up to 692.6; it prints 749.7.
    assert lines["sum of locomotion"]["IQL"].text == "692.6"
    assert lines["sum of locomotion"]["own bdpo"].value is None  # one task of nine
    assert tables.beside_published({"pointmass": []}) is None


def test_tasks_are_averaged_where_all_have_comparable_runs(tmp_path):
    other = "walker2d-medium-v2"
    for seed in (0, 1):
        make_hopper(tmp_path / f"a{seed}", 80.0 + seed, seed=seed)
        make_hopper(tmp_path / f"b{seed}", 60.0 + seed, other, seed, d4rl.TASKS[other].file)
    make_hopper(tmp_path / "c", 50.0, argument=f"{HOPPER},iql")
    (table,) = tables.over_tasks(contents.read([tmp_path]).rows)
    (line,) = table.rows  # not IQL, which has one of the two tasks
    assert [cell.text for cell in line] == ["bdpo", "70.5", "70.5", line[3].text, "4"]
    low, high = json.loads(line[3].text)
    assert 70 <= low <= 70.5 <= high <= 71  # resampled within tasks: 60s and 80s stay as many


def test_files_hold_the_numbers_of_results_json(tmp_path):
    make_run(tmp_path / "runs" / "a", 0.123456789), make_run(tmp_path / "runs" / "b", 2.5, seed=1)
    command.main([str(tmp_path / "runs"), f"--out={tmp_path / 'out'}"])
    folder = tmp_path / "out" / "tables"
    with open(folder / "pointmass.csv") as file:
        (row,) = csv.DictReader(file)
    assert float(row["return"]) == (0.123456789 + 2.5) / 2 and row["selection"] == "last"
    assert float(row["best of a run"]) == 2.5
    with open(folder / "runs.csv") as file:
        assert [float(row["score"]) for row in csv.DictReader(file)] == [0.123456789, 2.5]
    text = (folder / "pointmass.tex").read_text("utf-8")
    assert r"bdpo & \textbf{1.31}" in text and r"95\% bootstrap" in text and "wall-clock" not in text
    assert not (folder / "table1.csv").exists()


def test_each_task_has_files_of_its_own_whatever_its_name(tmp_path):
    """A task of one's own is called as its file is: as another table, or in letters that are not of ASCII."""
    names = ["runs", "table1", "over_tasks-return", "δεδομένα", "δοκιμή", "a b", "a_b"]
    for number, name in enumerate(names):
        make_run(tmp_path / "runs" / str(number), float(number), task=name, family="file")
    command.main([str(tmp_path / "runs"), f"--out={tmp_path / 'out'}"])
    kept = {path.name: path.read_text("utf-8") for path in (tmp_path / "out" / "tables").glob("*.csv")}
    assert len(kept) == len(names) + 1 and kept["runs.csv"].count("\n") == len(names) + 1
    for number, _ in enumerate(names):
        assert sum(text.startswith("algorithm") and f"\nbdpo,{float(number)}," in text for text in kept.values()) == 1
    figures = [path.name for path in (tmp_path / "out" / "figures").glob("*-scores.png")]
    assert len(figures) == len(names) and sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "figures",
        "index.html",
        "tables",
    ]
    anchors = re.findall(r'id="(task-[^"]*)"', (tmp_path / "out" / "index.html").read_text("utf-8"))
    assert len(set(anchors)) == len(anchors) == len(names)


def test_latex_escapes_and_says_what_is_not_comparable(tmp_path):
    table = tables.Table("a_b", "5%", ("x", "y"), [(tables.Cell("n_1 †", "n_1", note="data: c_1"), tables.Cell("1"))])
    text = writing.latex(table)
    assert r"n\_1 $^\dagger$ & 1 \\" in text and r"\caption{a\_b. 5\% n\_1: data: c\_1.}" in text


def test_the_command_of_a_run_gives_its_config_again(tmp_path):
    path = make_run(tmp_path / "run", eta=0.3, actor_widths=[8, 8], sweep={"eta": [0.1, 0.2]}, seeds=[0, 1])
    config = json.loads((path / "config.json").read_text("utf-8"))
    found = commands.find(config, path)
    assert found.changes == {
        "actor_widths": ([64, 64, 64], [8, 8]), "eta": (0.1, 0.3), "seeds": ([], [0, 1]), "sweep.eta": ([], [0.1, 0.2])
    } | {key: pair for key, pair in found.changes.items() if pair[1] == "(absent)"}  # fmt: skip
    assert found.text == (
        f"python launch.py --config=configs/pointmass.py:pointmass,bdpo,laptop {shlex.quote(f'--workdir={path}')} "
        "'--config.actor_widths=(8, 8)' --config.eta=0.3 '--config.seeds=(0, 1)' '--config.sweep.eta=(0.1, 0.2)'"
    )
    assert commands.find({"recipe": ""}, path).text == ""
