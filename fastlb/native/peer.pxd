"""Who a client is: its address as text for the log and for X-Forwarded-For, and whether it is trusted.

An IPv4 client of a dual-stack socket (`::ffff:a.b.c.d`, RFC 4291 2.5.5.2) is taken for IPv4.
"""

from libc.stdint cimport uint16_t

from fastlb.native.linux cimport sockaddr_storage
from fastlb.native.types cimport connection_t, ends_t, worker_t

cdef uint16_t own_port(int fd) noexcept nogil
cdef bint peer_accepted(worker_t* worker, connection_t* conn, sockaddr_storage* address) noexcept nogil
cdef bint peer_announced(worker_t* worker, connection_t* conn, const ends_t* ends) noexcept nogil
cdef void peer_ends(connection_t* conn, ends_t* ends) noexcept nogil
