"""One request and its response, or one TCP session: picked, connected, counted, ended.

What both modes have in common. A unit of a backend is taken in exchange_pick() (or granted by the
queue) and given back in exchange_release(), and nowhere else.
"""

from libc.stdint cimport uint32_t

from fastlb.native.types cimport connection_t, exchange_t, worker_t

# What exchange_dispatch() and its relatives came to.
ctypedef enum dispatch_t:
    DISPATCH_READY       # the upstream connection is open
    DISPATCH_WAIT        # connecting, or queued
    DISPATCH_NONE        # exchange.failure says why

cdef exchange_t* exchange_open(worker_t* worker, connection_t* client, uint32_t flags) noexcept nogil
cdef void exchange_close(worker_t* worker, exchange_t* exchange) noexcept nogil
cdef dispatch_t exchange_dispatch(worker_t* worker, exchange_t* exchange) noexcept nogil
cdef bint exchange_may_move(worker_t* worker, exchange_t* exchange) noexcept nogil
cdef dispatch_t exchange_granted(worker_t* worker, exchange_t* exchange) noexcept nogil
cdef dispatch_t exchange_connect(worker_t* worker, exchange_t* exchange) noexcept nogil
cdef dispatch_t exchange_reach_again(worker_t* worker, exchange_t* exchange) noexcept nogil
cdef dispatch_t exchange_connect_done(worker_t* worker, exchange_t* exchange, int error) noexcept nogil
cdef void exchange_release(worker_t* worker, exchange_t* exchange) noexcept nogil
cdef void exchange_unqueue(worker_t* worker, exchange_t* exchange) noexcept nogil
cdef void exchange_drop_upstream(worker_t* worker, exchange_t* exchange, bint reset) noexcept nogil
cdef void exchange_end_code(exchange_t* exchange, char who, char phase) noexcept nogil
cdef char exchange_phase_letter(exchange_t* exchange) noexcept nogil
cdef void exchange_later(worker_t* worker, exchange_t* exchange) noexcept nogil
cdef exchange_t* exchange_next_ready(worker_t* worker) noexcept nogil
