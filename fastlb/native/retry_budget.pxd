"""How many retries there may be: a share of the exchanges, so that a failing pool is not asked twice.

The exchanges of the last ten seconds are not counted as they happen. Each second that has a retry
samples the workers' ledgers once, and what lies between two samples is taken as even.
"""

from libc.stdint cimport int32_t, uint64_t

from fastlb.native.types cimport WORKERS_LIMIT, ledger_t, spin_t, worker_t

cdef enum:
    RETRY_SLOTS = 10         # model.limits.RETRY_WINDOW_S
    RETRY_UNLIMITED = -1

# One second that had a retry.
cdef struct retry_slot_t:
    uint64_t second          # + 1; 0 = never used
    uint64_t at_ms           # of its first retry
    uint64_t exchanges       # that had begun by then
    uint64_t retries

# SHARED by all workers, behind its lock, which is taken for a retry only.
cdef struct retry_budget_t:
    spin_t lock
    int32_t percent          # or RETRY_UNLIMITED
    retry_slot_t slots[RETRY_SLOTS]
    uint64_t before_ms       # the newest sample that is older than all slots
    uint64_t before_exchanges
    ledger_t* ledgers[WORKERS_LIMIT]

cdef void retry_budget_init(retry_budget_t* budget, int32_t percent, uint64_t now_ms) noexcept nogil
cdef bint retry_budget_spend(retry_budget_t* budget, uint64_t now_ms, uint64_t exchanges) noexcept nogil
cdef bint retry_allowed(worker_t* worker) noexcept nogil
