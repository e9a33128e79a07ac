"""When a backend is asked next."""

from random import Random

JITTER = 0.10
# A failure in traffic asks for a probe now, but a storm of failures must not become one of probes.
FORWARD_GAP_S = 0.25


def next_due_s(started_s: float, now_s: float, interval_s: float, rng: Random) -> float:
    """When the next probe starts: one interval, give or take a tenth, after the last one started.

    Probes of one backend never overlap, so one that took longer than the interval is followed
    by the next at once.
    """
    return max(now_s, started_s + interval_s * rng.uniform(1 - JITTER, 1 + JITTER))


def in_doubt_due_s(due_s: float, now_s: float, fast_interval_s: float, rng: Random) -> float:
    """When a backend that is down or in doubt is asked next: never later than it was due.

    Counted from the end of the last probe, so that one which is slow to answer, and not dead, is not
    given up any sooner.
    """
    return min(due_s, now_s + fast_interval_s * rng.uniform(1 - JITTER, 1 + JITTER))


def forward_due_s(due_s: float, started_s: float, now_s: float, interval_s: float) -> float:
    """When the next probe starts after a failure in traffic: never later than it was due."""
    return min(due_s, max(now_s, started_s + min(FORWARD_GAP_S, interval_s)))
