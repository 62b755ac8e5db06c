"""Settings as fields of dataclasses: each is written once, with its default, its range and what it means.

    @dataclasses.dataclass(frozen=True)
    class Static:
        diffusion_steps: int = number(5, "N [T2]", least=1)

A config is flat and is made from several such classes, none of which share a name. The text names sources by the marks
of `SOURCES`.
"""

import dataclasses
import difflib
import math
from collections.abc import Iterable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from bdpo_jax.errors import UserError

SOURCES = (
    "[T2] to [T4] the paper's tables, (n) its equations, [rel] and [released] the code released by a method's authors, "
    "[CORL] that library, [paper] what a method's own paper prints, [quoted] what a later paper says that it used, "
    "[ours] our choice."
)
SMALLEST, LARGEST = (float(value) for value in (np.finfo(np.float32).tiny, np.finfo(np.float32).max))


def number(
    default, about: str, *, least=None, most=None, above=None, may_change: bool = False, of: tuple[str, ...] = ()
) -> Any:
    """A field that holds a number.

    Args:
      default: its value; an int holds whole numbers only.
      about: what it means, its unit and its source.
      least, most: the smallest and largest value allowed.
      above: what it must exceed.
      may_change: whether a run that goes on may have another value.
      of: the kinds of tasks that read it; empty: all.
    """
    limits = {"least": least, "most": most, "above": above}
    return dataclasses.field(default=default, metadata={"about": about, "may_change": may_change, "of": of, **limits})


def choice(default: str, others: Iterable[str], about: str, *, may_change: bool = False) -> Any:
    """A field that holds one of some names."""
    metadata = {"about": about, "may_change": may_change, "among": (default, *others)}
    return dataclasses.field(default=default, metadata=metadata)


def anything(default, about: str, *, may_change: bool = False, nothing: tuple = (), of: tuple[str, ...] = ()) -> Any:
    """A field without a range: text, a switch, or what is checked where it is used.

    Args:
      default: its value.
      about: what it means.
      may_change: whether a run that goes on may have another value.
      nothing: values that stand for none; a run that goes on may have one of them instead of another value, or another
        value instead of one of them.
      of: the kinds of tasks that read it; empty: all.
    """
    metadata = {"about": about, "may_change": may_change, "nothing": nothing, "of": of}
    return dataclasses.field(default=default, metadata=metadata)


def widths(default: tuple[int, ...], about: str) -> Any:
    """A field that holds the widths of hidden layers."""
    return dataclasses.field(default=default, metadata={"about": about, "may_change": False, "widths": True})


def frequencies(of: str) -> Any:
    """A field that holds the frequencies at which some networks also read actions; see `networks.with_waves`."""
    about = f"rad per unit, of sines and cosines of the action that {of} also reads [ours]"
    return dataclasses.field(default=(), metadata={"about": about, "may_change": False, "frequencies": True})


def fields_of(*owners) -> Iterator[dataclasses.Field]:
    """The fields with a default of dataclasses, and of algorithms: modules with `Static`, `Hyper` and `Budget`."""
    for owner in owners:
        if hasattr(owner, "Static"):
            yield from fields_of(owner.Static, owner.Hyper, owner.Budget)
        else:
            yield from (field for field in dataclasses.fields(owner) if field.default is not dataclasses.MISSING)


def make(*owners, **changes) -> ConfigDict:
    """Returns the defaults of all owners with some changes, and `sweep`, which has a key for each swept number.

    Args:
      owners: dataclasses, or algorithms (modules of `bdpo_jax.agents`).
      changes: values of some keys.

    Raises:
      UserError: a changed key does not exist; the message names the nearest one.
    """
    values: dict[str, Any] = {}
    for field in fields_of(*owners):
        if field.name in values:
            raise ValueError(f"Two classes have a setting {field.name}; names must differ.")
        values[field.name] = field.default
    config = ConfigDict(values)
    swept = [field.name for owner in owners if hasattr(owner, "Hyper") for field in fields_of(owner.Hyper)]
    if swept:
        config.sweep = ConfigDict({name: () for name in swept})
    update(config, changes)
    return config


def update(config: ConfigDict, changes: dict[str, Any]) -> None:
    """Sets keys of a config that exist.

    Raises:
      UserError: a key does not exist, or its value has another type.
    """
    for name, value in changes.items():
        require(config, name)
        try:
            config[name] = value
        except TypeError as error:
            raise UserError(f"config.{name} is {value!r}; it must be a {type(config[name]).__name__}.") from error


def require(config: ConfigDict, name: str) -> None:
    """Raises a `UserError` that names the nearest key where a config has none of this name ("eta", "sweep.eta")."""
    first, _, rest = name.partition(".")
    if first not in config or rest and (not isinstance(config[first], ConfigDict) or rest not in config[first]):
        known = [
            *config,
            *(f"{key}.{inner}" for key in config if isinstance(config[key], ConfigDict) for inner in config[key]),
        ]
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise UserError(f"There is no config key {name!r}; the nearest known one is {nearest!r}.")


def check(config, *owners) -> None:
    """Raises a `UserError` that names the first key whose value is outside its range."""
    for field in fields_of(*owners):
        wanted = _violated(config[field.name], field.metadata)
        if wanted:
            raise UserError(f"config.{field.name} is {config[field.name]!r}; it must be {wanted}.")


def _violated(value, rule) -> str | None:
    """What a value should be, where it is not."""
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    if isinstance(value, float) and (abs(value) > LARGEST or 0 < abs(value) < SMALLEST):
        return "a number that float32 can hold"
    if rule.get("least") is not None and value < rule["least"]:
        return "zero or more" if rule["least"] == 0 else f"{rule['least']} or more"
    if rule.get("above") is not None and value <= rule["above"]:
        return f"more than {rule['above']}"
    if rule.get("most") is not None and value > rule["most"]:
        return f"at most {rule['most']}"
    if "among" in rule and value not in rule["among"]:
        return f"one of {', '.join(rule['among'])}"
    if "widths" in rule and not (value and all(type(width) is int and width > 0 for width in value)):
        return "a tuple of positive widths"
    if "frequencies" in rule and not all(type(one) in (int, float) and 0 < one < math.inf for one in value):
        return "a tuple of positive numbers"
    return None


def unread(kind: str, *owners) -> Iterator[dataclasses.Field]:
    """The fields that a kind of tasks does not read."""
    return (field for field in fields_of(*owners) if field.metadata.get("of") and kind not in field.metadata["of"])


def refuse_unread(config, kind: str, *owners) -> None:
    """Raises a `UserError` that names the first key that a kind of tasks does not read but that was set."""
    for field in unread(kind, *owners):
        value = config[field.name]
        if (tuple(value) if isinstance(value, list) else value) != field.default:
            raise UserError(
                f"config.{field.name} is {value!r}, but tasks of the family {kind} do not read it, only those of "
                f"{', '.join(field.metadata['of'])}: leave it out."
            )


def changeable(*owners) -> tuple[str, ...]:
    """The keys in which a run that goes on may differ from its beginning."""
    return tuple(field.name for field in fields_of(*owners) if field.metadata.get("may_change"))


def droppable(*owners) -> dict[str, tuple]:
    """The keys that a run that goes on may drop or add, with the values that stand for none."""
    return {field.name: field.metadata["nothing"] for field in fields_of(*owners) if field.metadata.get("nothing")}


def read(owner: type, config, **known) -> Any:
    """Returns an owner's dataclass from a config, or from any object with attributes.

    What the object lacks has its default, so that a config written by an older version can be read. Lists become
    tuples, so that a static part is hashable.

    Args:
      owner: the dataclass.
      config: the object.
      known: fields that are not read from the config.
    """
    values = {field.name: getattr(config, field.name, field.default) for field in fields_of(owner)} | known
    return owner(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def read_traced(owner: type, config, **known) -> Any:
    """`read` with every value as a float32 scalar: numbers whose change never recompiles."""
    found = read(owner, config, **known)
    return owner(**{field.name: jnp.float32(getattr(found, field.name)) for field in dataclasses.fields(owner)})


def describe(config, *owners) -> str:
    """Returns a line for each setting: its name, its value and what it means; and one that explains the sources."""
    rows = [(field.name, repr(config[field.name]), field.metadata.get("about", "")) for field in fields_of(*owners)]
    name_width, value_width = (max(len(row[i]) for row in rows) for i in (0, 1))
    lines = [f"{name:{name_width}}  {value:{min(value_width, 24)}}  {about}" for name, value, about in rows]
    return "\n".join([*lines, f"Sources: {SOURCES}"])
