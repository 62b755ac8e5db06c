"""Directories as runs leave them, for the tests of what reads them."""

import json

from configs import pointmass


def make_run(path, value=1.0, step=13_000, seed=0, progress="", headline="return", agent="bdpo", **changes):
    """Writes the directory of a run on the point mass (BDPO: 5,000 and 8,000 updates); step None: not finished."""
    config = pointmass.get_config(f"pointmass,{agent}")
    config.seed = seed
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config.to_dict() | changes))
    (path / "progress.csv").write_text(progress or "step,eval/policy/return\n8000,2.5\n6000,0.5\n13000,1.0\n")
    if step is not None:
        scores = {"policy": {headline: value, "returns": [value] * 4}}
        found = {"step": step, "headline": {"name": headline, "value": value}, "scores": scores, "warnings": []}
        found |= {"seconds": {"train": 60.0, "compilation": 3.0, "evaluation": 100.0}, "device": "cpu", "seed": seed}
        (path / "results.json").write_text(json.dumps(found))
    return path


def make_group(path, seeds=(0, 1), **changes):
    """Writes the directory of a group, without its runs'."""
    path.mkdir(parents=True)
    config = pointmass.get_config()
    config.seeds = seeds
    (path / "config.json").write_text(json.dumps(config.to_dict() | changes))
    return path
