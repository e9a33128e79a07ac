"""Small sends of one turn, handed to the kernel together.

A system call costs more than the few lines of C around it. In a turn with many events a small
message is put in its connection's outbox, as if the kernel had refused it, and the connection is
noted here; at the end of the turn one io_uring_enter() sends what all of them have. Then each
connection gets the event that epoll would report, EPOLLOUT, and goes on as it always does.
Without io_uring nothing is ever noted, and every send is a call of its own.
"""

from libc.stdint cimport uint32_t, uint64_t

from fastlb.native.types cimport BATCH_MAX, CONN_BATCHED, CONN_UNSENT, connection_t, worker_t


cdef inline bint batch_open(const worker_t* worker) noexcept nogil:
    """True if a message may wait for the end of this turn."""
    return worker.batching and worker.batch_count < BATCH_MAX


cdef inline void batch_note(worker_t* worker, connection_t* conn) noexcept nogil:
    """The whole outbox of `conn` is to be sent at the end of the turn."""
    conn.flags |= CONN_BATCHED | CONN_UNSENT
    worker.batch[worker.batch_count] = (<uint64_t> conn.generation << 32) | conn.index
    worker.batch_count += 1


cdef uint32_t batch_send(worker_t* worker, uint64_t* handles) noexcept nogil
