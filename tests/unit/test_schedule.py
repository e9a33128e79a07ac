"""When probes are due."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from fastlb.health.schedule import forward_due_s, in_doubt_due_s, next_due_s


@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_the_next_probe_is_due_one_interval_later_give_or_take_a_tenth(seed, interval_s):
    """Jitter keeps the probes of many backends from falling together."""
    due_s = next_due_s(50.0, 50.0, interval_s, Random(seed))

    assert 0.9 * interval_s <= due_s - 50.0 + 1e-9
    assert due_s - 50.0 <= 1.1 * interval_s + 1e-9


def test_jitter_is_there():
    """Twenty backends with one interval must not be asked at the same moment."""
    assert len({next_due_s(0.0, 0.0, 2.0, Random(seed)) for seed in range(20)}) == 20


def test_a_probe_that_took_longer_than_the_interval_is_followed_at_once():
    """Probes of one backend do not overlap, and a slow one does not delay the next for ever."""
    assert next_due_s(0.0, 5.0, 2.0, Random(1)) == 5.0


def test_a_failure_in_traffic_brings_the_next_probe_forward():
    """Waiting for the interval would send more clients to a dead backend."""
    assert forward_due_s(60.0, started_s=0.0, now_s=30.0, interval_s=60.0) == 30.0


def test_many_failures_ask_no_more_than_four_times_a_second():
    """A storm of failures must not become a storm of probes."""
    assert forward_due_s(60.0, started_s=30.0, now_s=30.1, interval_s=60.0) == 30.25


def test_a_probe_is_never_put_off():
    """Bringing forward a probe that is due sooner anyway changes nothing."""
    assert forward_due_s(30.15, started_s=30.0, now_s=30.1, interval_s=0.15) == 30.15


def test_a_backend_in_doubt_that_is_slow_to_answer_is_given_up_no_sooner():
    """The time counts from the end of the last probe: three that time out take five seconds, as ever."""
    assert in_doubt_due_s(2.0, 1.0, 1.0, Random(1)) <= 2.0
    assert 1.9 <= in_doubt_due_s(3.0, 1.0, 1.0, Random(1)) <= 2.1


def test_a_backend_in_doubt_is_never_asked_later_than_another():
    """A fast interval that is longer than what is left of the other changes nothing."""
    assert in_doubt_due_s(2.0, 1.9, 1.0, Random(1)) == 2.0
