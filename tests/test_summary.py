"""What a group comes to, by hand."""

from types import SimpleNamespace

import pytest
from ml_collections import ConfigDict

from bdpo_jax import members, summary
from configs import pointmass


@pytest.fixture
def config():
    config = pointmass.get_config()
    config.update({"seeds": (0, 1, 2), "sweep": {"eta": (1.0, 0.1), "rho": (2.0,)}})
    return config


def test_seeds_are_joined_and_values_sorted(config):
    found = {"seed0-eta1-rho2": 1.0, "seed1-eta1-rho2": 2.0, "seed2-eta1-rho2": 6.0, "seed1-eta0.1-rho2": 5.0}
    rows = summary.aggregate(config, members.expand(config), found)
    assert [row["values"] for row in rows] == [{"eta": 0.1}, {"eta": 1.0}], "one value is no sweep"
    assert (rows[0]["seeds"], rows[0]["numbers"], rows[0]["mean"], rows[0]["std"]) == ([1], [5.0], 5.0, None)
    assert (rows[1]["seeds"], rows[1]["mean"]) == ([0, 1, 2], 3.0)
    assert rows[1]["std"] == pytest.approx((((1 - 3) ** 2 + (2 - 3) ** 2 + (6 - 3) ** 2) / 2) ** 0.5)
    assert summary.table("score", rows) == (
        "score, mean +- standard deviation over seeds:\n  eta=0.1: 5 (1 seed)\n  eta=1: 3 +- 2.6 (3 seeds)"
    )


def test_values_of_which_every_member_broke_are_named(config):
    rows = summary.aggregate(config, members.expand(config), {"seed0-eta1-rho2": 1.0})
    assert summary.table("score", rows).splitlines()[1] == "  eta=0.1: no member came to its end"


def test_a_score_that_is_no_number_is_left_out(config, tmp_path):
    results = {name: {"summary": "done", "return": None} for name in members.expand(config)}
    results["seed0-eta1-rho2"]["return"] = 1.0
    suite = SimpleNamespace(headline=lambda result: ("return", result["return"]))
    found = members._summarise(config, members.expand(config), suite, tmp_path, results)
    assert [row["numbers"] for row in found["aggregate"]] == [[], [1.0]]
    assert "eta=0.1: no member came to its end" in found["summary"]
    results["seed0-eta1-rho2"]["return"] = None
    found = members._summarise(config, members.expand(config), suite, tmp_path, results)
    assert (found["metric"], found["picture"], found["aggregate"]) == (None, None, [])


def test_seeds_alone_make_one_row():
    config = ConfigDict(pointmass.get_config())
    config.seeds = (3, 4)
    rows = summary.aggregate(config, members.expand(config), {"seed3": 1.0, "seed4": 2.0})
    assert summary.table("score", rows).splitlines()[1] == "  all: 1.5 +- 0.71 (2 seeds)"
