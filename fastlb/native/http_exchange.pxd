"""HTTP/1.1 from a client to a backend and back: one request and its response.

A request head is written anew into `exchange.replay` and sent when a backend has taken it; the
response head is written anew and the body relayed in its framing. When the exchange has ended,
the client connection waits for the next head (http_client), closes, or was a tunnel
(tcp_exchange).

What may follow a failure depends on what was sent:
  nothing sent to this backend          another backend, any method
  sent on a reused connection, no byte  once more on a fresh connection, if the method is
  of a response                         idempotent and the whole request is still here
  sent on a fresh connection, likewise  another backend, under the same conditions
  anything else                         502, 504, or a cut connection if an answer has begun
"""

from libc.stdint cimport uint32_t

from fastlb.native.http_head cimport received_t
from fastlb.native.types cimport connection_t, exchange_t, worker_t

cdef enum:
    STATUS_CLIENT_GONE = 499     # only in the log

cdef void http_begin(worker_t* worker, connection_t* conn, received_t* found) noexcept nogil
cdef void http_describe(exchange_t* exchange, received_t* found) noexcept nogil
cdef void http_client_changed(worker_t* worker, exchange_t* exchange, uint32_t events) noexcept nogil
cdef void http_upstream_changed(worker_t* worker, exchange_t* exchange, uint32_t events) noexcept nogil
cdef void http_exchange_granted(worker_t* worker, exchange_t* exchange) noexcept nogil
cdef void http_exchange_resume(worker_t* worker, exchange_t* exchange) noexcept nogil
cdef void http_exchange_timeout(worker_t* worker, exchange_t* exchange, int timer_class) noexcept nogil
cdef void rest_unwanted(worker_t* worker, exchange_t* exchange) noexcept nogil
cdef void http_reply(worker_t* worker, exchange_t* exchange, uint32_t status, char who,
                     char phase) noexcept nogil
cdef void http_abort(worker_t* worker, exchange_t* exchange, char who, char phase) noexcept nogil
