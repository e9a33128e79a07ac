"""Connections to backends that belong to one client each.

NTLM and Negotiate authenticate a connection and not a request (RFC 4559 6): what comes on it later is
taken for the same user. A connection on which such credentials were sent, or such a challenge came, is
private from then on (CONN_PRIVATE). Between two exchanges it is bound to its client's connection: in no
pool, without a time-out of its own, taken again by the next request of that client, and closed with it. It
holds no unit, but its place (places.pxd), and who needs the place may close it.
"""

from fastlb.native.types cimport CONN_IDLE, connection_t, idle_list_t, worker_t


cdef inline void bound_add(idle_list_t* idle, connection_t* conn, connection_t* client) noexcept nogil:
    conn.flags |= CONN_IDLE
    conn.partner = client
    client.partner = conn
    conn.idle_prev = NULL
    conn.idle_next = idle.bound
    if idle.bound != NULL:
        idle.bound.idle_prev = conn
    idle.bound = conn


cdef inline void bound_remove(worker_t* worker, connection_t* conn) noexcept nogil:
    """`conn`: to a backend."""
    conn.flags &= ~CONN_IDLE
    conn.partner.partner = NULL
    conn.partner = NULL
    if conn.idle_prev != NULL:
        conn.idle_prev.idle_next = conn.idle_next
    else:
        worker.idle[conn.backend.slot].bound = conn.idle_next
    if conn.idle_next != NULL:
        conn.idle_next.idle_prev = conn.idle_prev
    conn.idle_prev = conn.idle_next = NULL
