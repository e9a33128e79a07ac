"""Ejection: what real traffic says about a backend, whatever its checks say.

A backend that fails several exchanges in a row leaves the rotation for a while, longer each time.
Failed connects and connections broken before a valid response count, and gateway errors unless the
user says otherwise; client errors never do, and local faults are nobody's. The pool is protected
from an outage that is not the backends' fault: at most a share of it is ejected, and only while
somebody who does well is left. If all fail alike nobody is out.

After its time the backend is tried again. Its row goes on until a success ends it, so that the
first failure ejects it anew: a backend that fails every exchange costs one of them each time.

A check says nothing about what it does not see. Its pass makes up for failed connects, which it
would have met too; a row with any other failure in it is not forgiven, and its ejection lasts its
time. Going down and coming back may be a new process: that ends an ejection, and the row stays.
"""

from dataclasses import dataclass, replace

from fastlb.model.config import EjectConfig

LONGEST_S = 300.0


@dataclass(frozen=True, slots=True)
class Ejection:
    """`times`: ejections since the backend last did well; `until_s`: None if it is not ejected.

    `in_a_row`: failures since the last success in traffic, as last told at `failed_s`; `forgiven`: how
    many of them a passing check has made up for; `unseen`: one of them is of a kind that no check sees.
    """

    times: int = 0
    until_s: float | None = None
    in_a_row: int = 0
    forgiven: int = 0
    unseen: bool = False
    failed_s: float = 0.0


def observe_failure(
    ejection: Ejection, in_a_row: int, now_s: float, rules: EjectConfig, *, allowed: bool, unseen: bool
) -> Ejection:
    """The ejection after a failure in traffic, the `in_a_row`th since the last success.

    `unseen`: a check would not have met it. `allowed`: one more backend may be ejected.
    """
    # Workers tell in any order, so only a row that is short by itself is known to be a new one.
    new = in_a_row == 1 or in_a_row < min(ejection.in_a_row, rules.after)
    seen = replace(
        ejection,
        in_a_row=in_a_row,
        forgiven=ejection.forgiven if not new and in_a_row > ejection.forgiven else 0,
        unseen=unseen or (ejection.unseen and not new),
        failed_s=now_s,
    )
    if not _is_long(seen, rules):
        # A short row means that something succeeded since the last ejection.
        return seen if seen.until_s is not None else replace(seen, times=0)
    if seen.until_s is not None or not allowed:
        return seen
    times = seen.times + 1
    time_s = min(rules.time_s * times, max(LONGEST_S, rules.time_s))
    return replace(seen, times=times, until_s=now_s + time_s)


def is_failing(ejection: Ejection, now_s: float, rules: EjectConfig) -> bool:
    """Whether the backend fails all it is sent, as far as is known: successes are not told."""
    return _is_long(ejection, rules) and now_s - ejection.failed_s <= rules.time_s


def observe_pass(ejection: Ejection) -> Ejection:
    """The ejection after a passing check: over and forgiven if it was one for failed connects."""
    if ejection.unseen:
        return ejection
    return Ejection(in_a_row=ejection.in_a_row, forgiven=ejection.in_a_row)


def observe_recovery(ejection: Ejection) -> Ejection:
    """The ejection after checks have found that the backend was down and has come back: over."""
    return replace(ejection, times=0, until_s=None)


def end(ejection: Ejection, now_s: float) -> Ejection:
    """The ejection, over before its time; its count is kept, and nothing says that it does well."""
    return replace(ejection, until_s=None, failed_s=now_s)


def observe_time(ejection: Ejection, now_s: float) -> Ejection:
    """The ejection at `now_s`: over when its time is, its count kept."""
    if ejection.until_s is None or now_s < ejection.until_s:
        return ejection
    return replace(ejection, until_s=None)


def may_eject(rules: EjectConfig, *, pool: int, ejected: int, others_well: int) -> bool:
    """Whether one more of `pool` backends may be ejected.

    `others_well`: of those in rotation besides it, how many are not failing themselves.
    """
    return 100 * (ejected + 1) <= rules.share_percent * pool and others_well > 0


def _is_long(ejection: Ejection, rules: EjectConfig) -> bool:
    return ejection.in_a_row - ejection.forgiven >= rules.after
