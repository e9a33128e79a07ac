"""Ejection by failures in traffic."""

import pytest

from fastlb.health.passive import (
    Ejection,
    end,
    is_failing,
    may_eject,
    observe_failure,
    observe_pass,
    observe_recovery,
    observe_time,
)
from fastlb.model.config import EjectConfig

RULES = EjectConfig()


def failed(
    ejection: Ejection,
    *rows: int,
    now_s: float = 100.0,
    allowed: bool = True,
    unseen: bool = False,
    rules: EjectConfig = RULES,
) -> Ejection:
    """The ejection after failures that were the n-th in a row: refused connects, or `unseen`."""
    for in_a_row in rows:
        ejection = observe_failure(ejection, in_a_row, now_s, rules, allowed=allowed, unseen=unseen)
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


def test_the_first_failure_after_an_ejection_ejects_again():
    """Its row goes on, so that trying it costs one request each time and not five."""
    back = observe_time(failed(Ejection(), 1, 2, 3, 4, 5, now_s=100), 110)

    assert seen(back) == (1, None)
    assert seen(failed(back, 6, now_s=110)) == (2, 130.0)


def test_rules_are_those_of_the_user():
    """Two in a row, three seconds at first."""
    rules = EjectConfig(after=2, time_s=3)

    assert seen(failed(Ejection(), 1, rules=rules)) == (0, None)
    assert seen(failed(Ejection(), 1, 2, rules=rules)) == (1, 103.0)
    assert failed(Ejection(1), 3, now_s=0, rules=EjectConfig(time_s=400, after=2)).until_s == 400.0


def test_nobody_is_ejected_where_it_is_not_allowed():
    """The pool is protected from an outage that has another cause."""
    assert seen(failed(Ejection(), 5, 6, 7, allowed=False)) == (0, None)


@pytest.mark.parametrize(
    ("pool", "ejected", "others_well", "allowed"),
    [
        (1, 0, 0, False),
        (2, 0, 1, True),
        (2, 1, 0, False),
        (3, 0, 2, True),
        (3, 1, 1, False),
        (4, 1, 2, True),
        (4, 2, 1, False),
        (10, 0, 0, False),
    ],
)
def test_at_most_half_the_pool_is_ejected_and_never_the_last(pool, ejected, others_well, allowed):
    """A shared fault must not empty the pool, and a sole backend is better than none."""
    assert may_eject(RULES, pool=pool, ejected=ejected, others_well=others_well) is allowed


@pytest.mark.parametrize(("share", "allowed"), [(0, 0), (10, 1), (33, 3), (100, 9)])
def test_share_that_may_be_ejected_is_a_setting(share, allowed):
    """None at all, or all but the last one."""
    rules = EjectConfig(share_percent=share)
    ejected = 0
    while may_eject(rules, pool=10, ejected=ejected, others_well=10 - ejected - 1):
        ejected += 1

    assert ejected == allowed


def test_a_passing_check_makes_up_for_failed_connects():
    """It would have met them; the engine goes on counting its row, and five more eject again."""
    well = observe_pass(failed(Ejection(), 5))

    assert seen(well) == (0, None)
    assert seen(failed(well, 6, 7, 8, 9)) == (0, None)
    assert seen(failed(well, 6, 7, 8, 9, 10, now_s=100)) == (1, 110.0)


def test_a_row_that_begins_anew_owes_nothing_to_what_was_forgiven():
    """A success has come in between."""
    well = observe_pass(failed(Ejection(), 5))

    assert seen(failed(well, 1, 2, 3, 4, 5, now_s=100)) == (1, 110.0)


@pytest.mark.parametrize("kinds", [(True,) * 5, (True, False, False, False, False)])
def test_a_passing_check_says_nothing_about_failures_that_it_does_not_see(kinds):
    """Neither is the row forgiven nor the ejection over: the next real request would fail too."""
    ejection = Ejection()
    for in_a_row, unseen in enumerate(kinds, 1):
        ejection = observe_pass(failed(ejection, in_a_row, unseen=unseen))

    assert seen(ejection) == (1, 110.0)


def test_a_row_of_connects_after_a_success_is_forgiven_again():
    """What a check does not see was in the row before."""
    ejection = failed(failed(Ejection(), 1, 2, unseen=True), 1, 2, 3, 4, 5)

    assert observe_pass(ejection).until_s is None


def test_coming_back_from_down_ends_an_ejection_and_keeps_the_row():
    """It may be a new process, which is tried at once; if it is not, one failure is enough."""
    back = observe_recovery(failed(Ejection(3), 5, 6, unseen=True))

    assert seen(back) == (0, None)
    assert seen(failed(back, 7, now_s=200, unseen=True)) == (1, 210.0)


def test_who_fails_is_known_for_as_long_as_an_ejection_lasts():
    """Successes are not told, so failures that are long ago say nothing."""
    long = failed(Ejection(), 5, allowed=False)

    assert is_failing(long, 110.0, RULES)
    assert not is_failing(long, 110.1, RULES)
    assert not is_failing(failed(Ejection(), 4), 100.0, RULES)
    assert is_failing(end(failed(Ejection(), 5), 200.0), 205.0, RULES)


@pytest.mark.parametrize("per_s", [5, 40, 400])
def test_backend_that_fails_everything_and_passes_its_checks_costs_little(per_s):
    """One of three, by turns, for two minutes; a check passes before each request."""
    ejection, in_a_row, lost = Ejection(), 0, 0
    for number in range(120 * per_s):
        now_s = number / per_s
        ejection = observe_pass(observe_time(ejection, now_s))
        if ejection.until_s is None and number % 3 == 0:
            in_a_row += 1
            lost += 1
            ejection = failed(ejection, in_a_row, now_s=now_s, unseen=True)

    assert lost / (120 * per_s) < 0.02
