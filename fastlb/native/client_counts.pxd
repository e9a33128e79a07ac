"""How many connections each client address has, where that is limited; shared by all workers.

A table with chains, as large as the connections that exist. The hash has a secret, so that nobody can
choose addresses that meet in one chain.
"""

from libc.stdint cimport uint8_t, uint64_t

from fastlb.native.types cimport client_counts_t, connection_t, worker_t

cdef void client_counts_init(client_counts_t* counts, uint64_t secret) noexcept nogil
cdef bint client_enter(worker_t* worker, connection_t* conn, const uint8_t* key) noexcept nogil
cdef void client_leave(worker_t* worker, connection_t* conn) noexcept nogil
