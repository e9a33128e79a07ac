"""See http_client.pxd. An exchange may end its connection, so whoever calls into one remembers the
generation of the connection before."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastlb.native.buffer cimport buffer_bytes, buffer_length
from fastlb.native.connection cimport (
    connection_close, connection_linger_idle, connection_note, connection_quiet,
)
from fastlb.native.exchange cimport (
    exchange_close, exchange_end_code, exchange_open, exchange_phase_letter,
)
from fastlb.native.http1 cimport HEAD_DONE, HEAD_MORE
from fastlb.native.http_exchange cimport (
    STATUS_CLIENT_GONE, http_abort, http_begin, http_client_changed, http_describe, http_exchange_granted,
    http_exchange_resume, http_exchange_timeout, http_reply, http_upstream_changed, rest_unwanted,
)
from fastlb.native.http_head cimport HEAD_EOF, HEAD_LOST, head_receive, received_t
from fastlb.native.timers cimport timer_arm
from fastlb.native.types cimport (
    CONN_READABLE, ROLE_HTTP_CLIENT, TIMER_FRESH, TIMER_HEADER, TIMER_KEEPALIVE, TIMER_LINGER, X_ANSWERED,
    X_HTTP, X_REST, X_TUNNEL, connection_t, exchange_t, worker_t,
)


cdef enum:
    IDLE_LOOKS = 16          # at clients whose next request may be here already

# An idle client between requests may be told to go for another after so long; one that has sent nothing
# yet has the time that it would have for a head.
cdef uint64_t KEPT_LEAST_NS = 1_000_000_000


cdef void http_client_open(worker_t* worker, connection_t* conn) noexcept nogil:
    """A client was accepted. epoll reports it again if its request is here already."""
    timer_arm(worker, conn, TIMER_FRESH)


cdef void http_client_event(worker_t* worker, connection_t* conn, uint32_t events) noexcept nogil:
    cdef uint32_t generation = conn.generation
    connection_note(conn, events)
    if conn.exchange != NULL:
        http_client_changed(worker, conn.exchange, events)
    next_heads(worker, conn, generation)


cdef void next_heads(worker_t* worker, connection_t* conn, uint32_t generation) noexcept nogil:
    """Begin exchanges as long as there are requests and no exchange is under way. `generation`
    tells whether the connection is still the same one."""
    cdef received_t found
    cdef int outcome
    while conn.generation == generation and conn.role == ROLE_HTTP_CLIENT and conn.exchange == NULL:
        if not conn.flags & CONN_READABLE and (conn.inbox == NULL or conn.head != NULL):
            return
        outcome = head_receive(worker, conn, False, &found)
        if outcome == HEAD_DONE:
            http_begin(worker, conn, &found)
        elif outcome == HEAD_MORE:
            wait_for_head(worker, conn)
            return
        elif outcome == HEAD_EOF or outcome == HEAD_LOST:
            client_left(worker, conn)
        else:
            refuse_head(worker, conn, &found, outcome)


cdef void wait_for_head(worker_t* worker, connection_t* conn) noexcept nogil:
    """The header time-out runs from the first byte of a head and is not refreshed."""
    if head_begun(conn) and conn.timer_class != TIMER_HEADER:
        conn.since_ns = worker.now_ns
        timer_arm(worker, conn, TIMER_HEADER)


cdef bint head_begun(connection_t* conn) noexcept nogil:
    """True if there is a byte that is not of the empty line before a request (RFC 9112 2.2)."""
    cdef uint8_t* text
    if conn.inbox == NULL:
        return False
    text = buffer_bytes(conn.inbox) + conn.inbox.start
    return buffer_length(conn.inbox) > 2 or text[0] != c'\r' \
        or (buffer_length(conn.inbox) == 2 and text[1] != c'\n')


cdef void client_left(worker_t* worker, connection_t* conn) noexcept nogil:
    """EOF or RST between requests says nothing; in the middle of a head it is an aborted request."""
    cdef exchange_t* exchange
    if head_begun(conn):
        exchange = exchange_open(worker, conn, X_HTTP)
        if exchange != NULL:
            exchange.record.bytes_in = buffer_length(conn.inbox)
            exchange.record.status = STATUS_CLIENT_GONE
            exchange_end_code(exchange, c'C', c'R')
            exchange_close(worker, exchange)
    connection_close(worker, conn)


cdef void refuse_head(worker_t* worker, connection_t* conn, received_t* found, int status) noexcept nogil:
    """A head that cannot be understood in one way only, or is too large."""
    cdef exchange_t* exchange
    if conn.since_ns == 0 or conn.timer_class != TIMER_HEADER:
        conn.since_ns = worker.now_ns
    exchange = exchange_open(worker, conn, X_HTTP)
    if exchange == NULL:
        connection_close(worker, conn)
        return
    exchange.record.bytes_in = found.len
    if found.head.has_start_line:
        http_describe(exchange, found)
    http_reply(worker, exchange, status, c'R' if status == 503 else c'P', c'R')


cdef bint http_let_go(worker_t* worker) noexcept nogil:
    """Too many are connected: the client of this worker that has been idle for longest, be it before
    its first request or between two, is told to go, unless its request is here already. False if
    nobody has been idle for long enough. Cost: the heads of two lists."""
    cdef connection_t* fresh = idle_for(worker, worker.timers[TIMER_FRESH].head, fresh_least_ns(worker))
    cdef connection_t* kept = idle_for(worker, worker.timers[TIMER_KEEPALIVE].head, KEPT_LEAST_NS)
    cdef connection_t* conn
    cdef int _
    for _ in range(IDLE_LOOKS):
        conn = kept
        if kept == NULL or (fresh != NULL and idle_since_ns(worker, fresh) < idle_since_ns(worker, kept)):
            conn = fresh
        if conn == NULL:
            return False
        if conn == fresh:
            fresh = idle_for(worker, fresh.timer_next, fresh_least_ns(worker))
        else:
            kept = idle_for(worker, kept.timer_next, KEPT_LEAST_NS)
        if conn.exchange == NULL and conn.inbox == NULL and conn.outbox == NULL and connection_quiet(conn):
            connection_linger_idle(worker, conn)
            return True
    return False


cdef inline uint64_t fresh_least_ns(worker_t* worker) noexcept nogil:
    return worker.settings.timeout_ns[TIMER_HEADER]


cdef inline connection_t* idle_for(worker_t* worker, connection_t* conn, uint64_t least_ns) noexcept nogil:
    """`conn` if it has been idle for so long, else NULL."""
    if conn != NULL and worker.now_ns - idle_since_ns(worker, conn) < least_ns:
        return NULL
    return conn


cdef inline uint64_t idle_since_ns(worker_t* worker, const connection_t* conn) noexcept nogil:
    return conn.deadline_ns - worker.settings.timeout_ns[conn.timer_class]


cdef void http_drain_idle(worker_t* worker, connection_t* conn) noexcept nogil:
    """Draining: an idle client that has been served is told to go, unless its next request is here
    already; a new one may ask once."""
    if conn.requests and connection_quiet(conn):
        connection_linger_idle(worker, conn)
    else:
        timer_arm(worker, conn, TIMER_LINGER)


cdef void http_stop_idle(worker_t* worker, connection_t* conn) noexcept nogil:
    """Stopped between requests, or in the middle of a head, which is a request broken off."""
    cdef exchange_t* exchange = NULL
    if head_begun(conn):
        exchange = exchange_open(worker, conn, X_HTTP)
    if exchange == NULL:
        connection_close(worker, conn)
        return
    exchange.record.bytes_in = buffer_length(conn.inbox)
    http_abort(worker, exchange, c'K', c'R')


# ---- around an exchange: when it is over, the next head may be here already -------------------

cdef void http_upstream_event(worker_t* worker, exchange_t* exchange, uint32_t events) noexcept nogil:
    cdef connection_t* client = exchange.client
    cdef uint32_t generation = client.generation
    http_upstream_changed(worker, exchange, events)
    next_heads(worker, client, generation)


cdef void http_backend_out(worker_t* worker, exchange_t* exchange, char who) noexcept nogil:
    """Its backend must not be used any longer: answer, or cut an answer off that has begun. What
    the backend has sent to its end still reaches the client."""
    cdef connection_t* client = exchange.client
    cdef uint32_t generation = client.generation
    if not exchange.flags & X_ANSWERED:
        http_reply(worker, exchange, 502, who, exchange_phase_letter(exchange))
        next_heads(worker, client, generation)
    elif exchange.flags & X_REST:
        rest_unwanted(worker, exchange)
        next_heads(worker, client, generation)
    elif exchange.flags & X_TUNNEL or not exchange.response.source_done:
        http_abort(worker, exchange, who, exchange_phase_letter(exchange))


cdef void http_granted(worker_t* worker, exchange_t* exchange) noexcept nogil:
    cdef connection_t* client = exchange.client
    cdef uint32_t generation = client.generation
    http_exchange_granted(worker, exchange)
    next_heads(worker, client, generation)


cdef void http_resume(worker_t* worker, exchange_t* exchange) noexcept nogil:
    cdef connection_t* client = exchange.client
    cdef uint32_t generation = client.generation
    http_exchange_resume(worker, exchange)
    next_heads(worker, client, generation)


cdef void http_timeout(worker_t* worker, connection_t* conn, int timer_class) noexcept nogil:
    """A time-out of a client connection or of the upstream connection of an exchange."""
    cdef connection_t* client
    cdef uint32_t generation
    if conn.exchange == NULL:
        idle_timeout(worker, conn, timer_class)
        return
    client = conn.exchange.client
    generation = client.generation
    http_exchange_timeout(worker, conn.exchange, timer_class)
    next_heads(worker, client, generation)


cdef void idle_timeout(worker_t* worker, connection_t* conn, int timer_class) noexcept nogil:
    """Between requests: silence. In the middle of a head: 408."""
    cdef exchange_t* exchange
    if timer_class != TIMER_HEADER:
        connection_linger_idle(worker, conn)
        return
    exchange = exchange_open(worker, conn, X_HTTP)
    if exchange == NULL:
        connection_close(worker, conn)
        return
    exchange.record.bytes_in = buffer_length(conn.inbox)
    http_reply(worker, exchange, 408, c'c', c'R')
