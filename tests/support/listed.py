"""The balancer that is too simple to be wrong: a list, searched from end to end."""

from collections.abc import Collection, Sequence
from fractions import Fraction


class Listed:
    """LeastLoaded in O(n), written from the words of the contract and nothing else."""

    def __init__(self, weights: Sequence[int], max_conns: Sequence[int] = ()) -> None:
        self.weights = list(weights)
        self.max_conns = list(max_conns) or [0] * len(weights)
        self.counts = [0] * len(weights)
        self.drained = [False] * len(weights)
        self.last_pick = [0] * len(weights)
        self._picks = 0

    def _may(self, slot: int, tried: Collection[int]) -> bool:
        full = 0 < self.max_conns[slot] <= self.counts[slot]
        return not (self.drained[slot] or self.weights[slot] == 0 or full or slot in tried)

    def _order(self, slot: int) -> tuple[Fraction, int, int]:
        # Idle backends come first whatever their weight, so all of them are worth the same.
        count = self.counts[slot]
        load = Fraction(count + 1, self.weights[slot]) if count else Fraction(0)
        return load, self.last_pick[slot], slot

    def acquire(self, tried: Collection[int] = ()) -> int | None:
        """The slot, or None if nothing can be picked."""
        slots = [slot for slot in range(len(self.weights)) if self._may(slot, tried)]
        if not slots:
            return None
        best = min(slots, key=self._order)
        self._picks += 1
        self.last_pick[best] = self._picks
        self.counts[best] += 1
        return best

    def release(self, slot: int) -> bool:
        """False if nothing was in flight."""
        if self.counts[slot] == 0:
            return False
        self.counts[slot] -= 1
        return True

    def drain(self, slot: int) -> None:
        """Pick it no more."""
        self.drained[slot] = True

    def restore(self, slot: int) -> None:
        """Pick it again."""
        self.drained[slot] = False

    def set_weight(self, slot: int, weight: int) -> None:
        """Change its share; 0 = none. Whether it is drained is another matter."""
        self.weights[slot] = weight
