"""See listener.pxd."""

from libc.errno cimport EAGAIN, ECONNABORTED, EINTR, EPERM, EPROTO, errno
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.string cimport memset

from fastlb.native.accounting cimport account_event
from fastlb.native.connection cimport connection_close, connection_open, connection_reset
from fastlb.native.http_client cimport http_client_open, http_let_go
from fastlb.native.linux cimport (
    EPOLLEXCLUSIVE, EPOLLIN, EPOLL_CTL_ADD, EPOLL_CTL_DEL, SOCK_CLOEXEC, SOCK_NONBLOCK, SOL_SOCKET,
    SO_ATTACH_FILTER, accept4, close, epoll_ctl, epoll_event, setsockopt, sock_fprog, sockaddr,
    sockaddr_storage, socklen_t,
)
from fastlb.native.mailbox cimport mailbox_post
from fastlb.native.peer cimport own_port, peer_accepted
from fastlb.native.proxied cimport proxied_open
from fastlb.native.slab cimport slab_give, slab_take
from fastlb.native.tcp_exchange cimport tcp_client_open
from fastlb.native.timers cimport timer_arm, timer_cancel
from fastlb.native.types cimport (
    CONN_NODELAY, EVENT_ACCEPT_PAUSED, EVENT_ACCEPT_RESUMED, FILTER_STEPS, LETTER_CROWDED, LISTEN_PROXIED,
    ROLE_FREE, ROLE_LISTENER, ROLE_PROXIED, ROLE_TCP_CLIENT, TIMER_ACCEPT, connection_t, counter_add,
    counter_add_shared, counter_read, flag_write, role_t, worker_t,
)

cdef enum:
    ACCEPTS_PER_TURN = 16
    ACCEPTS_AT_END = 65536           # more than any accept queue holds


cdef bint watch(worker_t* worker, connection_t* listener) noexcept nogil:
    """Level-triggered, so that what one turn leaves is reported again."""
    cdef epoll_event event
    event.events = EPOLLIN | EPOLLEXCLUSIVE
    event.data.u64 = (<unsigned long long> listener.generation << 32) | listener.index
    return epoll_ctl(worker.epfd, EPOLL_CTL_ADD, listener.fd, &event) == 0


cdef inline bint at_limit(worker_t* worker) noexcept nogil:
    cdef uint64_t limit = worker.settings.connections_max
    return limit != 0 and counter_read(worker.clients_total) >= limit


cdef inline bint is_crowded(worker_t* worker) noexcept nogil:
    """Nine tenths of the limit are taken."""
    cdef uint64_t limit = worker.settings.connections_max
    return limit != 0 and counter_read(worker.clients_total) * 10 >= limit * 9


cdef void listener_make_room(worker_t* worker, uint32_t others) noexcept nogil:
    """Let the longest idle client go. Where this worker has none the next one is asked, and so on:
    `others` more of them. A letter that finds no room is not needed: there will be another try."""
    if not http_let_go(worker) and others:
        mailbox_post(worker.peers[(worker.id + 1) % worker.settings.workers], LETTER_CROWDED,
                     <int32_t> (others - 1), 0)


cdef bint listener_open(worker_t* worker, int fd, uint32_t client_role) noexcept nogil:
    """Own `fd`, a listening socket. False without memory; `fd` stays open."""
    cdef connection_t* listener = <connection_t*> slab_take(&worker.connections)
    cdef uint32_t index, generation
    if listener == NULL:
        return False
    index = listener.index
    generation = listener.generation
    memset(listener, 0, sizeof(connection_t))
    listener.index = index
    listener.generation = generation
    listener.fd = fd
    listener.role = ROLE_LISTENER
    listener.requests = client_role              # what the accepted connections will be
    listener.own_port = own_port(fd)
    if not watch(worker, listener):
        listener.role = ROLE_FREE
        slab_give(&worker.connections, listener)
        return False
    flag_write(&worker.listening, worker.listening + 1)
    return True


cdef void listener_deafen(worker_t* worker, connection_t* listener) noexcept nogil:
    """Let no new client begin: see model/handshake.py. Where the kernel refuses, the drain is only
    less gentle; a UNIX socket has no handshake and takes no notice."""
    cdef sock_fprog program
    program.len = FILTER_STEPS
    program.filter = worker.settings.no_syn
    setsockopt(listener.fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program))


cdef void listener_close(worker_t* worker, connection_t* listener) noexcept nogil:
    """Stop accepting. The descriptor may have duplicates, so epoll has to be told."""
    epoll_ctl(worker.epfd, EPOLL_CTL_DEL, listener.fd, NULL)
    connection_close(worker, listener)
    flag_write(&worker.listening, worker.listening - 1)


cdef void listener_accept(worker_t* worker, connection_t* listener) noexcept nogil:
    """Take what waits, but not all of it at once: one or, in a long turn, as many as half of its
    events; epoll reports it again in the next. At the end of a drain: all of it, as soon as there
    is room, and then close."""
    cdef uint32_t turns = max(<uint32_t> 1, min(worker.turn_events // 2, <uint32_t> ACCEPTS_PER_TURN))
    cdef sockaddr_storage address
    cdef socklen_t len
    cdef bint called = not worker.closing        # by epoll: somebody waits
    cdef int fd
    if worker.closing:
        turns = ACCEPTS_AT_END
    while turns:
        turns -= 1
        if at_limit(worker):
            if called:
                listener_make_room(worker, worker.settings.workers - 1)
            if called or worker.closing:
                listener_pause(worker, listener, 0)
            return                               # or epoll says whether anybody waits
        called = False
        len = sizeof(address)
        fd = accept4(listener.fd, <sockaddr*> &address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd >= 0:
            if worker.accept_paused:
                worker.accept_paused = False
                account_event(worker, EVENT_ACCEPT_RESUMED, -1, 0, 0)
            client_open(worker, fd, listener, &address)
            if is_crowded(worker) and not worker.closing:
                http_let_go(worker)
        elif errno == EINTR or errno == ECONNABORTED or errno == EPROTO or errno == EPERM:
            continue                             # that client is gone; accept(2) on pending errors
        elif errno == EAGAIN:
            break
        else:
            listener_pause(worker, listener, errno)
            return
    if worker.closing:
        listener_close(worker, listener)


cdef void client_open(worker_t* worker, int fd, const connection_t* listener,
                      sockaddr_storage* address) noexcept nogil:
    cdef uint32_t wanted = listener.requests
    cdef role_t role = <role_t> (wanted & ~<uint32_t> LISTEN_PROXIED)
    cdef connection_t* conn
    conn = connection_open(worker, fd, ROLE_PROXIED if wanted & LISTEN_PROXIED else role)
    if conn == NULL:
        close(fd)
        return
    # TCP_NODELAY is set on the listening socket and inherited.
    conn.flags |= CONN_NODELAY
    conn.own_port = listener.own_port
    counter_add(&worker.ledger.clients_opened, 1)
    counter_add_shared(worker.clients_total, 1)
    if not peer_accepted(worker, conn, address):
        connection_reset(worker, conn)
        return
    if conn.role == ROLE_PROXIED:
        conn.requests = role
        proxied_open(worker, conn)
    elif role == ROLE_TCP_CLIENT:
        tcp_client_open(worker, conn)
    else:
        http_client_open(worker, conn)


cdef void listener_pause(worker_t* worker, connection_t* listener, int error) noexcept nogil:
    """Out of descriptors or memory, or at the limit: asking again and again would burn the core.
    Said once; looked at again after a while."""
    epoll_ctl(worker.epfd, EPOLL_CTL_DEL, listener.fd, NULL)
    timer_arm(worker, listener, TIMER_ACCEPT)
    if not worker.accept_paused:
        worker.accept_paused = True
        account_event(worker, EVENT_ACCEPT_PAUSED, -1, error, 0)


cdef void listener_resume(worker_t* worker, connection_t* listener) noexcept nogil:
    timer_cancel(worker, listener)
    if worker.closing and not at_limit(worker):
        listener_accept(worker, listener)
    elif worker.closing or not watch(worker, listener):
        timer_arm(worker, listener, TIMER_ACCEPT)
