"""Who may be picked, and the plan that says so to an engine."""

from collections import Counter

import pytest

from fastlb.balancing.eligible import Candidate, eligible, in_panic, stand_ins
from fastlb.balancing.plans import build_plan
from fastlb.model.config import Policy
from fastlb.model.plan import Pick, PlanEntry


def slots(*candidates: Candidate) -> list[int]:
    """Slots of those that may be picked."""
    return [candidate.slot for candidate in eligible(candidates)]


def test_backups_wait_while_a_primary_is_in_rotation():
    """A backup is for the outage, not for the load."""
    assert slots(Candidate(slot=0), Candidate(slot=1, backup=True)) == [0]


def test_backups_take_over_when_no_primary_is_left():
    """That is what they are for."""
    down = Candidate(slot=0, in_rotation=False)

    assert slots(down, Candidate(slot=1, backup=True), Candidate(slot=2, backup=True)) == [1, 2]


def test_a_backup_that_is_out_is_not_used_either():
    """Nothing picks a backend that is out, whatever its tier."""
    assert (
        slots(Candidate(slot=0, in_rotation=False), Candidate(slot=1, backup=True, in_rotation=False)) == []
    )


def test_backups_stand_in_only_for_primaries_that_are_there():
    """Once no primary is left, backups are picked like primaries."""
    down = Candidate(slot=0, in_rotation=False)
    backups = Candidate(slot=1, backup=True), Candidate(slot=2, backup=True, in_rotation=False)

    assert [one.slot for one in stand_ins([Candidate(slot=0), *backups])] == [1]
    assert stand_ins([down, *backups]) == stand_ins([Candidate(slot=0)]) == ()


def test_primaries_out_of_rotation_are_left_out():
    """What is down, draining or ejected gets nothing new."""
    assert slots(Candidate(slot=0), Candidate(slot=1, in_rotation=False), Candidate(slot=2)) == [0, 2]


def test_in_panic_all_but_the_draining_are_picked():
    """Whoever was taken out by hand was taken out for a reason that no health can outweigh."""
    down = {"in_rotation": False}
    candidates = [
        Candidate(slot=0, **down),
        Candidate(slot=1, draining=True, **down),
        Candidate(slot=2, backup=True, **down),
    ]

    assert [candidate.slot for candidate in in_panic(candidates)] == [0, 2]


def test_least_conn_needs_no_table():
    """The engine's heap orders the entries; a table would only be memory."""
    entries = [PlanEntry(3, 2, 7), PlanEntry(5)]

    plan = build_plan(Policy.LEAST_CONN, entries, retry_after_s=2)

    assert (plan.pick, plan.entries, plan.table) == (Pick.LEAST_LOADED, tuple(entries), ())


@pytest.mark.parametrize("policy", Policy)
def test_backups_stand_apart_from_the_table(policy):
    """They are not in turn: an exchange comes to them when it has tried everybody else."""
    plan = build_plan(policy, [PlanEntry(9)], backups=[PlanEntry(4, 3, 2)], retry_after_s=2)

    assert (plan.entries, plan.backups, set(plan.table) - {9}) == (
        (PlanEntry(9),),
        (PlanEntry(4, 3, 2),),
        set(),
    )


@pytest.mark.parametrize(("policy", "pick"), [(Policy.ROUND_ROBIN, Pick.CYCLE), (Policy.RANDOM, Pick.RANDOM)])
def test_a_table_holds_slots_in_proportion_to_weight(policy, pick):
    """Tables hold slots, which are not the positions in the pool."""
    plan = build_plan(policy, [PlanEntry(9, 3), PlanEntry(4, 1)], retry_after_s=2)

    assert plan.pick is pick
    assert Counter(plan.table) == {9: 3, 4: 1}


@pytest.mark.parametrize("policy", Policy)
def test_nobody_gives_a_plan_without_entries(policy):
    """All down is a plan too: it tells clients when to come back."""
    plan = build_plan(policy, [], retry_after_s=7)

    assert (plan.entries, plan.table, plan.retry_after_s) == ((), (), 7)
