"""Ejection: what real traffic says about a backend, between two probes.

A backend that fails several exchanges in a row leaves the rotation for a while, longer each time.
Failed connects and connections broken before a valid response count, and server errors if the user
says so; client errors never do, and local faults are nobody's. The pool is protected from an outage
that is not the backends' fault: at most half of it is ejected, and never the last one in rotation.
A passing probe ends an ejection, forgets the earlier ones, and makes up for the failures before it:
only a new row of them ejects again.
"""

from dataclasses import dataclass, replace

FAILURES_IN_A_ROW = 5
BASE_S = 10.0
LONGEST_S = 300.0


@dataclass(frozen=True, slots=True)
class Ejection:
    """`times`: ejections since the backend last did well; `until_s`: None if it is not ejected.

    `in_a_row`: failures since the last success in traffic, as last told; `forgiven`: how many of
    them a passing probe has made up for.
    """

    times: int = 0
    until_s: float | None = None
    in_a_row: int = 0
    forgiven: int = 0


def observe_failure(ejection: Ejection, in_a_row: int, now_s: float, *, allowed: bool) -> Ejection:
    """The ejection after a failure in traffic, the `in_a_row`th since the last success."""
    # A row that is not longer than what was forgiven is a new one: a success came in between.
    forgiven = ejection.forgiven if in_a_row > ejection.forgiven else 0
    seen = replace(ejection, in_a_row=in_a_row, forgiven=forgiven)
    if in_a_row - forgiven < FAILURES_IN_A_ROW:
        # A short row means that something succeeded since the last ejection.
        return seen if seen.until_s is not None else replace(seen, times=0)
    if seen.until_s is not None or not allowed:
        return seen
    times = seen.times + 1
    return replace(seen, times=times, until_s=now_s + min(BASE_S * times, LONGEST_S))


def observe_pass(ejection: Ejection) -> Ejection:
    """The ejection after a passing probe: over, and what led to it forgiven."""
    return Ejection(in_a_row=ejection.in_a_row, forgiven=ejection.in_a_row)


def end(ejection: Ejection) -> Ejection:
    """The ejection, over before its time; its count is kept."""
    return replace(ejection, until_s=None)


def observe_time(ejection: Ejection, now_s: float) -> Ejection:
    """The ejection at `now_s`: over when its time is, its count kept."""
    if ejection.until_s is None or now_s < ejection.until_s:
        return ejection
    return end(ejection)


def may_eject(*, pool: int, ejected: int, in_rotation: int) -> bool:
    """Whether one more of `pool` backends may be ejected."""
    return 2 * (ejected + 1) <= pool and in_rotation > 1
