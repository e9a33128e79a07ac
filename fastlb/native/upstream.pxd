"""Connections to backends: connecting, and the pool of idle ones.

The pool is one LIFO list for each backend and worker, so the warmest connection is used first and
the others grow old and close. epoll watches idle connections too: one that reports anything is
closed before it can be picked.
"""

from libc.stdint cimport uint32_t

from fastlb.native.types cimport backend_t, connection_t, exchange_t, failure_t, worker_t

cdef backend_t* backend_at(worker_t* worker, unsigned int slot) noexcept nogil
cdef connection_t* upstream_take(worker_t* worker, backend_t* backend, bint check) noexcept nogil
cdef void upstream_give(worker_t* worker, connection_t* conn) noexcept nogil
cdef void upstream_keep(worker_t* worker, connection_t* conn, connection_t* client) noexcept nogil
cdef connection_t* upstream_take_kept(worker_t* worker, connection_t* client) noexcept nogil
cdef void upstream_forget(worker_t* worker, connection_t* conn) noexcept nogil
cdef void upstream_purge(worker_t* worker, bint everything) noexcept nogil
cdef void upstream_make_room(worker_t* worker, int slot, unsigned int asker) noexcept nogil
cdef void upstream_adopt(worker_t* worker, int fd, unsigned int slot) noexcept nogil
cdef connection_t* upstream_connect(worker_t* worker, backend_t* backend, uint32_t site,
                                    int* error) noexcept nogil
cdef uint32_t upstream_next_site(const backend_t* backend, uint32_t site) noexcept nogil
cdef int upstream_connected(connection_t* conn) noexcept nogil
cdef int upstream_announce(worker_t* worker, connection_t* conn, connection_t* client) noexcept nogil
cdef bint is_local_fault(int error) noexcept nogil
cdef bint is_out_of_files(int error) noexcept nogil
