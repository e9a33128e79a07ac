"""HTTP/1.1 from a client to a backend and back: one exchange at a time on a connection.

A client connection without an exchange waits for a head. With a head an exchange begins: the
request is written anew into `exchange.replay` and sent when a backend has taken it; the response
head is written anew and the body relayed in its framing. Then the connection waits again, closes,
or has become a tunnel (tcp_exchange).

What may follow a failure depends on what was sent:
  nothing sent to this backend          another backend, any method
  sent on a reused connection, no byte  once more on a fresh connection, if the method is
  of a response                         idempotent and the whole request is still here
  sent on a fresh connection, likewise  another backend, under the same conditions
  anything else                         502, 504, or a cut connection if an answer has begun
"""

from libc.stdint cimport uint32_t

from fastlb.native.types cimport connection_t, exchange_t, worker_t

cdef void http_client_open(worker_t* worker, connection_t* conn) noexcept nogil
cdef void http_client_event(worker_t* worker, connection_t* conn, uint32_t events) noexcept nogil
cdef void http_upstream_event(worker_t* worker, exchange_t* exchange, uint32_t events) noexcept nogil
cdef void http_granted(worker_t* worker, exchange_t* exchange) noexcept nogil
cdef void http_resume(worker_t* worker, exchange_t* exchange) noexcept nogil
cdef void http_timeout(worker_t* worker, connection_t* conn, int timer_class) noexcept nogil
cdef void http_abort(worker_t* worker, exchange_t* exchange, char who, char phase) noexcept nogil
cdef void http_drain_idle(worker_t* worker, connection_t* conn) noexcept nogil
