"""A client connection that speaks HTTP: waits for heads, and begins an exchange with each.

One exchange at a time, so pipelined requests are answered in order. Between requests a connection
owns no buffer. A head that breaks the rules is answered here; the rest is the exchange's.
"""

from libc.stdint cimport uint32_t

from fastlb.native.types cimport connection_t, exchange_t, worker_t

cdef void http_client_open(worker_t* worker, connection_t* conn) noexcept nogil
cdef void http_client_event(worker_t* worker, connection_t* conn, uint32_t events) noexcept nogil
cdef void http_upstream_event(worker_t* worker, exchange_t* exchange, uint32_t events) noexcept nogil
cdef void http_granted(worker_t* worker, exchange_t* exchange) noexcept nogil
cdef void http_resume(worker_t* worker, exchange_t* exchange) noexcept nogil
cdef void http_timeout(worker_t* worker, connection_t* conn, int timer_class) noexcept nogil
cdef void http_backend_out(worker_t* worker, exchange_t* exchange, char who) noexcept nogil
cdef bint http_let_go(worker_t* worker) noexcept nogil
cdef bint head_begun(connection_t* conn) noexcept nogil
cdef void http_drain_idle(worker_t* worker, connection_t* conn) noexcept nogil
cdef void http_stop_idle(worker_t* worker, connection_t* conn) noexcept nogil
