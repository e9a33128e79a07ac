"""See balancer.pxd for the order, and model/contract.py for what is promised to Python."""

import os

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from fastlb.native.heap cimport (
    LOAD_UNIT, NOT_IN_HEAP, heap_before, heap_clear, heap_entry_t, heap_free, heap_load, heap_parent,
    heap_reach, heap_remove, heap_set, heap_t,
)
from fastlb.native.types cimport flag_read, flag_write, spin_lock, spin_unlock, waiter_t

from fastlb.model.errors import ConfigError, NoBackendError
from fastlb.model.plan import Pick, Plan

PICKS = {Pick.LEAST_LOADED: PICK_LEAST_LOADED, Pick.CYCLE: PICK_CYCLE, Pick.RANDOM: PICK_RANDOM}


# ---- nodes ----------------------------------------------------------------------------------

cdef inline bint is_full(const node_t* node) noexcept nogil:
    return node.max_conns != 0 and node.in_flight >= node.max_conns


cdef inline bint is_ordered(const balancer_t* b, const node_t* node) noexcept nogil:
    """True if it stands in the heap of its tier. For a table primaries need no order."""
    if is_full(node):
        return False
    return node.tier == TIER_BACKUP or (node.tier == TIER_PRIMARY and b.pick == PICK_LEAST_LOADED)


cdef void node_settle(balancer_t* b, uint32_t slot) noexcept nogil:
    """Bring the heap up to date with what the node says now."""
    cdef node_t* node = &b.nodes[slot]
    cdef heap_t* heap = &b.heap
    cdef heap_entry_t entry
    if node.tier == TIER_BACKUP:
        heap = &b.backups
    if not is_ordered(b, node):
        heap_remove(heap, slot)
        return
    entry.picked_tick = node.picked_tick
    entry.load = heap_load(node.in_flight, node.phantom)
    entry.weight = node.weight
    entry.slot = slot
    heap_set(heap, &entry)


cdef bint nodes_reach(balancer_t* b, uint32_t slot) noexcept nogil:
    """Make room for `slot`. False without memory."""
    cdef uint32_t cap = b.node_cap if b.node_cap else 16
    cdef node_t* nodes
    cdef uint32_t* fading
    cdef uint32_t i
    if slot < b.node_cap:
        return True
    while cap <= slot:
        cap *= 2
    nodes = <node_t*> realloc(b.nodes, cap * sizeof(node_t))
    if nodes == NULL:
        return False
    b.nodes = nodes
    fading = <uint32_t*> realloc(b.fading, cap * sizeof(uint32_t))
    if fading == NULL:
        return False
    b.fading = fading
    if not heap_reach(&b.heap, cap) or not heap_reach(&b.backups, cap):
        return False
    memset(&nodes[b.node_cap], 0, (cap - b.node_cap) * sizeof(node_t))
    for i in range(b.node_cap, cap):
        nodes[i].weight = 1
    b.node_cap = cap
    return True


# ---- life and plans -------------------------------------------------------------------------

cdef bint balancer_init(balancer_t* b, uint64_t seed) noexcept nogil:
    memset(b, 0, sizeof(balancer_t))
    b.random_state = seed | 1
    return nodes_reach(b, 0)


cdef void balancer_free(balancer_t* b) noexcept nogil:
    free(b.nodes)
    heap_free(&b.heap)
    heap_free(&b.backups)
    free(b.table)
    free(b.fading)
    b.nodes = NULL
    b.fading = NULL
    b.table = NULL


cdef bint balancer_plan(balancer_t* b, uint32_t pick, const uint32_t* slots, const uint32_t* weights,
                        const uint32_t* max_conns, uint32_t count, uint32_t backups, uint32_t* table,
                        uint32_t table_len) noexcept nogil:
    """Take over a plan, and `table`, which was malloc()ed. Counts are kept. False without memory.
    The last `backups` of the `count` backends are backups."""
    cdef uint32_t i, highest = 0
    cdef node_t* node
    for i in range(count):
        highest = max(highest, slots[i])
    spin_lock(&b.lock)
    if not nodes_reach(b, highest):
        spin_unlock(&b.lock)
        return False
    heap_clear(&b.heap)
    heap_clear(&b.backups)
    for i in range(b.node_cap):
        b.nodes[i].tier = TIER_OUT
    b.pick = pick
    for i in range(count):
        node = &b.nodes[slots[i]]
        node.weight = weights[i]
        node.max_conns = max_conns[i]
        node.tier = TIER_PRIMARY if i < count - backups else TIER_BACKUP
    for i in range(count):
        node_settle(b, slots[i])
    b.tier_count[TIER_PRIMARY] = count - backups
    b.tier_count[TIER_BACKUP] = backups
    free(b.table)
    b.table = table
    b.table_len = table_len
    if b.cursor >= table_len:
        b.cursor = 0
    spin_unlock(&b.lock)
    return True


cdef bint balancer_set(balancer_t* b, uint32_t slot, uint32_t weight, uint32_t max_conns,
                       bint eligible) noexcept nogil:
    """Change one backend of the plan. False without memory."""
    spin_lock(&b.lock)
    if not nodes_reach(b, slot):
        spin_unlock(&b.lock)
        return False
    b.tier_count[b.nodes[slot].tier] -= 1
    b.nodes[slot].weight = weight
    b.nodes[slot].max_conns = max_conns
    b.nodes[slot].tier = TIER_PRIMARY if eligible else TIER_OUT
    b.tier_count[b.nodes[slot].tier] += 1
    node_settle(b, slot)
    spin_unlock(&b.lock)
    return True


# ---- acquire and release --------------------------------------------------------------------

cdef inline bint was_tried(uint32_t slot, const int32_t* tried, uint32_t tried_count) noexcept nogil:
    cdef uint32_t i
    for i in range(tried_count):
        if tried[i] == <int32_t> slot:
            return True
    return False


cdef inline int heap_least(const heap_t* heap) noexcept nogil:
    return <int> heap.entries[0].slot if heap.len else ACQUIRE_NONE


cdef int pick_least(balancer_t* b, heap_t* heap, const int32_t* tried, uint32_t tried_count) noexcept nogil:
    """The root of a heap, with the tried ones taken out for a moment."""
    cdef uint32_t i
    cdef int picked
    for i in range(tried_count):
        if 0 <= tried[i] < <int32_t> b.node_cap:
            heap_remove(heap, <uint32_t> tried[i])
    picked = heap_least(heap)
    for i in range(tried_count):
        if 0 <= tried[i] < <int32_t> b.node_cap:
            node_settle(b, <uint32_t> tried[i])
    return picked


cdef int pick_from_table(balancer_t* b, const int32_t* tried, uint32_t tried_count) noexcept nogil:
    """The slot at the cursor or at a random place, or the next one that has room."""
    cdef uint32_t at, slot, _step
    if b.table_len == 0:
        return ACQUIRE_NONE
    at = b.cursor
    if b.pick == PICK_RANDOM:
        b.random_state ^= b.random_state << 13        # xorshift64
        b.random_state ^= b.random_state >> 7
        b.random_state ^= b.random_state << 17
        at = <uint32_t> ((b.random_state >> 32) * b.table_len >> 32)
    for _step in range(b.table_len):
        slot = b.table[at]
        at = at + 1 if at + 1 < b.table_len else 0
        if b.nodes[slot].tier == TIER_PRIMARY and not is_full(&b.nodes[slot]) \
                and not was_tried(slot, tried, tried_count):
            if b.pick == PICK_CYCLE:
                b.cursor = at
            return <int> slot
    return ACQUIRE_NONE


cdef bint tier_left(balancer_t* b, uint32_t tier, const int32_t* tried,
                    uint32_t tried_count) noexcept nogil:
    """True if the tier has a backend that was not tried. If none of it was picked, it is full."""
    cdef uint32_t i, left = b.tier_count[tier]
    for i in range(tried_count):
        if 0 <= tried[i] < <int32_t> b.node_cap and b.nodes[tried[i]].tier == tier \
                and not was_tried(<uint32_t> tried[i], tried, i):
            left -= 1
    return left > 0


cdef int pick_backup(balancer_t* b, const int32_t* tried, uint32_t tried_count) noexcept nogil:
    """No primary could be picked: a backup if all of them were tried, or the reason."""
    cdef int picked
    if tier_left(b, TIER_PRIMARY, tried, tried_count):
        return ACQUIRE_FULL
    picked = pick_least(b, &b.backups, tried, tried_count)
    if picked < 0 and tier_left(b, TIER_BACKUP, tried, tried_count):
        return ACQUIRE_FULL
    return picked


cdef int acquire_locked(balancer_t* b, const int32_t* tried, uint32_t tried_count,
                        uint32_t* in_flight) noexcept nogil:
    cdef int picked
    if b.pick != PICK_LEAST_LOADED:
        picked = pick_from_table(b, tried, tried_count)
    elif tried_count:
        picked = pick_least(b, &b.heap, tried, tried_count)
    else:
        picked = heap_least(&b.heap)
    if picked < 0:
        picked = pick_backup(b, tried, tried_count)
    if picked < 0:
        return picked
    in_flight[0] = count_one(b, <uint32_t> picked)
    return picked


cdef uint32_t count_one(balancer_t* b, uint32_t slot) noexcept nogil:
    """Count one more exchange. Returns how many there are now."""
    cdef node_t* node = &b.nodes[slot]
    flag_write(&node.in_flight, node.in_flight + 1)
    b.tick += 1
    node.picked_tick = b.tick
    node_settle(b, slot)
    return node.in_flight


cdef bint balancer_acquire_at(balancer_t* b, uint32_t slot, uint32_t* in_flight) noexcept nogil:
    """Count one more exchange on `slot`, for a client that has a connection there. False if that may not
    be: it is out or full. Such a client goes past the queue, which is for places that it does not take."""
    cdef bint counted
    spin_lock(&b.lock)
    counted = slot < b.node_cap and b.nodes[slot].tier == TIER_PRIMARY and not is_full(&b.nodes[slot])
    if counted:
        in_flight[0] = count_one(b, slot)
    spin_unlock(&b.lock)
    return counted


cdef int balancer_acquire(balancer_t* b, const int32_t* tried, uint32_t tried_count,
                          uint32_t* in_flight) noexcept nogil:
    """Pick and count. Returns the slot, ACQUIRE_NONE or ACQUIRE_FULL.

    Who comes while others wait stands behind them; only a second try goes past the queue.
    """
    cdef int picked = ACQUIRE_FULL
    spin_lock(&b.lock)
    if b.queue_head == NULL or tried_count:
        picked = acquire_locked(b, tried, tried_count, in_flight)
    spin_unlock(&b.lock)
    return picked


cdef bint balancer_release(balancer_t* b, uint32_t slot, bint named) noexcept nogil:
    """Give one unit back. False, and nothing done, if there is none. `named`: the exchange goes on, and
    its log line will name the slot: balancer_unname() follows."""
    cdef bint counted
    spin_lock(&b.lock)
    counted = slot < b.node_cap and b.nodes[slot].in_flight > 0
    if counted:
        flag_write(&b.nodes[slot].in_flight, b.nodes[slot].in_flight - 1)
        if named:
            b.nodes[slot].named += 1
        node_settle(b, slot)
    spin_unlock(&b.lock)
    return counted


cdef void balancer_unname(balancer_t* b, uint32_t slot) noexcept nogil:
    """An exchange that met the backend has ended, and its line is written."""
    spin_lock(&b.lock)
    b.nodes[slot].named -= 1
    spin_unlock(&b.lock)


cdef bint balancer_forget(balancer_t* b, uint32_t slot) noexcept nogil:
    """Let nothing be known of a slot that is in no plan. False, and nothing done, if it is in one, or an
    exchange counts on it or will name it."""
    cdef node_t* node
    cdef bint unused = True
    spin_lock(&b.lock)
    if slot < b.node_cap:
        node = &b.nodes[slot]
        unused = node.tier == TIER_OUT and node.in_flight == 0 and node.named == 0
        if unused:
            node.phantom = 0
            node.picked_tick = 0
    spin_unlock(&b.lock)
    return unused


# ---- phantoms -------------------------------------------------------------------------------

cdef void balancer_blame(balancer_t* b, uint32_t slot) noexcept nogil:
    """The backend has failed: let it look busier by one unit. Tables ask nobody how busy he is, and
    nobody asks for one that is neither in the plan nor has anything open."""
    cdef node_t* node
    spin_lock(&b.lock)
    node = &b.nodes[slot if slot < b.node_cap else 0]
    if slot < b.node_cap and b.pick == PICK_LEAST_LOADED and (node.tier != TIER_OUT or node.in_flight):
        node.phantom = min(node.phantom + LOAD_UNIT, <uint32_t> PHANTOM_MAX)
        if not node.fading:
            node.fading = True
            b.fading[b.fading_count] = slot
            b.fading_count += 1
        node_settle(b, slot)
    spin_unlock(&b.lock)


cdef bint balancer_fade(balancer_t* b, uint32_t share) noexcept nogil:
    """Let every phantom fade to `share` / FADE_ONE of it, rounded down. True while one is left.

    The lock is given back between steps. What is added meanwhile stands behind the place that was
    reached, or takes the place of one that has gone: then it fades the next time.
    """
    cdef uint32_t at, _left
    cdef bint more = True
    spin_lock(&b.lock)
    at = b.fading_count
    while more:
        at = min(at, b.fading_count)
        for _left in range(FADE_STEPS):
            more = at > 0
            if not more:
                break
            at -= 1
            fade_one(b, at, share)
        if more:
            spin_unlock(&b.lock)
            spin_lock(&b.lock)
    more = b.fading_count > 0
    spin_unlock(&b.lock)
    return more


cdef void fade_one(balancer_t* b, uint32_t at, uint32_t share) noexcept nogil:
    cdef uint32_t slot = b.fading[at]
    cdef node_t* node = &b.nodes[slot]
    node.phantom = <uint32_t> (<uint64_t> node.phantom * share // FADE_ONE)
    if node.phantom == 0:
        node.fading = False
        b.fading_count -= 1
        b.fading[at] = b.fading[b.fading_count]
    node_settle(b, slot)


cdef uint32_t balancer_in_flight(balancer_t* b, uint32_t slot) noexcept nogil:
    cdef uint32_t found
    spin_lock(&b.lock)
    found = b.nodes[slot].in_flight if slot < b.node_cap else 0
    spin_unlock(&b.lock)
    return found


cdef uint32_t balancer_peek(const balancer_t* b, uint32_t slot) noexcept nogil:
    """balancer_in_flight() without the lock, for the thread that publishes plans: only it makes the
    nodes move."""
    return flag_read(&b.nodes[slot].in_flight) if slot < b.node_cap else 0


cdef int balancer_check(balancer_t* b) noexcept nogil:
    """0 if the heap is in order and complete; otherwise the number of the rule that is broken."""
    cdef int broken
    spin_lock(&b.lock)
    broken = heap_check(b, &b.heap, TIER_PRIMARY) or heap_check(b, &b.backups, TIER_BACKUP)
    spin_unlock(&b.lock)
    return broken


cdef int heap_check(balancer_t* b, const heap_t* heap, uint32_t tier) noexcept nogil:
    cdef uint32_t i, wanted = 0
    cdef int32_t at
    cdef int broken = 0
    cdef node_t* node
    for i in range(1, heap.len):
        if heap_before(&heap.entries[i], &heap.entries[heap_parent(i)]):
            broken = 1
    for i in range(b.node_cap):
        node = &b.nodes[i]
        at = heap.places[i]
        if node.tier == tier and is_ordered(b, node):
            wanted += 1
            if at == NOT_IN_HEAP or heap.entries[at].slot != i:
                broken = 2
            elif heap.entries[at].load != heap_load(node.in_flight, node.phantom):
                broken = 3
        elif at != NOT_IN_HEAP:
            broken = 4
    if wanted != heap.len:
        broken = 5
    return broken


# ---- the queue: exchanges that wait because everything is full --------------------------------

cdef bint balancer_wait(balancer_t* b, waiter_t* waiter, uint32_t depth) noexcept nogil:
    """Stand at the end of the queue. False if it has `depth` members already."""
    cdef bint room
    spin_lock(&b.lock)
    room = b.queue_len < depth
    if room:
        waiter.next = NULL
        waiter.prev = b.queue_tail
        if b.queue_tail != NULL:
            b.queue_tail.next = waiter
        else:
            b.queue_head = waiter
        b.queue_tail = waiter
        flag_write(&b.queue_len, b.queue_len + 1)
    spin_unlock(&b.lock)
    return room


cdef void queue_remove(balancer_t* b, waiter_t* waiter) noexcept nogil:
    if waiter.prev != NULL:
        waiter.prev.next = waiter.next
    else:
        b.queue_head = waiter.next
    if waiter.next != NULL:
        waiter.next.prev = waiter.prev
    else:
        b.queue_tail = waiter.prev
    flag_write(&b.queue_len, b.queue_len - 1)


cdef bint balancer_unwait(balancer_t* b, waiter_t* waiter) noexcept nogil:
    """Leave the queue. False if it was granted meanwhile: then the caller holds a unit of
    waiter.slot, and it is not reported by balancer_granted() any more."""
    cdef waiter_t** place
    cdef bint waiting = True
    spin_lock(&b.lock)
    place = &b.granted[waiter.worker_id]
    while place[0] != NULL:
        if place[0] == waiter:
            place[0] = waiter.next
            waiting = False
            break
        place = &place[0].next
    if waiting:
        queue_remove(b, waiter)
    spin_unlock(&b.lock)
    return waiting


cdef int balancer_grant(balancer_t* b) noexcept nogil:
    """Give room that there is to the one who waits longest and has not tried all of it.

    Returns: the id of the worker to wake; -1 if nobody waits or nothing has room.
    Cost:    O(log n), plus one try for each waiter in front that was refused elsewhere.
    """
    cdef waiter_t* waiter
    cdef waiter_t** place
    cdef uint32_t in_flight = 0
    cdef int picked = ACQUIRE_NONE, worker_id = -1
    if flag_read(&b.queue_len) == 0:   # a stale look: whoever queues now asks for a grant itself
        return -1
    spin_lock(&b.lock)
    waiter = b.queue_head
    while waiter != NULL:
        picked = acquire_locked(b, waiter.tried, waiter.tried_count, &in_flight)
        if picked >= 0 or waiter.tried_count == 0:
            break
        waiter = waiter.next
    if picked >= 0:
        queue_remove(b, waiter)
        waiter.slot = <uint32_t> picked
        waiter.in_flight = in_flight
        waiter.next = NULL
        worker_id = <int> waiter.worker_id
        place = &b.granted[worker_id]
        while place[0] != NULL:
            place = &place[0].next
        place[0] = waiter
    spin_unlock(&b.lock)
    return worker_id


cdef waiter_t* balancer_granted(balancer_t* b, uint32_t worker_id) noexcept nogil:
    """The next waiter of this worker that was granted a unit, or NULL."""
    cdef waiter_t* waiter
    spin_lock(&b.lock)
    waiter = b.granted[worker_id]
    if waiter != NULL:
        b.granted[worker_id] = waiter.next
    spin_unlock(&b.lock)
    return waiter


# ---- for Python -----------------------------------------------------------------------------

cdef class Balancer:
    """See model.contract.Balancer. Thread-safe."""

    def __cinit__(self, *args, **named):
        if not balancer_init(&self.core, int.from_bytes(os.urandom(8), "little")):
            raise MemoryError

    def __init__(self, seed=None):
        if seed is not None:
            self.core.random_state = <uint64_t> seed | 1

    def __dealloc__(self):
        balancer_free(&self.core)

    def publish(self, plan: Plan) -> None:
        """Use `plan` from the next pick on. O(n log n), under the lock."""
        cdef uint32_t backups = len(plan.backups), count = len(plan.entries) + backups
        cdef uint32_t table_len = len(plan.table), i, pick = PICKS[plan.pick]
        cdef uint32_t* numbers = <uint32_t*> PyMem_Malloc((3 * count + 1) * sizeof(uint32_t))
        cdef uint32_t* table = NULL
        cdef bint taken
        if numbers == NULL:
            raise MemoryError
        try:
            for i, entry in enumerate((*plan.entries, *plan.backups)):
                numbers[i] = entry.slot
                numbers[count + i] = entry.weight
                numbers[2 * count + i] = entry.max_conns
            if table_len:
                table = <uint32_t*> realloc(NULL, table_len * sizeof(uint32_t))
                if table == NULL:
                    raise MemoryError
                for i in range(table_len):
                    table[i] = plan.table[i]
            with nogil:
                taken = balancer_plan(&self.core, pick, numbers, numbers + count, numbers + 2 * count,
                                      count, backups, table, table_len)
            if not taken:
                free(table)
                raise MemoryError
        finally:
            PyMem_Free(numbers)

    def acquire(self, tried=()) -> int:
        """Pick the least loaded backend that is not in `tried` and count one more exchange on it.

        Returns: the slot.
        Order:   idle first, then (n + phantom + 1) / weight, compared by cross-multiplication.
        Ties:    the backend picked longest ago, identically in both engines.
        Cost:    O(log n) in backends, one short lock.
        Raises:  NoBackendError if every backend is out, full or tried.
        """
        cdef uint32_t count = 0, in_flight = 0
        cdef int picked
        cdef int32_t* excluded = <int32_t*> PyMem_Malloc((len(tried) + 1) * sizeof(int32_t))
        if excluded == NULL:
            raise MemoryError
        try:
            for count, slot in enumerate(tried, 1):
                excluded[count - 1] = slot
            with nogil:
                picked = balancer_acquire(&self.core, excluded, count, &in_flight)
        finally:
            PyMem_Free(excluded)
        if picked < 0:
            raise NoBackendError("every backend is down, draining, full or tried")
        return picked

    def release(self, slot: int) -> None:
        """Give one unit back. O(log n). Raises ValueError if nothing was in flight."""
        if slot < 0 or not balancer_release(&self.core, slot, False):
            raise ValueError(f"nothing is in flight on slot {slot}")

    def blame(self, slot: int) -> None:
        """A failure: let `slot` look busier by one exchange, until that has faded. O(log n)."""
        if slot >= 0:
            balancer_blame(&self.core, slot)

    def fade(self, share: float) -> bool:
        """Let what failures have added fade to `share` of it. True while some is left."""
        cdef uint32_t kept = int(share * FADE_ONE)
        cdef bint left
        with nogil:
            left = balancer_fade(&self.core, kept)
        return left

    def in_flight(self, slot: int) -> int:
        """Exchanges counted on `slot` now."""
        return balancer_in_flight(&self.core, slot)

    def verify(self) -> None:
        """Raise AssertionError if the inner order is broken. O(n)."""
        broken = balancer_check(&self.core)
        if broken:
            raise AssertionError(f"balancer rule {broken} is broken")


cdef class LeastLoaded(Balancer):
    """A balancer over slots 0..n-1 with a plan of its own: see model.contract.LeastLoaded."""

    cdef list weights
    cdef list limits
    cdef set drained

    def __init__(self, weights, max_conns=()):
        self.weights = list(weights)
        self.limits = list(max_conns) or [0] * len(self.weights)
        self.drained = set()
        if len(self.limits) != len(self.weights):
            raise ConfigError("max_conns", len(self.limits), "one for each weight")
        for slot in reversed(range(len(self.weights))):
            self.change(slot)

    cdef known(self, slot):
        if not 0 <= slot < len(self.weights):
            raise ConfigError("slot", slot, f"from 0 to {len(self.weights) - 1}")

    cdef change(self, slot):
        weight = self.weights[slot]
        eligible = weight > 0 and slot not in self.drained
        if not balancer_set(&self.core, slot, max(weight, 1), self.limits[slot], eligible):
            raise MemoryError

    def drain(self, slot: int) -> None:
        """Pick it no more; what is in flight stays counted. O(log n)."""
        self.known(slot)
        self.drained.add(slot)
        self.change(slot)

    def restore(self, slot: int) -> None:
        """Pick it again. O(log n)."""
        self.known(slot)
        self.drained.discard(slot)
        self.change(slot)

    def set_weight(self, slot: int, weight: int) -> None:
        """Change its share of the traffic; 0 drains it. O(log n)."""
        if weight < 0:
            raise ConfigError("weight", weight, "0 or more")
        self.known(slot)
        self.weights[slot] = weight
        self.change(slot)

    def churn(self, rounds: int) -> None:
        """Acquire and release `rounds` times in one loop without the GIL."""
        cdef uint64_t left = rounds
        cdef uint32_t in_flight = 0
        cdef int picked
        with nogil:
            while left:
                picked = balancer_acquire(&self.core, NULL, 0, &in_flight)
                if picked < 0:
                    break
                balancer_release(&self.core, <uint32_t> picked, False)
                left -= 1
        if left:
            raise NoBackendError("every backend is down, draining or full")
