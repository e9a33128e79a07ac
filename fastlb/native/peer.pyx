"""See peer.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport malloc
from libc.string cimport memchr, memcmp, memcpy, memset, strlen

from fastlb.native.client_counts cimport client_enter
from fastlb.native.linux cimport (
    AF_INET, AF_INET6, AF_UNSPEC, getsockname, inet_ntop, inet_pton, ntohs, sockaddr, sockaddr_in,
    sockaddr_in6, sockaddr_storage, socklen_t,
)
from fastlb.native.types cimport (
    CLIENT_KEY_BYTES, CONN_TCP, CONN_TRUSTED, PEER_MAX_BYTES, connection_t, ends_t, network_t, settings_t,
    worker_t,
)

cdef enum:
    MAPPED_BYTES = 12        # of ::ffff:a.b.c.d before the IPv4 address


cdef inline bint is_mapped(const uint8_t* octets) noexcept nogil:
    cdef uint8_t[12] mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255]
    return memcmp(octets, mapped, MAPPED_BYTES) == 0


cdef bint peer_accepted(worker_t* worker, connection_t* conn, sockaddr_storage* address) noexcept nogil:
    """The client is who the kernel says it is. False if its address has as many connections as it may."""
    cdef sockaddr_in* v4 = <sockaddr_in*> address
    cdef sockaddr_in6* v6 = <sockaddr_in6*> address
    conn.family = <uint8_t> address.ss_family
    if address.ss_family == AF_INET:
        conn.flags |= CONN_TCP
        conn.port = ntohs(v4.sin_port)
        return named(worker, conn, AF_INET, <uint8_t*> &v4.sin_addr)
    elif address.ss_family == AF_INET6:
        conn.flags |= CONN_TCP
        conn.port = ntohs(v6.sin6_port)
        return named(worker, conn, AF_INET6, <uint8_t*> &v6.sin6_addr)
    elif worker.settings.trusted_unix:
        conn.flags |= CONN_TRUSTED
    return True


cdef bint peer_announced(worker_t* worker, connection_t* conn, const ends_t* ends) noexcept nogil:
    """The client is who a trusted proxy says it is. False without memory, or if its address has
    as many connections as it may."""
    conn.announced = <ends_t*> malloc(sizeof(ends_t))
    if conn.announced == NULL:
        return False
    conn.announced[0] = ends[0]
    conn.flags &= ~CONN_TRUSTED
    conn.port = ends.source_port
    conn.own_port = ends.target_port
    return named(worker, conn, ends.family, ends.source)


cdef bint named(worker_t* worker, connection_t* conn, int family, const uint8_t* octets) noexcept nogil:
    if family == AF_INET6 and is_mapped(octets):
        family = AF_INET
        octets += MAPPED_BYTES
    if family == AF_INET:
        v4_write(conn, octets)
    else:
        inet_ntop(AF_INET6, octets, conn.peer, PEER_MAX_BYTES)
        conn.peer_len = <uint8_t> strlen(conn.peer)
    if worker.settings.trusted_count and is_trusted(worker.settings, family, octets):
        conn.flags |= CONN_TRUSTED
    if worker.client_counts == NULL or conn.flags & CONN_TRUSTED:
        return True
    return counted(worker, conn, family, octets)


cdef bint counted(worker_t* worker, connection_t* conn, int family, const uint8_t* octets) noexcept nogil:
    """Of IPv6 the first half counts: the other one is the client's to choose."""
    cdef uint8_t[CLIENT_KEY_BYTES] key = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0]
    if family == AF_INET:
        memcpy(key + MAPPED_BYTES, octets, 4)
    else:
        memset(key, 0, CLIENT_KEY_BYTES)
        memcpy(key, octets, CLIENT_KEY_BYTES // 2)
    return client_enter(worker, conn, key)


cdef bint is_trusted(const settings_t* settings, int family, const uint8_t* octets) noexcept nogil:
    cdef uint32_t i
    for i in range(settings.trusted_count):
        if settings.trusted[i].family == family and is_within(&settings.trusted[i], octets):
            return True
    return False


cdef bint is_within(const network_t* network, const uint8_t* octets) noexcept nogil:
    cdef uint32_t whole = network.prefix_bits // 8, rest = network.prefix_bits % 8
    if memcmp(network.address, octets, whole) != 0:
        return False
    return rest == 0 or (network.address[whole] ^ octets[whole]) >> (8 - rest) == 0


cdef void v4_write(connection_t* conn, const uint8_t* octets) noexcept nogil:
    """Dotted decimal: inet_ntop() would go through printf()."""
    cdef uint32_t at = 0, i, value
    for i in range(4):
        value = octets[i]
        if value >= 100:
            conn.peer[at] = <char> (c'0' + value // 100)
            at += 1
        if value >= 10:
            conn.peer[at] = <char> (c'0' + value // 10 % 10)
            at += 1
        conn.peer[at] = <char> (c'0' + value % 10)
        at += 1
        if i < 3:
            conn.peer[at] = c'.'
            at += 1
    conn.peer_len = <uint8_t> at


# ---- for backends ---------------------------------------------------------------------------

cdef void peer_ends(connection_t* conn, ends_t* ends) noexcept nogil:
    """Both ends of the client's connection, as announced or as they are; of no family if they
    cannot be told: UNIX sockets, or two families. Cost: one getsockname()."""
    cdef char text[PEER_MAX_BYTES + 1]
    memset(ends, 0, sizeof(ends_t))
    if conn.announced != NULL:
        ends[0] = conn.announced[0]
    elif conn.peer_len:
        ends.family = AF_INET6 if memchr(conn.peer, c':', conn.peer_len) != NULL else AF_INET
        ends.source_port = conn.port
        memcpy(text, conn.peer, conn.peer_len)
        text[conn.peer_len] = 0
        if inet_pton(ends.family, text, ends.source) != 1 or not own_end(conn, ends):
            ends.family = AF_UNSPEC
    if ends.family == AF_INET6 and is_mapped(ends.source) and is_mapped(ends.target):
        ends.family = AF_INET
        memcpy(ends.source, ends.source + MAPPED_BYTES, 4)
        memcpy(ends.target, ends.target + MAPPED_BYTES, 4)


cdef uint16_t own_port(int fd) noexcept nogil:
    """The port that a socket is bound to; 0 for a UNIX socket."""
    cdef sockaddr_storage address
    cdef socklen_t len = sizeof(address)
    if getsockname(fd, <sockaddr*> &address, &len) != 0:
        return 0
    if address.ss_family == AF_INET:
        return ntohs((<sockaddr_in*> &address).sin_port)
    if address.ss_family == AF_INET6:
        return ntohs((<sockaddr_in6*> &address).sin6_port)
    return 0


cdef bint own_end(connection_t* conn, ends_t* ends) noexcept nogil:
    """Where the client connected to. False if that is of another family."""
    cdef sockaddr_storage address
    cdef socklen_t len = sizeof(address)
    cdef sockaddr_in* v4 = <sockaddr_in*> &address
    cdef sockaddr_in6* v6 = <sockaddr_in6*> &address
    cdef uint8_t* octets = <uint8_t*> &v6.sin6_addr
    if getsockname(conn.fd, <sockaddr*> &address, &len) != 0:
        return False
    if address.ss_family == AF_INET:
        ends.target_port = ntohs(v4.sin_port)
        memcpy(ends.target, &v4.sin_addr, 4)
        return True
    ends.target_port = ntohs(v6.sin6_port)
    if ends.family == AF_INET:
        memcpy(ends.target, octets + MAPPED_BYTES, 4)
        return is_mapped(octets)
    memcpy(ends.target, octets, 16)
    return True
