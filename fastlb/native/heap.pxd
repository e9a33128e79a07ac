"""An indexed heap of slots with four children to a node: who is picked next stands at its root.

Facts it is built on:
- A pick changes the root and sends it down the whole depth, so depth and cache lines decide. Four
  children make it half as deep as two, and they stand side by side.
- What the order needs is copied into the entry, so a comparison never leaves the heap.
- `places` tells where a slot stands, in an array of its own: 400 KB for 100,000 backends, where
  it stays in the second-level cache.

Not thread-safe: the balancer's lock is around every call.
"""

from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc

cdef enum:
    HEAP_CHILDREN = 4
    NOT_IN_HEAP = -1
    LOAD_UNIT = 1024         # model.limits.LOAD_UNIT: what one exchange weighs in a load

cdef struct heap_entry_t:
    uint64_t picked_tick
    uint64_t load            # heap_load()
    uint32_t weight
    uint32_t slot

# OWNER: the balancer it stands in.
cdef struct heap_t:
    heap_entry_t* entries
    int32_t* places          # by slot: index into entries, or NOT_IN_HEAP
    uint32_t len
    uint32_t cap


cdef inline uint64_t heap_load(uint32_t in_flight, uint32_t phantom) noexcept nogil:
    """What the order compares by weight; 0 puts idle backends first whatever their weight. It stays
    below 2^43, and its product with a weight below 2^59."""
    if in_flight == 0 and phantom == 0:
        return 0
    return (<uint64_t> in_flight + 1) * LOAD_UNIT + phantom


cdef inline bint heap_before(const heap_entry_t* a, const heap_entry_t* b) noexcept nogil:
    """The order; see balancer.pxd."""
    cdef uint64_t left = a.load * b.weight
    cdef uint64_t right = b.load * a.weight
    if left != right:
        return left < right
    if a.picked_tick != b.picked_tick:
        return a.picked_tick < b.picked_tick
    return a.slot < b.slot


cdef inline uint32_t heap_parent(uint32_t at) noexcept nogil:
    return (at - 1) // HEAP_CHILDREN


cdef inline void heap_put(heap_t* heap, uint32_t at, const heap_entry_t* entry) noexcept nogil:
    heap.entries[at] = entry[0]
    heap.places[entry.slot] = <int32_t> at


cdef inline void heap_up(heap_t* heap, uint32_t at) noexcept nogil:
    cdef heap_entry_t moving = heap.entries[at]
    cdef uint32_t parent
    while at > 0:
        parent = heap_parent(at)
        if not heap_before(&moving, &heap.entries[parent]):
            break
        heap_put(heap, at, &heap.entries[parent])
        at = parent
    heap_put(heap, at, &moving)


cdef inline void heap_down(heap_t* heap, uint32_t at) noexcept nogil:
    cdef heap_entry_t moving = heap.entries[at]
    cdef uint32_t child, first, least
    while True:
        first = HEAP_CHILDREN * at + 1
        if first >= heap.len:
            break
        least = first
        for child in range(first + 1, min(first + HEAP_CHILDREN, heap.len)):
            if heap_before(&heap.entries[child], &heap.entries[least]):
                least = child
        if not heap_before(&heap.entries[least], &moving):
            break
        heap_put(heap, at, &heap.entries[least])
        at = least
    heap_put(heap, at, &moving)


cdef inline void heap_settle(heap_t* heap, uint32_t at) noexcept nogil:
    """The entry at `at` has changed: move it to where it belongs. O(log n)."""
    if at > 0 and heap_before(&heap.entries[at], &heap.entries[heap_parent(at)]):
        heap_up(heap, at)
    else:
        heap_down(heap, at)


cdef inline void heap_set(heap_t* heap, const heap_entry_t* entry) noexcept nogil:
    """Insert the entry of a slot, or change it. heap_reach() has made room. O(log n)."""
    cdef int32_t at = heap.places[entry.slot]
    if at == NOT_IN_HEAP:
        at = <int32_t> heap.len
        heap.len += 1
    heap_put(heap, <uint32_t> at, entry)
    heap_settle(heap, <uint32_t> at)


cdef inline void heap_remove(heap_t* heap, uint32_t slot) noexcept nogil:
    """Take a slot out, if it is in. O(log n)."""
    cdef int32_t at = heap.places[slot]
    if at == NOT_IN_HEAP:
        return
    heap.places[slot] = NOT_IN_HEAP
    heap.len -= 1
    if <uint32_t> at != heap.len:
        heap_put(heap, <uint32_t> at, &heap.entries[heap.len])
        heap_settle(heap, <uint32_t> at)


cdef inline void heap_clear(heap_t* heap) noexcept nogil:
    while heap.len:
        heap.len -= 1
        heap.places[heap.entries[heap.len].slot] = NOT_IN_HEAP


cdef inline bint heap_reach(heap_t* heap, uint32_t cap) noexcept nogil:
    """Make room for slots below `cap`. False without memory; the heap is as it was."""
    cdef heap_entry_t* entries = <heap_entry_t*> realloc(heap.entries, cap * sizeof(heap_entry_t))
    cdef int32_t* places
    if entries == NULL:
        return False
    heap.entries = entries
    places = <int32_t*> realloc(heap.places, cap * sizeof(int32_t))
    if places == NULL:
        return False
    heap.places = places
    while heap.cap < cap:
        places[heap.cap] = NOT_IN_HEAP
        heap.cap += 1
    return True


cdef inline void heap_free(heap_t* heap) noexcept nogil:
    free(heap.entries)
    free(heap.places)
    heap.entries = NULL
    heap.places = NULL
    heap.len = heap.cap = 0
