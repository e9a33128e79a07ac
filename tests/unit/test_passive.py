"""Ejection by failures in traffic."""

import pytest

from fastlb.health.passive import Ejection, may_eject, observe_failure, observe_pass, observe_time


def failed(ejection: Ejection, *rows: int, now_s: float = 100.0, allowed: bool = True) -> Ejection:
    """The ejection after failures that were the n-th in a row."""
    for in_a_row in rows:
        ejection = observe_failure(ejection, in_a_row, now_s, allowed=allowed)
    return ejection


def seen(ejection: Ejection) -> tuple[int, float | None]:
    """What counts of it: how often, and until when."""
    return ejection.times, ejection.until_s


def test_four_failures_in_a_row_eject_nobody():
    """A few failures happen; the probe is brought forward for them."""
    assert seen(failed(Ejection(), 1, 2, 3, 4)) == (0, None)


def test_the_fifth_failure_in_a_row_ejects_for_ten_seconds():
    """Five in a row is no accident."""
    assert seen(failed(Ejection(), 1, 2, 3, 4, 5, now_s=100)) == (1, 110.0)


def test_failures_while_ejected_do_not_lengthen_it():
    """Exchanges that were under way fail too; they were counted once."""
    assert seen(failed(Ejection(1, 110.0), 6, 7, now_s=105)) == (1, 110.0)


def test_each_further_ejection_is_ten_seconds_longer():
    """A backend that keeps failing is tried less and less often."""
    assert seen(failed(Ejection(2), 6, now_s=0)) == (3, 30.0)


def test_an_ejection_never_lasts_longer_than_five_minutes():
    """It has to be able to come back."""
    assert failed(Ejection(50), 60, now_s=0).until_s == 300.0


def test_a_success_in_between_makes_the_next_ejection_short_again():
    """A row that starts anew means that the backend did well meanwhile."""
    assert seen(failed(Ejection(4), 1, 2, 3, 4, 5, now_s=0)) == (1, 10.0)


def test_an_ejection_ends_with_its_time_and_keeps_its_count():
    """The count is what makes the next one longer."""
    assert observe_time(Ejection(2, 50.0), 49.9) == Ejection(2, 50.0)
    assert observe_time(Ejection(2, 50.0), 50.0) == Ejection(2)


def test_nobody_is_ejected_where_it_is_not_allowed():
    """The pool is protected from an outage that has another cause."""
    assert seen(failed(Ejection(), 5, 6, 7, allowed=False)) == (0, None)


@pytest.mark.parametrize(
    ("pool", "ejected", "in_rotation", "allowed"),
    [
        (1, 0, 1, False),
        (2, 0, 2, True),
        (2, 1, 1, False),
        (3, 0, 3, True),
        (3, 1, 2, False),
        (4, 1, 3, True),
        (4, 2, 2, False),
        (10, 0, 1, False),
    ],
)
def test_at_most_half_the_pool_is_ejected_and_never_the_last(pool, ejected, in_rotation, allowed):
    """A shared fault must not empty the pool, and a sole backend is better than none."""
    assert may_eject(pool=pool, ejected=ejected, in_rotation=in_rotation) is allowed


def test_a_passing_probe_ends_an_ejection_and_forgives_what_led_to_it():
    """The engine goes on counting its row; only five more of them eject again (Envoy does the same)."""
    well = observe_pass(failed(Ejection(), 5))

    assert seen(well) == (0, None)
    assert seen(failed(well, 6, 7, 8, 9)) == (0, None)
    assert seen(failed(well, 6, 7, 8, 9, 10, now_s=100)) == (1, 110.0)


def test_a_row_that_begins_anew_owes_nothing_to_what_was_forgiven():
    """A success has come in between."""
    well = observe_pass(failed(Ejection(), 5))

    assert seen(failed(well, 1, 2, 3, 4, 5, now_s=100)) == (1, 110.0)
