"""Smooth weighted round robin, written out as one whole round.

The order is that of nginx: at each step every backend gains its weight, the one that has most is
picked and pays the sum of all weights. Weights 5, 1, 1 give
a a b a c a a, where a plain weighted round robin would give five a in a row.

Facts that keep it fast: backends of one weight are picked in turn, so only one of each distinct
weight has to be compared, and after a round everything is back at the start.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import gcd

from fastlb.model.limits import PLAN_TABLE_MAX

# Comparisons for one table: at most some 0.2 s of CPython, less than any sensible probe time-out.
_COMPARISONS_MAX = 4_000_000


def smooth_sequence(weights: Sequence[int], steps_max: int = PLAN_TABLE_MAX) -> tuple[int, ...]:
    """One round as indexes into `weights`, each as often as its weight over the common divisor.

    A round longer than `steps_max` is shortened by scaling; every index stays in it.
    Cost: O(steps x distinct weights) the first time, O(backends) when it was asked before.
    Raises: ValueError if a weight is below 1 or there are more weights than steps.
    """
    if weights and min(weights) < 1:
        raise ValueError(f"weights must be 1 or more, not {min(weights)}")
    if len(weights) > steps_max:
        raise ValueError(f"{len(weights)} weights do not fit into {steps_max} steps")
    return _sequence(scale(weights, steps_max))


def scale(weights: Sequence[int], total_max: int) -> tuple[int, ...]:
    """`weights` over their common divisor, shrunk until they sum to at most `total_max`.

    None falls below 1: each keeps one step and the rest is shared out in proportion.
    """
    divisor = gcd(*weights) or 1
    reduced = tuple(weight // divisor for weight in weights)
    work_max = _COMPARISONS_MAX // max(1, len(set(reduced)))
    limit = max(len(reduced), min(total_max, work_max))
    total, count = sum(reduced), len(reduced)
    if total <= limit:
        return reduced
    shrunk = tuple(1 + (weight - 1) * (limit - count) // (total - count) for weight in reduced)
    divisor = gcd(*shrunk)
    return tuple(weight // divisor for weight in shrunk)


class _Ring:
    """The backends of one weight: whose turn it is, and what that one has."""

    __slots__ = ("credit", "members", "paid", "turn", "weight")

    def __init__(self, weight: int, members: list[int]) -> None:
        self.weight = weight
        self.members = members
        self.turn = 0
        self.paid = 0  # by the member whose turn it is: whole rounds of this ring times the total
        self.credit = 0


@lru_cache(maxsize=16)
def _sequence(weights: tuple[int, ...]) -> tuple[int, ...]:
    members: dict[int, list[int]] = {}
    for index, weight in enumerate(weights):
        members.setdefault(weight, []).append(index)
    rings = [_Ring(weight, indexes) for weight, indexes in members.items()]
    total = sum(weights)
    return tuple(_step(rings, total) for _ in range(total))


def _step(rings: list[_Ring], total: int) -> int:
    best = rings[0]
    for ring in rings:
        ring.credit += ring.weight
        ahead = ring.credit - ring.paid - best.credit + best.paid
        if ahead > 0 or (ahead == 0 and ring.members[ring.turn] < best.members[best.turn]):
            best = ring
    picked = best.members[best.turn]
    best.turn += 1
    if best.turn == len(best.members):
        best.turn = 0
        best.paid += total
    return picked
