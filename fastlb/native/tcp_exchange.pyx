"""See tcp_exchange.pxd."""

from libc.errno cimport ENOMEM, ETIMEDOUT
from libc.stdint cimport int64_t, uint32_t

from fastlb.native.accounting cimport account_blame, account_progress
from fastlb.native.connection cimport (
    connection_close, connection_error, connection_note, connection_reset,
)
from fastlb.native.exchange cimport (
    DISPATCH_NONE, DISPATCH_READY, dispatch_t, exchange_close, exchange_connect_done,
    exchange_dispatch, exchange_drop_upstream, exchange_end_code, exchange_granted, exchange_later,
    exchange_open, exchange_phase_letter, exchange_reach_again,
)
from fastlb.native.linux cimport SHUT_WR, shutdown
from fastlb.native.relay cimport relay_blocked, relay_open, relay_progress, relay_pump
from fastlb.native.timers cimport timer_arm
from fastlb.native.types cimport (
    CONN_BROKEN, CONN_CONNECTING, CONN_TCP, FAIL_LOCAL, FAIL_PORTS, FAIL_QUEUE_FULL, FAIL_QUEUE_TIMEOUT,
    FAIL_TIMEOUT, FRAME_RAW, PHASE_DATA, PHASE_DONE, SIDE_SOURCE, STEP_AGAIN, STEP_EOF, STEP_FAILED,
    TIMER_CONNECT, TIMER_FIN, TIMER_IDLE, TIMER_QUEUE, TIMER_ROOM, TIMER_TUNNEL, X_TUNNEL, connection_t,
    exchange_t, half_t, step_t, worker_t,
)
from fastlb.native.upstream cimport upstream_connected


cdef void tcp_client_open(worker_t* worker, connection_t* conn) noexcept nogil:
    """A client was accepted: its session begins with the search for a backend."""
    cdef exchange_t* exchange
    conn.since_ns = worker.now_ns
    exchange = exchange_open(worker, conn, 0)
    if exchange == NULL:
        connection_reset(worker, conn)
        return
    settle(worker, exchange, exchange_dispatch(worker, exchange))


cdef void settle(worker_t* worker, exchange_t* exchange, dispatch_t outcome) noexcept nogil:
    if outcome == DISPATCH_READY:
        session_start(worker, exchange)
    elif outcome == DISPATCH_NONE:
        refuse(worker, exchange)


cdef void refuse(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """No backend took it. RST, so that the client does not take it for an empty answer."""
    cdef const char* code = "SC"
    if exchange.failure == FAIL_TIMEOUT:
        code = "sC"
    elif exchange.failure == FAIL_LOCAL or exchange.failure == FAIL_PORTS:
        code = "RC"
    elif exchange.failure == FAIL_QUEUE_FULL:
        code = "PQ"
    elif exchange.failure == FAIL_QUEUE_TIMEOUT:
        code = "sQ"
    tcp_abort(worker, exchange, code[0], code[1])


cdef void session_start(worker_t* worker, exchange_t* exchange) noexcept nogil:
    exchange.phase = PHASE_DATA
    relay_open(&exchange.request, exchange.client, exchange.upstream, FRAME_RAW, 0, False)
    relay_open(&exchange.response, exchange.upstream, exchange.client, FRAME_RAW, 0, False)
    timer_arm(worker, exchange.client, TIMER_IDLE)
    tcp_pump(worker, exchange)


cdef void tcp_client_event(worker_t* worker, connection_t* conn, uint32_t events) noexcept nogil:
    cdef exchange_t* exchange = conn.exchange
    connection_note(conn, events)
    if exchange.phase == PHASE_DATA:
        tcp_pump(worker, exchange)
    elif conn.flags & CONN_BROKEN:
        tcp_abort(worker, exchange, c'C', exchange_phase_letter(exchange))


cdef void tcp_upstream_event(worker_t* worker, exchange_t* exchange, uint32_t events) noexcept nogil:
    cdef connection_t* upstream = exchange.upstream
    connection_note(upstream, events)
    if upstream.flags & CONN_CONNECTING:
        settle(worker, exchange, exchange_connect_done(worker, exchange, upstream_connected(upstream)))
    else:
        tcp_pump(worker, exchange)


cdef void tcp_granted(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """The queue gave it a backend."""
    settle(worker, exchange, exchange_granted(worker, exchange))


cdef void tcp_pump(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """Move what can be moved in both directions, and see whether that was the end."""
    cdef bint ended = exchange.request.shut or exchange.response.shut
    cdef bint moved, silent
    cdef step_t out, back
    out = half_pump(worker, &exchange.request, exchange.response.shut)
    if out == STEP_FAILED:
        broken(worker, exchange, &exchange.request)
        return
    silent = said_nothing(exchange) and not exchange.request.shut
    back = half_pump(worker, &exchange.response, exchange.request.shut)
    if back == STEP_FAILED:
        broken(worker, exchange, &exchange.response)
        return
    if silent and back == STEP_EOF and said_nothing(exchange):
        account_blame(worker, exchange)              # its FIN is all that it had to say
    if exchange.record.first_byte_us < 0 and exchange.response.moved_bytes:
        exchange.record.first_byte_us = <int64_t> ((worker.now_ns - exchange.picked_ns) // 1000)
    if exchange.request.shut and exchange.response.shut:
        finish(worker, exchange)
        return
    if gone(exchange.client, &exchange.request):
        tcp_abort(worker, exchange, c'C', c'D')
        return
    if gone(exchange.upstream, &exchange.response):
        blame_silent(worker, exchange)
        tcp_abort(worker, exchange, c'S', c'D')
        return
    account_progress(worker, exchange)
    if out == STEP_AGAIN or back == STEP_AGAIN:
        exchange_later(worker, exchange)
    moved = relay_progress(&exchange.request)
    moved = relay_progress(&exchange.response) or moved
    if exchange.request.shut or exchange.response.shut:
        if moved or not ended:
            timer_arm(worker, exchange.client, TIMER_FIN)
    elif moved:
        timer_arm(worker, exchange.client, TIMER_TUNNEL if exchange.flags & X_TUNNEL else TIMER_IDLE)


cdef inline bint said_nothing(const exchange_t* exchange) noexcept nogil:
    """True while no byte has come from the backend of a session. A tunnel has had its 101."""
    return not exchange.flags & X_TUNNEL and exchange.response.taken_bytes == 0


cdef void blame_silent(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """The backend broke the session off."""
    if said_nothing(exchange):
        account_blame(worker, exchange)


cdef bint gone(connection_t* conn, half_t* half) noexcept nogil:
    """True if `conn`, the source of `half`, was reset while it is not read, behind its FIN or because
    the target does not read: nothing else would tell. A UNIX socket hangs up whenever its peer closes,
    and a TCP socket also after a FIN from both sides."""
    if conn.flags & (CONN_BROKEN | CONN_TCP) != (CONN_BROKEN | CONN_TCP):
        return False
    return half.shut or (relay_blocked(half) and connection_error(conn) != 0)


cdef step_t half_pump(worker_t* worker, half_t* half, bint other_shut) noexcept nogil:
    """One direction; its end becomes a FIN. The FIN that ends the session comes from close()."""
    cdef step_t step
    if half.shut:
        return STEP_EOF
    step = relay_pump(worker, half)
    if step == STEP_EOF:
        if not other_shut:
            shutdown(half.target.fd, SHUT_WR)
        half.shut = True
    return step


cdef void finish(worker_t* worker, exchange_t* exchange) noexcept nogil:
    cdef connection_t* client = exchange.client
    exchange.phase = PHASE_DONE
    exchange_drop_upstream(worker, exchange, False)
    exchange_close(worker, exchange)
    connection_close(worker, client)


cdef void broken(worker_t* worker, exchange_t* exchange, half_t* half) noexcept nogil:
    """A direction failed: find out whose fault it was."""
    cdef connection_t* guilty = half.source if half.error_side == SIDE_SOURCE else half.target
    if half.error_errno == ENOMEM:
        tcp_abort(worker, exchange, c'R', c'D')
    elif guilty == exchange.client:
        tcp_abort(worker, exchange, c'C', c'D')
    else:
        blame_silent(worker, exchange)
        tcp_abort(worker, exchange, c'S', c'D')


cdef void tcp_abort(worker_t* worker, exchange_t* exchange, char who, char phase) noexcept nogil:
    """End it with RST on both sides."""
    cdef connection_t* client = exchange.client
    exchange_end_code(exchange, who, phase)
    exchange.phase = PHASE_DONE
    exchange_drop_upstream(worker, exchange, True)
    exchange_close(worker, exchange)
    connection_reset(worker, client)


cdef void tcp_timeout(worker_t* worker, connection_t* conn, int timer_class) noexcept nogil:
    """A time-out of the client connection, or of its connect to a backend."""
    cdef exchange_t* exchange = conn.exchange
    if timer_class == TIMER_CONNECT:
        settle(worker, exchange, exchange_connect_done(worker, exchange, ETIMEDOUT))
    elif timer_class == TIMER_ROOM:
        settle(worker, exchange, exchange_reach_again(worker, exchange))
    elif timer_class == TIMER_QUEUE:
        exchange.failure = FAIL_QUEUE_TIMEOUT
        refuse(worker, exchange)
    else:
        tcp_abort(worker, exchange, c's' if backend_owes(exchange) else c'c', c'D')


cdef bint backend_owes(exchange_t* exchange) noexcept nogil:
    """True if the backend is the one that does not read, or has not sent its FIN. A session that is
    simply idle is its client's."""
    if relay_blocked(&exchange.response):
        return False
    return relay_blocked(&exchange.request) or (exchange.request.shut and not exchange.response.shut)
