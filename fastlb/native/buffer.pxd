"""Memory for bytes in flight, in four sizes, from a pool of the worker's own.

SMALL holds the usual request head; LARGE most of what one read may leave behind; BODY a request
that is kept for a retry, and a whole read; WHOLE the longest head there may be with a read of what
is behind it, or with the fields that are added to it. A worker's buffers, in use or in its pool,
and what its pipes hold are at most settings.buffer_bytes; beyond it whoever wants more gets none,
and its exchange ends.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove

from fastlb.native.accounting cimport account_event
from fastlb.native.types cimport (
    BUFFER_CLASSES, EVENT_BUFFERS_FULL, buffer_t, counter_add, worker_t,
)

cdef enum:
    BUFFER_SMALL_BYTES = 2048
    BUFFER_LARGE_BYTES = 16384
    BUFFER_BODY_BYTES = 81920
    BUFFER_WHOLE_BYTES = 204800
    BUFFER_KEPT_SMALL = 1024
    BUFFER_KEPT_LARGE = 64
    BUFFER_KEPT_BODY = 16
    BUFFER_KEPT_WHOLE = 4


cdef inline uint8_t* buffer_bytes(buffer_t* buffer) noexcept nogil:
    return <uint8_t*> (buffer + 1)


cdef inline uint32_t buffer_length(buffer_t* buffer) noexcept nogil:
    return buffer.end - buffer.start


cdef inline buffer_t* buffer_take(worker_t* worker, size_t want_bytes) noexcept nogil:
    """An empty buffer for at least `want_bytes`; NULL if that is too much or memory is short."""
    cdef buffer_t* buffer
    cdef uint32_t size_class, cap
    if want_bytes <= BUFFER_SMALL_BYTES:
        size_class = 0
        cap = BUFFER_SMALL_BYTES
    elif want_bytes <= BUFFER_LARGE_BYTES:
        size_class = 1
        cap = BUFFER_LARGE_BYTES
    elif want_bytes <= BUFFER_BODY_BYTES:
        size_class = 2
        cap = BUFFER_BODY_BYTES
    elif want_bytes <= BUFFER_WHOLE_BYTES:
        size_class = 3
        cap = BUFFER_WHOLE_BYTES
    else:
        return NULL
    buffer = worker.buffers[size_class]
    if buffer != NULL:
        worker.buffers[size_class] = buffer.next
        worker.buffer_count[size_class] -= 1
    else:
        buffer = buffer_make(worker, size_class, cap)
        if buffer == NULL:
            return NULL
    buffer.next = NULL
    buffer.start = buffer.end = 0
    return buffer


cdef inline buffer_t* buffer_make(worker_t* worker, uint32_t size_class, uint32_t cap) noexcept nogil:
    cdef size_t size = sizeof(buffer_t) + cap
    cdef buffer_t* buffer
    if not buffer_room(worker, size):
        return NULL
    buffer = <buffer_t*> malloc(size)
    if buffer == NULL:
        return NULL
    counter_add(&worker.buffer_bytes, size)
    worker.buffers_made += 1
    buffer.size_class = size_class
    buffer.cap_bytes = cap
    return buffer


cdef inline bint buffer_within(worker_t* worker, uint64_t more_bytes, uint64_t limit) noexcept nogil:
    """True if there may be so many bytes more within `limit`, 0 = none. What the pool holds is given up
    first."""
    if limit == 0 or worker.buffer_bytes + more_bytes <= limit:
        return True
    buffer_pool_free(worker)
    if worker.buffer_bytes + more_bytes <= limit:
        return True
    buffers_are_full(worker)
    return False


cdef inline bint buffer_room(worker_t* worker, uint64_t more_bytes) noexcept nogil:
    """True if there may be so many bytes more."""
    return buffer_within(worker, more_bytes, worker.settings.buffer_bytes)


cdef inline bint buffer_spare(worker_t* worker, uint64_t more_bytes) noexcept nogil:
    """True if a peer that is slow may hold so many bytes more: all of them at most three quarters of
    the limit. The rest is for what does not wait for them, as requests that are complete."""
    return buffer_within(worker, more_bytes, worker.settings.buffer_bytes // 4 * 3)


cdef inline void buffers_are_full(worker_t* worker) noexcept nogil:
    """Tell the control plane, once until there is room again."""
    if not worker.buffers_full:
        worker.buffers_full = True
        account_event(worker, EVENT_BUFFERS_FULL, -1, 0, 0)


cdef inline void buffer_uncount(worker_t* worker, uint64_t less_bytes) noexcept nogil:
    counter_add(&worker.buffer_bytes, -less_bytes)
    if worker.buffers_full and worker.buffer_bytes < worker.settings.buffer_bytes // 2:
        worker.buffers_full = False


cdef inline void buffer_free(worker_t* worker, buffer_t* buffer) noexcept nogil:
    buffer_uncount(worker, sizeof(buffer_t) + buffer.cap_bytes)
    worker.buffers_made -= 1
    free(buffer)


cdef inline void buffer_give(worker_t* worker, buffer_t* buffer) noexcept nogil:
    cdef uint32_t size_class = buffer.size_class
    cdef uint32_t kept = BUFFER_KEPT_SMALL
    if size_class == 1:
        kept = BUFFER_KEPT_LARGE
    elif size_class == 2:
        kept = BUFFER_KEPT_BODY
    elif size_class == 3:
        kept = BUFFER_KEPT_WHOLE
    if worker.buffer_count[size_class] >= kept:
        buffer_free(worker, buffer)
        return
    buffer.next = worker.buffers[size_class]
    worker.buffers[size_class] = buffer
    worker.buffer_count[size_class] += 1


cdef inline bint buffer_append(worker_t* worker, buffer_t** place, const uint8_t* more,
                               size_t len) noexcept nogil:
    """Add `len` bytes to the buffer at `place`, which may be NULL and may be replaced by a
    larger one. False, and nothing changed, if it would grow past BUFFER_WHOLE_BYTES or memory is
    short."""
    cdef buffer_t* old = place[0]
    cdef buffer_t* grown
    cdef uint32_t had = 0
    if len == 0:
        return True
    if old != NULL:
        had = buffer_length(old)
        if old.cap_bytes - old.end < len and old.cap_bytes - had >= len:
            memmove(buffer_bytes(old), buffer_bytes(old) + old.start, had)
            old.start = 0
            old.end = had
    if old == NULL or old.cap_bytes - old.end < len:
        grown = buffer_take(worker, had + len)
        if grown == NULL:
            return False
        if old != NULL:
            memcpy(buffer_bytes(grown), buffer_bytes(old) + old.start, had)
            grown.end = had
            buffer_give(worker, old)
        place[0] = old = grown
    memcpy(buffer_bytes(old) + old.end, more, len)
    old.end += <uint32_t> len
    return True


cdef inline bint buffer_reserve(worker_t* worker, buffer_t** place, uint32_t more) noexcept nogil:
    """Make room for `more` bytes behind what the buffer at `place` holds. False, and nothing changed,
    if memory is short."""
    cdef buffer_t* old = place[0]
    cdef buffer_t* grown
    if old.cap_bytes - old.end >= more:
        return True
    if not buffer_spare(worker, buffer_length(old) + more):
        return False
    grown = buffer_take(worker, buffer_length(old) + more)
    if grown == NULL:
        return False
    grown.end = buffer_length(old)
    memcpy(buffer_bytes(grown), buffer_bytes(old) + old.start, grown.end)
    buffer_give(worker, old)
    place[0] = grown
    return True


cdef inline void buffer_drop(worker_t* worker, buffer_t** place) noexcept nogil:
    """Give the buffer at `place` back, if there is one."""
    if place[0] != NULL:
        buffer_give(worker, place[0])
        place[0] = NULL


cdef inline void buffer_pool_free(worker_t* worker) noexcept nogil:
    cdef uint32_t size_class
    cdef buffer_t* buffer
    for size_class in range(BUFFER_CLASSES):
        while worker.buffers[size_class] != NULL:
            buffer = worker.buffers[size_class]
            worker.buffers[size_class] = buffer.next
            buffer_free(worker, buffer)
        worker.buffer_count[size_class] = 0
