"""See http_exchange.pxd. Functions that may end the exchange or its connections are called last."""

from libc.errno cimport EAGAIN, EMSGSIZE, ENOMEM, ETIMEDOUT
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastlb.native.accounting cimport account_failure, account_progress, account_status
from fastlb.native.buffer cimport (
    BUFFER_BODY_BYTES, BUFFER_LARGE_BYTES, BUFFER_SMALL_BYTES, buffer_append, buffer_bytes, buffer_drop,
    buffer_length, buffer_reserve, buffer_spare, buffer_take,
)
from fastlb.native.chunked cimport CHUNK_BAD, CHUNK_HEAD_BYTES, chunk_head_write
from fastlb.native.connection cimport (
    connection_cut, connection_discard, connection_finish, connection_flush, connection_linger,
    connection_note, connection_quiet, connection_receive, connection_reset, connection_send,
    connection_send_wait, connection_still_takes, connection_writable,
)
from fastlb.native.exchange cimport (
    DISPATCH_NONE, DISPATCH_READY, dispatch_t, exchange_close, exchange_connect, exchange_connect_done,
    exchange_dispatch, exchange_drop_upstream, exchange_end_code, exchange_granted, exchange_later,
    exchange_may_move, exchange_open, exchange_phase_letter, exchange_reach_again, exchange_release,
)
from fastlb.native.http1 cimport (
    HEAD_BINDS, HEAD_CONN_UPGRADE, HEAD_DONE, HEAD_EXPECTS, HEAD_HAS_UPGRADE, HEAD_MORE, METHOD_DELETE,
    METHOD_GET, METHOD_HEAD, METHOD_OPTIONS, METHOD_PUT, METHOD_TRACE, head_keeps_alive,
    head_passes_trailers, head_request_framing, head_response_framing, head_t,
)
from fastlb.native.http_head cimport (
    HEAD_EOF, HEAD_LOST, head_consume, head_receive, head_scheme_fits, received_t, reply_write,
    request_head_size, request_head_write, response_head_write,
)
from fastlb.native.linux cimport EPOLLERR, EPOLLHUP, SHUT_WR, iovec, shutdown
from fastlb.native.max_forwards cimport max_forwards_answer, max_forwards_read
from fastlb.native.relay cimport (
    last_chunk_bytes, relay_blocked, relay_decode, relay_open, relay_pending, relay_progress, relay_pump,
    relay_send,
)
from fastlb.native.tcp_exchange cimport tcp_abort, tcp_pump, tcp_timeout
from fastlb.native.timers cimport timer_arm, timer_cancel
from fastlb.native.types cimport (
    CONN_BATCHED, CONN_CONNECTING, CONN_HANGUP, CONN_PRIVATE, CONN_READABLE, CONN_REUSED, CONN_UNSENT,
    EVENT_BACKEND_FAILED, FAIL_BROKEN, FAIL_LOCAL, FAIL_PORTS, FAIL_QUEUE_FULL, FAIL_QUEUE_TIMEOUT,
    FAIL_REFUSED, FAIL_TIMEOUT, FRAME_CHUNKED, FRAME_CLOSE, FRAME_LENGTH, FRAME_NONE, FRAME_RAW,
    METHOD_MAX_BYTES, PHASE_DATA, PHASE_DONE, PHASE_HEAD, PHASE_REQUEST, REST_MAX_BYTES, SCRATCH_BYTES,
    SIDE_MESSAGE, SIDE_SOURCE, SIDE_TARGET, STEP_AGAIN, STEP_EOF, STEP_FAILED, TARGET_MAX_BYTES,
    TIMER_CONNECT, TIMER_HEADER, TIMER_IDLE, TIMER_KEEPALIVE, TIMER_LINGER, TIMER_QUEUE, TIMER_RESPONSE,
    TIMER_ROOM, TIMER_SEND, TIMER_SILENCE, TIMER_TUNNEL, X_ANSWERED, X_CONTINUED, X_CUT, X_EXPECTS, X_HEAD,
    X_HTTP, X_HTTP10, X_IDEMPOTENT, X_KEEP_CLIENT, X_KEEP_UPSTREAM, X_PRIVATE, X_REPLAYABLE,
    X_REQUEST_LOST, X_REST, X_RETRIED, X_TUNNEL, X_UPGRADE, connection_t, counter_clear_shared, exchange_t,
    flag_read, half_t, step_t, worker_t,
)
from fastlb.native.upstream cimport upstream_connected, upstream_give, upstream_keep

cdef enum:
    INTERIM_PER_TURN = 16        # interim responses of one exchange; then it is the others' turn


# ---- the request ----------------------------------------------------------------------------

cdef void http_begin(worker_t* worker, connection_t* conn, received_t* found) noexcept nogil:
    """A request head is complete."""
    cdef exchange_t* exchange
    cdef head_t* head = found.head
    cdef int framing, status
    cdef bint held
    if conn.timer_class != TIMER_HEADER:
        conn.since_ns = worker.now_ns
    timer_cancel(worker, conn)
    conn.requests += 1
    exchange = exchange_open(worker, conn, X_HTTP | request_flags(head))
    if exchange == NULL:
        connection_reset(worker, conn)
        return
    if worker.draining:
        exchange.flags &= ~X_KEEP_CLIENT
    if worker.settings.access_on:
        http_describe(exchange, found)
    exchange.record.bytes_in = head.bytes
    framing = head_request_framing(head)
    relay_open(&exchange.request, conn, NULL, framing, head.content_length, framing == FRAME_CHUNKED)
    exchange.request.trailing = head_passes_trailers(head)
    if not head_scheme_fits(head, found.text, conn):
        http_reply(worker, exchange, 421, c'P', c'R')
        return
    if worker.settings.body_bytes:
        if framing == FRAME_LENGTH and head.content_length > worker.settings.body_bytes:
            if not head_consume(worker, conn, found, head.bytes):
                exchange.flags &= ~X_KEEP_CLIENT
            http_reply(worker, exchange, 413, c'P', c'R')
            return
        exchange.request.room_bytes = worker.settings.body_bytes
    if (head.method == METHOD_OPTIONS or head.method == METHOD_TRACE) \
            and max_forwards_read(head, found.text) == 0:
        answer_here(worker, exchange, found)
        return
    held = framing == FRAME_LENGTH and not head.flags & HEAD_EXPECTS and worker.settings.request_buffer_bytes
    status = request_write(worker, exchange, found)
    held = held and not exchange.request.source_done
    if status == 503:
        exchange.flags &= ~X_KEEP_CLIENT             # what stood behind the head may be lost
        http_reply(worker, exchange, status, c'R', c'C')
    elif status:
        http_reply(worker, exchange, status, c'P', c'D' if status == 413 else c'R')
    elif conn.flags & CONN_HANGUP and (held or exchange.request.source_done):
        client_left(worker, exchange, c'R')          # its FIN came along, and is reported once only
    elif held:
        request_await(worker, exchange)
    else:
        request_pass(worker, exchange)


cdef void request_await(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """The body, or as much of it as may be kept, is awaited before a backend is picked: a slow client
    must not hold a place there. Without memory for it, it is awaited no longer."""
    cdef connection_t* client = exchange.client
    cdef half_t* half = &exchange.request
    cdef uint64_t want
    cdef uint32_t room, used = 0, out
    cdef uint8_t* into
    cdef ssize_t n = 1
    cdef uint64_t before = half.taken_bytes
    while True:
        if half.source_done or half.taken_bytes >= worker.settings.request_buffer_bytes \
                or client.inbox != NULL:             # there was no memory for what came with the head
            break
        if not client.flags & CONN_READABLE or n == -EAGAIN:
            if half.taken_bytes != before or client.timer_class != TIMER_IDLE:
                timer_arm(worker, client, TIMER_IDLE)
            account_progress(worker, exchange)
            return
        want = min(half.remaining_bytes, worker.settings.request_buffer_bytes - half.taken_bytes)
        room = body_room(worker, exchange, <uint32_t> want)
        if room == 0:
            break
        if want < half.remaining_bytes:
            room = min(room, <uint32_t> want)
        into = buffer_bytes(exchange.replay) + exchange.replay.end
        n = connection_receive(client, into, room)
        if n == -EAGAIN:
            continue
        if n == 0:
            client_left(worker, exchange, c'R')
            return
        if n < 0:
            http_abort(worker, exchange, c'C', c'R')
            return
        out = relay_decode(worker, half, into, <uint32_t> n, &used)
        exchange.replay.end += out
        if not buffer_append(worker, &client.inbox, into + used, <uint32_t> n - used):
            out_of_memory(worker, exchange)
            return
    timer_cancel(worker, client)
    request_pass(worker, exchange)


cdef uint32_t body_room(worker_t* worker, exchange_t* exchange, uint32_t want) noexcept nogil:
    """Room for a read of the body behind what is in `replay`; 0 if memory is short. There is one byte more
    than is wanted, so that a read that ends the body also shows that nothing is behind it. A body that
    might be long gets a long buffer once it has filled a shorter one."""
    cdef uint32_t room = exchange.replay.cap_bytes - exchange.replay.end
    if room > want or room >= BUFFER_SMALL_BYTES:
        return room
    want += 1
    if exchange.replay.end + want > BUFFER_LARGE_BYTES and exchange.replay.cap_bytes < BUFFER_LARGE_BYTES \
            and exchange.replay.end < BUFFER_LARGE_BYTES - BUFFER_SMALL_BYTES:
        want = BUFFER_LARGE_BYTES - exchange.replay.end
    if not buffer_reserve(worker, &exchange.replay, want):
        return 0
    return exchange.replay.cap_bytes - exchange.replay.end


cdef void request_pass(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """Pick a backend, unless the client has left meanwhile."""
    cdef uint32_t generation = exchange.generation
    settle(worker, exchange, exchange_dispatch(worker, exchange))
    if exchange.generation == generation and exchange.phase < PHASE_HEAD and client_has_left(exchange):
        client_left(worker, exchange, exchange_phase_letter(exchange))


cdef void http_describe(exchange_t* exchange, received_t* found) noexcept nogil:
    """Method and target for the access log."""
    cdef head_t* head = found.head
    exchange.record.method_len = <uint8_t> min(head.method_len, <uint32_t> METHOD_MAX_BYTES)
    memcpy(exchange.record.method, found.text + head.start_at, exchange.record.method_len)
    exchange.record.target_len = <uint8_t> min(head.received_target_len, <uint32_t> TARGET_MAX_BYTES)
    memcpy(exchange.record.target, found.text + head.received_target_at, exchange.record.target_len)


cdef uint32_t request_flags(head_t* head) noexcept nogil:
    cdef uint32_t flags = X_REPLAYABLE
    if head_keeps_alive(head):
        flags |= X_KEEP_CLIENT
    if head.version == 10:
        flags |= X_HTTP10
    elif head.flags & HEAD_CONN_UPGRADE and head.flags & HEAD_HAS_UPGRADE:
        flags |= X_UPGRADE
    if head.flags & HEAD_EXPECTS:
        flags |= X_EXPECTS
    if head.flags & HEAD_BINDS:
        flags |= X_PRIVATE
    if head.method == METHOD_HEAD:
        flags |= X_HEAD
    if head.method in (METHOD_GET, METHOD_HEAD, METHOD_OPTIONS, METHOD_TRACE, METHOD_PUT, METHOD_DELETE):
        flags |= X_IDEMPOTENT
    return flags


cdef void answer_here(worker_t* worker, exchange_t* exchange, received_t* found) noexcept nogil:
    """Max-Forwards is used up: this is where the request ends."""
    cdef uint32_t len
    if worker.draining or not rest_is_short(exchange):
        exchange.flags &= ~X_KEEP_CLIENT
    len = max_forwards_answer(worker, found.head, found.text, exchange.flags & X_KEEP_CLIENT != 0,
                              exchange.flags & X_HTTP10 != 0)
    if head_consume(worker, exchange.client, found, found.head.bytes):
        answer_send(worker, exchange, 200, c'L', c'-', len)
    else:
        http_abort(worker, exchange, c'R', c'R')


cdef int request_write(worker_t* worker, exchange_t* exchange, received_t* found) noexcept nogil:
    """The head, and as much of the body as came with it, into exchange.replay. Returns 0, or the
    status to refuse the request with."""
    cdef connection_t* client = exchange.client
    cdef half_t* half = &exchange.request
    cdef const char* ends = "\r\n0\r\n\r\n"
    cdef uint32_t used = 0, body, behind = found.len - found.head.bytes
    cdef uint32_t head_bytes = found.head.bytes
    cdef uint8_t* text = found.text + head_bytes
    cdef uint8_t chunk_head[CHUNK_HEAD_BYTES]
    cdef uint32_t room = request_head_size(found.head)
    exchange.replay = buffer_take(worker, room + behind + 2 * CHUNK_HEAD_BYTES)
    if exchange.replay == NULL:
        exchange.replay = buffer_take(worker, room)
        behind = 0                                   # the body follows from the inbox
        if exchange.replay == NULL:
            return 503
    exchange.replay.end = request_head_write(worker, buffer_bytes(exchange.replay), found.head,
                                             found.text, exchange)
    body = relay_decode(worker, half, text, behind, &used)
    if half.chunk_state == CHUNK_BAD:
        return 413 if half.error_errno == EMSGSIZE else 503 if half.error_errno == ENOMEM else 400
    if body and half.rechunk:
        buffer_append(worker, &exchange.replay, chunk_head, chunk_head_write(chunk_head, body))
    buffer_append(worker, &exchange.replay, text, body)
    if half.rechunk and (body or half.source_done):
        buffer_append(worker, &exchange.replay, <uint8_t*> ends + (0 if body else 2),
                      (2 if body else 0) + (last_chunk_bytes(half) if half.source_done else 0))
    if half.source_done and half.trailers != NULL:
        buffer_append(worker, &exchange.replay, buffer_bytes(half.trailers) + half.trailers.start,
                      buffer_length(half.trailers))
        buffer_drop(worker, &half.trailers)
    half.keep = &exchange.replay
    return 0 if head_consume(worker, client, found, head_bytes + used) else 503


cdef void settle(worker_t* worker, exchange_t* exchange, dispatch_t outcome) noexcept nogil:
    if outcome == DISPATCH_READY:
        request_send(worker, exchange)
    elif outcome == DISPATCH_NONE:
        reply_unavailable(worker, exchange)


cdef void request_send(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """Send what is left of `replay`, then what more of the body there is."""
    cdef iovec pieces[3]
    cdef step_t step
    exchange.request.target = exchange.upstream
    exchange.flags &= ~X_REQUEST_LOST                # that was the connection before
    if exchange.flags & X_PRIVATE:
        exchange.upstream.flags |= CONN_PRIVATE
    if exchange.replay_sent == 0:
        step = connection_send(worker, exchange.upstream, pieces, request_pieces(exchange, pieces), False)
        if step == STEP_FAILED and exchange.upstream.error == ENOMEM:
            http_reply(worker, exchange, 503, c'R', c'C')
            return
        if step == STEP_FAILED:
            upstream_lost(worker, exchange)
            return
        exchange.replay_sent = 1
    if not exchange.request.source_done:
        request_pump(worker, exchange)
    elif worker.settings.timeout_ns[TIMER_RESPONSE]:
        timer_arm(worker, exchange.upstream, TIMER_RESPONSE)


cdef uint32_t request_pieces(exchange_t* exchange, iovec* pieces) noexcept nogil:
    """The whole of `replay`; a request without a Host gets the backend's. Returns their number."""
    cdef uint8_t* text = buffer_bytes(exchange.replay)
    cdef uint32_t gap = exchange.host_gap
    if gap == 0:
        pieces[0].iov_base = text
        pieces[0].iov_len = exchange.replay.end
        return 1
    pieces[0].iov_base = text
    pieces[0].iov_len = gap
    pieces[1].iov_base = exchange.backend.host_line
    pieces[1].iov_len = exchange.backend.host_line_len
    pieces[2].iov_base = text + gap
    pieces[2].iov_len = exchange.replay.end - gap
    return 3


cdef void request_pump(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """Body bytes to the backend. A backend that stops reading may still answer."""
    cdef uint64_t before = exchange.request.moved_bytes
    cdef step_t step
    if exchange.flags & X_REQUEST_LOST or exchange.upstream == NULL or not relay_pending(&exchange.request):
        return
    step = relay_pump(worker, &exchange.request)
    if exchange.request.moved_bytes != before:
        if exchange.request.keep == NULL:
            exchange.flags &= ~X_REPLAYABLE
        account_progress(worker, exchange)
    if step == STEP_AGAIN:
        exchange_later(worker, exchange)
    if exchange.flags & X_REST:
        rest_moved(worker, exchange, step, exchange.request.moved_bytes != before)
    elif step == STEP_FAILED:
        request_failed(worker, exchange)
    elif exchange.request.source_done and client_has_left(exchange):
        client_left(worker, exchange, exchange_phase_letter(exchange))
    else:
        request_moved(worker, exchange)


cdef void request_moved(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """Set the time-out of what is waited for now."""
    cdef int timer_class = TIMER_IDLE
    cdef bint moved = relay_progress(&exchange.request)
    if exchange.phase == PHASE_HEAD and exchange.request.source_done:
        timer_cancel(worker, exchange.client)
        timer_arm(worker, exchange.upstream, TIMER_RESPONSE)
        return
    if exchange.client.timer_class == TIMER_SEND:    # it takes nothing, but it sends
        if moved:
            connection_send_wait(worker, exchange.client)
        return
    if exchange.phase != PHASE_HEAD or relay_blocked(&exchange.request):
        timer_class = TIMER_TUNNEL
    if moved or exchange.client.timer_class != timer_class:
        timer_arm(worker, exchange.client, timer_class)


cdef inline bint client_has_left(exchange_t* exchange) noexcept nogil:
    """A FIN in HTTP mode, unless the client only waits for the rest of a response. epoll reports
    it once, maybe together with the last bytes of the request."""
    return exchange.client.flags & CONN_HANGUP != 0 and not exchange.response.source_done


cdef void request_failed(worker_t* worker, exchange_t* exchange) noexcept nogil:
    cdef half_t* half = &exchange.request
    if half.error_errno == ENOMEM:
        out_of_memory(worker, exchange)
    elif half.error_side == SIDE_TARGET:
        exchange.flags |= X_REQUEST_LOST
        exchange.upstream.flags |= CONN_READABLE
        if exchange.phase == PHASE_HEAD:
            response_receive(worker, exchange)       # its answer, or the news that there is none
    elif half.error_side == SIDE_MESSAGE and not exchange.flags & X_ANSWERED:
        if half.error_errno == EMSGSIZE:
            http_reply(worker, exchange, 413, c'P', c'D')
        else:
            http_reply(worker, exchange, 400, c'P', c'R')
    elif half.error_side == SIDE_SOURCE and half.error_errno == 0:
        client_left(worker, exchange, exchange_phase_letter(exchange))
    else:
        http_abort(worker, exchange, c'P' if half.error_side == SIDE_MESSAGE else c'C',
                   exchange_phase_letter(exchange))


cdef void client_left(worker_t* worker, exchange_t* exchange, char phase) noexcept nogil:
    """It has sent FIN, and gets FIN: a RST would take an earlier answer along that it may still read. Only
    where FIN would be the end of its response it is reset."""
    cdef connection_t* client = exchange.client
    cdef half_t* half = &exchange.response
    if exchange.flags & X_ANSWERED and half.framing != FRAME_LENGTH and not half.rechunk:
        http_abort(worker, exchange, c'C', phase)
        return
    exchange_end_code(exchange, c'C', phase)
    if exchange.record.status == 0:
        exchange.record.status = STATUS_CLIENT_GONE
    exchange.phase = PHASE_DONE
    exchange_drop_upstream(worker, exchange, True)
    exchange_close(worker, exchange)
    buffer_drop(worker, &client.outbox)
    client.flags &= ~CONN_BATCHED
    connection_finish(worker, client)


cdef void out_of_memory(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """No buffer for the bytes of this exchange: it ends, the others go on. Bytes behind its request may
    be lost with it, so nothing more is read of its client."""
    exchange.flags &= ~X_KEEP_CLIENT
    if exchange.flags & X_ANSWERED:
        http_abort(worker, exchange, c'R', exchange_phase_letter(exchange))
    else:
        http_reply(worker, exchange, 503, c'R', exchange_phase_letter(exchange))


cdef void http_client_changed(worker_t* worker, exchange_t* exchange, uint32_t events) noexcept nogil:
    """Something happened on the client side of an exchange under way."""
    if exchange.flags & X_TUNNEL:
        tcp_pump(worker, exchange)
        return
    if events & (EPOLLHUP | EPOLLERR):
        if exchange.flags & X_REST:
            over(worker, exchange, False)
        else:
            http_abort(worker, exchange, c'C', exchange_phase_letter(exchange))
        return
    if client_has_left(exchange) and (exchange.request.source_done or exchange.phase < PHASE_HEAD):
        client_left(worker, exchange, exchange_phase_letter(exchange))
        return
    if exchange.phase == PHASE_REQUEST:
        request_await(worker, exchange)
        return
    if exchange.phase == PHASE_HEAD and not interim_flush(worker, exchange):
        return
    if exchange.phase >= PHASE_HEAD:
        pump_both(worker, exchange)


cdef void pump_both(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """Body upwards, then response downwards, if the first has not ended the exchange."""
    cdef uint32_t generation = exchange.generation
    if exchange.flags & X_REST:
        rest_pump(worker, exchange)
        return
    request_pump(worker, exchange)
    if exchange.generation != generation:
        return
    if exchange.phase == PHASE_HEAD:
        response_receive(worker, exchange)
    elif exchange.phase == PHASE_DATA and not exchange.flags & X_TUNNEL:
        response_pump(worker, exchange)


# ---- the upstream connection ----------------------------------------------------------------

cdef void http_upstream_changed(worker_t* worker, exchange_t* exchange, uint32_t events) noexcept nogil:
    cdef connection_t* upstream = exchange.upstream
    cdef uint32_t generation = exchange.generation
    connection_note(upstream, events)
    if upstream.flags & CONN_CONNECTING:
        settle(worker, exchange, exchange_connect_done(worker, exchange, upstream_connected(upstream)))
        # A backend may have spoken first, and this event be the only one that says so.
        if exchange.generation == generation and exchange.phase == PHASE_HEAD:
            response_receive(worker, exchange)
        return
    if exchange.flags & X_TUNNEL:
        tcp_pump(worker, exchange)
        return
    if exchange.flags & X_REST:
        if upstream.flags & CONN_READABLE and not connection_quiet(upstream):
            rest_unwanted(worker, exchange)
        else:
            rest_pump(worker, exchange)
        return
    if relay_pending(&exchange.request):
        request_pump(worker, exchange)
        if exchange.generation != generation or exchange.upstream != upstream:
            return
    if exchange.phase == PHASE_HEAD:
        response_receive(worker, exchange)
    elif exchange.phase == PHASE_DATA and not exchange.flags & X_TUNNEL:
        response_pump(worker, exchange)


cdef void upstream_lost(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """The backend closed or broke before a valid response head: the retry table."""
    cdef connection_t* upstream = exchange.upstream
    cdef int error = upstream.error
    cdef bint reused = upstream.flags & CONN_REUSED
    cdef bint untouched = exchange.replay_sent == 0 \
        or (upstream.flags & CONN_UNSENT and exchange.request.moved_bytes == 0)
    cdef bint again = exchange.flags & (X_CONTINUED | X_REPLAYABLE) == X_REPLAYABLE and upstream.inbox == NULL
    exchange_drop_upstream(worker, exchange, False)
    if again and reused and not exchange.flags & X_RETRIED and (untouched or exchange.flags & X_IDEMPOTENT):
        exchange.flags |= X_RETRIED
        exchange.replay_sent = 0
        retry_fresh(worker, exchange)
        return
    account_failure(worker, exchange, EVENT_BACKEND_FAILED, error)
    if again and exchange_may_move(worker, exchange) and (untouched or exchange.flags & X_IDEMPOTENT):
        exchange_release(worker, exchange)
        exchange.failure = FAIL_BROKEN
        exchange.replay_sent = 0
        settle(worker, exchange, exchange_dispatch(worker, exchange))
        return
    http_reply(worker, exchange, 502, c'S', c'H')


cdef void retry_fresh(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """The stale-connection retry: the same backend, a connection of its own. It needs no budget: its
    cause is an idle time-out, not a failing pool."""
    cdef dispatch_t outcome = exchange_connect(worker, exchange)
    if outcome == DISPATCH_NONE and exchange_may_move(worker, exchange):
        outcome = exchange_dispatch(worker, exchange)
    settle(worker, exchange, outcome)


# ---- the response ---------------------------------------------------------------------------

cdef void response_receive(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """Read heads until the final one; interim responses are passed on. Nothing is read while the
    client has not taken the last of them."""
    cdef connection_t* upstream = exchange.upstream
    cdef received_t found
    cdef int outcome
    cdef int room = INTERIM_PER_TURN
    while exchange.phase == PHASE_HEAD:
        if exchange.client.outbox != NULL:
            interim_wait(worker, exchange)
            return
        if not upstream.flags & CONN_READABLE and (upstream.inbox == NULL or upstream.head != NULL):
            return
        if room == 0:
            exchange_later(worker, exchange)
            return
        room -= 1
        if not client_takes(worker, exchange):
            return
        outcome = head_receive(worker, upstream, True, &found)
        if outcome == HEAD_MORE:
            if upstream.inbox != NULL:
                response_begun(worker, exchange)
            return
        if outcome == HEAD_EOF or outcome == HEAD_LOST:
            upstream_lost(worker, exchange)
            return
        if outcome == 503:
            out_of_memory(worker, exchange)
            return
        if outcome != HEAD_DONE:
            response_invalid(worker, exchange)
            return
        if found.head.status >= 200:
            response_start(worker, exchange, &found)
            return
        if found.head.status == 101:
            tunnel_start(worker, exchange, &found)
            return
        if not interim_pass(worker, exchange, &found):
            return
        response_begun(worker, exchange)


cdef bint client_takes(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """False if memory is short and the client would take nothing of a response: then it is not read."""
    cdef half_t* half = &exchange.response
    if not buffer_spare(worker, BUFFER_BODY_BYTES) and not connection_writable(exchange.client):
        half.starved = True
        interim_wait(worker, exchange)
        return False
    if half.starved:
        half.starved = False
        if exchange.request.source_done:
            timer_cancel(worker, exchange.client)
            response_begun(worker, exchange)
    return True


cdef inline void response_begun(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """Bytes of a response are here: from now on it may be silent for as long as a response may."""
    if exchange.request.source_done:
        timer_arm(worker, exchange.upstream, TIMER_TUNNEL)


cdef void response_invalid(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """Nonsense costs this exchange a 502, and the backend its connection."""
    account_failure(worker, exchange, EVENT_BACKEND_FAILED, 0)
    exchange_drop_upstream(worker, exchange, False)
    http_reply(worker, exchange, 502, c'P', c'H')


cdef bint interim_pass(worker_t* worker, exchange_t* exchange, received_t* found) noexcept nogil:
    """A 1xx head; HTTP/1.0 clients do not know them. False if that ended the exchange."""
    cdef iovec piece
    exchange.flags |= X_CONTINUED                    # the backend has the request, whoever hears of it
    if not exchange.flags & X_HTTP10:
        piece.iov_base = worker.frame
        piece.iov_len = response_head_write(worker, found.head, found.text, False, True, False)
        exchange.record.bytes_out += piece.iov_len
        if connection_send(worker, exchange.client, &piece, 1, False) == STEP_FAILED:
            http_abort(worker, exchange, c'R' if exchange.client.error == ENOMEM else c'C', c'H')
            return False
    if not head_consume(worker, exchange.upstream, found, found.head.bytes):
        http_abort(worker, exchange, c'R', c'H')
        return False
    return True


cdef inline bint interim_refused(const exchange_t* exchange) noexcept nogil:
    """True if the client's kernel has refused an interim response, or would: the client does not read."""
    if exchange.response.starved:
        return True
    return exchange.client.outbox != NULL and not exchange.client.flags & CONN_BATCHED


cdef void interim_wait(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """The client has not taken an interim response: until it does, time runs against it and not
    against the backend. While the request's body is under way, its time-outs do that."""
    if interim_refused(exchange) and exchange.request.source_done \
            and exchange.client.timer_class != TIMER_SEND:
        timer_cancel(worker, exchange.upstream)
        connection_send_wait(worker, exchange.client)


cdef bint interim_flush(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """Send what is left of an interim response. False if that ended the exchange."""
    cdef connection_t* client = exchange.client
    cdef uint32_t before
    if client.outbox == NULL:
        return True
    before = buffer_length(client.outbox)
    if connection_flush(worker, client) == STEP_FAILED:
        http_abort(worker, exchange, c'C', exchange_phase_letter(exchange))
        return False
    if exchange.request.source_done and (client.outbox == NULL or buffer_length(client.outbox) != before):
        timer_cancel(worker, client)
        response_begun(worker, exchange)
    return True


cdef void response_start(worker_t* worker, exchange_t* exchange, received_t* found) noexcept nogil:
    """The final head: decide framing and persistence, and send it with the body that came along."""
    cdef head_t* head = found.head
    cdef half_t* half = &exchange.response
    cdef connection_t* upstream = exchange.upstream
    cdef int framing = head_response_framing(head, exchange.flags & X_HEAD != 0)
    cdef bint to_http10 = exchange.flags & X_HTTP10 != 0
    cdef bint unknown_end = framing == FRAME_CHUNKED or framing == FRAME_CLOSE
    cdef uint32_t behind = found.len - head.bytes, used = 0, body, len
    cdef uint32_t head_bytes = head.bytes
    cdef uint8_t* text = found.text + head_bytes
    cdef step_t step
    relay_open(half, upstream, exchange.client, framing, head.content_length, unknown_end and not to_http10)
    half.trailing = half.rechunk and head_passes_trailers(head)
    body = relay_decode(worker, half, text, behind, &used)
    if half.chunk_state == CHUNK_BAD:                # known before anything is sent
        if half.error_errno == ENOMEM:
            out_of_memory(worker, exchange)
        else:
            response_invalid(worker, exchange)
        return
    if not rest_is_short(exchange) or worker.draining or (to_http10 and unknown_end):
        exchange.flags &= ~X_KEEP_CLIENT
    if head_keeps_alive(head) and framing != FRAME_CLOSE:
        exchange.flags |= X_KEEP_UPSTREAM
    if head.flags & HEAD_BINDS and (head.status == 401 or head.status == 407):
        upstream.flags |= CONN_PRIVATE
    exchange.record.status = head.status
    exchange.record.first_byte_us = <int64_t> ((worker.now_ns - exchange.picked_ns) // 1000)
    exchange.phase = PHASE_DATA
    exchange.flags |= X_ANSWERED
    account_status(worker, exchange, head.status)
    timer_cancel(worker, upstream)
    exchange.request.keep = NULL
    buffer_drop(worker, &exchange.replay)
    len = response_head_write(worker, head, found.text, unknown_end and not to_http10,
                              exchange.flags & X_KEEP_CLIENT != 0, to_http10)
    exchange.record.bytes_out += len
    half.closes = not exchange.flags & X_KEEP_CLIENT
    step = relay_send(worker, half, text, body, worker.frame, len)
    if not head_consume(worker, upstream, found, head_bytes + used):
        exchange.flags &= ~X_KEEP_UPSTREAM           # what stands behind the response is lost
    response_sent(worker, exchange, step)


cdef void response_sent(worker_t* worker, exchange_t* exchange, step_t step) noexcept nogil:
    """The first bytes are out; go on if there is more to do at once."""
    if step == STEP_FAILED:
        response_failed(worker, exchange)
    elif exchange.client.flags & CONN_BATCHED:
        return
    elif exchange.response.source_done and exchange.client.outbox == NULL:
        finish(worker, exchange)
    else:
        response_pump(worker, exchange)


cdef void response_pump(worker_t* worker, exchange_t* exchange) noexcept nogil:
    cdef step_t step = relay_pump(worker, &exchange.response)
    if step == STEP_EOF:
        finish(worker, exchange)
    elif step == STEP_FAILED:
        response_failed(worker, exchange)
    else:
        account_progress(worker, exchange)
        response_moved(worker, exchange)
        if step == STEP_AGAIN:
            exchange_later(worker, exchange)


cdef void response_moved(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """Set the time-out of who is waited for now. A backend that has sent all is waited for no more."""
    cdef connection_t* client = exchange.client
    cdef bint moved = relay_progress(&exchange.response)
    if exchange.response.source_done and exchange.upstream != NULL and not relay_pending(&exchange.request):
        backend_done(worker, exchange)
    if not relay_blocked(&exchange.response):
        if moved or client.timer_class != TIMER_TUNNEL:
            timer_arm(worker, client, TIMER_TUNNEL)
    elif moved or client.timer_class != TIMER_SEND:
        connection_send_wait(worker, client)


cdef void backend_done(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """The backend is free for others, though the client may not have taken everything yet."""
    cdef connection_t* upstream = exchange.upstream
    if upstream != NULL:
        if exchange.flags & X_KEEP_UPSTREAM and not exchange.flags & X_REQUEST_LOST \
                and not relay_pending(&exchange.request):
            exchange.upstream = NULL
            if not upstream.flags & CONN_PRIVATE:
                upstream_give(worker, upstream)
            elif exchange.flags & X_KEEP_CLIENT:
                upstream_keep(worker, upstream, exchange.client)
            else:
                connection_discard(worker, upstream)
        else:
            exchange_drop_upstream(worker, exchange, False)
    exchange_release(worker, exchange)


cdef void response_failed(worker_t* worker, exchange_t* exchange) noexcept nogil:
    cdef half_t* half = &exchange.response
    if half.error_errno == ENOMEM:
        http_abort(worker, exchange, c'R', exchange_phase_letter(exchange))
    elif half.error_side == SIDE_TARGET:
        http_abort(worker, exchange, c'C', exchange_phase_letter(exchange))
    else:
        response_cut(worker, exchange, c'P' if half.error_side == SIDE_MESSAGE else c'S')


cdef void response_cut(worker_t* worker, exchange_t* exchange, char who) noexcept nogil:
    """There will be no more of it. The client gets what there is, and an end that it cannot take for the
    right one."""
    exchange_end_code(exchange, who, c'D')
    exchange.flags |= X_CUT
    exchange.flags &= ~(X_KEEP_CLIENT | X_KEEP_UPSTREAM)
    exchange.response.source_done = True
    backend_done(worker, exchange)
    response_pump(worker, exchange)


cdef void tunnel_start(worker_t* worker, exchange_t* exchange, received_t* found) noexcept nogil:
    """101: the connection is no longer HTTP. What came behind either head is flushed into it."""
    cdef iovec piece
    if not exchange.flags & X_UPGRADE or not exchange.request.source_done:
        response_invalid(worker, exchange)
        return
    exchange.record.status = 101
    exchange.record.first_byte_us = <int64_t> ((worker.now_ns - exchange.picked_ns) // 1000)
    exchange.record.bytes_in += exchange.request.taken_bytes
    exchange.phase = PHASE_DATA
    exchange.flags |= X_ANSWERED | X_TUNNEL
    exchange.flags &= ~(X_KEEP_CLIENT | X_KEEP_UPSTREAM)
    counter_clear_shared(&exchange.backend.failed_in_a_row)
    timer_cancel(worker, exchange.upstream)
    buffer_drop(worker, &exchange.replay)
    piece.iov_base = worker.frame
    piece.iov_len = response_head_write(worker, found.head, found.text, False, True, False)
    exchange.record.bytes_out += piece.iov_len
    relay_open(&exchange.request, exchange.client, exchange.upstream, FRAME_RAW, 0, False)
    relay_open(&exchange.response, exchange.upstream, exchange.client, FRAME_RAW, 0, False)
    timer_arm(worker, exchange.client, TIMER_TUNNEL)
    if connection_send(worker, exchange.client, &piece, 1, False) == STEP_FAILED:
        tcp_abort(worker, exchange, c'R' if exchange.client.error == ENOMEM else c'C', c'D')
    elif not head_consume(worker, exchange.upstream, found, found.head.bytes):
        tcp_abort(worker, exchange, c'R', c'D')
    else:
        tcp_pump(worker, exchange)


# ---- ends -----------------------------------------------------------------------------------

cdef void finish(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """The response is with the client's kernel to its last byte."""
    cdef connection_t* client = exchange.client
    if exchange.flags & X_CUT and exchange.response.framing != FRAME_LENGTH and not exchange.response.rechunk:
        exchange.phase = PHASE_DONE                  # FIN would be its end
        exchange_close(worker, exchange)
        connection_cut(worker, client)
    elif request_over(exchange):
        over(worker, exchange, exchange.flags & X_KEEP_CLIENT != 0)
    else:
        rest_begin(worker, exchange)


cdef void over(worker_t* worker, exchange_t* exchange, bint keep) noexcept nogil:
    """The client has its response, and nothing more of its request is waited for."""
    cdef connection_t* client = exchange.client
    cdef bint unread = not exchange.request.source_done
    exchange.phase = PHASE_DONE
    backend_done(worker, exchange)
    exchange_close(worker, exchange)
    if keep and not unread:
        # A client that was told to stay before the drain began may have one more request.
        timer_arm(worker, client, TIMER_LINGER if worker.closing else TIMER_KEEPALIVE)
    elif unread or client.inbox != NULL or client.flags & CONN_READABLE:
        connection_linger(worker, client)
    else:
        connection_finish(worker, client)


# ---- the rest of a request that has its response ----------------------------------------------

cdef inline bint request_over(const exchange_t* exchange) noexcept nogil:
    """True if all of the request was read, and its backend has it or is gone."""
    if not exchange.request.source_done:
        return False
    if exchange.upstream == NULL or exchange.flags & X_REQUEST_LOST:
        return True
    return not relay_pending(&exchange.request)


cdef bint rest_is_short(const exchange_t* exchange) noexcept nogil:
    """True if the next request can be found although this one has its response already. How long chunks
    will be is found out later."""
    cdef const half_t* half = &exchange.request
    if half.source_done:
        return True
    if half.chunk_state == CHUNK_BAD or half.remaining_bytes > REST_MAX_BYTES:
        return False
    return not may_not_come(exchange)


cdef inline bint may_not_come(const exchange_t* exchange) noexcept nogil:
    """True if the client was to be told whether to send its body: now it may send it or not."""
    return exchange.flags & X_EXPECTS and exchange.request.taken_bytes == 0


cdef void rest_begin(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """The backend may go on reading; a client that is told to go sees the end of its response at once."""
    exchange.flags |= X_REST
    if exchange.upstream == NULL or exchange.flags & X_REQUEST_LOST or exchange.upstream.inbox != NULL \
            or (may_not_come(exchange) and not exchange.flags & X_CONTINUED):
        rest_unwanted(worker, exchange)
        return
    if not exchange.flags & X_KEEP_CLIENT:
        shutdown(exchange.client.fd, SHUT_WR)
    timer_arm(worker, exchange.client, TIMER_SILENCE)
    request_pump(worker, exchange)


cdef void rest_unwanted(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """The backend takes no more of it. It is thrown away if it is short, so that the next request is found;
    else until the client has seen its response (RFC 9112 9.6)."""
    backend_done(worker, exchange)
    exchange.rest_ns = worker.now_ns
    exchange.request.room_bytes = min(exchange.request.room_bytes, <uint64_t> REST_MAX_BYTES)
    if exchange.flags & X_KEEP_CLIENT and exchange.request.remaining_bytes <= REST_MAX_BYTES:
        timer_arm(worker, exchange.client, TIMER_SILENCE)
        rest_drop(worker, exchange)
    else:
        over(worker, exchange, False)


cdef void rest_pump(worker_t* worker, exchange_t* exchange) noexcept nogil:
    if exchange.upstream != NULL:
        request_pump(worker, exchange)
    else:
        rest_drop(worker, exchange)


cdef void rest_moved(worker_t* worker, exchange_t* exchange, step_t step, bint moved) noexcept nogil:
    """What came of passing it on."""
    if step == STEP_EOF:
        over(worker, exchange, exchange.flags & X_KEEP_CLIENT != 0)
    elif step == STEP_FAILED and exchange.request.error_side == SIDE_TARGET:
        rest_unwanted(worker, exchange)
    elif step == STEP_FAILED:                        # the client has left, or its chunks are none
        over(worker, exchange, False)
    elif moved or relay_progress(&exchange.request):
        timer_arm(worker, exchange.client, TIMER_SILENCE)


cdef void rest_drop(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """Read it and throw it away."""
    cdef connection_t* client = exchange.client
    cdef half_t* half = &exchange.request
    cdef uint64_t before = half.taken_bytes
    cdef uint32_t used = 0
    cdef ssize_t n
    if client.inbox != NULL and not half.source_done:
        relay_decode(worker, half, buffer_bytes(client.inbox) + client.inbox.start,
                     buffer_length(client.inbox), &used)
        client.inbox.start += used
        if buffer_length(client.inbox) == 0:
            buffer_drop(worker, &client.inbox)
    while client.flags & CONN_READABLE and not half.source_done and half.chunk_state != CHUNK_BAD:
        n = connection_receive(client, worker.scratch, SCRATCH_BYTES)
        if n == -EAGAIN:
            break
        if n <= 0:
            over(worker, exchange, False)
            return
        relay_decode(worker, half, worker.scratch, <uint32_t> n, &used)
        if half.source_done and not buffer_append(worker, &client.inbox, worker.scratch + used,
                                                  <uint32_t> n - used):
            exchange.flags &= ~X_KEEP_CLIENT         # the next request is lost
    if half.source_done:
        over(worker, exchange, exchange.flags & X_KEEP_CLIENT != 0)
    elif half.chunk_state == CHUNK_BAD or worker.now_ns - exchange.rest_ns >= worker.settings.linger_ns:
        over(worker, exchange, False)
    elif half.taken_bytes != before:
        timer_arm(worker, client, TIMER_SILENCE)


cdef void rest_timeout(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """Nothing moves: the backend does not read, or the client sends nothing."""
    if exchange.upstream != NULL and relay_blocked(&exchange.request):
        if exchange.request.source_done:
            over(worker, exchange, exchange.flags & X_KEEP_CLIENT != 0)
        else:
            rest_unwanted(worker, exchange)
    else:
        over(worker, exchange, False)


# ---- answers of our own -----------------------------------------------------------------------

cdef void http_reply(worker_t* worker, exchange_t* exchange, uint32_t status, char who,
                     char phase) noexcept nogil:
    """Answer in place of a backend. Only while no byte of a response has gone out."""
    cdef bint keep
    exchange_drop_upstream(worker, exchange, False)
    exchange_release(worker, exchange)
    if (status != 413 and (status < 502 or status > 504)) or worker.draining or not rest_is_short(exchange):
        exchange.flags &= ~X_KEEP_CLIENT
    keep = exchange.flags & X_KEEP_CLIENT != 0
    answer_send(worker, exchange, status, who, phase,
                reply_write(worker, status, keep, exchange.flags & X_HTTP10 != 0,
                            exchange.flags & X_HEAD != 0, flag_read(worker.retry_after_s)))


cdef void answer_send(worker_t* worker, exchange_t* exchange, uint32_t status, char who, char phase,
                      uint32_t len) noexcept nogil:
    """Send an answer of our own, which stands in worker.frame."""
    cdef iovec piece
    exchange_end_code(exchange, who, phase)
    exchange.record.status = status
    exchange.phase = PHASE_DATA
    exchange.flags |= X_ANSWERED
    piece.iov_base = worker.frame
    piece.iov_len = len
    exchange.record.bytes_out += len
    relay_open(&exchange.response, NULL, exchange.client, FRAME_NONE, 0, False)
    response_sent(worker, exchange, connection_send_to(worker, exchange, &piece))


cdef step_t connection_send_to(worker_t* worker, exchange_t* exchange, iovec* piece) noexcept nogil:
    cdef step_t step = connection_send(worker, exchange.client, piece, 1,
                                       not exchange.flags & X_KEEP_CLIENT)
    if step == STEP_FAILED:
        exchange.response.error_side = SIDE_TARGET
        exchange.response.error_errno = exchange.client.error
    return step


cdef void reply_unavailable(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """No backend took the request: say why."""
    if exchange.failure == FAIL_REFUSED:
        http_reply(worker, exchange, 502, c'S', c'C')
    elif exchange.failure == FAIL_BROKEN:
        http_reply(worker, exchange, 502, c'S', c'H')
    elif exchange.failure == FAIL_TIMEOUT:
        http_reply(worker, exchange, 504, c's', c'C')
    elif exchange.failure == FAIL_LOCAL or exchange.failure == FAIL_PORTS:
        http_reply(worker, exchange, 503, c'R', c'C')
    elif exchange.failure == FAIL_QUEUE_FULL:
        http_reply(worker, exchange, 503, c'P', c'Q')
    elif exchange.failure == FAIL_QUEUE_TIMEOUT:
        http_reply(worker, exchange, 503, c's', c'Q')
    else:
        http_reply(worker, exchange, 503, c'S', c'C')


cdef void http_abort(worker_t* worker, exchange_t* exchange, char who, char phase) noexcept nogil:
    """End the exchange and both its connections at once, with RST."""
    cdef connection_t* client = exchange.client
    exchange_end_code(exchange, who, phase)
    if who == c'C' and exchange.record.status == 0:
        exchange.record.status = STATUS_CLIENT_GONE
    exchange.phase = PHASE_DONE
    exchange_drop_upstream(worker, exchange, True)
    exchange_close(worker, exchange)
    connection_reset(worker, client)


# ---- later ----------------------------------------------------------------------------------

cdef void http_exchange_granted(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """The queue gave it a backend."""
    settle(worker, exchange, exchange_granted(worker, exchange))


cdef void http_exchange_resume(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """Its turn has come again."""
    if exchange.flags & X_TUNNEL:
        tcp_pump(worker, exchange)
    else:
        pump_both(worker, exchange)


cdef void http_exchange_timeout(worker_t* worker, exchange_t* exchange, int timer_class) noexcept nogil:
    """A time-out of its client connection or of its upstream connection."""
    if exchange.flags & X_TUNNEL:
        tcp_timeout(worker, exchange.client, timer_class)
    elif timer_class == TIMER_CONNECT:
        settle(worker, exchange, exchange_connect_done(worker, exchange, ETIMEDOUT))
    elif timer_class == TIMER_ROOM:
        settle(worker, exchange, exchange_reach_again(worker, exchange))
    elif timer_class == TIMER_RESPONSE:
        account_failure(worker, exchange, EVENT_BACKEND_FAILED, ETIMEDOUT)
        http_reply(worker, exchange, 504, c's', c'H')
    elif timer_class == TIMER_QUEUE:
        exchange.failure = FAIL_QUEUE_TIMEOUT
        reply_unavailable(worker, exchange)
    elif exchange.flags & X_REST:
        rest_timeout(worker, exchange)
    elif timer_class == TIMER_SEND and connection_still_takes(worker, exchange.client):
        return
    elif exchange.flags & X_ANSWERED and client_owes(exchange):
        http_abort(worker, exchange, c'c', exchange_phase_letter(exchange))
    elif exchange.flags & X_ANSWERED:
        response_cut(worker, exchange, c's')
    elif interim_refused(exchange):                  # the client does not take an interim response
        http_abort(worker, exchange, c'c', exchange_phase_letter(exchange))
    elif timer_class == TIMER_TUNNEL:                # the backend does not read, or does not go on
        account_failure(worker, exchange, EVENT_BACKEND_FAILED, ETIMEDOUT)
        http_reply(worker, exchange, 504, c's', exchange_phase_letter(exchange))
    else:
        http_reply(worker, exchange, 408, c'c', exchange_phase_letter(exchange))


cdef bint client_owes(exchange_t* exchange) noexcept nogil:
    """True if it is the client that takes nothing, or has not sent the rest of its body."""
    if relay_blocked(&exchange.response):
        return True
    return not exchange.request.source_done \
        and (exchange.upstream == NULL or not relay_blocked(&exchange.request))
