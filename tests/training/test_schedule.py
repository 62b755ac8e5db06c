"""Chunks and what is due, by hand."""

import numpy as np
import pytest

from bdpo_jax.agents.base import Phase
from bdpo_jax.errors import UserError
from bdpo_jax.training.schedule import Schedule


def nothing(state, batch, key):
    return state, {}


def phases(first=9, second=24, warmup=6):
    watched = {"watch": ("policy",), "score": ("policy", "behavior")}
    return (
        Phase("copy", first, nothing, score=("behavior",)),
        Phase("train", second, nothing, delayed=nothing, interval=3, delayed_from=warmup, **watched),
    )


def schedule(log=6, checkpoint=9, evaluate=12, **sizes):
    return Schedule(phases(**sizes), log, checkpoint, evaluate)


def chunks(found, done=0):
    while done < found.total:
        chunk = found.next(done)
        done += chunk.length
        yield done, (chunk.phase.name, chunk.start, chunk.length, chunk.cycles)


def test_chunks_end_where_something_is_due():
    assert list(chunks(schedule())) == [
        (6, ("copy", 0, 6, False)),
        (9, ("copy", 6, 3, False)),
        (15, ("train", 0, 6, False)),  # the warm-up
        (18, ("train", 6, 3, True)),  # a checkpoint at 9
        (21, ("train", 9, 3, True)),
        (27, ("train", 12, 6, True)),
        (33, ("train", 18, 6, True)),
    ]


def test_a_full_budget_has_three_programs():
    full = Phase("train", 2_000_000, nothing, delayed=nothing, interval=5, delayed_from=50_000, watch=("policy",))
    found = Schedule((Phase("pretrain", 2_000_000, nothing), full), 1_000, 50_000, 50_000)
    done, programs = 0, set()
    while done < found.total:
        chunk = found.next(done)
        programs.add(chunk.program)
        done += chunk.length
    assert programs == {("pretrain", 1_000, False), ("train", 1_000, False), ("train", 1_000, True)}


def test_what_is_due():
    found = schedule()
    assert [done for done in range(34) if found.save_due(done)] == [0, 9, 18, 27, 33]
    due = {done: found.policies_due(done) for done in range(34) if found.policies_due(done)}
    assert due == {9: ("behavior",), 21: ("policy",), 33: ("policy", "behavior")}
    assert found.counts(0) == {"copy": 0, "train": 0}
    assert found.counts(12) == {"copy": 9, "train": 3}


def test_no_crash_costs_more_than_an_interval_however_long_phases_are():
    phases = tuple(Phase(str(length), length, nothing) for length in (75, 40, 20, 60))
    found = Schedule(phases, 5, 50, 1_000)
    due = [done for done in range(found.total + 1) if found.save_due(done)]
    assert due == [0, 50, 75, 115, 135, 185, 195] and max(np.diff(due)) <= 50


def test_phases_without_a_budget_are_passed_over():
    found = schedule(first=0)
    assert found.next(0).phase.name == "train" and found.at(0) == (found.phases[1], 0)
    ended = schedule(second=0, warmup=0)
    assert [done for done, _ in chunks(ended)] == [6, 9]
    assert ended.policies_due(9) == ("policy", "behavior"), "the end of training is the end of its last phase"
    assert schedule(first=0, second=0, warmup=0).total == 0


def test_the_updates_of_a_metric():
    chunk = schedule().next(21)
    assert (chunk.start, chunk.length) == (12, 6)
    assert [chunk.update_of(i, 6) for i in range(6)] == [13, 14, 15, 16, 17, 18]
    assert [chunk.update_of(i, 2) for i in range(2)] == [15, 18], "the delayed update ends a cycle of three"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"log": 7}, "log_every is 7"),
        ({"checkpoint": 10}, "checkpoint_every is 10"),
        ({"evaluate": 11}, "evaluate_every is 11"),
        ({"second": 25}, "budget of the phase 'train' is 25"),
        ({"warmup": 5}, "warm-up of the phase 'train' is 5"),
    ],
)
def test_intervals_that_do_not_divide_are_one_sentence(changes, named):
    with pytest.raises(UserError, match=f"{named}; it must be a multiple of 3"):
        schedule(**changes)
    schedule(first=10)  # a phase without cycles may have any budget


def test_a_longer_phase_is_the_same_program():
    short, long = phases()[1], phases(second=48, warmup=12)[1]
    assert short == long and hash(short) == hash(long)
    assert phases()[0] != phases()[1]
