"""A client connection that begins with a PROXY header, until the header is complete.

Only trusted proxies may connect to a listener that wants headers, and nothing else is done with a
connection before: no exchange, no byte of an answer, no backend. What stands behind the header
belongs to the first request or to the session.
"""

from libc.stdint cimport uint32_t

from fastlb.native.types cimport connection_t, worker_t

cdef void proxied_open(worker_t* worker, connection_t* conn) noexcept nogil
cdef void proxied_event(worker_t* worker, connection_t* conn, uint32_t events) noexcept nogil
cdef void proxied_timeout(worker_t* worker, connection_t* conn) noexcept nogil
