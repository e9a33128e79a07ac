"""See proxied.pxd."""

from libc.errno cimport EAGAIN
from libc.stdint cimport uint8_t, uint32_t

from fastlb.native.buffer cimport buffer_append, buffer_bytes, buffer_drop, buffer_length
from fastlb.native.connection cimport (
    connection_close, connection_note, connection_receive, connection_reset,
)
from fastlb.native.exchange cimport exchange_close, exchange_end_code, exchange_open
from fastlb.native.http_client cimport http_client_event, http_client_open
from fastlb.native.linux cimport AF_UNSPEC
from fastlb.native.peer cimport peer_announced
from fastlb.native.proxy_protocol cimport PROXY_BAD, PROXY_MORE, PROXY_READ_MAX_BYTES, proxy_read
from fastlb.native.tcp_exchange cimport tcp_client_open
from fastlb.native.timers cimport timer_arm, timer_cancel
from fastlb.native.types cimport (
    CONN_READABLE, CONN_TRUSTED, ROLE_TCP_CLIENT, TIMER_HEADER, TIMER_LINGER, connection_t, ends_t,
    exchange_t, worker_t,
)


cdef void proxied_open(worker_t* worker, connection_t* conn) noexcept nogil:
    """A proxy was accepted. The time for its header runs from here and is not refreshed."""
    conn.since_ns = worker.now_ns
    if conn.flags & CONN_TRUSTED:
        timer_arm(worker, conn, TIMER_HEADER)
    else:
        refuse(worker, conn, c'P')


cdef void proxied_event(worker_t* worker, connection_t* conn, uint32_t events) noexcept nogil:
    cdef ends_t ends
    cdef ssize_t n
    cdef int used
    connection_note(conn, events)
    while conn.flags & CONN_READABLE:
        n = connection_receive(conn, worker.scratch, PROXY_READ_MAX_BYTES)
        if n == -EAGAIN:
            return
        if n <= 0:
            left(worker, conn)
            return
        if not buffer_append(worker, &conn.inbox, worker.scratch, <size_t> n):
            connection_reset(worker, conn)
            return
        used = proxy_read(buffer_bytes(conn.inbox) + conn.inbox.start, buffer_length(conn.inbox), &ends)
        if used == PROXY_BAD:
            refuse(worker, conn, c'P')
            return
        if used != PROXY_MORE:
            client_start(worker, conn, &ends, <uint32_t> used)
            return


cdef void client_start(worker_t* worker, connection_t* conn, const ends_t* ends,
                       uint32_t used) noexcept nogil:
    """The header is complete: go on as if the client had connected itself."""
    timer_cancel(worker, conn)
    conn.inbox.start += used
    if buffer_length(conn.inbox) == 0:
        buffer_drop(worker, &conn.inbox)
    if ends.family != AF_UNSPEC and not peer_announced(worker, conn, ends):
        connection_reset(worker, conn)
        return
    conn.role = <uint8_t> conn.requests
    conn.requests = 0
    if conn.role == ROLE_TCP_CLIENT:
        tcp_client_open(worker, conn)
        return
    http_client_open(worker, conn)
    if worker.draining:
        timer_arm(worker, conn, TIMER_LINGER)
    http_client_event(worker, conn, 0)


cdef void proxied_timeout(worker_t* worker, connection_t* conn) noexcept nogil:
    refuse(worker, conn, c'c')


cdef void left(worker_t* worker, connection_t* conn) noexcept nogil:
    """A connection that never said anything was somebody's health check."""
    if conn.inbox == NULL:
        connection_close(worker, conn)
    else:
        refuse(worker, conn, c'C')


cdef void refuse(worker_t* worker, connection_t* conn, char who) noexcept nogil:
    cdef exchange_t* exchange = exchange_open(worker, conn, 0)
    if exchange != NULL:
        exchange_end_code(exchange, who, c'R')
        exchange_close(worker, exchange)
    connection_reset(worker, conn)
