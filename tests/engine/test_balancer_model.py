"""The heap against a list that is searched from end to end, over any sequence of operations."""

import sys
import threading

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from fastlb.model.errors import NoBackendError
from support.listed import Listed

pytestmark = pytest.mark.unbatched

SLOTS = 6
weights = st.integers(1, 5) | st.sampled_from([256, 65_535])
slots = st.integers(0, SLOTS - 1)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), st.sets(slots, max_size=2)),
        st.tuples(st.just("acquire"), st.just(frozenset())),
        st.tuples(st.just("release"), slots),
        st.tuples(st.just("blame"), slots),
        st.tuples(st.just("fade"), st.sampled_from([0.0, 0.125, 0.5, 0.875, 1.0])),
        st.tuples(st.just("drain"), slots),
        st.tuples(st.just("restore"), slots),
        st.tuples(st.just("set_weight"), st.tuples(slots, st.integers(0, 9))),
    ),
    max_size=120,
)


def pick(heap, tried):
    try:
        return heap.acquire(tried)
    except NoBackendError:
        return None


def give_back(heap, slot):
    try:
        heap.release(slot)
    except ValueError:
        return False
    return True


@settings(max_examples=150, deadline=None)
@given(
    weights=st.lists(weights, min_size=SLOTS, max_size=SLOTS),
    max_conns=st.lists(st.integers(0, 3), min_size=SLOTS, max_size=SLOTS),
    steps=operations,
)
def test_heap_picks_what_the_list_picks(engine, weights, max_conns, steps):
    """A heap is a list that is quicker; any difference is a wrong pick."""
    heap, listed = engine.LeastLoaded(weights, max_conns), Listed(weights, max_conns)
    for verb, what in steps:
        if verb == "acquire":
            assert pick(heap, what) == listed.acquire(what)
        elif verb == "release":
            assert give_back(heap, what) == listed.release(what)
        elif verb == "fade":
            assert heap.fade(what) == listed.fade(what)
        elif verb == "set_weight":
            heap.set_weight(*what)
            listed.set_weight(*what)
        else:
            getattr(heap, verb)(what)
            getattr(listed, verb)(what)
        heap.verify()
    assert [heap.in_flight(slot) for slot in range(SLOTS)] == listed.counts


def test_threads_share_one_exact_count(engine):
    """Workers share the balancer; a lost update would leave a unit for ever. The pure engine has
    one thread, and its balancer is not made for more."""
    heap = engine.LeastLoaded(weights=[1, 2, 3, 4])
    wrong = []

    def hammer():
        for _ in range(300):
            held = [heap.acquire() for _ in range(5)]
            if not all(heap.in_flight(slot) > 0 for slot in held):
                wrong.append(held)
            for slot in held:
                heap.release(slot)
        heap.churn(5000 if engine.name == "native" else 100)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(usual_s)

    heap.verify()
    assert not wrong
    assert [heap.in_flight(slot) for slot in range(4)] == [0, 0, 0, 0]
