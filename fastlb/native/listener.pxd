"""Accepting clients from a listening socket that all workers share.

EPOLLEXCLUSIVE wakes one worker for a new connection. A worker takes a few and leaves the rest of
the accept queue to the others. One socket means that nothing in the queue is lost when a worker
or the whole engine stops.
"""

from libc.stdint cimport uint32_t

from fastlb.native.types cimport connection_t, worker_t

cdef bint listener_open(worker_t* worker, int fd, uint32_t client_role) noexcept nogil
cdef void listener_accept(worker_t* worker, connection_t* listener) noexcept nogil
cdef void listener_pause(worker_t* worker, connection_t* listener, int error) noexcept nogil
cdef void listener_resume(worker_t* worker, connection_t* listener) noexcept nogil
cdef void listener_close(worker_t* worker, connection_t* listener) noexcept nogil
