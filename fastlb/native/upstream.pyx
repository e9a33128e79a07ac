"""See upstream.pxd."""

from libc.errno cimport EADDRNOTAVAIL, EINPROGRESS, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport realloc
from libc.string cimport memset

from fastlb.native.connection cimport (
    connection_discard, connection_error, connection_open, connection_quiet, connection_send,
)
from fastlb.native.linux cimport (
    AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, close, connect, iovec, sockaddr, socket, socklen_t,
)
from fastlb.native.peer cimport peer_ends
from fastlb.native.proxy_protocol cimport PROXY_WRITTEN_MAX_BYTES, proxy_write
from fastlb.native.timers cimport timer_arm, timer_cancel
from fastlb.native.types cimport (
    BACKENDS_CHUNK, CONN_BROKEN, CONN_CONNECTING, CONN_IDLE, CONN_NODELAY, CONN_READABLE, CONN_REUSED,
    CONN_TCP, ROLE_UPSTREAM, STEP_FAILED, TIMER_CONNECT, TIMER_POOL, backend_t, connection_t,
    counter_add_shared, ends_t, flag_read, idle_list_t, worker_t,
)

cdef enum:
    IDLE_MAX = 512               # idle connections to one backend in one worker


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
    if idle == NULL or idle.count >= IDLE_MAX or not flag_read(&conn.backend.eligible) or worker.closing \
            or flag_read(&conn.backend.proxy_version) \
            or conn.inbox != NULL or conn.outbox != NULL \
            or (conn.flags & CONN_READABLE and not connection_quiet(conn)):
        connection_discard(worker, conn)
        return
    conn.flags |= CONN_IDLE
    conn.idle_prev = NULL
    conn.idle_next = idle.head
    if idle.head != NULL:
        idle.head.idle_prev = conn
    idle.head = conn
    idle.count += 1
    timer_arm(worker, conn, TIMER_POOL)


cdef void upstream_forget(worker_t* worker, connection_t* conn) noexcept nogil:
    """Take it out of the pool."""
    cdef idle_list_t* idle = &worker.idle[conn.backend.slot]
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
    """Close idle connections: all of them, or those to backends that left the plan."""
    cdef uint32_t slot
    cdef connection_t* conn
    for slot in range(worker.idle_cap):
        while worker.idle[slot].head != NULL:
            conn = worker.idle[slot].head
            if not everything and flag_read(&conn.backend.eligible):
                break
            upstream_forget(worker, conn)
            connection_discard(worker, conn)


cdef connection_t* upstream_connect(worker_t* worker, backend_t* backend, int* error) noexcept nogil:
    """Begin to connect. NULL with the reason in `error` if that failed at once.

    The connection is open already (usual on loopback and UNIX sockets) or has CONN_CONNECTING and
    an armed time-out.
    """
    cdef connection_t* conn
    cdef int fd = socket(backend.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    cdef int outcome
    if fd < 0:
        error[0] = errno
        return NULL
    outcome = connect(fd, <sockaddr*> &backend.address, <socklen_t> backend.address_len)
    if outcome != 0 and errno != EINPROGRESS:
        error[0] = errno
        close(fd)
        return NULL
    conn = connection_open(worker, fd, ROLE_UPSTREAM)
    if conn == NULL:
        error[0] = ENOMEM
        close(fd)
        return NULL
    conn.backend = backend
    conn.flags = CONN_TCP if backend.family != AF_UNIX else CONN_NODELAY
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
    """Send the PROXY header that a fresh connection begins with, if its backend wants one. Returns 0
    or the errno. Its bytes are no exchange's, and count for the backend only."""
    cdef uint32_t version = flag_read(&conn.backend.proxy_version)
    cdef uint8_t header[PROXY_WRITTEN_MAX_BYTES]
    cdef ends_t ends
    cdef iovec piece
    if version == 0:
        return 0
    peer_ends(client, &ends)
    piece.iov_base = header
    piece.iov_len = proxy_write(header, version, &ends)
    if connection_send(worker, conn, &piece, 1, False) == STEP_FAILED:
        return conn.error
    return 0


cdef bint is_local_fault(int error) noexcept nogil:
    """True for what this machine lacks; it never counts against a backend."""
    return error in (EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL)
