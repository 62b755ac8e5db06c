"""Groups of runs: every seed with every combination of swept values, in waves, and what they come to together."""

import hashlib
import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from bdpo_jax import devices, plotting
from bdpo_jax.errors import NonFinite, UserError
from bdpo_jax.training import options
from bdpo_jax.workdir import write_json

LONGEST_NAME = 120  # characters of a group's own directory; file systems allow 255
# The variants that no directory is named by, those of a config file's first choice; of other families "released".
FIRST_VARIANT = {"synthetic2d": "quick", "pointmass": "laptop"}


def is_group(config) -> bool:
    """Whether a config asks for several runs, each in a directory of its own."""
    return bool(config.seeds) or any(values for values in config.sweep.values())


def expand(config) -> dict[str, ConfigDict]:
    """Returns the configs of the runs by name: every seed with every combination of the swept values.

    A single run has the name "".

    Raises:
      UserError: two runs would have the same name.
    """
    if not is_group(config):
        return {"": config}
    swept = {key: tuple(values) for key, values in config.sweep.items() if values}
    found = {}
    for seed, *values in itertools.product(tuple(config.seeds) or (config.seed,), *swept.values()):
        one = ConfigDict(config.to_dict())
        if one.dataset_seed < 0 and "dataset_seed" not in options.unread(config):
            one.dataset_seed = config.seed  # one dataset for all
        one.seeds, one.seed = (), seed
        for key in one.sweep:
            one.sweep[key] = ()
        for key, value in zip(swept, values, strict=True):
            one[key] = float(value)
        name = "-".join([f"seed{seed}", *(f"{key}{value:g}" for key, value in zip(swept, values, strict=True))])
        if name in found:
            raise UserError(f"Two runs would be named {name}: give swept values that differ in six digits.")
        found[name] = one
    return found


def default_workdir(config) -> str:
    """Returns the directory of a run or group that is given none: no two groups or variants of a task share one.

    Raises:
      UserError: a setting makes no sense.
    """
    options.check(config)
    parts = [config.task.replace("/", "-"), config.agent]
    variant = config.recipe.rpartition(",")[2]
    if variant not in ("", FIRST_VARIANT.get(config.family, "released")):
        parts.append(variant)
    if not is_group(config):
        return f"runs/{'-'.join(parts)}-seed{config.seed}"
    parts.append("seeds" + "+".join(str(seed) for seed in config.seeds or (config.seed,)))
    parts += [key + "+".join(f"{float(value):g}" for value in values) for key, values in config.sweep.items() if values]
    name = "-".join(parts)
    if len(name) > LONGEST_NAME:
        name = f"{name[:LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"runs/{name}"


def waves(configs: Mapping[str, ConfigDict], path: Path, total: int, size: int) -> list[list[str]]:
    """Returns the names of runs that train together, at most `size` (0: all): those that lose little by it.

    A kill may lie between two runs' checkpoints of one update. Other differences come from another `runs_at_once`, or
    from runs that were continued alone; what is finished is never trained again.

    Args:
      configs: of the runs, by name.
      path: of the group.
      total: updates of a run.
      size: of a wave.
    """
    size = size or len(configs)
    steps = devices.shared(lambda: {name: _saved(path / name) for name in configs})
    found: list[tuple[list[str], set[int]]] = []
    for name in configs:
        for wave, common in found:
            last = max(common & steps[name])
            little = all(sum(step > last for step in steps[other]) <= 1 for other in [*wave, name])
            alike = (total in steps[name]) == (total in steps[wave[0]])
            if len(wave) < size and alike and little:
                wave.append(name)
                common.intersection_update(steps[name])
                break
        else:
            found.append(([name], set(steps[name])))
    return [wave for wave, _ in found]


def _saved(directory: Path) -> set[int]:
    """The updates of a run's checkpoints, and 0: its beginning."""
    found = directory / "checkpoints"
    return {0} | {int(child.name) for child in (found.iterdir() if found.is_dir() else ()) if child.name.isdigit()}


def finish(config, configs: Mapping[str, Any], path: Path, results: dict[str, dict], broken: dict[str, str]) -> dict:
    """Writes what the runs come to together into `path`, and returns the contents of `results.json`.

    Args:
      config: of the group.
      configs: of its runs, by name.
      path: its directory.
      results: of the runs that came to their end.
      broken: why the others did not.

    Raises:
      NonFinite: after that, where a run broke.
    """
    results = {name: results[name] for name in configs if name in results}
    found = summarise(config, configs, results)
    found |= {"runs": results, "broken": broken, "picture": None}

    def write():
        write_json(path / "results.json", found)  # a picture that fails must not cost the numbers
        tables = {name: path / name / "progress.csv" for name in configs}
        tables = {name: table for name, table in tables.items() if table.exists()}
        if tables:
            plotting.curves(path / "curves.png", config.task, tables)
        if found["headline"] and swept_keys(config):
            found["picture"] = str(path / "sweep.png")
            plotting.sweep(found["picture"], config.task, found["headline"], found["aggregate"])
        write_json(path / "results.json", found)

    devices.shared(write)
    if broken:
        if results:
            devices.say(found["summary"])
        raise NonFinite("; ".join(f"run {name}: {reason}" for name, reason in broken.items()))
    return found


def summarise(config, configs: Mapping[str, Any], results: Mapping[str, dict]) -> dict:
    """Returns what leads a group's `results.json`.

    Returns:
      `agent`, `task`, `summary`, `headline` (the name of the number in `aggregate`, None where nothing was scored) and
      `aggregate` (see there).
    """
    lines = [f"{name}: {result['summary']}" for name, result in results.items()]
    headlines = {name: result["headline"] for name, result in results.items() if result["headline"]}
    numbers = {name: found["value"] for name, found in headlines.items() if _is_number(found["value"])}
    metric, rows = None, []
    if numbers:
        metric, rows = headlines[next(iter(numbers))]["name"], aggregate(config, configs, numbers)
        if len(configs) > len(rows):
            lines.append(table(metric, rows))
    heads = {"agent": config.agent, "task": config.task, "summary": "\n".join(lines)}
    return heads | {"headline": metric, "aggregate": rows}


def _is_number(value) -> bool:
    return value is not None and math.isfinite(value)


def swept_keys(config) -> list[str]:
    """The swept numbers that have several values."""
    return [key for key, values in config.sweep.items() if len(values) > 1]


def aggregate(config, configs: Mapping[str, Any], numbers: Mapping[str, float]) -> list[dict]:
    """Returns, for each combination of swept values, what its seeds reached.

    Args:
      config: of the group.
      configs: of its runs, by name.
      numbers: the runs' headline values, by name; those that broke are missing.

    Returns:
      `{"values": {key: value}, "seeds": [...], "numbers": [...], "mean": ..., "std": ...}` each, in the order of the
      values; "std" is the sample's (n - 1), None of a single seed.
    """
    keys = swept_keys(config)
    rows: dict[tuple[float, ...], dict[str, Any]] = {}
    for name, one in configs.items():
        values = tuple(float(one[key]) for key in keys)
        row = rows.setdefault(values, {"values": dict(zip(keys, values, strict=True)), "seeds": [], "numbers": []})
        if name in numbers:
            row["seeds"].append(one.seed)
            row["numbers"].append(float(numbers[name]))
    for row in rows.values():
        found = row["numbers"]
        row["mean"] = float(np.mean(found)) if found else None
        row["std"] = float(np.std(found, ddof=1)) if len(found) > 1 else None
    return [rows[values] for values in sorted(rows)]


def table(metric: str, rows: list[dict]) -> str:
    """Returns the aggregate as lines to print."""
    lines = [f"{metric}, mean +- standard deviation over seeds:"]
    for row in rows:
        values = ", ".join(f"{key}={value:g}" for key, value in row["values"].items()) or "all"
        if row["mean"] is None:
            lines.append(f"  {values}: no run came to its end")
            continue
        spread = "" if row["std"] is None else f" +- {row['std']:.2g}"
        count = len(row["numbers"])
        lines.append(f"  {values}: {row['mean']:.4g}{spread} ({count} seed{'s' if count > 1 else ''})")
    return "\n".join(lines)
