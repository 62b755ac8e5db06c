"""A report is written again while runs go on, and no longer."""

import shutil

import pytest
from directories import make_group, make_run

from bdpo_jax.errors import UserError
from bdpo_jax.report import command, figures


@pytest.fixture(autouse=True)
def nothing_is_drawn(monkeypatch):
    monkeypatch.setattr(figures, "draw", lambda found, folder: {})


def test_the_page_follows_runs_until_all_have_come_to_their_end(tmp_path):
    group, out, pages = make_group(tmp_path / "runs" / "group"), tmp_path / "out", []
    make_run(group / "seed0", step=None, progress="step,eval/policy/return\n6000,0.5\n")

    def sleep(seconds):  # one step of the runs' lives
        assert seconds == 7
        pages.append((out / "index.html").read_text("utf-8"))
        if len(pages) == 1:
            shutil.rmtree(group / "seed0")
            make_run(group / "seed0", 2.5)
        else:
            make_run(group / "seed1", 3.5, seed=1)

    found = command.watch([str(tmp_path / "runs")], out, 7, sleep)
    first, second = pages
    assert "6,000 of 13,000 updates" in first and 'http-equiv="refresh" content="7"' in first
    assert "2.50" in second and "has not begun" in second and "refresh" in second
    last = (out / "index.html").read_text("utf-8")
    assert "3.00" in last and "has not begun" not in last and "refresh" not in last  # the mean of 2.5 and 3.5
    assert not found.going_on and len(found.runs) == 2


def test_a_diverged_run_is_not_waited_for(tmp_path):
    (make_run(tmp_path / "runs" / "broken") / "nonfinite").mkdir()
    assert command.watch([str(tmp_path / "runs")], tmp_path / "out", 1, pytest.fail).problems


def test_a_mistake_ends_the_watch_in_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no directory"):
        command.watch([str(tmp_path / "absent")], tmp_path / "out", 1, pytest.fail)
    with pytest.raises(SystemExit, match="Error: .* holds no run"):
        command.main([str(tmp_path), "--watch", f"--out={tmp_path / 'out'}"])
    with pytest.raises(SystemExit, match="2"):
        command.main([str(tmp_path), "--watch", "--every=0"])

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "watch", interrupted)
    with pytest.raises(SystemExit, match="130"):
        command.main([str(tmp_path), "--watch"])
