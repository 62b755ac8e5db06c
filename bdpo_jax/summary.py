"""What a group of members comes to: the headline number of each combination of swept values, over its seeds."""

from typing import Any

import numpy as np


def swept_keys(config) -> list[str]:
    """The swept numbers that have several values."""
    return [key for key, values in config.sweep.items() if len(values) > 1]


def aggregate(config, configs: dict[str, Any], found: dict[str, float]) -> list[dict]:
    """Returns, for each combination of swept values, what its seeds reached.

    Args:
      config: of the group.
      configs: of the members, by name.
      found: the members' headline numbers, by name; those that broke are missing.

    Returns:
      `{"values": {key: value}, "seeds": [...], "numbers": [...], "mean": ..., "std": ...}` each, in the order of the
      values; "std" is the sample's (n - 1), None of a single seed.
    """
    keys, rows = swept_keys(config), {}
    for name, member in configs.items():
        values = tuple(float(member[key]) for key in keys)
        row = rows.setdefault(values, {"values": dict(zip(keys, values, strict=True)), "seeds": [], "numbers": []})
        if name in found:
            row["seeds"].append(member.seed)
            row["numbers"].append(float(found[name]))
    for row in rows.values():
        numbers = row["numbers"]
        row["mean"] = float(np.mean(numbers)) if numbers else None
        row["std"] = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None
    return [rows[values] for values in sorted(rows)]


def table(metric: str, rows: list[dict]) -> str:
    """The aggregate as lines to print."""
    lines = [f"{metric}, mean +- standard deviation over seeds:"]
    for row in rows:
        values = ", ".join(f"{key}={value:g}" for key, value in row["values"].items()) or "all"
        if row["mean"] is None:
            lines.append(f"  {values}: no member came to its end")
            continue
        spread = "" if row["std"] is None else f" +- {row['std']:.2g}"
        count = len(row["numbers"])
        lines.append(f"  {values}: {row['mean']:.4g}{spread} ({count} seed{'s' if count > 1 else ''})")
    return "\n".join(lines)
