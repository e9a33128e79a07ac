"""Slow start: a backend that has just recovered is not handed all new traffic at once.

Under least connections an empty backend would be picked every time until it has caught up with
the others. Its exchanges are capped instead, at a share of what a backend of its weight carries
elsewhere, and the share grows from nothing to all of it. Only recovery counts: at start every
backend is equally cold. It needs backends that carry the rest of the traffic meanwhile: while
there are none, nobody is held back.
"""

from collections.abc import Iterable

RAMP_S = 10.0


def ramp_share(recovered_s: float, now_s: float) -> float:
    """How far the ramp has come, from 0 to 1 (over)."""
    return min(1.0, max(0.0, (now_s - recovered_s) / RAMP_S))


def ramp_cap(share: float, weight: int, others: Iterable[tuple[int, int]]) -> int:
    """Exchanges at once for a recovering backend of `weight`, at least 1.

    `others`: in-flight count and weight of each backend that carries its full share.
    """
    busiest = max((in_flight / other_weight for in_flight, other_weight in others), default=0.0)
    return max(1, round(share * weight * busiest))


def tighter(cap: int, max_conns: int) -> int:
    """The smaller of two limits, of which `max_conns` may be 0 for none."""
    return min(cap, max_conns) if max_conns else cap
