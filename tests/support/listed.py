"""The balancer that is too simple to be wrong: a list, searched from end to end."""

from collections.abc import Collection, Sequence
from fractions import Fraction


class Listed:
    """LeastLoaded in O(n), written from the words of the contract and nothing else."""

    def __init__(self, weights: Sequence[int], max_conns: Sequence[int] = ()) -> None:
        self.weights = list(weights)
        self.max_conns = list(max_conns) or [0] * len(weights)
        self.counts = [0] * len(weights)
        self.phantoms = [0] * len(weights)  # in 1024ths of an exchange
        self.drained = [False] * len(weights)
        self.last_pick = [0] * len(weights)
        self._picks = 0

    def _may(self, slot: int, tried: Collection[int]) -> bool:
        full = 0 < self.max_conns[slot] <= self.counts[slot]
        return not (self.drained[slot] or self.weights[slot] == 0 or full or slot in tried)

    def _order(self, slot: int) -> tuple[Fraction, int, int]:
        # Idle backends come first whatever their weight, so all of them are worth the same.
        busy = self.counts[slot] + Fraction(self.phantoms[slot], 1024)
        load = (busy + 1) / self.weights[slot] if busy else Fraction(0)
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

    def blame(self, slot: int) -> None:
        """One exchange more, as far as the order goes, unless nobody asks for the slot."""
        if self.counts[slot] or not (self.drained[slot] or self.weights[slot] == 0):
            self.phantoms[slot] += 1024

    def fade(self, share: float) -> bool:
        """What is left of that, rounded down. True if that is something."""
        self.phantoms = [int(phantom * share) for phantom in self.phantoms]
        return any(self.phantoms)

    def drain(self, slot: int) -> None:
        """Pick it no more."""
        self.drained[slot] = True

    def restore(self, slot: int) -> None:
        """Pick it again."""
        self.drained[slot] = False

    def set_weight(self, slot: int, weight: int) -> None:
        """Change its share; 0 = none. Whether it is drained is another matter."""
        self.weights[slot] = weight
