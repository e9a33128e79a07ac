"""A socket with its transport, its buffers and its life: open, receive, send, close or reset.

This is the transport seam: the rooms above move bytes only with these functions, so another
transport is another implementation of them.
"""

from libc.stdint cimport uint8_t, uint32_t

from fastlb.native.linux cimport iovec
from fastlb.native.types cimport connection_t, role_t, step_t, worker_t

cdef connection_t* connection_open(worker_t* worker, int fd, role_t role) noexcept nogil
cdef void connection_close(worker_t* worker, connection_t* conn) noexcept nogil
cdef void connection_forget_head(worker_t* worker, connection_t* conn) noexcept nogil
cdef void connection_reset(worker_t* worker, connection_t* conn) noexcept nogil
cdef int connection_detach(worker_t* worker, connection_t* conn) noexcept nogil
cdef void connection_discard(worker_t* worker, connection_t* conn) noexcept nogil
cdef void connection_note(connection_t* conn, uint32_t events) noexcept nogil
cdef ssize_t connection_receive(connection_t* conn, uint8_t* into, size_t len) noexcept nogil
cdef step_t connection_send(worker_t* worker, connection_t* conn, iovec* pieces, uint32_t count,
                            bint fin_follows) noexcept nogil
cdef void connection_push(connection_t* conn) noexcept nogil
cdef step_t connection_flush(worker_t* worker, connection_t* conn) noexcept nogil
cdef bint connection_writable(connection_t* conn) noexcept nogil
cdef size_t connection_room(connection_t* conn) noexcept nogil
cdef bint connection_quiet(connection_t* conn) noexcept nogil
cdef int connection_error(connection_t* conn) noexcept nogil
cdef void connection_send_wait(worker_t* worker, connection_t* conn) noexcept nogil
cdef bint connection_still_takes(worker_t* worker, connection_t* conn) noexcept nogil
cdef void connection_cut(worker_t* worker, connection_t* conn) noexcept nogil
cdef void connection_cut_look(worker_t* worker, connection_t* conn) noexcept nogil
cdef void connection_finish(worker_t* worker, connection_t* conn) noexcept nogil
cdef void connection_linger(worker_t* worker, connection_t* conn) noexcept nogil
cdef void connection_linger_idle(worker_t* worker, connection_t* conn) noexcept nogil
cdef void connection_linger_read(worker_t* worker, connection_t* conn) noexcept nogil
