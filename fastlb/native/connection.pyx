"""See connection.pxd; the facts about the kernel are in linux.pxd."""

from libc.errno cimport EAGAIN, EINTR, ENOMEM, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from fastlb.native.batch cimport batch_note, batch_open
from fastlb.native.bound cimport bound_remove
from fastlb.native.buffer cimport (
    BUFFER_LARGE_BYTES, BUFFER_SMALL_BYTES, buffer_append, buffer_bytes, buffer_drop, buffer_length,
    buffer_uncount,
)
from fastlb.native.client_counts cimport client_leave
from fastlb.native.http1 cimport head_t
from fastlb.native.linux cimport (
    EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI,
    EPOLLRDHUP, IPPROTO_TCP, MSG_DONTWAIT, MSG_MORE, MSG_NOSIGNAL, MSG_PEEK, POLLOUT, SHUT_WR, SIOCOUTQ,
    SK_MEMINFO_SNDBUF, SK_MEMINFO_WMEM_ALLOC, SK_MEMINFO_WMEM_QUEUED, SO_ERROR, SO_LINGER, SO_MEMINFO,
    SOL_SOCKET, TCP_NODELAY, close, epoll_ctl, epoll_event, getsockopt, ioctl, iovec, linger, msghdr, poll,
    pollfd, call_recv, call_send, sendmsg, setsockopt, shutdown, socklen_t,
)
from fastlb.native.places cimport place_give
from fastlb.native.slab cimport slab_give, slab_take
from fastlb.native.timers cimport timer_arm, timer_cancel
from fastlb.native.types cimport (
    CONN_BATCHED, CONN_BROKEN, CONN_CONNECTING, CONN_HANGUP, CONN_NODELAY, CONN_READABLE, CONN_SENT_ONCE,
    CONN_TCP, CONN_UNSENT, CONN_URGENT, ROLE_CUT, ROLE_FREE, ROLE_HTTP_CLIENT, ROLE_LINGER, ROLE_PROXIED,
    ROLE_TCP_CLIENT, SCRATCH_BYTES, SEND_LOOKS, STEP_AGAIN, STEP_BLOCKED, STEP_FAILED, TIMER_CUT,
    TIMER_LINGER, TIMER_SEND, TIMER_SILENCE, connection_t, counter_add_shared, role_t, step_t, worker_t,
)


cdef connection_t* connection_open(worker_t* worker, int fd, role_t role) noexcept nogil:
    """Own `fd` and register it once, for both directions. NULL without memory; `fd` stays open."""
    cdef connection_t* conn = <connection_t*> slab_take(&worker.connections)
    cdef epoll_event event
    cdef uint32_t index, generation
    if conn == NULL:
        return NULL
    index = conn.index
    generation = conn.generation
    memset(conn, 0, sizeof(connection_t))
    conn.index = index
    conn.generation = generation
    conn.fd = fd
    conn.role = role
    event.events = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET
    event.data.u64 = (<unsigned long long> generation << 32) | index
    if epoll_ctl(worker.epfd, EPOLL_CTL_ADD, fd, &event) != 0:
        conn.role = ROLE_FREE
        slab_give(&worker.connections, conn)
        return NULL
    return conn


cdef void connection_close(worker_t* worker, connection_t* conn) noexcept nogil:
    """Close the descriptor (with FIN if nothing unread is left) and give everything back."""
    cdef connection_t* bound
    if conn.flags & CONN_BATCHED:
        connection_flush(worker, conn)               # it was said to be on its way
    timer_cancel(worker, conn)
    if conn.role == ROLE_HTTP_CLIENT or conn.role == ROLE_TCP_CLIENT or conn.role == ROLE_LINGER \
            or conn.role == ROLE_PROXIED or conn.role == ROLE_CUT:
        counter_add_shared(worker.clients_total, <unsigned long long> -1)
    if conn.counted != NULL:
        client_leave(worker, conn)
    buffer_drop(worker, &conn.inbox)
    buffer_drop(worker, &conn.outbox)
    connection_forget_head(worker, conn)
    free(conn.announced)
    conn.announced = NULL
    if conn.partner != NULL:                         # a client that has a backend's connection of its own
        bound = conn.partner
        bound_remove(worker, bound)
        connection_discard(worker, bound)
    close(conn.fd)
    if conn.backend != NULL:
        place_give(worker, conn.backend)
    conn.fd = -1
    conn.role = ROLE_FREE
    slab_give(&worker.connections, conn)


cdef int connection_detach(worker_t* worker, connection_t* conn) noexcept nogil:
    """Let go of a connection without buffers and timers, and leave its descriptor open for another
    worker. Returns the descriptor."""
    cdef epoll_event event
    cdef int fd = conn.fd
    epoll_ctl(worker.epfd, EPOLL_CTL_DEL, fd, &event)
    conn.fd = -1
    conn.role = ROLE_FREE
    slab_give(&worker.connections, conn)
    return fd


cdef void connection_forget_head(worker_t* worker, connection_t* conn) noexcept nogil:
    """Give back the memory of a head that was not complete, if there is one."""
    if conn.head != NULL:
        free(conn.head)
        conn.head = NULL
        buffer_uncount(worker, sizeof(head_t))


cdef void connection_reset(worker_t* worker, connection_t* conn) noexcept nogil:
    """Close with RST, so that the peer does not take what it has for everything."""
    cdef linger at_once
    if conn.flags & CONN_TCP:
        at_once.l_onoff = 1
        at_once.l_linger = 0
        setsockopt(conn.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once))
    connection_close(worker, conn)


cdef void connection_discard(worker_t* worker, connection_t* conn) noexcept nogil:
    """Close a connection to a backend that is not needed any more: with RST, so that no local port is
    left in TIME_WAIT, unless its peer has sent FIN first or has not acknowledged all that was sent."""
    if conn.outbox == NULL and not conn.flags & (CONN_HANGUP | CONN_CONNECTING) \
            and connection_unacked(conn) == 0:
        connection_reset(worker, conn)
    else:
        connection_close(worker, conn)


cdef void connection_note(connection_t* conn, uint32_t events) noexcept nogil:
    """Remember what epoll reported. Being writable needs no flag: who has something to send tries."""
    if events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
        conn.flags |= CONN_READABLE
    if events & EPOLLPRI:
        conn.flags |= CONN_URGENT
    if events & EPOLLRDHUP:
        conn.flags |= CONN_HANGUP
    if events & (EPOLLHUP | EPOLLERR):
        conn.flags |= CONN_HANGUP | CONN_BROKEN


cdef ssize_t connection_receive(connection_t* conn, uint8_t* into, size_t len) noexcept nogil:
    """One recv(). Returns the bytes, 0 for the end, or -errno; -EAGAIN when there is nothing."""
    cdef ssize_t n
    while True:
        n = call_recv(conn.fd, into, len, 0)
        if n > 0:
            if <size_t> n < len and not conn.flags & (CONN_HANGUP | CONN_URGENT):
                conn.flags &= ~CONN_READABLE         # a short read has emptied the queue
            if conn.backend != NULL:
                counter_add_shared(&conn.backend.bytes_in, <uint64_t> n)
            return n
        if n == 0:
            conn.flags = (conn.flags & ~CONN_READABLE) | CONN_HANGUP
            return 0
        if errno == EINTR:
            continue
        conn.flags &= ~CONN_READABLE
        conn.error = errno
        return -errno


cdef step_t connection_send(worker_t* worker, connection_t* conn, iovec* pieces, uint32_t count,
                            bint fin_follows) noexcept nogil:
    """Send all pieces with one system call, or with those of others at the end of the turn (see
    batch.pxd); what the kernel refuses waits in the outbox. `fin_follows`: once they are sent the
    caller shuts down, or calls connection_push().

    Returns: STEP_AGAIN if all is sent, STEP_BLOCKED if something waits, STEP_FAILED (conn.error).
    """
    cdef msghdr message
    cdef size_t total = 0
    cdef ssize_t n = 0
    cdef uint32_t i
    cdef int one = 1
    cdef int flags = MSG_NOSIGNAL | MSG_MORE if fin_follows else MSG_NOSIGNAL
    for i in range(count):
        total += pieces[i].iov_len
    if total == 0:
        return STEP_BLOCKED if conn.outbox != NULL else STEP_AGAIN
    if conn.backend != NULL:
        counter_add_shared(&conn.backend.bytes_out, total)
    if conn.outbox == NULL:
        if not conn.flags & CONN_NODELAY:
            # Nagle holds back only a second small segment, so the first one needs no option.
            if conn.flags & CONN_SENT_ONCE:
                setsockopt(conn.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
                conn.flags |= CONN_NODELAY
            conn.flags |= CONN_SENT_ONCE
        # One small buffer holds all of it: without memory nothing is kept, and it is sent at once.
        if total <= BUFFER_SMALL_BYTES and not fin_follows and batch_open(worker) \
                and pieces_keep(worker, conn, pieces, count, 0):
            batch_note(worker, conn)
            return STEP_BLOCKED
        if count > 1 and total <= BUFFER_LARGE_BYTES:
            count = pieces_join(worker, pieces, count)
        while True:
            if count == 1:
                n = call_send(conn.fd, pieces[0].iov_base, pieces[0].iov_len, flags)
            else:
                memset(&message, 0, sizeof(message))
                message.msg_iov = pieces
                message.msg_iovlen = count
                n = sendmsg(conn.fd, &message, flags)
            if n >= 0:
                break
            if errno == EAGAIN:
                n = 0
                break
            if errno != EINTR:
                conn.error = errno
                return STEP_FAILED
        if <size_t> n == total:
            return STEP_AGAIN
        if n == 0:
            conn.flags |= CONN_UNSENT
    if not pieces_keep(worker, conn, pieces, count, <size_t> n):
        conn.error = ENOMEM
        return STEP_FAILED
    return STEP_BLOCKED


cdef void connection_push(connection_t* conn) noexcept nogil:
    """Send what the kernel holds back for a FIN that will not follow."""
    cdef int one = 1
    setsockopt(conn.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))


cdef bint pieces_keep(worker_t* worker, connection_t* conn, const iovec* pieces, uint32_t count,
                      size_t skip) noexcept nogil:
    """Put the pieces, without their first `skip` bytes, in the outbox. False without memory."""
    cdef uint32_t i
    for i in range(count):
        if skip >= pieces[i].iov_len:
            skip -= pieces[i].iov_len
            continue
        if not buffer_append(worker, &conn.outbox, <uint8_t*> pieces[i].iov_base + skip,
                             pieces[i].iov_len - skip):
            return False
        skip = 0
    return True


cdef uint32_t pieces_join(worker_t* worker, iovec* pieces, uint32_t count) noexcept nogil:
    """Put small pieces together in worker.frame: one copy costs less than a gathering send. The
    first piece may stand at the start of worker.frame already."""
    cdef size_t at = 0
    cdef uint32_t i
    for i in range(count):
        if <uint8_t*> pieces[i].iov_base != worker.frame + at:
            memcpy(worker.frame + at, pieces[i].iov_base, pieces[i].iov_len)
        at += pieces[i].iov_len
    pieces[0].iov_base = worker.frame
    pieces[0].iov_len = at
    return 1


cdef step_t connection_flush(worker_t* worker, connection_t* conn) noexcept nogil:
    """Send what waits in the outbox. STEP_AGAIN if it is empty now, STEP_BLOCKED, STEP_FAILED."""
    cdef ssize_t n
    conn.flags &= ~CONN_BATCHED
    while conn.outbox != NULL:
        n = call_send(conn.fd, buffer_bytes(conn.outbox) + conn.outbox.start,
                      buffer_length(conn.outbox), MSG_NOSIGNAL)
        if n >= 0:
            conn.flags &= ~CONN_UNSENT
            conn.outbox.start += <uint32_t> n
            if buffer_length(conn.outbox) == 0:
                buffer_drop(worker, &conn.outbox)
        elif errno == EAGAIN:
            return STEP_BLOCKED
        elif errno != EINTR:
            conn.error = errno
            return STEP_FAILED
    return STEP_AGAIN


cdef bint connection_writable(connection_t* conn) noexcept nogil:
    """True if a third of the kernel's send buffer is free. If it is not, epoll will report when it is."""
    cdef pollfd asked
    asked.fd = conn.fd
    asked.events = POLLOUT
    asked.revents = 0
    return poll(&asked, 1, 0) > 0


cdef size_t connection_room(connection_t* conn) noexcept nogil:
    """How many bytes the kernel would take at once, about; 0 where it cannot say."""
    cdef uint32_t[16] memory
    cdef socklen_t len = sizeof(memory)
    cdef uint32_t used
    if getsockopt(conn.fd, SOL_SOCKET, SO_MEMINFO, memory, &len) != 0:
        return 0
    used = max(memory[SK_MEMINFO_WMEM_ALLOC], memory[SK_MEMINFO_WMEM_QUEUED])
    return memory[SK_MEMINFO_SNDBUF] - used if used < memory[SK_MEMINFO_SNDBUF] else 0


cdef bint connection_quiet(connection_t* conn) noexcept nogil:
    """True if there is nothing to read and no end: fit to be used again. One recv(MSG_PEEK)."""
    cdef uint8_t byte
    cdef ssize_t n = call_recv(conn.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT)
    if n < 0 and errno == EAGAIN:
        conn.flags &= ~CONN_READABLE
        return True
    return False


cdef int connection_error(connection_t* conn) noexcept nogil:
    """What went wrong on the socket since this was last asked, as an errno; 0 if nothing did."""
    cdef int error = 0
    cdef socklen_t len = sizeof(error)
    if getsockopt(conn.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0:
        return errno
    return error


cdef uint32_t connection_unacked(connection_t* conn) noexcept nogil:
    """Bytes that the kernel has and the peer's has not."""
    cdef int unacked_bytes = 0
    if ioctl(conn.fd, SIOCOUTQ, &unacked_bytes) != 0:
        return 0
    return <uint32_t> unacked_bytes


cdef void connection_send_wait(worker_t* worker, connection_t* conn) noexcept nogil:
    """The peer does not take what is sent: its time begins."""
    conn.looks = 0
    timer_arm(worker, conn, TIMER_SEND)


cdef bint connection_still_takes(worker_t* worker, connection_t* conn) noexcept nogil:
    """TIMER_SEND is over, one of SEND_LOOKS: True, and it is armed again, unless the peer has taken
    nothing since connection_send_wait() or since it was last seen to take something."""
    cdef uint32_t unacked_bytes = connection_unacked(conn)
    if unacked_bytes < conn.unacked_bytes:
        conn.looks = 0
    conn.unacked_bytes = unacked_bytes
    conn.looks += 1
    if conn.looks > SEND_LOOKS:
        return False
    timer_arm(worker, conn, TIMER_SEND)
    return True


cdef void connection_cut(worker_t* worker, connection_t* conn) noexcept nogil:
    """Close with RST once the peer has what was sent before, which a RST would destroy."""
    conn.role = ROLE_CUT
    conn.since_ns = worker.now_ns
    conn.unacked_bytes = <uint32_t> -1
    buffer_drop(worker, &conn.inbox)
    connection_cut_look(worker, conn)


cdef void connection_cut_look(worker_t* worker, connection_t* conn) noexcept nogil:
    """Nothing reports that a send buffer has become empty."""
    cdef uint32_t unacked_bytes = connection_unacked(conn)
    if unacked_bytes < conn.unacked_bytes:
        conn.since_ns = worker.now_ns
        conn.unacked_bytes = unacked_bytes
    if unacked_bytes and not conn.flags & CONN_BROKEN \
            and worker.now_ns - conn.since_ns < SEND_LOOKS * worker.settings.timeout_ns[TIMER_SEND]:
        timer_arm(worker, conn, TIMER_CUT)
    else:
        connection_reset(worker, conn)


cdef void connection_linger(worker_t* worker, connection_t* conn) noexcept nogil:
    """Send FIN and read on for a while: a close with unread data would turn into an RST that
    destroys the answer under way (RFC 9112 9.6)."""
    if shutdown(conn.fd, SHUT_WR) != 0:
        connection_close(worker, conn)
        return
    linger_begin(worker, conn, TIMER_LINGER if worker.draining else TIMER_SILENCE)


cdef void connection_linger_idle(worker_t* worker, connection_t* conn) noexcept nogil:
    """Send FIN to a client that has no exchange, and close a little later: its next request may be on its
    way, and a RST would come back for it."""
    if shutdown(conn.fd, SHUT_WR) != 0:
        connection_close(worker, conn)
        return
    linger_begin(worker, conn, TIMER_LINGER)


cdef void connection_finish(worker_t* worker, connection_t* conn) noexcept nogil:
    """Send FIN and close, unless the client has sent on: then linger. FIN goes first, because it takes
    along what was held back for it, and RST would not."""
    if shutdown(conn.fd, SHUT_WR) != 0 or connection_quiet(conn):
        connection_close(worker, conn)
        return
    conn.flags |= CONN_READABLE
    linger_begin(worker, conn, TIMER_LINGER if worker.draining else TIMER_SILENCE)


cdef void linger_begin(worker_t* worker, connection_t* conn, int timer_class) noexcept nogil:
    conn.role = ROLE_LINGER
    connection_forget_head(worker, conn)
    conn.since_ns = worker.now_ns
    buffer_drop(worker, &conn.inbox)
    timer_arm(worker, conn, timer_class)
    if conn.flags & CONN_READABLE:
        connection_linger_read(worker, conn)


cdef void connection_linger_read(worker_t* worker, connection_t* conn) noexcept nogil:
    """Throw away what comes until the client's FIN, its silence, or the end of the time for all of it; 1
    MiB in one turn, and then epoll is made to report the rest again."""
    cdef epoll_event event
    cdef int turns = 16
    cdef ssize_t n
    if conn.timer_class == TIMER_SILENCE:
        if worker.now_ns - conn.since_ns >= worker.settings.linger_ns:
            connection_close(worker, conn)
            return
        timer_arm(worker, conn, TIMER_SILENCE)
    while conn.flags & CONN_READABLE and turns:
        turns -= 1
        n = connection_receive(conn, worker.scratch, SCRATCH_BYTES)
        if n == -EAGAIN:
            return
        if n <= 0:
            connection_close(worker, conn)
            return
    if turns == 0:
        event.events = EPOLLIN | EPOLLRDHUP | EPOLLET
        event.data.u64 = (<unsigned long long> conn.generation << 32) | conn.index
        epoll_ctl(worker.epfd, EPOLL_CTL_MOD, conn.fd, &event)
