"""Who is picked: the order of the heap, its ties, and what is left out."""

import pytest

from fastlb.model.errors import ConfigError, NoBackendError
from fastlb.model.plan import Plan, PlanEntry
from support import broken_heap

pytestmark = pytest.mark.unbatched


def take(heap, count):
    return [heap.acquire() for _ in range(count)]


def test_backends_never_picked_are_picked_by_slot(engine):
    """A tie between backends never picked goes to the lower slot, so both engines start alike."""
    assert take(engine.LeastLoaded(weights=[1] * 5), 5) == [0, 1, 2, 3, 4]


def test_least_loaded_is_picked(engine):
    """The point of least connections: the one that got a unit back is next."""
    heap = engine.LeastLoaded(weights=[1, 1, 1])
    take(heap, 6)
    heap.release(1)

    assert heap.acquire() == 1


def test_tie_goes_to_the_backend_picked_longest_ago(engine):
    """Index order would send every lone request to the first backend."""
    heap = engine.LeastLoaded(weights=[1, 1, 1])
    picks = []
    for _ in range(7):
        slot = heap.acquire()
        picks.append(slot)
        heap.release(slot)

    assert picks == [0, 1, 2, 0, 1, 2, 0]


def test_tie_under_load_goes_to_the_backend_picked_longest_ago(engine):
    """The rule holds for equal loads above zero too, not only for idle backends."""
    heap = engine.LeastLoaded(weights=[1, 1, 1])
    take(heap, 6)  # two on each; picked last: 0, 1, 2
    for slot in (2, 0, 1):
        heap.release(slot)

    assert take(heap, 3) == [0, 1, 2]


def test_order_of_releases_does_not_break_ties(engine):
    """Longest ago counts picks, not releases."""
    heap = engine.LeastLoaded(weights=[1, 1, 1])
    take(heap, 3)
    for slot in (2, 1, 0):
        heap.release(slot)

    assert take(heap, 3) == [0, 1, 2]


def test_idle_backend_is_picked_first_whatever_its_weight(engine):
    """An idle server answers sooner than a busy big one (HAProxy's lb_fwlc does the same)."""
    heap = engine.LeastLoaded(weights=[256, 1])

    assert take(heap, 2) == [0, 1]


def test_idle_backends_take_turns_whatever_their_weight(engine):
    """Under light load a small backend is not starved: idle ones tie."""
    heap = engine.LeastLoaded(weights=[1, 256])
    picks = []
    for _ in range(4):
        slot = heap.acquire()
        picks.append(slot)
        heap.release(slot)

    assert picks == [0, 1, 0, 1]


def test_load_is_divided_by_weight(engine):
    """Three times the weight carries three times the exchanges once all are busy."""
    heap = engine.LeastLoaded(weights=[3, 1])
    take(heap, 400)

    assert (heap.in_flight(0), heap.in_flight(1)) == (300, 100)


def test_next_load_decides_and_not_the_present_one(engine):
    """(n + 1) / weight: with one on each, weight 2 would have 2/2 and weight 1 would have 2/1."""
    heap = engine.LeastLoaded(weights=[1, 2])
    take(heap, 2)

    assert take(heap, 2) == [1, 1]  # 2/2 against 2/1; then 3/2 against 2/1


def test_weights_are_compared_exactly(engine):
    """Cross-multiplication, no rounding: 65535 against 65534 differs in the fifth digit."""
    heap = engine.LeastLoaded(weights=[1, 1])
    heap.set_weight(0, 65_534)
    heap.set_weight(1, 65_535)
    take(heap, 2)

    assert heap.acquire() == 1


def test_tried_backends_are_excluded(engine):
    """A retry goes to a backend that has not failed this exchange yet."""
    heap = engine.LeastLoaded(weights=[1, 1, 1])

    assert heap.acquire(tried=[0]) == 1
    assert heap.acquire(tried=[0, 1]) == 2
    assert heap.acquire(tried=(0, 2)) == 1


def test_strangers_among_the_tried_exclude_nobody(engine):
    """A caller may name whom it likes; only who is in the plan can be left out, and once."""
    heap = engine.LeastLoaded(weights=[1, 1], max_conns=[1, 1])
    heap.drain(1)
    with pytest.raises(NoBackendError):
        heap.acquire(tried=[0, 0, 1])

    assert heap.acquire(tried=[-1, 1, 1_000_000]) == 0
    with pytest.raises(NoBackendError):
        heap.acquire(tried=[-1, 1, 1_000_000])
    heap.verify()


def test_excluding_leaves_the_order_of_the_others_alone(engine):
    """A retry must not cost an innocent backend its turn."""
    heap = engine.LeastLoaded(weights=[1, 1, 1])
    heap.acquire(tried=[0])

    assert take(heap, 2) == [0, 2]


def test_all_tried_raises_and_counts_nothing(engine):
    """There is nobody left to try; a unit taken for nobody would never come back."""
    heap = engine.LeastLoaded(weights=[1, 1])
    with pytest.raises(NoBackendError):
        heap.acquire(tried=[0, 1])

    assert [heap.in_flight(slot) for slot in (0, 1)] == [0, 0]


def test_full_backend_is_left_out(engine):
    """max_conns is a promise to the backend."""
    heap = engine.LeastLoaded(weights=[256, 1], max_conns=[1, 0])

    assert take(heap, 4) == [0, 1, 1, 1]


def test_all_full_raises_and_a_release_makes_room(engine):
    """The caller queues on this error, and the next unit given back is the next one taken."""
    heap = engine.LeastLoaded(weights=[1, 1], max_conns=[1, 2])
    take(heap, 3)
    with pytest.raises(NoBackendError):
        heap.acquire()
    heap.release(0)

    assert heap.acquire() == 0


def test_no_backend_at_all_raises(engine):
    """A pool without members is a state, not a crash."""
    with pytest.raises(NoBackendError):
        engine.LeastLoaded(weights=[]).acquire()


def test_drained_backend_keeps_its_open_exchanges(engine):
    """Draining stops new picks and leaves open exchanges counted."""
    heap = engine.LeastLoaded(weights=[1, 1])
    drained = heap.acquire()
    heap.drain(drained)
    later = {heap.acquire() for _ in range(8)}

    assert later == {1 - drained}
    assert heap.in_flight(drained) == 1


def test_restored_backend_is_picked_again_with_its_count(engine):
    """What was in flight while it drained still counts when it is back."""
    heap = engine.LeastLoaded(weights=[1, 1])
    take(heap, 4)
    heap.drain(0)
    take(heap, 2)
    heap.restore(0)

    assert (heap.in_flight(0), heap.in_flight(1)) == (2, 4)
    assert take(heap, 2) == [0, 0]


def test_draining_every_backend_raises(engine):
    """Draining servers are never used, not even when nothing else is left."""
    heap = engine.LeastLoaded(weights=[1, 1])
    heap.drain(0)
    heap.drain(1)
    with pytest.raises(NoBackendError):
        heap.acquire()


def test_weight_zero_drains_and_a_weight_restores(engine):
    """Weight 0 is the word for draining that other balancers use."""
    heap = engine.LeastLoaded(weights=[1, 1])
    heap.set_weight(0, 0)
    assert take(heap, 2) == [1, 1]

    heap.set_weight(0, 4)
    assert take(heap, 2) == [0, 0]


def test_changed_weight_counts_from_the_next_pick(engine):
    """A weight changes the share of what comes, and nothing of what is open."""
    heap = engine.LeastLoaded(weights=[1, 1])
    take(heap, 8)
    heap.set_weight(1, 3)
    take(heap, 8)

    assert (heap.in_flight(0), heap.in_flight(1)) == (4, 12)


def test_release_without_acquire_raises(engine):
    """A count below zero would hide a leak elsewhere for ever."""
    heap = engine.LeastLoaded(weights=[1, 1])
    with pytest.raises(ValueError, match=r"."):
        heap.release(0)


@pytest.mark.parametrize("slot", [-1, 1, 1_000_000])
def test_release_of_a_slot_never_seen_raises(engine, slot):
    """As of one that has nothing in flight."""
    with pytest.raises(ValueError, match=r"."):
        engine.LeastLoaded(weights=[1]).release(slot)


def test_second_release_raises_and_counts_stay(engine):
    """A unit is given back once; the second time is a bug in the caller, said aloud."""
    heap = engine.LeastLoaded(weights=[1, 1])
    slot = heap.acquire()
    heap.release(slot)
    with pytest.raises(ValueError, match=r"."):
        heap.release(slot)

    assert heap.in_flight(slot) == 0
    heap.verify()


def test_slot_never_seen_has_nothing_in_flight(engine):
    """Asking about a stranger is a question, not an error."""
    assert engine.LeastLoaded(weights=[1]).in_flight(40) == 0


def test_churn_gives_back_what_it_takes(engine):
    """The benchmark's loop must leave the balancer as it found it."""
    heap = engine.LeastLoaded(weights=[1, 2, 3])
    heap.churn(1000)

    assert [heap.in_flight(slot) for slot in range(3)] == [0, 0, 0]
    heap.verify()


def test_balancer_of_its_own_refuses_nonsense(engine):
    """A program that miscounts is told what is wrong, and not by a wrong pick."""
    with pytest.raises(ConfigError) as limits:
        engine.LeastLoaded([1, 1], [1])
    with pytest.raises(ConfigError) as weight:
        engine.LeastLoaded([1]).set_weight(0, -1)

    assert (limits.value.path, weight.value.path) == ("max_conns", "weight")


@pytest.mark.parametrize("slot", [-1, 2])
def test_slot_that_is_not_there_is_refused(engine, slot):
    """And nothing has changed."""
    heap = engine.LeastLoaded([1, 1])
    for change in (heap.drain, heap.restore, lambda slot: heap.set_weight(slot, 1)):
        with pytest.raises(ConfigError, match=f"slot: {slot} is not from 0 to 1"):
            change(slot)

    heap.verify()
    assert {heap.acquire(), heap.acquire()} == {0, 1}


def test_weight_zero_from_the_start_is_not_picked(engine):
    """Until it gets another one."""
    heap = engine.LeastLoaded([0, 1])
    picked = {heap.acquire() for _ in range(3)}
    heap.set_weight(0, 1)

    assert picked == {1}
    assert heap.acquire() == 0
    heap.verify()


@pytest.mark.parametrize("what", broken_heap.NATIVE)
def test_broken_order_is_found(engine, what):
    """verify() is believed by every test; here it must say no."""
    heap = engine.LeastLoaded([1] * 6)
    take(heap, 7)
    heap.verify()
    if engine.name == "native":
        broken_heap.NATIVE[what](broken_heap.core_of(heap, engine.Balancer, 6))
    else:
        broken_heap.PURE[what](heap)

    with pytest.raises(AssertionError):
        heap.verify()


def test_any_number_of_backends_can_be_excluded(engine):
    """A program may have tried more of them than an engine ever does."""
    balancer = engine.Balancer(1)
    balancer.publish(Plan(entries=tuple(PlanEntry(slot) for slot in range(200))))

    assert balancer.acquire(range(199)) == 199
    with pytest.raises(NoBackendError):
        balancer.acquire(range(200))


def test_churn_needs_somebody_to_pick(engine):
    """A measurement of nothing would look very fast."""
    with pytest.raises(NoBackendError):
        engine.LeastLoaded([0]).churn(1)
