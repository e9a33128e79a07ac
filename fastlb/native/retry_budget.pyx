"""See retry_budget.pxd. The class at the end is the same decision for Python, for tests."""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from fastlb.native.types cimport counter_add, counter_read, spin_lock, spin_unlock, worker_t

cdef enum:
    WINDOW_MS = RETRY_SLOTS * 1000
    ALWAYS = RETRY_SLOTS * 3         # model.limits.RETRIES_MIN_PER_S


cdef void retry_budget_init(retry_budget_t* budget, int32_t percent, uint64_t now_ms) noexcept nogil:
    memset(budget, 0, sizeof(retry_budget_t))
    budget.percent = percent
    budget.before_ms = now_ms


cdef bint retry_allowed(worker_t* worker) noexcept nogil:
    """Ask for one retry. It is counted as made if it may be, and as denied if not."""
    cdef retry_budget_t* budget = <retry_budget_t*> worker.retry_budget
    cdef uint64_t exchanges = 0
    cdef uint32_t i
    cdef bint allowed
    if budget.percent == RETRY_UNLIMITED:
        return True
    for i in range(worker.settings.workers):
        exchanges += counter_read(&budget.ledgers[i].begun)
    spin_lock(&budget.lock)
    allowed = retry_budget_spend(budget, worker.now_ns // 1_000_000, exchanges)
    spin_unlock(&budget.lock)
    if not allowed:
        counter_add(&worker.ledger.retries_denied, 1)
    return allowed


cdef bint retry_budget_spend(retry_budget_t* budget, uint64_t now_ms, uint64_t exchanges) noexcept nogil:
    """The decision alone. `exchanges`: all that have begun so far."""
    cdef retry_slot_t* slot = slot_of(budget, now_ms, exchanges)
    cdef retry_slot_t* oldest = slot
    cdef retry_slot_t* other
    cdef uint64_t retries = 0, allowed
    cdef uint32_t i
    for i in range(RETRY_SLOTS):
        other = &budget.slots[i]
        if other.second == 0:
            continue
        if other.second + RETRY_SLOTS <= slot.second:
            remember(budget, other)
            continue
        retries += other.retries
        if other.at_ms < oldest.at_ms:
            oldest = other
    # Two workers may read the ledgers in one order and come here in the other.
    allowed = max(exchanges, oldest.exchanges) - oldest.exchanges + exchanges_before(budget, oldest, now_ms)
    allowed = max(allowed * <uint64_t> budget.percent // 100, <uint64_t> ALWAYS)
    if retries >= allowed:
        return False
    slot.retries += 1
    return True


cdef retry_slot_t* slot_of(retry_budget_t* budget, uint64_t now_ms, uint64_t exchanges) noexcept nogil:
    """The slot of this second; what it held before is out of the window."""
    cdef uint64_t second = now_ms // 1000 + 1
    cdef retry_slot_t* slot = &budget.slots[second % RETRY_SLOTS]
    if slot.second != second:
        if slot.second:
            remember(budget, slot)
        slot.second = second
        slot.at_ms = now_ms
        slot.exchanges = exchanges
        slot.retries = 0
    return slot


cdef void remember(retry_budget_t* budget, const retry_slot_t* slot) noexcept nogil:
    if slot.at_ms > budget.before_ms:
        budget.before_ms = slot.at_ms
        budget.before_exchanges = slot.exchanges


cdef uint64_t exchanges_before(const retry_budget_t* budget, const retry_slot_t* oldest,
                               uint64_t now_ms) noexcept nogil:
    """Exchanges from the start of the window to the oldest sample in it."""
    cdef uint64_t start_ms = now_ms - WINDOW_MS if now_ms > WINDOW_MS else 0
    cdef uint64_t found
    if start_ms >= oldest.at_ms or oldest.exchanges <= budget.before_exchanges:
        return 0
    found = oldest.exchanges - budget.before_exchanges
    if start_ms <= budget.before_ms:
        return found
    return found * (oldest.at_ms - start_ms) // (oldest.at_ms - budget.before_ms)


cdef class RetryBudget:
    """The budget of one engine. `percent` of the exchanges; None = no limit."""

    cdef retry_budget_t core

    def __init__(self, percent, now_ms):
        retry_budget_init(&self.core, RETRY_UNLIMITED if percent is None else percent, now_ms)

    def spend(self, now_ms: int, exchanges: int) -> bool:
        """True if one more retry may be made, which is then counted. `exchanges`: begun so far."""
        return self.core.percent == RETRY_UNLIMITED or retry_budget_spend(&self.core, now_ms, exchanges)
