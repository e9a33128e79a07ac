"""Balancers that follow published plans: tables, limits, and what a new plan changes."""

from collections import Counter

import pytest

from fastlb.model.errors import NoBackendError
from fastlb.model.plan import Pick, Plan, PlanEntry

pytestmark = pytest.mark.unbatched


def entries(*slots, max_conns=0):
    return tuple(PlanEntry(slot, 1, max_conns) for slot in slots)


def following(engine, plan):
    balancer = engine.Balancer()
    balancer.publish(plan)
    return balancer


def take(balancer, count):
    return [balancer.acquire() for _ in range(count)]


def test_nothing_published_raises(engine):
    """An engine may be asked before its first plan."""
    with pytest.raises(NoBackendError):
        engine.Balancer().acquire()


@pytest.mark.parametrize("pick", Pick)
def test_empty_plan_raises(engine, pick):
    """All down is a plan with nobody in it."""
    with pytest.raises(NoBackendError):
        following(engine, Plan(pick=pick)).acquire()


def test_cycle_follows_the_table(engine):
    """Round robin is a table that a policy computed; the engine only walks it."""
    plan = Plan(pick=Pick.CYCLE, entries=entries(0, 1, 2), table=(0, 0, 1, 0, 2))

    assert take(following(engine, plan), 10) == [0, 0, 1, 0, 2] * 2


def test_cycle_steps_over_the_tried(engine):
    """A retry goes to the next of the table."""
    balancer = following(engine, Plan(pick=Pick.CYCLE, entries=entries(0, 1, 2), table=(0, 1, 2)))

    assert balancer.acquire(tried=[0]) == 1
    assert balancer.acquire(tried=[2]) in (0, 1)


def test_cycle_steps_over_the_full(engine):
    """A full backend keeps its place in the table and is passed by."""
    plan = Plan(pick=Pick.CYCLE, entries=(PlanEntry(0, 1, 1), PlanEntry(1)), table=(0, 1))

    assert Counter(take(following(engine, plan), 5)) == {0: 1, 1: 4}


def test_cycle_all_full_raises(engine):
    """One turn around the table is enough to know."""
    balancer = following(engine, Plan(pick=Pick.CYCLE, entries=entries(0, 1, max_conns=1), table=(0, 1)))
    assert Counter(take(balancer, 2)) == {0: 1, 1: 1}
    with pytest.raises(NoBackendError):
        balancer.acquire()


@pytest.mark.parametrize("pick", [Pick.CYCLE, Pick.RANDOM])
def test_table_of_whom_all_are_tried_or_full_raises(engine, pick):
    """And counts nothing: a unit taken for nobody would never come back."""
    plan = Plan(pick=pick, entries=(PlanEntry(0, 1, 1), PlanEntry(1)), table=(0, 1, 1))
    balancer = following(engine, plan)
    assert balancer.acquire(tried=[1]) == 0
    for tried in ([1], [0, 1], [1, 1, -1, 1_000_000]):
        with pytest.raises(NoBackendError):
            balancer.acquire(tried)

    assert [balancer.in_flight(slot) for slot in (0, 1)] == [1, 0]
    assert balancer.acquire() == 1
    balancer.verify()


def test_random_keeps_to_the_proportions_of_the_table(engine):
    """Weighted random is a table with a slot as often as its weight. The bound is 8 sigma."""
    plan = Plan(pick=Pick.RANDOM, entries=entries(0, 1), table=(0, 0, 0, 1))
    found = Counter(take(following(engine, plan), 4000))

    assert abs(found[0] - 3000) < 220
    assert found[0] + found[1] == 4000


def test_random_is_not_a_cycle(engine):
    """Balancers that share a phase would all hit the same backend at once."""
    plan = Plan(pick=Pick.RANDOM, entries=entries(0, 1), table=(0, 1))
    picks = take(following(engine, plan), 64)

    assert len({tuple(picks[at : at + 2]) for at in range(0, 64, 2)}) > 1


def test_random_steps_over_the_tried_and_the_full(engine):
    """The rules of eligibility are those of every policy."""
    plan = Plan(pick=Pick.RANDOM, entries=(PlanEntry(0, 1, 1), PlanEntry(1), PlanEntry(2)), table=(0, 1, 2))
    balancer = following(engine, plan)
    assert balancer.acquire(tried=[1, 2]) == 0

    assert {balancer.acquire(tried=[2]) for _ in range(20)} == {1}


def test_new_plan_keeps_counts(engine):
    """A backend is a counted object; membership changes who may be picked, not what is open."""
    balancer = following(engine, Plan(entries=entries(0, 1)))
    take(balancer, 4)
    balancer.publish(Plan(entries=entries(1, 2)))

    assert [balancer.in_flight(slot) for slot in (0, 1, 2)] == [2, 2, 0]
    assert take(balancer, 2) == [2, 2]
    balancer.verify()


def test_slot_out_of_the_plan_can_be_released(engine):
    """Open exchanges of a removed backend end later than the plan that had it."""
    balancer = following(engine, Plan(entries=entries(0, 1)))
    take(balancer, 2)
    balancer.publish(Plan(entries=entries(1)))
    balancer.release(0)

    assert balancer.in_flight(0) == 0
    with pytest.raises(ValueError, match=r"."):
        balancer.release(0)


def test_backend_back_in_the_plan_has_its_count(engine):
    """Re-adding the same slot finds the same count, or a busy backend would look idle."""
    balancer = following(engine, Plan(entries=entries(0, 1)))
    take(balancer, 6)
    balancer.publish(Plan(entries=entries(1)))
    balancer.publish(Plan(entries=entries(0, 1)))
    for _ in range(2):
        balancer.release(0)

    assert balancer.in_flight(0) == 1
    assert take(balancer, 2) == [0, 0]


def test_plan_may_change_how_it_picks(engine):
    """A policy can be changed without a restart."""
    balancer = following(engine, Plan(entries=entries(0, 1)))
    take(balancer, 4)
    balancer.publish(Plan(pick=Pick.CYCLE, entries=entries(0, 1), table=(1, 1, 0)))

    assert Counter(take(balancer, 3)) == {1: 2, 0: 1}
    balancer.publish(Plan(entries=entries(0, 1)))
    assert balancer.acquire() == 0
    balancer.verify()


def test_smaller_max_conns_lets_open_exchanges_end(engine):
    """A limit lowered below what is open refuses new picks until enough have ended."""
    balancer = following(engine, Plan(entries=entries(0)))
    take(balancer, 3)
    balancer.publish(Plan(entries=entries(0, max_conns=2)))
    balancer.release(0)
    with pytest.raises(NoBackendError):
        balancer.acquire()
    balancer.release(0)

    assert balancer.acquire() == 0


def test_plan_of_many_backends_is_published_and_used(engine):
    """Slots need not be dense or few."""
    balancer = following(engine, Plan(entries=entries(*range(0, 20_000, 2))))

    assert take(balancer, 3) == [0, 2, 4]
    balancer.verify()
