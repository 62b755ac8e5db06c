"""python -m bdpo_jax.data.inspect TASK|FILE [--dataset_path FILE|FOLDER] [--columns NAMES] [--env ID] [--picture FILE]
    [--action_bounds BOUNDS]

Facts about a dataset of D4RL's or a file of one's own, as training would read it, what is suspicious in it, and a
picture of its distributions. With an environment: whether the file fits it.
"""

import argparse
import ast
import math
import os
import sys
from pathlib import Path

import numpy as np

from bdpo_jax.data import custom, d4rl, files, fit
from bdpo_jax.data.dataset import unknown_name
from bdpo_jax.data.options import Data
from bdpo_jax.diffusion import variance_preserving
from bdpo_jax.envs import contract
from bdpo_jax.errors import UserError
from bdpo_jax.text import as_text, set_up_output, tell
from bdpo_jax.workdir import expanded

SATURATED = 0.99  # |action| from which a motor counts as being at its limit
LARGE = 1e3  # |observation|, where networks want about 1
ALONE = 10.0  # times the steps before and after it
NEIGHBOURS = 20  # like states
SAMPLED = 500  # rows whose neighbours are looked for
MOST_STEPS = 1000  # diffusion steps
JUMP = 20.0  # times the median step of an observation, beyond which two rows are hardly of one trajectory


def facts(reading: d4rl.Reading, family: str = "") -> dict:
    """Numbers about a file.

    Args:
      reading: by the rules of training.
      family: of a D4RL task: "antmaze", where observations begin with a position, or "locomotion"; "" of another file.

    Returns:
      sizes, `returns` and `lengths` of the complete episodes, counts, the share of `saturated` actions and of those
      `outside` the box per row, the `spread` of `action_spread`, the `scaling` of the rewards as a start of training
      says it, and `suspicious`, a list of sentences.
    """
    raw = reading.raw
    terminals = raw["terminals"]
    timeouts = raw.get("timeouts", np.zeros_like(terminals))
    actions, size = np.abs(raw["actions"]), len(terminals)
    try:
        scaling = str(reading.scaling("auto"))
    except UserError as error:
        scaling = f"reward_scaling='auto' is refused: {error}"
    found = {
        "rows": size,
        "observation_dim": raw["observations"].shape[1],
        "action_dim": raw["actions"].shape[1],
        "transitions": reading.data.size,
        "returns": reading.returns,
        "lengths": reading.lengths,
        "terminals": int(terminals.sum()),
        "timeouts": int(timeouts.sum()),
        "both": int((terminals & timeouts).sum()),
        "saturated": float((actions >= SATURATED).mean()),
        "outside": float((actions > 1).any(axis=1).mean()),
        "spread": action_spread(raw),
        "scaling": scaling,
    }
    told = [f"{reading.doubt}: {reading.remedy}"] if reading.doubt else []
    notes = _suspicious(raw, found, terminals, timeouts, family)
    return found | {"suspicious": [*told, *reading.notices, *notes]}


def _suspicious(raw, found, terminals, timeouts, family):
    notes = []
    rewards, size = raw["rewards"], found["rows"]
    if rewards.min() == rewards.max():
        notes.append(f"all rewards are {rewards[0]:g}")
    if "timeouts" not in raw:
        notes.append("there is no key timeouts: episodes are cut by counting to the step limit")
    if found["outside"]:
        notes.append(
            f"{found['outside']:.2%} of the rows have actions outside their bounds (of --env or --action_bounds, else "
            "-1 and 1)"
        )
    largest = np.abs(raw["observations"]).max(axis=0)
    if (large := np.flatnonzero(largest > LARGE)).size:
        notes.append(
            f"{large.size} columns of the observations are large, the first is column {large[0]} (up to "
            f"{largest[large[0]]:.4g}): networks want about unit size"
        )
    rows = np.concatenate([raw["observations"], raw["actions"]], axis=1)
    duplicates = size - len(np.unique(rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))))
    if duplicates:
        notes.append(f"{duplicates} rows repeat an earlier row's observation and action")
    if found["both"] and family == "locomotion":
        notes.append(f"{found['both']} rows are terminal and timed out: D4RL drops them, the terminal is lost")
    # A jump from a row to the next shows where a trajectory really ends.
    leaps = np.linalg.norm(np.diff(raw["observations"][:, : 2 if family == "antmaze" else None], axis=0), axis=1)
    # Where a robot rests most of the time any motion is longer than the median; but motion begins gradually.
    before, after = np.append(0, leaps[:-1]), np.append(leaps[1:], 0)
    alone = leaps > ALONE * np.maximum(before, after)
    jumps = (leaps > JUMP * max(float(np.median(leaps)), 1e-6)) & (alone | (family == "antmaze"))
    ends = (timeouts if family == "antmaze" else terminals | timeouts)[:-1]
    if family == "antmaze" and (jumps & ~ends).any():
        inside, without = int((jumps & ~ends).sum()), int((ends & ~jumps).sum())
        notes.append(
            f"{inside} jumps of the position lie inside episodes, {without} of {int(ends.sum())} time-outs have none: "
            "the time-outs are out of step with the trajectories"
        )
    elif family != "antmaze" and (jumps & ~ends).any():
        notes.append(
            f"{int((jumps & ~ends).sum())} steps inside episodes are {JUMP:g} times longer than the median "
            f"and {ALONE:g} times longer than their neighbours: an end may be missing there, or an angle wraps round"
        )
    return notes


def action_spread(raw: dict) -> float:
    """Root mean square, over rows and numbers, of the deviation of actions among the `NEIGHBOURS` nearest states.

    It bounds how widely actions differ in one state from above, because the states of neighbours differ, too. Distances
    are of standardised observations, from a sample of rows; a row is no neighbour of itself.
    """
    observations = raw["observations"]
    count = min(NEIGHBOURS, len(observations) - 1)
    if count < 2:
        return 0.0
    scaled = (observations - observations.mean(axis=0)) / np.maximum(observations.std(axis=0), 1e-6)
    lengths = np.square(scaled).sum(axis=1)
    variances = []
    for row in np.random.default_rng(0).choice(len(scaled), min(SAMPLED, len(scaled)), replace=False):
        distances = lengths - 2 * scaled @ scaled[row]
        distances[row] = np.inf
        nearest = np.argpartition(distances, count - 1)[:count]
        variances.append(raw["actions"][nearest].var(axis=0, ddof=1))
    return float(np.sqrt(np.mean(variances)))


def _chain(spread: float) -> str:
    """How long a chain must be for its last kernel to be as narrow as `spread`; see docs/chain-width.md."""
    five = math.sqrt(variance_preserving(5).betas[1])
    enough = next((n for n in range(1, MOST_STEPS) if math.sqrt(variance_preserving(n).betas[1]) <= spread), None)
    narrow = "is that narrow even with one step" if enough == 1 else f"is that narrow from {enough} steps on"
    steps = narrow if enough else f"is wider even with {MOST_STEPS} steps"
    return f"a diffusion chain's last kernel {steps} ({five:.2f} with 5)"


def origin(path: Path, family: str = "") -> str:
    """Says whether a file is one of D4RL's, byte for byte; where it is, and no task was named, how its task reads it.

    Args:
      path: of the file.
      family: of the task by whose rules it was read; "": by those of files of one's own.
    """
    known = d4rl.known_file(path)
    if known is not None:
        task = next((entry.name for entry in d4rl.TASKS.values() if entry.file == known), None)
        other = f"; by the rules of that task: {task} --dataset_path={path}" if task and not family else ""
        return f"this is D4RL's {known}, byte for byte{other}"
    if path.name in d4rl.known_files():
        size, _ = d4rl.known_files()[path.name]
        return f"it is not D4RL's {path.name}: that has {size} bytes and another SHA-256 (here {path.stat().st_size})"
    return "it is not a file of D4RL's"


def report(name: str, found: dict, reference: tuple[float, float] | None) -> str:
    """The facts as text; `reference` are the (random, expert) returns of a normalised score."""

    def spread(values, digits):
        low, first, middle, third, high = np.percentile(values, [0, 25, 50, 75, 100])
        numbers = (values.mean(), low, first, middle, third, high)
        mean, low, first, middle, third, high = (f"{number:.{digits}f}" for number in numbers)
        return f"mean {mean}; min {low}, quartiles {first} {middle} {third}, max {high}"

    lines = [
        name,
        f"rows         {found['rows']}, of which {found['transitions']} are transitions with a known successor",
        f"widths       observations {found['observation_dim']}, actions {found['action_dim']}",
        f"episodes     {len(found['returns'])} complete",
        f"returns      {spread(found['returns'], 2)}",
        f"lengths      {spread(found['lengths'], 0)}",
        f"scaling      {found['scaling']}",
    ]
    if reference is not None:
        # In antmaze data an episode goes on at the goal and is paid again; its score counts once.
        returns = np.minimum(found["returns"], 1) if reference == (0, 1) else found["returns"]
        scores = 100 * (returns - reference[0]) / (reference[1] - reference[0])
        lines.append(f"normalized   {spread(scores, 1)}")
    lines += [
        f"ends         {found['terminals']} terminal rows, {found['timeouts']} timed out, {found['both']} both",
        f"actions      {found['saturated']:.2%} of the components at {SATURATED} or beyond",
    ]
    lines.append(f"spread       of actions in like states {found['spread']:.3f}; {_chain(found['spread'])}")
    lines += [f"origin       {found['origin']}"] if "origin" in found else []
    lines += found.get("fit", [])
    lines += [f"suspicious   {note}" for note in found["suspicious"]] or ["suspicious   nothing found"]
    return "\n".join(lines)


def _read(options: argparse.Namespace) -> tuple[Path, d4rl.Reading, str, fit.Fit | None]:
    """Returns the file's path, what is in it, the family of its task, and how it fits the environment."""
    if options.name in d4rl.TASKS:
        for name in ("columns", "env", "action_bounds"):
            if getattr(options, name):
                raise UserError(f"--{name} is for a file of one's own, which {options.name} is not: leave it out.")
        path = d4rl.find(options.name, options.dataset_path, mirrors=Data.mirrors)
        return path, d4rl.by_rules(files.read(path), options.name, str(path)), d4rl.TASKS[options.name].family, None
    path = expanded(options.name)
    if not os.path.exists(path) and not path.suffix and path.name == options.name:
        raise unknown_name("D4RL task, and no file,", options.name, d4rl.TASKS)
    if options.dataset_path:
        raise UserError(f"--dataset_path is for a D4RL task, and {options.name} is a file itself: leave it out.")
    make = custom.environment(options.env)
    space = None if make is None else contract.trial(make, 0).action_space
    raw = custom.read(str(path), options.columns)
    box = custom.action_box(options.action_bounds, space, raw["actions"].shape[1])
    reading = custom.by_rules(raw, str(path), box)
    fitting = None if make is None else fit.compare(reading.raw | {"actions": raw["actions"]}, make, options.env)
    return path, reading, "", fitting


def _tuple(text: str):
    """Returns what a flag's text stands for in Python, or the text, which whoever wants a tuple refuses by name."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bdpo_jax.data.inspect", description=__doc__.split("\n\n")[1])
    parser.add_argument("name", help="a D4RL task, or a file: HDF5, npz, CSV or parquet")
    parser.add_argument(
        "--dataset_path", default="", help="the task's file or its folder; default: D4RL's cache, or download"
    )
    parser.add_argument("--columns", default="", help="of a file: KEY=COLUMN,COLUMN;KEY=COLUMN (docs/own-data.md)")
    parser.add_argument("--env", default="", help="gymnasium environment to compare a file with; default: none")
    parser.add_argument(
        "--action_bounds",
        type=_tuple,
        default=(),
        help="of a file: '(LOW, HIGH)', in quotes and after an equals sign, or a pair for each column",
    )
    parser.add_argument("--picture", help="default: NAME-inspect.png in the working directory")
    options = parser.parse_args(arguments)
    set_up_output()
    name = options.name
    try:
        path, reading, family, fitting = _read(options)
        found = facts(reading, family) | {"origin": origin(path, family), "fit": fitting.lines if fitting else []}
        found["suspicious"] += fitting.suspicious if fitting else []
        reference = d4rl.REFERENCE_SCORES[name.split("-")[0]] if family else None
        tell(report(f"{name} ({path})" if name != str(path) else name, found, reference))
        from bdpo_jax import plotting  # a layer that data must not import: only this command draws

        raw = reading.raw
        picture = expanded(options.picture or f"{Path(name).stem}-inspect.png")  # a log may have a NAME.png beside it
        positions = raw["observations"][:, :2] if family == "antmaze" else None
        episodes = found["returns"], found["lengths"]
        plotting.dataset(picture, as_text(name), *episodes, raw["rewards"], raw["actions"], positions)
    except UserError as error:
        sys.exit(f"Error: {error}")
    tell(f"Picture: {picture}")


if __name__ == "__main__":
    main()
