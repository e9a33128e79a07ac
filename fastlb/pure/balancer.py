"""Who is picked, and how many exchanges each backend has.

An indexed binary heap of counts, exact and in one order with the native engine; the tables of the
round-robin and random policies; and the queue of exchanges that wait for a backend below its
`max_conns`. A backend that is full, a backup, or in no plan is not in the heap but keeps its count.
"""

import secrets
import threading
from collections.abc import Callable, Collection
from functools import cmp_to_key

from fastlb.model.errors import ConfigError, NoBackendError
from fastlb.model.limits import LOAD_UNIT, PHANTOM_MAX
from fastlb.model.plan import Pick, Plan, PlanEntry

_UINT64_MAX = 2**64 - 1
_OUT = -1  # position of a node that is not in the heap
_FADE_ONE = 65_536  # as in the native engine, so that both round alike


class _Node:
    """One backend's count. Lives from its first plan until `forget`."""

    __slots__ = (
        "backup",
        "in_flight",
        "listed",
        "load",
        "max_conns",
        "phantom",
        "picked_at",
        "position",
        "slot",
        "weight",
    )

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.weight = 1
        self.max_conns = 0
        self.in_flight = 0
        self.phantom = 0  # what failures have added to its load, in 1 / LOAD_UNIT
        self.load = 0  # what the order compares by weight; see `weigh`
        self.picked_at = 0  # sequence number of the last pick; 0 = never
        self.listed = False  # named by the plan
        self.backup = False  # and as a backup
        self.position = _OUT

    def weigh(self) -> None:
        """The count or the phantom has changed. Idle backends tie whatever their weight."""
        busy = self.in_flight or self.phantom
        self.load = (self.in_flight + 1) * LOAD_UNIT + self.phantom if busy else 0

    @property
    def full(self) -> bool:
        return 0 < self.max_conns <= self.in_flight

    @property
    def ordered(self) -> bool:
        """True if it stands in the heap."""
        return self.listed and not self.backup and not self.full


def _before(a: _Node, b: _Node) -> bool:
    """True if `a` is picked before `b`: idle first, then (n + phantom + 1) / weight, then least recent."""
    left, right = a.load * b.weight, b.load * a.weight
    if left != right:
        return left < right
    if a.picked_at != b.picked_at:
        return a.picked_at < b.picked_at
    return a.slot < b.slot


def _compare(a: _Node, b: _Node) -> int:
    return -1 if _before(a, b) else 1


_order = cmp_to_key(_compare)


class _Waiter:
    __slots__ = ("granted", "tried")

    def __init__(self, tried: Collection[int], granted: Callable[[int], None]) -> None:
        self.tried = tried
        self.granted = granted


class Balancer:
    """Picks backends and counts exchanges; see fastlb.model.contract.Balancer."""

    def __init__(self, seed: int | None = None) -> None:
        self._nodes: dict[int, _Node] = {}
        self._heap: list[_Node] = []
        self._backups: list[_Node] = []
        self._fading: dict[int, _Node] = {}  # those with a phantom, by slot
        self._pick = Pick.LEAST_LOADED
        self._table: tuple[int, ...] = ()
        self._cursor = 0
        self._sequence = 0
        self._random_state = (secrets.randbits(64) if seed is None else seed & _UINT64_MAX) | 1
        self._waiters: dict[int, _Waiter] = {}
        self._tickets = 0

    # --- plans ------------------------------------------------------------------------------

    def publish(self, plan: Plan) -> None:
        """Use `plan` from the next pick on. Counts are kept. O(n log n)."""
        for node in self._nodes.values():
            node.listed = False
        for entry in plan.entries:
            self._list(entry, backup=False)
        for entry in plan.backups:
            self._list(entry, backup=True)
        self._backups = [self._nodes[entry.slot] for entry in plan.backups]
        self._pick = plan.pick
        self._table = plan.table
        if self._cursor >= len(plan.table):
            self._cursor = 0
        self._rebuild()
        self._grant()

    def forget(self, slot: int) -> None:
        """Drop the count of a backend that is in no plan and has nothing in flight."""
        node = self._nodes.get(slot)
        if node is not None and not node.listed and not node.in_flight:
            del self._nodes[slot]
            self._fading.pop(slot, None)

    def _list(self, entry: PlanEntry, *, backup: bool) -> None:
        node = self._nodes.get(entry.slot)
        if node is None:
            node = self._nodes[entry.slot] = _Node(entry.slot)
        node.listed = True
        node.backup = backup
        node.weight = entry.weight
        node.max_conns = entry.max_conns

    def _rebuild(self) -> None:
        for node in self._heap:
            node.position = _OUT
        # A sorted list is a heap.
        self._heap = sorted((n for n in self._nodes.values() if n.ordered), key=_order)
        for position, node in enumerate(self._heap):
            node.position = position

    # --- picks ------------------------------------------------------------------------------

    def acquire(self, tried: Collection[int] = ()) -> int:
        """Pick a backend that is not in `tried` and count one more exchange on it.

        Order:  idle first, then (n + phantom + 1) / weight by cross-multiplication, then least recently
                picked, then the lower slot; or the table's next slot. A backup if every other
                backend is tried; while one of them is only full, nobody.
        Cost:   O(log n) in backends; O(table) at worst for a table.
        Raises: NoBackendError if every backend of the plan is full or tried.
        """
        if self._pick is Pick.LEAST_LOADED:
            node = self._least(tried) if tried else (self._heap[0] if self._heap else None)
        else:
            node = self._from_table(tried)
        if node is None and self._backups and not self._primary_left(tried):
            node = self._least_backup(tried)
        if node is None:
            raise NoBackendError("every backend is down, draining, full or excluded")
        return self._count(node)

    def acquire_at(self, slot: int) -> bool:
        """Count one more exchange on `slot`, for a client that has a connection there. False if it is out or
        full. Such a client goes past the queue, which is for places that it does not take."""
        node = self._nodes.get(slot)
        if node is None or not node.listed or node.backup or node.full:
            return False
        self._count(node)
        return True

    def _count(self, node: _Node) -> int:
        self._sequence += 1
        node.picked_at = self._sequence
        node.in_flight += 1
        node.weigh()
        if node.full:
            self._take_out(node)
        elif node.position != _OUT:
            self._sift_down(node, node.position)
        return node.slot

    def release(self, slot: int) -> None:
        """Give one unit back, and hand it to the first exchange that waits for it.

        Raises: ValueError if nothing was in flight.
        """
        node = self._nodes.get(slot)
        if node is None or not node.in_flight:
            raise ValueError(f"nothing in flight on slot {slot}")
        node.in_flight -= 1
        node.weigh()
        if node.position != _OUT:
            self._sift_up(node, node.position)
        elif node.ordered:
            self._put_in(node)
        if self._waiters:
            self._grant()

    def blame(self, slot: int) -> None:
        """A failure: let a backend look busier by one exchange. Tables ask nobody how busy he is, and
        nobody asks for one that is neither in the plan nor has anything open."""
        node = self._nodes.get(slot)
        if node is None or self._pick is not Pick.LEAST_LOADED or not (node.listed or node.in_flight):
            return
        node.phantom = min(node.phantom + LOAD_UNIT, PHANTOM_MAX)
        node.weigh()
        self._fading[slot] = node
        if node.position != _OUT:
            self._sift_down(node, node.position)

    def fade(self, share: float) -> bool:
        """Let what failures have added fade to `share` of it. True while some is left."""
        kept = int(share * _FADE_ONE)
        for slot, node in tuple(self._fading.items()):
            node.phantom = node.phantom * kept // _FADE_ONE
            node.weigh()
            if not node.phantom:
                del self._fading[slot]
            if node.position != _OUT:
                self._sift_up(node, node.position)
        return bool(self._fading)

    def in_flight(self, slot: int) -> int:
        """Exchanges counted on `slot` now; 0 for a slot never seen."""
        node = self._nodes.get(slot)
        return node.in_flight if node is not None else 0

    def counted(self) -> dict[int, int]:
        """Exchanges in flight by slot, zeros left out. O(n)."""
        return {slot: node.in_flight for slot, node in self._nodes.items() if node.in_flight}

    def verify(self) -> None:
        """Raise AssertionError if the inner order is broken. O(n)."""
        for position, node in enumerate(self._heap):
            assert node.position == position, f"slot {node.slot} is at {position}, says {node.position}"
            assert node.ordered, f"slot {node.slot} must not be in the heap"
            if position:
                parent = self._heap[(position - 1) >> 1]
                assert _before(parent, node), f"slot {node.slot} comes before its parent {parent.slot}"
        for node in self._nodes.values():
            assert node.in_flight >= 0, f"slot {node.slot} counts {node.in_flight}"
            found = 0 <= node.position < len(self._heap) and self._heap[node.position] is node
            assert node.ordered == found == (node.position != _OUT), f"slot {node.slot} is in the wrong place"

    def _least(self, tried: Collection[int]) -> _Node | None:
        """The best node that is not excluded: only below an excluded node can there be a better one."""
        best: _Node | None = None
        open_positions = [0]
        while open_positions:
            position = open_positions.pop()
            if position >= len(self._heap):
                continue
            node = self._heap[position]
            if node.slot in tried:
                open_positions += (2 * position + 1, 2 * position + 2)
            elif best is None or _before(node, best):
                best = node
        return best

    def _primary_left(self, tried: Collection[int]) -> bool:
        """True if there is one that was not tried, which then can only be full. O(n)."""
        return any(n.listed and not n.backup and n.slot not in tried for n in self._nodes.values())

    def _least_backup(self, tried: Collection[int]) -> _Node | None:
        return min((n for n in self._backups if not n.full and n.slot not in tried), key=_order, default=None)

    def _from_table(self, tried: Collection[int]) -> _Node | None:
        table = self._table
        if not table:
            return None
        start = self._random_index(len(table)) if self._pick is Pick.RANDOM else self._cursor
        for step in range(len(table)):
            index = (start + step) % len(table)
            node = self._nodes[table[index]]
            if not node.full and node.slot not in tried:
                if self._pick is Pick.CYCLE:
                    self._cursor = (index + 1) % len(table)
                return node
        return None

    def _random_index(self, count: int) -> int:
        """xorshift64 (Marsaglia 2003), as in the native engine, so that a seed gives the same picks."""
        state = self._random_state
        state ^= state << 13 & _UINT64_MAX
        state ^= state >> 7
        state ^= state << 17 & _UINT64_MAX
        self._random_state = state
        return (state >> 32) * count >> 32

    # --- the queue --------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Exchanges in the queue."""
        return len(self._waiters)

    def could_serve(self, tried: Collection[int]) -> bool:
        """True if the plan has a backend that is not in `tried`, full or not. O(n)."""
        return any(node.listed and slot not in tried for slot, node in self._nodes.items())

    def wait(self, tried: Collection[int], granted: Callable[[int], None]) -> int:
        """Queue for a unit; `granted` is called with the slot, in order of arrival.

        Returns: a ticket for `leave`.
        """
        self._tickets += 1
        self._waiters[self._tickets] = _Waiter(tried, granted)
        return self._tickets

    def leave(self, ticket: int) -> None:
        """Leave the queue; a ticket that was granted or left is ignored. O(1)."""
        self._waiters.pop(ticket, None)

    def _grant(self) -> None:
        """Give room that there is to those who wait longest."""
        while (found := self._grantable()) is not None:
            ticket, slot = found
            self._waiters.pop(ticket).granted(slot)

    def _grantable(self) -> tuple[int, int] | None:
        """The first ticket that can be served, and a unit taken for it."""
        for ticket, waiter in self._waiters.items():
            try:
                return ticket, self.acquire(waiter.tried)
            except NoBackendError:
                if not waiter.tried:
                    return None  # nothing has room for anybody
        return None

    # --- the heap ---------------------------------------------------------------------------

    def _put_in(self, node: _Node) -> None:
        self._heap.append(node)
        self._sift_up(node, len(self._heap) - 1)

    def _take_out(self, node: _Node) -> None:
        if node.position == _OUT:
            return
        position, node.position = node.position, _OUT
        last = self._heap.pop()
        if last is not node:
            self._sift_up(last, position)
            self._sift_down(last, last.position)

    def _sift_up(self, node: _Node, position: int) -> None:
        heap = self._heap
        while position:
            above = (position - 1) >> 1
            parent = heap[above]
            if not _before(node, parent):
                break
            heap[position] = parent
            parent.position = position
            position = above
        heap[position] = node
        node.position = position

    def _sift_down(self, node: _Node, position: int) -> None:
        heap = self._heap
        count = len(heap)
        while (below := 2 * position + 1) < count:
            child = heap[below]
            if below + 1 < count and _before(heap[below + 1], child):
                below += 1
                child = heap[below]
            if not _before(child, node):
                break
            heap[position] = child
            child.position = position
            position = below
        heap[position] = node
        node.position = position


class LeastLoaded(Balancer):
    """A balancer over slots 0..n-1 with a plan of its own; thread-safe, as programs expect of it."""

    def __init__(self, weights: Collection[int], max_conns: Collection[int] = ()) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._weights = list(weights)
        self._drained: set[int] = set()
        limits = list(max_conns) or [0] * len(self._weights)
        if len(limits) != len(self._weights):
            raise ConfigError("max_conns", len(limits), "one for each weight")
        entries = (
            PlanEntry(slot, max(weight, 1), limit)
            for slot, (weight, limit) in enumerate(zip(self._weights, limits, strict=True))
        )
        self.publish(Plan(entries=tuple(entries)))
        for slot, weight in enumerate(self._weights):
            if weight == 0:
                self._settle(slot)

    def acquire(self, tried: Collection[int] = ()) -> int:
        """See Balancer.acquire."""
        with self._lock:
            return super().acquire(tried)

    def release(self, slot: int) -> None:
        """See Balancer.release."""
        with self._lock:
            super().release(slot)

    def blame(self, slot: int) -> None:
        """See Balancer.blame."""
        with self._lock:
            super().blame(slot)

    def fade(self, share: float) -> bool:
        """See Balancer.fade."""
        with self._lock:
            return super().fade(share)

    def drain(self, slot: int) -> None:
        """Pick it no more; what is in flight stays counted. O(log n)."""
        self._known(slot)
        self._drained.add(slot)
        self._settle(slot)

    def restore(self, slot: int) -> None:
        """Pick it again. O(log n)."""
        self._known(slot)
        self._drained.discard(slot)
        self._settle(slot)

    def set_weight(self, slot: int, weight: int) -> None:
        """Change its share; 0 drains it. O(log n)."""
        if weight < 0:
            raise ConfigError("weight", weight, "0 or more")
        self._known(slot)
        self._weights[slot] = weight
        self._settle(slot)

    def churn(self, rounds: int) -> None:
        """Acquire and release `rounds` times in one loop."""
        for _ in range(rounds):
            self.release(self.acquire())

    def _settle(self, slot: int) -> None:
        """Bring the heap up to date with the weight and the state of a slot."""
        with self._lock:
            node = self._nodes[slot]
            node.weight = self._weights[slot] or node.weight
            node.listed = self._weights[slot] > 0 and slot not in self._drained
            if not node.ordered:
                self._take_out(node)
            elif node.position == _OUT:
                self._put_in(node)
            else:
                self._sift_up(node, node.position)
                self._sift_down(node, node.position)

    def _known(self, slot: int) -> None:
        if not 0 <= slot < len(self._weights):
            raise ConfigError("slot", slot, f"from 0 to {len(self._weights) - 1}")
