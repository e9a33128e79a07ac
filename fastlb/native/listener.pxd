"""Accepting clients.

Every worker has an accept queue of its own (SO_REUSEPORT), except for UNIX sockets, whose one
queue all workers share; there EPOLLEXCLUSIVE wakes one of them. Before a queue is closed, new
clients are held off and it is emptied, so that who waits in it is served and not reset.
"""

from libc.stdint cimport uint32_t

from fastlb.native.types cimport connection_t, worker_t

cdef bint listener_open(worker_t* worker, int fd, uint32_t client_role) noexcept nogil
cdef void listener_make_room(worker_t* worker, uint32_t others) noexcept nogil
cdef void listener_accept(worker_t* worker, connection_t* listener) noexcept nogil
cdef void listener_pause(worker_t* worker, connection_t* listener, int error) noexcept nogil
cdef void listener_resume(worker_t* worker, connection_t* listener) noexcept nogil
cdef void listener_deafen(worker_t* worker, connection_t* listener) noexcept nogil
cdef void listener_close(worker_t* worker, connection_t* listener) noexcept nogil
