"""See exchange.pxd."""

from libc.errno cimport EADDRNOTAVAIL, EBUSY, ETIMEDOUT
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastlb.native.accounting cimport account_event, account_exchange, account_failure
from fastlb.native.balancer cimport (
    ACQUIRE_FULL, ACQUIRE_NONE, balancer_acquire, balancer_acquire_at, balancer_grant, balancer_release,
    balancer_t, balancer_unname, balancer_unwait, balancer_wait,
)
from fastlb.native.buffer cimport buffer_drop
from fastlb.native.connection cimport connection_close, connection_discard, connection_reset
from fastlb.native.mailbox cimport mailbox_post, wake
from fastlb.native.relay cimport relay_close
from fastlb.native.retry_budget cimport retry_allowed
from fastlb.native.slab cimport slab_give, slab_take
from fastlb.native.timers cimport timer_arm, timer_cancel
from fastlb.native.types cimport (
    CONN_CONNECTING, CONN_REUSED, EVENT_CONNECT_FAILED, EVENT_NO_PORTS, FAIL_LOCAL, FAIL_NO_BACKEND,
    FAIL_PORTS, FAIL_QUEUE_FULL, FAIL_REFUSED, FAIL_TIMEOUT, LETTER_ROOM, PHASE_CONNECTING, PHASE_DATA,
    PHASE_HEAD, PHASE_QUEUED, TIMER_CONNECT, TIMER_QUEUE, TIMER_ROOM, X_COUNTED, X_HTTP, X_IDEMPOTENT,
    X_READY, X_REPLAYABLE, X_RETRIED, X_TUNNEL, X_WAITING, X_WANTING, backend_t, connection_t, counter_add,
    counter_add_shared, counter_clear_shared, exchange_t, flag_read, flag_write, set_add, set_remove,
    worker_t,
)
from fastlb.native.upstream cimport (
    backend_at, is_local_fault, is_out_of_files, upstream_announce, upstream_connect, upstream_next_site,
    upstream_take, upstream_take_kept,
)

cdef uint64_t SPARE_WAIT_NS = 100_000_000    # for a descriptor of another worker


cdef exchange_t* exchange_open(worker_t* worker, connection_t* client, uint32_t flags) noexcept nogil:
    """NULL without memory."""
    cdef exchange_t* exchange = <exchange_t*> slab_take(&worker.exchanges)
    cdef uint32_t index, generation
    if exchange == NULL:
        return NULL
    index = exchange.index
    generation = exchange.generation
    # The target is the last field and is filled in only as far as its length says.
    memset(exchange, 0, sizeof(exchange_t) - sizeof(exchange.record.target))
    exchange.index = index
    exchange.generation = generation
    exchange.client = client
    exchange.flags = flags
    exchange.request.pipe_r = exchange.request.pipe_w = -1
    exchange.response.pipe_r = exchange.response.pipe_w = -1
    exchange.record.start_ns = client.since_ns
    exchange.record.queue_us = exchange.record.connect_us = exchange.record.first_byte_us = -1
    exchange.record.who = exchange.record.phase = c'-'
    exchange.record.port = client.port
    exchange.record.peer_len = client.peer_len
    memcpy(exchange.record.peer, client.peer, client.peer_len)
    client.exchange = exchange
    counter_add(&worker.ledger.begun, 1)
    return exchange


cdef void exchange_close(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """The end of every exchange: gives back all that it holds but its connections, and writes it
    down. The upstream connection must have been given back or closed before."""
    exchange_unqueue(worker, exchange)
    relay_close(worker, &exchange.request)
    relay_close(worker, &exchange.response)
    buffer_drop(worker, &exchange.replay)
    account_exchange(worker, exchange)
    let_slots_go(worker, exchange)
    if exchange.flags & X_READY:
        ready_remove(worker, exchange)
    exchange.client.exchange = NULL
    exchange.client = NULL
    slab_give(&worker.exchanges, exchange)


# ---- picking and counting -------------------------------------------------------------------

cdef void exchange_release(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """Give the unit back, if one is held, before the end of the exchange."""
    if exchange.flags & X_COUNTED:
        exchange.flags &= ~X_COUNTED
        give_unit(worker, exchange.backend.slot, True)


cdef void let_slots_go(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """The line that names the slots is written: from now on they may be somebody else's."""
    cdef uint32_t i, count = exchange.record.tried_count
    if exchange.flags & X_COUNTED:
        exchange.flags &= ~X_COUNTED
        count -= 1
        give_unit(worker, exchange.backend.slot, False)
    for i in range(count):
        balancer_unname(<balancer_t*> worker.balancer, <uint32_t> exchange.record.tried[i])


cdef void give_unit(worker_t* worker, uint32_t slot, bint named) noexcept nogil:
    """To the balancer, and what became free to whoever waits for it."""
    cdef balancer_t* balancer = <balancer_t*> worker.balancer
    cdef int worker_id
    balancer_release(balancer, slot, named)
    while flag_read(&balancer.queue_len):
        worker_id = balancer_grant(balancer)
        if worker_id < 0:
            break
        wake(worker.settings.wake_fds[worker_id])


cdef void count_in(worker_t* worker, exchange_t* exchange, uint32_t slot, uint32_t in_flight) noexcept nogil:
    exchange.flags |= X_COUNTED
    exchange.backend = backend_at(worker, slot)
    exchange.picked_ns = worker.now_ns
    exchange.record.tried[exchange.record.tried_count] = <int32_t> slot
    exchange.record.tried_count += 1
    exchange.record.in_flight = in_flight
    if exchange.record.queue_us < 0:
        exchange.record.queue_us = 0
    counter_add_shared(&exchange.backend.picked, 1)


cdef dispatch_t exchange_dispatch(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """Pick a backend not tried before and connect to it, until one takes the exchange, as many as
    it may meet were tried, or the budget of retries is spent."""
    cdef uint32_t in_flight = 0
    cdef int picked
    cdef dispatch_t outcome
    if exchange.client.partner != NULL and take_kept(worker, exchange):
        return connected(worker, exchange)
    while True:
        picked = balancer_acquire(<balancer_t*> worker.balancer, exchange.record.tried,
                                  exchange.record.tried_count, &in_flight)
        if picked == ACQUIRE_NONE:
            if exchange.record.tried_count == 0:
                exchange.failure = FAIL_NO_BACKEND
            return DISPATCH_NONE
        # For want of a local port nothing was asked of any backend, so that costs no retry.
        if exchange.record.tries and exchange.failure != FAIL_PORTS and not retry_allowed(worker):
            if picked >= 0:
                give_unit(worker, <uint32_t> picked, False)
            return DISPATCH_NONE
        if picked == ACQUIRE_FULL:
            return queue(worker, exchange)
        count_in(worker, exchange, <uint32_t> picked, in_flight)
        outcome = exchange_connect(worker, exchange)
        if outcome != DISPATCH_NONE or not exchange_may_move(worker, exchange):
            return outcome


cdef bint take_kept(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """Go on with the private connection of the client. False if it is of no use: it is closed then."""
    cdef connection_t* conn = upstream_take_kept(worker, exchange.client)
    cdef uint32_t in_flight = 0
    if conn == NULL:
        return False
    if not balancer_acquire_at(<balancer_t*> worker.balancer, conn.backend.slot, &in_flight):
        connection_discard(worker, conn)
        return False
    count_in(worker, exchange, conn.backend.slot, in_flight)
    exchange.record.tries += 1
    exchange.record.connect_us = 0
    exchange.upstream = conn
    conn.exchange = exchange
    return True


cdef bint exchange_may_move(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """True if another backend may be tried, as far as their number and the fault go. It keeps
    record.tried[] in its bounds."""
    return exchange.record.tried_count < worker.settings.tries and exchange.failure != FAIL_LOCAL


cdef dispatch_t queue(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """Every backend is full: wait in line."""
    cdef balancer_t* balancer = <balancer_t*> worker.balancer
    cdef int worker_id
    exchange.waiter.exchange = exchange
    exchange.waiter.tried = exchange.record.tried
    exchange.waiter.tried_count = exchange.record.tried_count
    exchange.waiter.worker_id = worker.id
    exchange.queued_ns = worker.now_ns
    if not balancer_wait(balancer, &exchange.waiter, worker.settings.queue_depth):
        exchange.failure = FAIL_QUEUE_FULL
        return DISPATCH_NONE
    exchange.flags |= X_WAITING
    exchange.phase = PHASE_QUEUED
    timer_arm(worker, exchange.client, TIMER_QUEUE)
    # What was given back between the failed pick and the wait would wake nobody.
    worker_id = balancer_grant(balancer)
    if worker_id >= 0:
        wake(worker.settings.wake_fds[worker_id])
    return DISPATCH_WAIT


cdef dispatch_t exchange_granted(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """The queue gave the exchange a unit of waiter.slot, or there may be room for its connection."""
    cdef dispatch_t outcome
    if exchange.flags & X_WANTING:
        return exchange_reach_again(worker, exchange)
    exchange.flags &= ~X_WAITING
    timer_cancel(worker, exchange.client)
    exchange.record.queue_us = <int64_t> ((worker.now_ns - exchange.queued_ns) // 1000)
    count_in(worker, exchange, exchange.waiter.slot, exchange.waiter.in_flight)
    outcome = exchange_connect(worker, exchange)
    if outcome == DISPATCH_NONE and exchange_may_move(worker, exchange):
        return exchange_dispatch(worker, exchange)
    return outcome


cdef void exchange_unqueue(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """Leave the queue, and give a unit back that was granted in the same moment."""
    if not exchange.flags & X_WAITING:
        return
    exchange.flags &= ~X_WAITING
    exchange.record.queue_us = <int64_t> ((worker.now_ns - exchange.queued_ns) // 1000)
    if not balancer_unwait(<balancer_t*> worker.balancer, &exchange.waiter):
        give_unit(worker, exchange.waiter.slot, False)


# ---- connecting -----------------------------------------------------------------------------

cdef dispatch_t exchange_connect(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """A pooled connection (HTTP), or a fresh one, to the backend that was picked."""
    if exchange.record.tries:
        counter_add(&worker.ledger.retries, 1)
    exchange.record.tries += 1
    exchange.connect_ns = worker.now_ns
    return reach(worker, exchange)


cdef dispatch_t reach(worker_t* worker, exchange_t* exchange) noexcept nogil:
    cdef connection_t* conn = NULL
    if exchange.flags & X_HTTP and not exchange.flags & X_RETRIED:
        conn = upstream_take(worker, exchange.backend,
                             exchange.flags & (X_IDEMPOTENT | X_REPLAYABLE) != (X_IDEMPOTENT | X_REPLAYABLE))
    if conn == NULL:
        exchange.sites_left = <uint8_t> exchange.backend.site_count
        exchange.refused = 0
        return dial(worker, exchange, flag_read(&exchange.backend.preferred))
    exchange.record.connect_us = <int64_t> ((worker.now_ns - exchange.connect_ns) // 1000)
    conn.exchange = exchange
    exchange.upstream = conn
    return connected(worker, exchange)


cdef dispatch_t dial(worker_t* worker, exchange_t* exchange, uint32_t site) noexcept nogil:
    """A fresh connection to the backend's address at `site`, or to the next one that does not refuse
    it at once (RFC 1123 2.3)."""
    cdef connection_t* conn
    cdef int error = 0
    while True:
        exchange.sites_left -= 1
        conn = upstream_connect(worker, exchange.backend, site, &error)
        if conn != NULL:
            conn.exchange = exchange
            exchange.upstream = conn
            if conn.flags & CONN_CONNECTING:
                exchange.phase = PHASE_CONNECTING
                return DISPATCH_WAIT
            error = upstream_announce(worker, conn, exchange.client)
            if error == 0:
                return connected(worker, exchange)
            exchange_drop_upstream(worker, exchange, False)
        elif want(worker, exchange, error):
            return DISPATCH_WAIT
        if not goes_on(exchange, error):
            return connect_failed(worker, exchange, error)
        site = upstream_next_site(exchange.backend, site)


cdef bint goes_on(exchange_t* exchange, int error) noexcept nogil:
    """True if this try goes on to the next address: it was refused, or cannot be reached from here, as ::1
    without IPv6. What waits for a time-out has waited long enough."""
    if error == ETIMEDOUT or (error != EADDRNOTAVAIL and is_local_fault(error)):
        return False
    if error != EADDRNOTAVAIL:
        exchange.refused = error
    return exchange.sites_left > 0


cdef dispatch_t connected(worker_t* worker, exchange_t* exchange) noexcept nogil:
    exchange.phase = PHASE_HEAD
    if not exchange.upstream.flags & CONN_REUSED:
        timer_cancel(worker, exchange.upstream)
        exchange.record.connect_us = <int64_t> ((worker.now_ns - exchange.connect_ns) // 1000)
        prefer(exchange.backend, exchange.upstream.site)
        if not exchange.flags & X_HTTP:
            counter_clear_shared(&exchange.backend.failed_in_a_row)
    return DISPATCH_READY


cdef void prefer(backend_t* backend, uint32_t site) noexcept nogil:
    """The next connect begins there."""
    if flag_read(&backend.preferred) != site:
        flag_write(&backend.preferred, site)


cdef dispatch_t connect_failed(worker_t* worker, exchange_t* exchange, int error) noexcept nogil:
    if error == EADDRNOTAVAIL and exchange.refused:
        error = exchange.refused                 # the address that could be reached says more
    if error == EADDRNOTAVAIL:
        exchange.failure = FAIL_PORTS
        account_event(worker, EVENT_NO_PORTS, <int32_t> exchange.backend.slot, error, 0)
    elif is_local_fault(error):
        exchange.failure = FAIL_LOCAL
    else:
        exchange.failure = FAIL_TIMEOUT if error == ETIMEDOUT else FAIL_REFUSED
        account_failure(worker, exchange, EVENT_CONNECT_FAILED, error)
    exchange_release(worker, exchange)
    return DISPATCH_NONE


cdef dispatch_t exchange_connect_done(worker_t* worker, exchange_t* exchange, int error) noexcept nogil:
    """A connect ended. `error` is 0, an errno, or ETIMEDOUT for our own time-out."""
    cdef dispatch_t outcome
    cdef uint32_t next_site
    if error == 0:
        error = upstream_announce(worker, exchange.upstream, exchange.client)
    if error == 0:
        return connected(worker, exchange)
    next_site = upstream_next_site(exchange.backend, exchange.upstream.site)
    exchange_drop_upstream(worker, exchange, False)
    if goes_on(exchange, error):
        return dial(worker, exchange, next_site)
    if error == ETIMEDOUT:
        prefer(exchange.backend, next_site)
    outcome = connect_failed(worker, exchange, error)
    if exchange_may_move(worker, exchange):
        return exchange_dispatch(worker, exchange)
    return outcome


# ---- waiting for room, see places.pxd ----------------------------------------------------------

cdef bint want(worker_t* worker, exchange_t* exchange, int error) noexcept nogil:
    """A connect failed with `error`: ask the other workers for room, if that may help, and wait for it.
    False if it does not help, or was waited for long enough."""
    cdef uint64_t waited_ns = worker.now_ns - exchange.connect_ns
    cdef exchange_t** place = &worker.wanting
    if error == EBUSY:
        if waited_ns >= worker.settings.timeout_ns[TIMER_CONNECT]:
            return False
        if not set_add(&exchange.backend.wanted, worker.id):
            ask_others(worker, <int32_t> exchange.backend.slot)
    elif is_out_of_files(error) and worker.settings.workers > 1 and waited_ns < SPARE_WAIT_NS:
        ask_others(worker, -1)
    else:
        return False
    while place[0] != NULL:
        place = &place[0].want_next
    place[0] = exchange
    exchange.want_next = NULL
    exchange.flags |= X_WANTING
    exchange.phase = PHASE_CONNECTING
    timer_arm(worker, exchange.client, TIMER_ROOM)
    return True


cdef void ask_others(worker_t* worker, int32_t slot) noexcept nogil:
    cdef uint32_t i
    for i in range(worker.settings.workers):
        if i != worker.id:
            mailbox_post(worker.peers[i], LETTER_ROOM, slot, worker.id)     # a full box is asked again


cdef void want_leave(worker_t* worker, exchange_t* exchange) noexcept nogil:
    cdef exchange_t** place = &worker.wanting
    cdef exchange_t* other
    while place[0] != NULL and place[0] != exchange:
        place = &place[0].want_next
    if place[0] == exchange:
        place[0] = exchange.want_next
    exchange.flags &= ~X_WANTING
    timer_cancel(worker, exchange.client)
    other = worker.wanting
    while other != NULL and other.backend != exchange.backend:
        other = other.want_next
    if other == NULL:
        set_remove(&exchange.backend.wanted, worker.id)


cdef dispatch_t exchange_reach_again(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """There may be room now."""
    cdef dispatch_t outcome
    want_leave(worker, exchange)
    outcome = reach(worker, exchange)
    if outcome == DISPATCH_NONE and exchange_may_move(worker, exchange):
        return exchange_dispatch(worker, exchange)
    return outcome


cdef void exchange_drop_upstream(worker_t* worker, exchange_t* exchange, bint reset) noexcept nogil:
    """Close the upstream connection, if there is one, or wait no more for one. A session or a tunnel ends
    with FIN, which its peer may wait for; an HTTP response has another end."""
    if exchange.flags & X_WANTING:
        want_leave(worker, exchange)
    if exchange.upstream == NULL:
        return
    exchange.upstream.exchange = NULL
    if reset:
        connection_reset(worker, exchange.upstream)
    elif exchange.flags & (X_HTTP | X_TUNNEL) == X_HTTP:
        connection_discard(worker, exchange.upstream)
    else:
        connection_close(worker, exchange.upstream)
    exchange.upstream = NULL


# ---- codes and unfinished work ----------------------------------------------------------------

cdef void exchange_end_code(exchange_t* exchange, char who, char phase) noexcept nogil:
    """Who ended the exchange, and when. The first one to say so is right."""
    if exchange.record.who == c'-':
        exchange.record.who = who
        exchange.record.phase = phase


cdef char exchange_phase_letter(exchange_t* exchange) noexcept nogil:
    cdef const char* letters = "RQCHD"
    if exchange.phase == PHASE_HEAD and not exchange.request.source_done:
        return c'D'                      # the request's body is under way
    if exchange.phase == PHASE_DATA and exchange.response.source_done:
        return c'L'                      # the rest of the answer is under way
    return letters[exchange.phase] if exchange.phase <= PHASE_DATA else c'-'


cdef void exchange_later(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """Go on with it in the next turn of the loop."""
    if exchange.flags & X_READY:
        return
    exchange.flags |= X_READY
    exchange.ready_next = NULL
    if worker.ready_tail != NULL:
        worker.ready_tail.ready_next = exchange
    else:
        worker.ready_head = exchange
    worker.ready_tail = exchange


cdef exchange_t* exchange_next_ready(worker_t* worker) noexcept nogil:
    """The first of the list, which must not be empty."""
    cdef exchange_t* exchange = worker.ready_head
    worker.ready_head = exchange.ready_next
    if worker.ready_head == NULL:
        worker.ready_tail = NULL
    exchange.flags &= ~X_READY
    return exchange


cdef void ready_remove(worker_t* worker, exchange_t* exchange) noexcept nogil:
    cdef exchange_t** place = &worker.ready_head
    cdef exchange_t* last = NULL
    while place[0] != NULL and place[0] != exchange:
        last = place[0]
        place = &place[0].ready_next
    if place[0] == exchange:
        place[0] = exchange.ready_next
    if worker.ready_tail == exchange:
        worker.ready_tail = last
