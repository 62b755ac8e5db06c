"""Which runs a group has, where they lie, and what they come to, by hand."""

import pytest
from runs import bdpo_config

from bdpo_jax.training import sweep
from configs import antmaze, custom, locomotion, pointmass, synthetic2d


@pytest.fixture
def config():
    return bdpo_config(**{"seeds": (0, 1, 2), "sweep.eta": (1.0, 0.1), "sweep.rho": (2.0,)})


def results(config, numbers):
    return {name: {"summary": "done", "headline": numbers.get(name)} for name in sweep.expand(config)}


def headline(value):
    return {"name": "return", "value": value, "interval": None}


def test_runs_are_every_seed_with_every_value():
    configs = sweep.expand(bdpo_config(**{"seeds": (0, 3), "sweep.eta": (0.1, 5)}))
    assert list(configs) == ["seed0-eta0.1", "seed0-eta5", "seed3-eta0.1", "seed3-eta5"]
    assert [(c.seed, c.eta, c.dataset_seed) for c in configs.values()] == [
        (0, 0.1, 0), (0, 5.0, 0), (3, 0.1, 0), (3, 5.0, 0)
    ]  # fmt: skip
    assert not any(sweep.is_group(one) for one in configs.values()), "a run of a group is a single run"
    single = bdpo_config()
    assert sweep.expand(single) == {"": single}


def test_no_two_groups_share_a_default_directory():
    changes = [
        {},
        {"seed": 1},
        {"seeds": (0, 1)},
        {"seeds": (0, 2)},
        {"sweep.eta": (0.1, 1.0)},
        {"sweep.eta": (0.1, 2.0)},
        {"sweep.rho": (0.1, 1.0)},
        {"seeds": (0, 1), "sweep.rho": (0.1, 1.0)},
        {"seeds": tuple(range(100))},
        {"seeds": tuple(range(101))},
    ]
    names = [sweep.default_workdir(bdpo_config(**change)) for change in changes]
    assert len(set(names)) == len(names)
    assert names[:3] == ["runs/pointmass-bdpo-seed0", "runs/pointmass-bdpo-seed1", "runs/pointmass-bdpo-seeds0+1"]
    assert names[4] == "runs/pointmass-bdpo-seeds0-eta0.1+1"
    assert all(len(name) < 140 and name.count("/") == 1 for name in names)


def test_a_default_directory_names_the_variant_unless_it_is_the_config_file_s_first():
    """Otherwise `quick` after the released settings would be refused as another run."""
    made = {
        "hopper-medium-v2-bdpo-seed0": locomotion.get_config("hopper-medium-v2"),
        "hopper-medium-v2-iql-quick-seed0": locomotion.get_config("hopper-medium-v2,iql,quick"),
        "hopper-medium-v2-bdpo-paper-seed0": locomotion.get_config("hopper-medium-v2,paper"),
        "antmaze-umaze-v0-bdpo-seed0": antmaze.get_config(),
        "moons-bdpo-seed0": synthetic2d.get_config("moons"),
        "moons-bdpo-paper-seed0": synthetic2d.get_config("moons,paper"),
        "pointmass-bdpo-seed0": pointmass.get_config(),
        "log-bdpo-seed0": custom.get_config("log.npz"),
        "log-bdpo-quick-seed0": custom.get_config("log.npz,quick"),
    }
    assert [sweep.default_workdir(config) for config in made.values()] == [f"runs/{name}" for name in made]
    group = locomotion.get_config("hopper-medium-v2,quick")
    group.seeds = (0, 1)
    assert sweep.default_workdir(group) == "runs/hopper-medium-v2-bdpo-quick-seeds0+1"


def test_seeds_are_joined_and_values_sorted(config):
    found = {"seed0-eta1-rho2": 1.0, "seed1-eta1-rho2": 2.0, "seed2-eta1-rho2": 6.0, "seed1-eta0.1-rho2": 5.0}
    rows = sweep.aggregate(config, sweep.expand(config), found)
    assert [row["values"] for row in rows] == [{"eta": 0.1}, {"eta": 1.0}], "one value is no sweep"
    assert (rows[0]["seeds"], rows[0]["numbers"], rows[0]["mean"], rows[0]["std"]) == ([1], [5.0], 5.0, None)
    assert (rows[1]["seeds"], rows[1]["mean"]) == ([0, 1, 2], 3.0)
    assert rows[1]["std"] == pytest.approx((((1 - 3) ** 2 + (2 - 3) ** 2 + (6 - 3) ** 2) / 2) ** 0.5)
    assert sweep.table("score", rows) == (
        "score, mean +- standard deviation over seeds:\n  eta=0.1: 5 (1 seed)\n  eta=1: 3 +- 2.6 (3 seeds)"
    )


def test_values_of_which_every_run_broke_are_named(config):
    rows = sweep.aggregate(config, sweep.expand(config), {"seed0-eta1-rho2": 1.0})
    assert sweep.table("score", rows).splitlines()[1] == "  eta=0.1: no run came to its end"


def test_a_missing_score_is_left_out(config):
    scored = {"seed0-eta1-rho2": headline(1.0), "seed1-eta1-rho2": headline(None)}
    found = sweep.summarise(config, sweep.expand(config), results(config, scored))
    assert [row["numbers"] for row in found["aggregate"]] == [[], [1.0]]
    assert "eta=0.1: no run came to its end" in found["summary"]
    found = sweep.summarise(config, sweep.expand(config), results(config, {}))
    assert (found["headline"], found["aggregate"]) == (None, [])


def test_seeds_alone_make_one_row():
    config = bdpo_config(seeds=(3, 4))
    rows = sweep.aggregate(config, sweep.expand(config), {"seed3": 1.0, "seed4": 2.0})
    assert sweep.table("score", rows).splitlines()[1] == "  all: 1.5 +- 0.71 (2 seeds)"
