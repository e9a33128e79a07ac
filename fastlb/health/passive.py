"""Ejection: what real traffic says about a backend, between two probes.

A backend that fails several exchanges in a row leaves the rotation for a while, longer each time.
Only failed connects and connections broken before a valid response count; what a backend answers
is its own affair, and local faults are nobody's. The pool is protected from an outage that is not
the backends' fault: at most half of it is ejected, and never the last one in rotation. A passing
probe ends an ejection and forgets the earlier ones: `Ejection()` again.
"""

from dataclasses import dataclass

FAILURES_IN_A_ROW = 5
BASE_S = 10.0
LONGEST_S = 300.0


@dataclass(frozen=True, slots=True)
class Ejection:
    """`times`: ejections since the backend last did well; `until_s`: None if it is not ejected."""

    times: int = 0
    until_s: float | None = None


def observe_failure(ejection: Ejection, in_a_row: int, now_s: float, *, allowed: bool) -> Ejection:
    """The ejection after a failure in traffic, the `in_a_row`th since the last success."""
    if in_a_row < FAILURES_IN_A_ROW:
        # A short row means that something succeeded since the last ejection.
        return ejection if ejection.until_s is not None else Ejection()
    if ejection.until_s is not None or not allowed:
        return ejection
    times = ejection.times + 1
    return Ejection(times, now_s + min(BASE_S * times, LONGEST_S))


def observe_time(ejection: Ejection, now_s: float) -> Ejection:
    """The ejection at `now_s`: over when its time is, its count kept."""
    if ejection.until_s is None or now_s < ejection.until_s:
        return ejection
    return Ejection(ejection.times)


def may_eject(*, pool: int, ejected: int, in_rotation: int) -> bool:
    """Whether one more of `pool` backends may be ejected."""
    return 2 * (ejected + 1) <= pool and in_rotation > 1
