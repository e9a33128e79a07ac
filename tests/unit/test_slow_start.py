"""Slow start of a backend that has recovered."""

import pytest

from fastlb.health.slow_start import ramp_cap, ramp_share, tighter


@pytest.mark.parametrize(("now_s", "share"), [(100, 0), (105, 0.5), (110, 1), (500, 1), (99, 0)])
def test_the_ramp_takes_ten_seconds(now_s, share):
    """From nothing to all, and no longer."""
    assert ramp_share(100.0, now_s) == share


@pytest.mark.parametrize(
    ("share", "weight", "others", "cap"),
    [
        (0.5, 1, [(40, 1)], 20),
        (0.5, 2, [(40, 1)], 40),
        (0.5, 1, [(40, 4), (30, 1)], 15),
        (1.0, 1, [(40, 1), (12, 1)], 40),
        (0.0, 1, [(40, 1)], 1),
        (0.5, 1, [(0, 1)], 1),
    ],
)
def test_the_cap_is_a_share_of_what_the_busiest_carries_for_its_weight(share, weight, others, cap):
    """It grows to what least connections would give it, and one exchange is always possible."""
    assert ramp_cap(share, weight, others) == cap


@pytest.mark.parametrize(("cap", "max_conns", "limit"), [(5, 0, 5), (5, 3, 3), (5, 9, 5)])
def test_the_users_own_limit_still_holds(cap, max_conns, limit):
    """0 means that there is none."""
    assert tighter(cap, max_conns) == limit
