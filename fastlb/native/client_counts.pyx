"""See client_counts.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from fastlb.native.types cimport (
    CLIENT_CHAINS, CLIENT_KEY_BYTES, client_count_t, client_counts_t, connection_t, counter_add, spin_lock,
    spin_unlock, worker_t,
)


cdef void client_counts_init(client_counts_t* counts, uint64_t secret) noexcept nogil:
    memset(counts, 0, sizeof(client_counts_t))
    counts.secret = secret


cdef inline uint32_t chain_of(const client_counts_t* counts, const uint8_t* key) noexcept nogil:
    cdef uint64_t[2] words
    cdef uint64_t mixed = counts.secret
    cdef int i
    memcpy(words, key, CLIENT_KEY_BYTES)
    for i in range(2):
        mixed = (mixed ^ words[i]) * <uint64_t> 0x9E3779B97F4A7C15
        mixed ^= mixed >> 29
    return <uint32_t> ((mixed * (counts.secret | 1)) >> 32) % CLIENT_CHAINS


cdef bint client_enter(worker_t* worker, connection_t* conn, const uint8_t* key) noexcept nogil:
    """Count one more connection of the address. False if it has as many as it may. Without memory it
    is not counted."""
    cdef client_counts_t* counts = worker.client_counts
    cdef uint32_t chain = chain_of(counts, key)
    cdef client_count_t* count
    cdef bint room = True
    spin_lock(&counts.lock)
    count = counts.chains[chain]
    while count != NULL and memcmp(count.key, key, CLIENT_KEY_BYTES) != 0:
        count = count.next
    if count == NULL:
        count = <client_count_t*> malloc(sizeof(client_count_t))
        if count != NULL:
            memcpy(count.key, key, CLIENT_KEY_BYTES)
            count.connections = 0
            count.chain = chain
            count.next = counts.chains[chain]
            counts.chains[chain] = count
    if count != NULL:
        room = count.connections < worker.settings.client_connections_max
        if room:
            count.connections += 1
            conn.counted = count
    spin_unlock(&counts.lock)
    if not room:
        counter_add(&worker.ledger.clients_refused, 1)
    return room


cdef void client_leave(worker_t* worker, connection_t* conn) noexcept nogil:
    """The connection is closed."""
    cdef client_counts_t* counts = worker.client_counts
    cdef client_count_t* count = conn.counted
    cdef client_count_t** link
    cdef bint last
    conn.counted = NULL
    spin_lock(&counts.lock)
    count.connections -= 1
    last = count.connections == 0
    if last:
        link = &counts.chains[count.chain]
        while link[0] != count:
            link = &link[0].next
        link[0] = count.next
    spin_unlock(&counts.lock)
    if last:
        free(count)
