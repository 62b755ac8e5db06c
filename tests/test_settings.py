"""Fields with ranges, and configs made from them."""

import dataclasses
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from flax import struct

from bdpo_jax import settings
from bdpo_jax.agents import AGENTS
from bdpo_jax.data.options import Data
from bdpo_jax.errors import UserError
from bdpo_jax.settings import anything, choice, frequencies, number, widths
from bdpo_jax.training.options import Training


@dataclasses.dataclass(frozen=True)
class Trainer:
    batch_size: int = number(256, "transitions per update", least=1)
    log_every: int = number(100, "updates", least=1, may_change=True)
    memory: str = choice("auto", ("device", "host"), "where the data lie", may_change=True)
    mirrors: tuple[str, ...] = anything(("a", "b"), "addresses", may_change=True)


@dataclasses.dataclass(frozen=True)
class Static:
    action_dim: int
    hidden: tuple[int, ...] = widths((8, 8), "hidden layers")
    waves: tuple[float, ...] = frequencies("a network")
    bound: float = number(1.0, "half-width of the box", above=0)
    clipped: bool = anything(True, "whether actions are clipped")


@struct.dataclass
class Hyper:
    rate: jax.Array = number(0.1, "learning rate", least=0, most=2)
    horizon: jax.Array = number(0.0, "updates; -1: all", least=-1)


@dataclasses.dataclass(frozen=True)
class Budget:
    train_steps: int = number(500, "updates", least=0, may_change=True)


AGENT = SimpleNamespace(Static=Static, Hyper=Hyper, Budget=Budget)


def test_a_config_has_the_defaults_of_all_owners_and_a_sweep():
    config = settings.make(Trainer, AGENT, rate=1, hidden=(4,))
    assert config.to_dict() == {
        "batch_size": 256,
        "log_every": 100,
        "memory": "auto",
        "mirrors": ("a", "b"),
        "hidden": (4,),
        "waves": (),
        "bound": 1.0,
        "clipped": True,
        "rate": 1.0,
        "horizon": 0.0,
        "train_steps": 500,
        "sweep": {"rate": (), "horizon": ()},
    }
    assert isinstance(config.rate, float)  # a whole number where the default has a point
    assert "sweep" not in settings.make(Trainer)


def test_an_unknown_key_names_the_nearest_one():
    with pytest.raises(UserError, match="no config key 'batchsize'; the nearest known one is 'batch_size'"):
        settings.make(Trainer, AGENT, batchsize=3)
    config = settings.make(AGENT)
    with pytest.raises(UserError, match="'action_dim'"):  # without a default it is no setting
        settings.update(config, {"action_dim": 3})


@pytest.mark.parametrize(
    ("change", "wanted"),
    [({"batch_size": 2.5}, "int"), ({"rate": "fast"}, "float"), ({"hidden": 8}, "tuple"), ({"memory": 1}, "str")],
)
def test_a_value_of_another_type_is_one_sentence(change, wanted):
    ((name, value),) = change.items()
    with pytest.raises(UserError, match=f"config.{name} is {value!r}; it must be a {wanted}."):
        settings.make(Trainer, AGENT, **change)


def test_two_settings_of_one_name_are_refused():
    @dataclasses.dataclass(frozen=True)
    class Other:
        rate: float = number(3.0, "another one")

    with pytest.raises(ValueError, match="setting rate; names must differ"):
        settings.make(AGENT, Other)


@pytest.mark.parametrize(
    ("name", "good", "bad", "wanted"),
    [
        ("batch_size", (1, 10**9), (0, -3), "1 or more"),
        ("train_steps", (0,), (-1,), "zero or more"),
        ("horizon", (-1.0,), (-1.5,), "-1 or more"),
        ("rate", (0.0, 2.0), (2.1,), "at most 2"),
        ("rate", (), (float("nan"), float("inf")), "a finite number"),
        ("rate", (1e-37,), (1e-300, -1e300, 1e39), "a number that float32 can hold"),
        ("bound", (1e-9,), (0.0, -1.0), "more than 0"),
        ("memory", ("auto", "device", "host"), ("", "disk"), "one of auto, device, host"),
        ("hidden", ((1,), (8, 9)), ((), (8, 0), (8, 2.5), (True,), ("8",)), "a tuple of positive widths"),
        ("waves", ((), (1, 2.5)), ((0.0,), (1.0, -2), (float("inf"),), ("1",)), "a tuple of positive numbers"),
    ],
)
def test_every_kind_of_range(name, good, bad, wanted):
    config = settings.make(Trainer, AGENT)
    for value in good:
        config[name] = value
        settings.check(config, Trainer, AGENT)
    for value in bad:
        config[name] = value
        with pytest.raises(UserError) as caught:
            settings.check(config, Trainer, AGENT)
        assert str(caught.value) == f"config.{name} is {value!r}; it must be {wanted}."


def test_a_part_is_read_from_any_object():
    found = settings.read(Static, SimpleNamespace(hidden=[3, 4], rate=7.0), action_dim=2)
    # From JSON a tuple comes as a list; what an older config lacks has its default, what it has beyond is passed over.
    assert found == Static(action_dim=2, hidden=(3, 4), bound=1.0, clipped=True)
    hash(found)
    assert settings.read(Static, settings.make(AGENT, bound=2.0), action_dim=1).bound == 2.0
    # What is known is not read.
    assert settings.read(Static, SimpleNamespace(bound=2.0, action_dim=5), bound=3.0, action_dim=1) == Static(
        1, bound=3.0
    )


def test_swept_numbers_are_read_as_traced_scalars():
    found = settings.read_traced(Hyper, SimpleNamespace(rate=1), horizon=50)
    assert (float(found.rate), float(found.horizon)) == (1, 50)
    assert all(leaf.shape == () and leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found))
    assert len(jax.tree.leaves(found)) == 2


def test_what_a_run_that_goes_on_may_change():
    assert settings.changeable(Trainer, AGENT) == ("log_every", "memory", "mirrors", "train_steps")


def test_a_description_has_a_line_for_each_setting():
    config = settings.make(AGENT, rate=0.25)
    *lines, last = settings.describe(config, AGENT).splitlines()
    names = ["hidden", "waves", "bound", "clipped", "rate", "horizon", "train_steps"]
    assert [line.split()[0] for line in lines] == names
    assert lines[0] == "hidden       (8, 8)  hidden layers"
    assert lines[4] == "rate         0.25    learning rate"
    assert last == f"Sources: {settings.SOURCES}"


def test_the_sources_that_settings_name_are_explained():
    marks = {"[T2]", "[T3]", "[T4]", *re.findall(r"\[\w+\]", settings.SOURCES)}
    for field in settings.fields_of(Training, Data, *AGENTS.values()):
        for inside in re.findall(r"\[([^]]+)\]", field.metadata["about"]):
            assert {f"[{one}]" for one in inside.partition(":")[0].split(", ")} <= marks, field
