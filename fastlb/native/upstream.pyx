"""See upstream.pxd."""

from libc.errno cimport (
    EADDRNOTAVAIL, EBUSY, ECONNREFUSED, EINPROGRESS, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno,
)
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memcmp, memset

from fastlb.native.bound cimport bound_add, bound_remove
from fastlb.native.connection cimport (
    connection_detach, connection_discard, connection_error, connection_open, connection_quiet,
    connection_send,
)
from fastlb.native.linux cimport (
    AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, close, connect, getpeername, getsockname, iovec,
    sockaddr, sockaddr_storage, socket, socklen_t,
)
from fastlb.native.mailbox cimport mailbox_post, wake
from fastlb.native.peer cimport peer_ends
from fastlb.native.places cimport place_give, place_take
from fastlb.native.proxy_protocol cimport PROXY_WRITTEN_MAX_BYTES, proxy_write
from fastlb.native.timers cimport timer_arm, timer_cancel
from fastlb.native.types cimport (
    BACKENDS_CHUNK, CONN_BROKEN, CONN_CONNECTING, CONN_IDLE, CONN_NODELAY, CONN_PRIVATE, CONN_READABLE,
    CONN_REUSED, CONN_TCP, LETTER_TAKE, ROLE_UPSTREAM, STEP_FAILED, TIMER_CONNECT, TIMER_POOL, backend_t,
    connection_t, counter_add_shared, counter_read, ends_t, flag_read, idle_list_t, set_first, set_read,
    set_remove, site_t, worker_t,
)

cdef backend_t* backend_at(worker_t* worker, unsigned int slot) noexcept nogil:
    """The backend of a slot that was published."""
    return worker.backends[slot // BACKENDS_CHUNK][slot % BACKENDS_CHUNK]


cdef idle_list_t* idle_of(worker_t* worker, uint32_t slot) noexcept nogil:
    """The idle list of a slot; NULL without memory."""
    cdef uint32_t cap = worker.idle_cap if worker.idle_cap else 16
    cdef idle_list_t* grown
    if slot >= worker.idle_cap:
        while cap <= slot:
            cap *= 2
        grown = <idle_list_t*> realloc(worker.idle, cap * sizeof(idle_list_t))
        if grown == NULL:
            return NULL
        memset(&grown[worker.idle_cap], 0, (cap - worker.idle_cap) * sizeof(idle_list_t))
        worker.idle = grown
        worker.idle_cap = cap
    return &worker.idle[slot]


cdef connection_t* upstream_take(worker_t* worker, backend_t* backend, bint check) noexcept nogil:
    """The idle connection used last, or NULL.

    `check`: ask the kernel once more whether it is still open, for a request that must not be
    sent twice. Without it a connection that died since the last epoll_wait() is found out by the
    send, and the request goes to a fresh one.
    """
    cdef connection_t* conn
    if flag_read(&backend.proxy_version):
        return NULL                              # its connections have one client each
    while backend.slot < worker.idle_cap:
        conn = worker.idle[backend.slot].head
        if conn == NULL:
            return NULL
        upstream_forget(worker, conn)
        if conn.flags & CONN_READABLE or (check and not connection_quiet(conn)):
            connection_discard(worker, conn)
            continue
        conn.flags |= CONN_REUSED
        return conn
    return NULL


cdef void upstream_give(worker_t* worker, connection_t* conn) noexcept nogil:
    """Keep a connection whose exchange ended well. Closed instead if it has anything to say."""
    cdef idle_list_t* idle = idle_of(worker, conn.backend.slot)
    conn.exchange = NULL
    if not is_kept(worker, conn, idle) \
            or conn.inbox != NULL or conn.outbox != NULL \
            or (conn.flags & CONN_READABLE and not connection_quiet(conn)):
        connection_discard(worker, conn)
    elif set_read(&conn.backend.wanted) == 0 or not hand_over(worker, conn):
        idle_push(worker, idle, conn)


cdef void upstream_keep(worker_t* worker, connection_t* conn, connection_t* client) noexcept nogil:
    """Keep a private connection for its client, whose exchange on it ended well; closed instead if it has
    anything to say, or if somebody waits for its place."""
    cdef idle_list_t* idle = idle_of(worker, conn.backend.slot)
    conn.exchange = NULL
    if idle == NULL or not flag_read(&conn.backend.eligible) or worker.closing or client.partner != NULL \
            or is_crowded(conn.backend) or set_read(&conn.backend.wanted) \
            or conn.inbox != NULL or conn.outbox != NULL \
            or (conn.flags & CONN_READABLE and not connection_quiet(conn)):
        connection_discard(worker, conn)
    else:
        bound_add(idle, conn, client)


cdef connection_t* upstream_take_kept(worker_t* worker, connection_t* client) noexcept nogil:
    """The private connection of a client, or NULL if it is gone or its backend is out."""
    cdef connection_t* conn = client.partner
    bound_remove(worker, conn)
    if not flag_read(&conn.backend.eligible) or conn.flags & CONN_READABLE or not connection_quiet(conn):
        connection_discard(worker, conn)
        return NULL
    conn.flags |= CONN_REUSED
    return conn


cdef inline bint is_kept(worker_t* worker, connection_t* conn, idle_list_t* idle) noexcept nogil:
    """True if there is a use for an idle connection to its backend. `idle` may be NULL."""
    return idle != NULL and idle.count < worker.settings.idle_max and not worker.closing \
        and flag_read(&conn.backend.eligible) and not flag_read(&conn.backend.proxy_version) \
        and not is_crowded(conn.backend)


cdef inline bint is_crowded(backend_t* backend) noexcept nogil:
    """True if it has more connections than it may have: the limit was lowered."""
    cdef uint32_t limit = flag_read(&backend.conns_max)
    return limit != 0 and counter_read(&backend.open) > limit


cdef void idle_push(worker_t* worker, idle_list_t* idle, connection_t* conn) noexcept nogil:
    conn.flags |= CONN_IDLE
    conn.idle_prev = NULL
    conn.idle_next = idle.head
    if idle.head != NULL:
        idle.head.idle_prev = conn
    idle.head = conn
    idle.count += 1
    timer_arm(worker, conn, TIMER_POOL)


cdef void upstream_forget(worker_t* worker, connection_t* conn) noexcept nogil:
    """Take it out of the pool, or from its client."""
    cdef idle_list_t* idle = &worker.idle[conn.backend.slot]
    if conn.flags & CONN_PRIVATE:
        bound_remove(worker, conn)
        return
    if conn.idle_prev != NULL:
        conn.idle_prev.idle_next = conn.idle_next
    else:
        idle.head = conn.idle_next
    if conn.idle_next != NULL:
        conn.idle_next.idle_prev = conn.idle_prev
    idle.count -= 1
    conn.idle_prev = conn.idle_next = NULL
    conn.flags &= ~CONN_IDLE
    timer_cancel(worker, conn)


cdef void upstream_purge(worker_t* worker, bint everything) noexcept nogil:
    """Close idle connections: all of them, or those to backends that left the plan or have too many."""
    cdef uint32_t slot
    cdef connection_t* conn
    for slot in range(worker.idle_cap):
        while True:
            conn = idle_any(&worker.idle[slot])
            if conn == NULL:
                break
            if not everything and flag_read(&conn.backend.eligible) and not is_crowded(conn.backend):
                break
            upstream_forget(worker, conn)
            connection_discard(worker, conn)


cdef inline connection_t* idle_any(idle_list_t* idle) noexcept nogil:
    """An idle connection, or NULL: a private one only if there is no other, because its client would have
    to authenticate again, and of those the one that is idle for longest."""
    cdef connection_t* conn = idle.bound
    if idle.head != NULL or conn == NULL:
        return idle.head
    while conn.idle_next != NULL:
        conn = conn.idle_next
    return conn


# ---- room: places at a backend (see places.pxd), and descriptors -------------------------------

cdef bint hand_over(worker_t* worker, connection_t* conn) noexcept nogil:
    """Give an idle connection that is in no pool to a worker that waits for one. False if none does."""
    cdef backend_t* backend = conn.backend
    cdef uint64_t others
    cdef uint32_t to
    cdef int fd
    while True:
        others = set_read(&backend.wanted) & ~(<uint64_t> 1 << worker.id)
        if others == 0:
            return False
        to = set_first(others, worker.id)
        if set_remove(&backend.wanted, to):
            break
    fd = connection_detach(worker, conn)
    if not mailbox_post(worker.peers[to], LETTER_TAKE, fd, backend.slot):
        close(fd)                                    # its box is full, and it will ask again
        place_give(worker, backend)
        wake(worker.settings.wake_fds[to])
    return True


cdef void upstream_adopt(worker_t* worker, int fd, unsigned int slot) noexcept nogil:
    """Another worker has handed over an idle connection."""
    cdef backend_t* backend = backend_at(worker, slot)
    cdef idle_list_t* idle = idle_of(worker, slot)
    cdef connection_t* conn = connection_open(worker, fd, ROLE_UPSTREAM)
    if conn == NULL:
        close(fd)
        place_give(worker, backend)
        return
    conn.backend = backend
    conn.flags = CONN_TCP if backend.sites[0].address.ss_family != AF_UNIX else CONN_NODELAY
    if is_kept(worker, conn, idle):
        idle_push(worker, idle, conn)
    else:
        connection_discard(worker, conn)


cdef void upstream_make_room(worker_t* worker, int slot, unsigned int asker) noexcept nogil:
    """Another worker waits for a connection to the backend of `slot`, or for a descriptor if it is -1."""
    cdef backend_t* backend
    cdef connection_t* conn
    if slot < 0:
        if spare(worker):
            wake(worker.settings.wake_fds[asker])
        return
    backend = backend_at(worker, <uint32_t> slot)
    while <uint32_t> slot < worker.idle_cap and worker.idle[slot].head != NULL:
        conn = worker.idle[slot].head
        upstream_forget(worker, conn)
        if not hand_over(worker, conn):
            idle_push(worker, &worker.idle[slot], conn)
            break
    if <uint32_t> slot < worker.idle_cap and worker.idle[slot].head == NULL and set_read(&backend.wanted):
        conn = idle_any(&worker.idle[slot])
        if conn != NULL:                             # nobody else can use it, but its place
            upstream_forget(worker, conn)
            connection_discard(worker, conn)
    if counter_read(&backend.open) < flag_read(&backend.conns_max):
        wake(worker.settings.wake_fds[asker])        # a place was given up before it was asked for


cdef bint spare(worker_t* worker) noexcept nogil:
    """Close the connection of this worker that is idle for longest. False if there is none."""
    cdef connection_t* conn = worker.timers[TIMER_POOL].head
    if conn == NULL:
        return False
    upstream_forget(worker, conn)
    connection_discard(worker, conn)
    return True


cdef bint make_place(worker_t* worker, backend_t* backend) noexcept nogil:
    """Take a place, if need be that of an idle connection of this worker. False if there is none."""
    cdef connection_t* conn
    while not place_take(backend):
        conn = idle_any(&worker.idle[backend.slot]) if backend.slot < worker.idle_cap else NULL
        if conn == NULL:
            return False
        upstream_forget(worker, conn)
        connection_discard(worker, conn)
    return True


cdef uint32_t upstream_next_site(const backend_t* backend, uint32_t site) noexcept nogil:
    """The address to try after `site`."""
    return site + 1 if site + 1 < backend.site_count else 0


cdef connection_t* upstream_connect(worker_t* worker, backend_t* backend, uint32_t site,
                                    int* error) noexcept nogil:
    """Begin to connect to one of its addresses. NULL with the reason in `error` if that failed at once;
    EBUSY: the backend has as many connections as it may have, and none of them is idle in this worker.

    The connection is open already (usual on loopback and UNIX sockets) or has CONN_CONNECTING and
    an armed time-out.
    """
    cdef connection_t* conn
    cdef site_t* there = &backend.sites[site]
    cdef int family = there.address.ss_family
    cdef int fd, outcome
    if not make_place(worker, backend):
        error[0] = EBUSY
        return NULL
    fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    error[0] = errno
    if fd < 0 and is_out_of_files(error[0]) and spare(worker):
        fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        error[0] = errno
    if fd < 0:
        place_give(worker, backend)
        return NULL
    outcome = connect(fd, <sockaddr*> &there.address, there.len)
    if outcome != 0 and errno != EINPROGRESS:
        error[0] = errno
        close(fd)
        place_give(worker, backend)
        return NULL
    conn = connection_open(worker, fd, ROLE_UPSTREAM)
    if conn == NULL:
        error[0] = ENOMEM
        close(fd)
        place_give(worker, backend)
        return NULL
    conn.backend = backend
    conn.site = <uint8_t> site
    conn.flags = CONN_TCP if family != AF_UNIX else CONN_NODELAY
    counter_add_shared(&backend.connects, 1)
    if outcome != 0:
        conn.flags |= CONN_CONNECTING
        timer_arm(worker, conn, TIMER_CONNECT)
    return conn


cdef int upstream_connected(connection_t* conn) noexcept nogil:
    """epoll reported a connecting socket: 0 if it is open now, otherwise the errno."""
    conn.flags &= ~CONN_CONNECTING
    return connection_error(conn) if conn.flags & CONN_BROKEN else 0


cdef int upstream_announce(worker_t* worker, connection_t* conn, connection_t* client) noexcept nogil:
    """Begin a fresh connection: send the PROXY header, if its backend wants one. Returns 0 or the errno,
    ECONNREFUSED if it has met itself. The bytes are no exchange's, and count for the backend only."""
    cdef uint32_t version = flag_read(&conn.backend.proxy_version)
    cdef uint8_t header[PROXY_WRITTEN_MAX_BYTES]
    cdef ends_t ends
    cdef iovec piece
    if conn.backend.own_port and has_met_itself(conn):
        return ECONNREFUSED
    if version == 0:
        return 0
    peer_ends(client, &ends)
    piece.iov_base = header
    piece.iov_len = proxy_write(header, version, &ends)
    if connection_send(worker, conn, &piece, 1, False) == STEP_FAILED:
        return conn.error
    return 0


cdef bint has_met_itself(connection_t* conn) noexcept nogil:
    """True if both ends of the connection are the same."""
    cdef sockaddr_storage ours, theirs
    cdef socklen_t our_len = sizeof(ours), their_len = sizeof(theirs)
    memset(&ours, 0, sizeof(ours))
    memset(&theirs, 0, sizeof(theirs))
    return getsockname(conn.fd, <sockaddr*> &ours, &our_len) == 0 \
        and getpeername(conn.fd, <sockaddr*> &theirs, &their_len) == 0 \
        and our_len == their_len and memcmp(&ours, &theirs, our_len) == 0


cdef bint is_local_fault(int error) noexcept nogil:
    """True for what this machine lacks; it never counts against a backend."""
    return error in (EBUSY, EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL)


cdef bint is_out_of_files(int error) noexcept nogil:
    """True for what closing an idle connection helps against."""
    return error in (EMFILE, ENFILE)
