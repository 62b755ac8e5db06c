"""Measurements of speed; README.md says which, and what they gave."""


def figures(value: float, count: int = 4) -> float:
    """`value` with `count` significant figures: the same update takes microseconds here and seconds there."""
    return float(f"{value:.{count}g}")
