"""The same operations give the same picks in both engines."""

import hypothesis.strategies as st
from hypothesis import given, settings

from fastlb.model.errors import NoBackendError
from fastlb.model.plan import Pick, Plan, PlanEntry

SLOTS = 5
slots = st.integers(0, SLOTS - 1)


@st.composite
def plans(draw):
    chosen = draw(st.lists(slots, unique=True, max_size=SLOTS))
    entries = [
        PlanEntry(slot, draw(st.integers(1, 6)), draw(st.sampled_from([0, 0, 1, 3]))) for slot in chosen
    ]
    backups = tuple(entries.pop() for _ in range(draw(st.integers(0, len(entries)))))
    pick = draw(st.sampled_from([Pick.LEAST_LOADED, Pick.LEAST_LOADED, Pick.CYCLE]))
    if pick is Pick.LEAST_LOADED or not entries:
        return Plan(entries=tuple(entries), backups=backups)
    primaries = [entry.slot for entry in entries]
    table = draw(st.lists(st.sampled_from(primaries), min_size=1, max_size=8))
    return Plan(pick=pick, entries=tuple(entries), table=tuple(table), backups=backups)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), st.sets(slots, max_size=SLOTS)),
        st.tuples(st.just("acquire"), st.just(frozenset())),
        st.tuples(st.just("release"), slots),
        st.tuples(st.just("blame"), slots),
        st.tuples(st.just("fade"), st.floats(0, 1)),
        st.tuples(st.just("publish"), plans()),
    ),
    min_size=10,
    max_size=100,
)


def outcome(balancer, verb, what):
    """What one step gave, errors by name."""
    try:
        return getattr(balancer, verb)(what)
    except (NoBackendError, ValueError) as error:
        return type(error).__name__


@settings(max_examples=200, deadline=None)
@given(first=plans(), steps=steps)
def test_same_operations_give_the_same_picks(both, first, steps):
    """A person who develops on one engine and deploys on the other sees one behaviour."""
    balancers = [rooms.Balancer() for rooms in both.values()]
    for balancer in balancers:
        balancer.publish(first)
    for verb, what in steps:
        native, pure = (outcome(balancer, verb, what) for balancer in balancers)
        assert native == pure
    for slot in range(SLOTS):
        assert len({balancer.in_flight(slot) for balancer in balancers}) == 1
