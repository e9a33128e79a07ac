"""One balancer for all workers: who is picked, and how many exchanges each backend has.

LEAST_LOADED is an indexed heap (heap.pxd). Its order, and nothing else, decides:
  1. backends with nothing in flight and no phantom, whatever their weight;
  2. the smaller (n + phantom + 1) / weight, compared by cross-multiplication;
  3. the one picked longest ago; 4. the lower slot.
A backend that is full or not in the plan is not in the heap; its count is kept.
CYCLE and RANDOM index the plan's table and step over what is full or tried.

The phantom of a backend is what failures add to its load, one unit each; it halves every second, in
steps that the control plane makes (balancer_fade). A backend that fails fast would otherwise look idle
and draw the traffic. It only makes a backend look busy: it counts in nothing but the order.

Backups stand in a heap of their own, which is asked once every other backend of the plan was tried.
While one of those is only full, it is waited for.

All of it is behind one spin lock that is held for one operation.
"""

from libc.stdint cimport int32_t, uint16_t, uint32_t, uint64_t

from fastlb.native.heap cimport heap_t
from fastlb.native.types cimport spin_t, waiter_t

cdef enum:
    PICK_LEAST_LOADED
    PICK_CYCLE
    PICK_RANDOM
    WORKERS_MAX = 64
    PHANTOM_MAX = 67108864   # model.limits.PHANTOM_MAX
    FADE_ONE = 65536         # share 1 in balancer_fade()
    FADE_STEPS = 64          # backends that fade behind one lock

# node_t.tier
cdef enum:
    TIER_OUT                 # not in the plan
    TIER_PRIMARY
    TIER_BACKUP
    TIERS

# Results of balancer_acquire() below 0.
cdef enum:
    ACQUIRE_NONE = -1        # nothing in the plan is left to try
    ACQUIRE_FULL = -2        # what is left is at its max_conns

cdef struct node_t:
    uint64_t picked_tick
    uint32_t in_flight
    uint32_t weight
    uint32_t max_conns       # 0 = no limit
    uint32_t phantom         # in 1 / LOAD_UNIT
    uint32_t named           # exchanges that have given their unit back and will still say its slot
    uint16_t tier
    uint16_t fading          # stands in balancer_t.fading

cdef struct balancer_t:
    spin_t lock
    uint32_t pick
    node_t* nodes
    uint32_t node_cap
    heap_t heap
    heap_t backups
    uint32_t tier_count[TIERS]
    uint32_t* fading         # slots of the backends with a phantom
    uint32_t fading_count
    uint32_t* table
    uint32_t table_len
    uint32_t cursor
    uint64_t random_state
    uint64_t tick
    waiter_t* queue_head
    waiter_t* queue_tail
    uint32_t queue_len       # written behind the lock, read without it too
    waiter_t* granted[WORKERS_MAX]

cdef bint balancer_init(balancer_t* b, uint64_t seed) noexcept nogil
cdef void balancer_free(balancer_t* b) noexcept nogil
cdef int balancer_acquire(balancer_t* b, const int32_t* tried, uint32_t tried_count,
                          uint32_t* in_flight) noexcept nogil
cdef bint balancer_acquire_at(balancer_t* b, uint32_t slot, uint32_t* in_flight) noexcept nogil
cdef bint balancer_release(balancer_t* b, uint32_t slot, bint named) noexcept nogil
cdef uint32_t balancer_in_flight(balancer_t* b, uint32_t slot) noexcept nogil
cdef uint32_t balancer_peek(const balancer_t* b, uint32_t slot) noexcept nogil
cdef void balancer_unname(balancer_t* b, uint32_t slot) noexcept nogil
cdef bint balancer_forget(balancer_t* b, uint32_t slot) noexcept nogil
cdef void balancer_blame(balancer_t* b, uint32_t slot) noexcept nogil
cdef bint balancer_fade(balancer_t* b, uint32_t share) noexcept nogil
cdef bint balancer_plan(balancer_t* b, uint32_t pick, const uint32_t* slots, const uint32_t* weights,
                        const uint32_t* max_conns, uint32_t count, uint32_t backups, uint32_t* table,
                        uint32_t table_len) noexcept nogil
cdef bint balancer_set(balancer_t* b, uint32_t slot, uint32_t weight, uint32_t max_conns,
                       bint eligible) noexcept nogil
cdef int balancer_check(balancer_t* b) noexcept nogil
cdef bint balancer_wait(balancer_t* b, waiter_t* waiter, uint32_t depth) noexcept nogil
cdef bint balancer_unwait(balancer_t* b, waiter_t* waiter) noexcept nogil
cdef int balancer_grant(balancer_t* b) noexcept nogil
cdef waiter_t* balancer_granted(balancer_t* b, uint32_t worker_id) noexcept nogil


cdef class Balancer:
    cdef balancer_t core
