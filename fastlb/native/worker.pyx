"""See worker.pxd."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from posix.unistd cimport usleep

from fastlb.native.accounting cimport ACCESS_RECORDS, EVENT_RECORDS, ring_free, ring_init
from fastlb.native.balancer cimport balancer_granted, balancer_t
from fastlb.native.batch cimport batch_send
from fastlb.native.buffer cimport BUFFER_WHOLE_BYTES, buffer_pool_free
from fastlb.native.connection cimport (
    connection_close, connection_cut_look, connection_discard, connection_linger_read, connection_note,
)
from fastlb.native.exchange cimport exchange_next_ready, exchange_phase_letter
from fastlb.native.http1 cimport head_t
from fastlb.native.http_client cimport (
    head_begun, http_backend_out, http_client_event, http_drain_idle, http_granted, http_resume,
    http_stop_idle, http_timeout, http_upstream_event,
)
from fastlb.native.http_exchange cimport http_abort
from fastlb.native.linux cimport (
    CLOCK_MONOTONIC, EFD_CLOEXEC, EFD_NONBLOCK, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLET, EPOLLIN, EPOLLOUT,
    clock_ns, close, epoll_create1, epoll_ctl, epoll_event, call_epoll_wait, eventfd,
)
from fastlb.native.listener cimport (
    listener_accept, listener_close, listener_deafen, listener_make_room, listener_open, listener_resume,
)
from fastlb.native.mailbox cimport mailbox_take, wake_seen
from fastlb.native.proxied cimport proxied_event, proxied_timeout
from fastlb.native.slab cimport slab_at, slab_free, slab_init
from fastlb.native.tcp_exchange cimport (
    tcp_abort, tcp_client_event, tcp_granted, tcp_pump, tcp_timeout, tcp_upstream_event,
)
from fastlb.native.timers cimport timer_arm, timer_cancel, timer_expired, timer_next_ns
from fastlb.native.types cimport (
    BATCH_MAX, CONN_IDLE, CONN_READABLE, EVENTS_PER_TURN, LETTER_CROWDED, LETTER_DEAF, LETTER_DRAIN,
    LETTER_END, LETTER_LISTEN, LETTER_PAUSE, LETTER_PURGE, LETTER_ROOM, LETTER_STOP, LETTER_TAKE, PHASE_HEAD,
    ROLE_CUT, ROLE_FREE, ROLE_HTTP_CLIENT, ROLE_LINGER, ROLE_LISTENER, ROLE_PROXIED, ROLE_TCP_CLIENT,
    ROLE_UPSTREAM, SCRATCH_BYTES, SLAB_CHUNK, TIMER_ACCEPT, TIMER_CUT, TIMER_LINGER, TIMER_POOL,
    X_COUNTED, X_HTTP, connection_t, event_t, exchange_t, flag_read, flag_write, letter_t, record_t,
    settings_t, uring_close, uring_open, waiter_t, worker_t,
)
from fastlb.native.upstream cimport upstream_adopt, upstream_forget, upstream_make_room, upstream_purge


cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    int sigfillset(sigset_t* signals)
    int pthread_sigmask(int how, const sigset_t* signals, sigset_t* old)
    enum:
        SIG_BLOCK


cdef enum:
    BATCH_SEND = 32      # sends that are worth a system call in the middle of a turn

cdef uint64_t WAKE_HANDLE = 0xFFFFFFFFFFFFFFFF


# ---- life -----------------------------------------------------------------------------------

cdef bint worker_init(worker_t* worker, unsigned int worker_id, settings_t* settings) noexcept nogil:
    """False without memory or descriptors; worker_free() is right in either case."""
    cdef epoll_event event
    memset(worker, 0, sizeof(worker_t))
    worker.id = worker_id
    worker.settings = settings
    worker.uring.fd = -1
    worker.epfd = epoll_create1(EPOLL_CLOEXEC)
    worker.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
    slab_init(&worker.connections, sizeof(connection_t))
    slab_init(&worker.exchanges, sizeof(exchange_t))
    worker.scratch = <unsigned char*> malloc(SCRATCH_BYTES)
    worker.frame = <unsigned char*> malloc(BUFFER_WHOLE_BYTES)
    worker.head = malloc(sizeof(head_t))
    if worker.epfd < 0 or worker.wake_fd < 0:
        return False
    if settings.batch_events:
        uring_open(&worker.uring)                    # without one nothing is batched
    if worker.scratch == NULL or worker.frame == NULL or worker.head == NULL:
        return False
    if not ring_init(&worker.events, sizeof(event_t), EVENT_RECORDS):
        return False
    if settings.access_on and not ring_init(&worker.access, sizeof(record_t), ACCESS_RECORDS):
        return False
    event.events = EPOLLIN | EPOLLET
    event.data.u64 = WAKE_HANDLE
    return epoll_ctl(worker.epfd, EPOLL_CTL_ADD, worker.wake_fd, &event) == 0


cdef void worker_close(worker_t* worker) noexcept nogil:
    """After all threads have ended: give the descriptors back, those on their way too. Counters and rings
    stay readable."""
    cdef letter_t letter
    cdef uint32_t i
    while mailbox_take(worker, &letter):
        if letter.kind == LETTER_LISTEN or letter.kind == LETTER_TAKE:
            close(letter.value)
    for i in range(worker.pipe_count):
        close(worker.pipes[i].r)
        close(worker.pipes[i].w)
    worker.pipe_count = 0
    if worker.epfd >= 0:
        close(worker.epfd)
    if worker.wake_fd >= 0:
        close(worker.wake_fd)
    worker.epfd = worker.wake_fd = -1
    uring_close(&worker.uring)


cdef void worker_free(worker_t* worker) noexcept nogil:
    """Give everything back."""
    worker_close(worker)
    buffer_pool_free(worker)
    slab_free(&worker.connections)
    slab_free(&worker.exchanges)
    ring_free(&worker.events)
    ring_free(&worker.access)
    free(worker.scratch)
    free(worker.frame)
    free(worker.head)
    free(worker.idle)


cdef void worker_run(worker_t* worker) noexcept nogil:
    """The thread's whole life. Signals are the main thread's business."""
    cdef epoll_event events[EVENTS_PER_TURN]
    cdef sigset_t signals
    cdef int count, i
    sigfillset(&signals)
    pthread_sigmask(SIG_BLOCK, &signals, NULL)
    worker.now_ns = clock_ns(CLOCK_MONOTONIC)
    while not worker.stopping:
        if worker.full_turns == 0:
            worker.asked_ns = worker.now_ns
        count = call_epoll_wait(worker.epfd, events, EVENTS_PER_TURN, wait_ms(worker))
        hear(worker, count)
        worker.now_ns = clock_ns(CLOCK_MONOTONIC)
        worker.turn_events = <uint32_t> max(count, 0)
        worker.batching = worker.uring.fd >= 0 and worker.turn_events >= worker.settings.batch_events
        for i in range(count):
            if worker.batch_count >= BATCH_SEND:
                send_batch(worker)
            dispatch(worker, events[i].data.u64, events[i].events)
        expire(worker)
        resume(worker)
        send_batch(worker)
    close_everything(worker)


cdef inline void hear(worker_t* worker, int count) noexcept nogil:
    """What had come when epoll was asked is known once it has nothing more to tell, or has told of
    every connection: it keeps them in line, and who was told of goes to the end."""
    if count == EVENTS_PER_TURN and worker.full_turns * EVENTS_PER_TURN <= worker.connections.live:
        worker.full_turns += 1
    elif count >= 0:
        worker.full_turns = 0
        worker.heard_ns = worker.asked_ns


cdef int wait_ms(worker_t* worker) noexcept nogil:
    cdef uint64_t deadline
    if worker.ready_head != NULL or worker.batch_count:
        return 0
    deadline = timer_next_ns(worker)
    if deadline == 0:
        return -1
    if deadline <= worker.now_ns:
        return 0
    return <int> min((deadline - worker.now_ns) // 1_000_000 + 1, <uint64_t> 60_000)


# ---- one turn -------------------------------------------------------------------------------

cdef void dispatch(worker_t* worker, uint64_t handle, uint32_t events) noexcept nogil:
    """An event goes to the room of its connection, unless that connection is gone already."""
    cdef connection_t* conn
    if handle == WAKE_HANDLE:
        wake_seen(worker.wake_fd)
        read_letters(worker)
        take_grants(worker)
        take_room(worker)
        return
    conn = <connection_t*> slab_at(&worker.connections, <uint32_t> handle)
    if conn.generation != <uint32_t> (handle >> 32):
        return
    if conn.role == ROLE_HTTP_CLIENT:
        http_client_event(worker, conn, events)
    elif conn.role == ROLE_UPSTREAM:
        upstream_event(worker, conn, events)
    elif conn.role == ROLE_TCP_CLIENT:
        tcp_client_event(worker, conn, events)
    elif conn.role == ROLE_LISTENER:
        listener_accept(worker, conn)
    elif conn.role == ROLE_PROXIED:
        proxied_event(worker, conn, events)
    elif conn.role == ROLE_LINGER:
        connection_note(conn, events)
        connection_linger_read(worker, conn)
    elif conn.role == ROLE_CUT:
        connection_note(conn, events)
        connection_cut_look(worker, conn)


cdef void upstream_event(worker_t* worker, connection_t* conn, uint32_t events) noexcept nogil:
    if conn.flags & CONN_IDLE:
        # Unasked bytes, or the end: either way it is not fit for another exchange.
        connection_note(conn, events)
        if conn.flags & CONN_READABLE:
            upstream_forget(worker, conn)
            connection_discard(worker, conn)
    elif conn.exchange.flags & X_HTTP:
        http_upstream_event(worker, conn.exchange, events)
    else:
        tcp_upstream_event(worker, conn.exchange, events)


cdef void send_batch(worker_t* worker) noexcept nogil:
    """Send what was kept for the end of the turn; whose it was goes on."""
    cdef uint64_t handles[BATCH_MAX]
    cdef uint32_t i
    for i in range(batch_send(worker, handles)):
        dispatch(worker, handles[i], EPOLLOUT)


cdef void expire(worker_t* worker) noexcept nogil:
    cdef connection_t* conn = timer_expired(worker)
    cdef int timer_class
    while conn != NULL:
        timer_class = conn.timer_class
        timer_cancel(worker, conn)
        if timer_class == TIMER_ACCEPT:
            listener_resume(worker, conn)
        elif timer_class == TIMER_LINGER or conn.role == ROLE_LINGER:
            connection_close(worker, conn)
        elif timer_class == TIMER_CUT:
            connection_cut_look(worker, conn)
        elif timer_class == TIMER_POOL:
            upstream_forget(worker, conn)
            connection_discard(worker, conn)
        elif conn.role == ROLE_PROXIED:
            proxied_timeout(worker, conn)
        elif conn.role == ROLE_HTTP_CLIENT or (conn.role == ROLE_UPSTREAM and conn.exchange.flags & X_HTTP):
            http_timeout(worker, conn, timer_class)
        else:
            tcp_timeout(worker, conn, timer_class)
        conn = timer_expired(worker)


cdef void resume(worker_t* worker) noexcept nogil:
    """What used up its budget in this turn goes on in this one, once each."""
    cdef exchange_t* last = worker.ready_tail
    cdef exchange_t* exchange = NULL
    while exchange != last:
        exchange = exchange_next_ready(worker)       # none of them ends another
        if exchange.flags & X_HTTP:
            http_resume(worker, exchange)
        else:
            tcp_pump(worker, exchange)


cdef void take_grants(worker_t* worker) noexcept nogil:
    """Exchanges that the queue has given a backend."""
    cdef waiter_t* waiter = balancer_granted(<balancer_t*> worker.balancer, worker.id)
    cdef exchange_t* exchange
    while waiter != NULL:
        exchange = <exchange_t*> waiter.exchange
        if exchange.flags & X_HTTP:
            http_granted(worker, exchange)
        else:
            tcp_granted(worker, exchange)
        waiter = balancer_granted(<balancer_t*> worker.balancer, worker.id)


cdef void take_room(worker_t* worker) noexcept nogil:
    """Exchanges that wait for a connection try again, once each: none of them ends another."""
    cdef exchange_t* left = worker.wanting
    cdef exchange_t* exchange
    worker.wanting = NULL
    while left != NULL:
        exchange = left
        left = exchange.want_next
        if exchange.flags & X_HTTP:
            http_granted(worker, exchange)
        else:
            tcp_granted(worker, exchange)


# ---- letters --------------------------------------------------------------------------------

cdef void read_letters(worker_t* worker) noexcept nogil:
    cdef letter_t letter
    while mailbox_take(worker, &letter):
        letter_obey(worker, &letter)
        flag_write(&worker.mailbox.obeyed, worker.mailbox.obeyed + 1)


cdef void letter_obey(worker_t* worker, const letter_t* letter) noexcept nogil:
    if letter.kind == LETTER_LISTEN:
        if not listener_open(worker, letter.value, letter.role):
            flag_write(&worker.listen_refused, worker.listen_refused + 1)
    elif letter.kind == LETTER_PURGE:
        upstream_purge(worker, False)
    elif letter.kind == LETTER_END:
        end_exchanges(worker, <uint32_t> letter.value, <char> letter.role)
    elif letter.kind == LETTER_DEAF:
        deafen(worker)
    elif letter.kind == LETTER_DRAIN:
        drain(worker)
    elif letter.kind == LETTER_STOP:
        worker.stopping = True
    elif letter.kind == LETTER_PAUSE:
        stand_still(worker)
    elif letter.kind == LETTER_ROOM:
        upstream_make_room(worker, letter.value, letter.role)
    elif letter.kind == LETTER_TAKE:
        upstream_adopt(worker, letter.value, letter.role)
    elif letter.kind == LETTER_CROWDED:
        listener_make_room(worker, <uint32_t> letter.value)


cdef void stand_still(worker_t* worker) noexcept nogil:
    """The control plane counts the objects of all workers at one instant."""
    flag_write(&worker.paused, 1)
    while not flag_read(&worker.resume):
        usleep(100)
    flag_write(&worker.resume, 0)
    flag_write(&worker.paused, 0)


cdef void end_exchanges(worker_t* worker, uint32_t slot, char who) noexcept nogil:
    """End what has a connection to this backend; what is connecting finds out by itself."""
    cdef uint32_t i
    cdef exchange_t* exchange
    for i in range(worker.exchanges.chunk_count * SLAB_CHUNK):
        exchange = <exchange_t*> slab_at(&worker.exchanges, i)
        if exchange.client == NULL or not exchange.flags & X_COUNTED or exchange.backend.slot != slot:
            continue
        if exchange.phase < PHASE_HEAD:
            continue
        if exchange.flags & X_HTTP:
            http_backend_out(worker, exchange, who)
        else:
            tcp_abort(worker, exchange, who, exchange_phase_letter(exchange))


cdef void deafen(worker_t* worker) noexcept nogil:
    """A drain begins: every answer says close, and only who is connecting already gets in."""
    cdef uint32_t i
    cdef connection_t* conn
    worker.draining = True
    for i in range(worker.connections.chunk_count * SLAB_CHUNK):
        conn = <connection_t*> slab_at(&worker.connections, i)
        if conn.role == ROLE_LISTENER:
            listener_deafen(worker, conn)


cdef void drain(worker_t* worker) noexcept nogil:
    """Accept what waits, then nothing more; idle connections close, the others after their answer."""
    cdef uint32_t i
    cdef connection_t* conn
    worker.closing = True
    for i in range(worker.connections.chunk_count * SLAB_CHUNK):
        conn = <connection_t*> slab_at(&worker.connections, i)
        if conn.role == ROLE_LISTENER:
            listener_accept(worker, conn)
    upstream_purge(worker, True)
    for i in range(worker.connections.chunk_count * SLAB_CHUNK):
        conn = <connection_t*> slab_at(&worker.connections, i)
        if conn.role == ROLE_HTTP_CLIENT and conn.exchange == NULL and not head_begun(conn):
            http_drain_idle(worker, conn)
        elif conn.role == ROLE_PROXIED or conn.role == ROLE_LINGER:
            timer_arm(worker, conn, TIMER_LINGER)


cdef void close_everything(worker_t* worker) noexcept nogil:
    """Stopped: what is open is reset, with code K and the phase it was in."""
    cdef uint32_t i
    cdef exchange_t* exchange
    cdef connection_t* conn
    upstream_purge(worker, True)
    for i in range(worker.exchanges.chunk_count * SLAB_CHUNK):
        exchange = <exchange_t*> slab_at(&worker.exchanges, i)
        if exchange.client == NULL:
            continue
        if exchange.flags & X_HTTP:
            http_abort(worker, exchange, c'K', exchange_phase_letter(exchange))
        else:
            tcp_abort(worker, exchange, c'K', exchange_phase_letter(exchange))
    for i in range(worker.connections.chunk_count * SLAB_CHUNK):
        conn = <connection_t*> slab_at(&worker.connections, i)
        if conn.role == ROLE_LISTENER:
            listener_close(worker, conn)
        elif conn.role == ROLE_HTTP_CLIENT:
            http_stop_idle(worker, conn)
        elif conn.role != ROLE_FREE:
            connection_close(worker, conn)
