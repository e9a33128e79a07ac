"""See batch.pxd; the facts about io_uring are in uring.h."""

from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastlb.native.buffer cimport buffer_bytes, buffer_drop, buffer_length
from fastlb.native.slab cimport slab_at
from fastlb.native.types cimport (
    CONN_BATCHED, CONN_UNSENT, connection_t, uring_result, uring_send, uring_submit, worker_t,
)


cdef uint32_t batch_send(worker_t* worker, uint64_t* handles) noexcept nogil:
    """Send what was noted, and empty the list into `handles` (BATCH_MAX of them). Returns how many.

    What the kernel refuses stays in the outbox, whose owner tries once more and finds out why.
    """
    cdef uint32_t count = worker.batch_count
    cdef uint64_t at
    cdef int32_t sent
    cdef connection_t* conn
    memcpy(handles, worker.batch, count * sizeof(uint64_t))
    worker.batch_count = 0
    for at in range(count):
        conn = noted(worker, handles[at])
        if conn != NULL:
            conn.flags &= ~CONN_BATCHED
            if count > 1:                            # one alone is sent by its owner
                uring_send(&worker.uring, at, conn.fd, buffer_bytes(conn.outbox) + conn.outbox.start,
                           buffer_length(conn.outbox))
    if worker.uring.queued == 0:
        return count
    uring_submit(&worker.uring)
    while uring_result(&worker.uring, &at, &sent):
        if sent <= 0:
            continue
        conn = <connection_t*> slab_at(&worker.connections, <uint32_t> handles[at])
        conn.flags &= ~CONN_UNSENT
        conn.outbox.start += <uint32_t> sent
        if buffer_length(conn.outbox) == 0:
            buffer_drop(worker, &conn.outbox)
    return count


cdef inline connection_t* noted(worker_t* worker, uint64_t handle) noexcept nogil:
    """The connection of a handle, NULL if it is gone or has sent by itself since."""
    cdef connection_t* conn = <connection_t*> slab_at(&worker.connections, <uint32_t> handle)
    if conn.generation != <uint32_t> (handle >> 32) or not conn.flags & CONN_BATCHED:
        return NULL
    return conn
