"""Up and down, from the results of probes."""

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlb.health.rise_fall import Health, State, assume_up, first_result_due_s, observe

UP, DOWN, UNKNOWN = Health(State.UP), Health(State.DOWN), Health()


def after(health: Health, results: str, *, rise: int = 2, fall: int = 3) -> State:
    """The state after results written as + and -."""
    return reduce(
        lambda have, result: observe(have, result == "+", rise=rise, fall=fall), results, health
    ).state


@pytest.mark.parametrize(
    ("start", "results", "state"),
    [
        (UNKNOWN, "+", State.UP),
        (UNKNOWN, "-", State.DOWN),
        (UP, "--", State.UP),
        (UP, "---", State.DOWN),
        (UP, "--+--", State.UP),
        (UP, "--+---", State.DOWN),
        (DOWN, "+", State.DOWN),
        (DOWN, "++", State.UP),
        (DOWN, "+-+", State.DOWN),
        (DOWN, "+-++", State.UP),
        (UNKNOWN, "-+", State.DOWN),
        (UNKNOWN, "-++", State.UP),
    ],
)
def test_only_results_in_a_row_change_the_state(start, results, state):
    """One opposite result starts the count again; the very first result decides alone."""
    assert after(start, results) is state


@given(st.text("+-", max_size=30), st.integers(1, 5), st.integers(1, 5))
def test_the_state_changes_exactly_at_the_end_of_a_row(results, rise, fall):
    """The same rule, said the other way round: by looking back over what was seen."""
    state = UP
    for index, result in enumerate(results):
        before, state = state, observe(state, result == "+", rise=rise, fall=fall)
        if state.state is not before.state:
            needed = rise if result == "+" else fall
            assert results[: index + 1].endswith(result * needed)
    for needed, result, expected in ((rise, "+", State.UP), (fall, "-", State.DOWN)):
        if results.endswith(result * needed) and results:
            assert state.state is expected


def test_an_unknown_backend_is_taken_as_up_when_the_wait_is_over():
    """Fail open: asking was too slow, which is not the backend's fault."""
    assert assume_up(UNKNOWN) == UP


def test_a_result_that_is_known_is_not_overruled_by_the_wait():
    """Down stays down."""
    assert assume_up(DOWN) == DOWN


def test_the_wait_for_a_first_result_covers_one_probe_and_one_interval():
    """A probe may start an interval late and take its whole time."""
    assert first_result_due_s(interval_s=2, timeout_s=1) == 3
