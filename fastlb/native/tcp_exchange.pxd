"""A TCP session, and the tunnel that an HTTP exchange becomes after 101.

Each direction ends on its own: EOF on one side becomes FIN on the other when everything before it
has been passed on, and the other direction goes on with a shorter time-out. RST stays RST. The
session's unit is given back when both directions have ended.
"""

from libc.stdint cimport uint32_t

from fastlb.native.types cimport connection_t, exchange_t, worker_t

cdef void tcp_client_open(worker_t* worker, connection_t* conn) noexcept nogil
cdef void tcp_client_event(worker_t* worker, connection_t* conn, uint32_t events) noexcept nogil
cdef void tcp_upstream_event(worker_t* worker, exchange_t* exchange, uint32_t events) noexcept nogil
cdef void tcp_granted(worker_t* worker, exchange_t* exchange) noexcept nogil
cdef void tcp_pump(worker_t* worker, exchange_t* exchange) noexcept nogil
cdef void tcp_timeout(worker_t* worker, connection_t* conn, int timer_class) noexcept nogil
cdef void tcp_abort(worker_t* worker, exchange_t* exchange, char who, char phase) noexcept nogil
