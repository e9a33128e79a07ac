"""What is written down: the ledger, the access-log ring and the event ring.

A ring has one writer (its worker) and one reader (the control plane). A full access ring drops
the record and counts it; nothing here ever blocks a worker.
"""

from libc.stdint cimport int32_t, uint32_t, uint64_t

from fastlb.native.types cimport exchange_t, record_t, ring_t, worker_t

cdef enum:
    ACCESS_RECORDS = 8192
    EVENT_RECORDS = 1024

cdef bint ring_init(ring_t* ring, uint32_t slot_bytes, uint32_t slots) noexcept nogil
cdef void ring_free(ring_t* ring) noexcept nogil
cdef void* ring_claim(ring_t* ring) noexcept nogil
cdef void ring_commit(ring_t* ring) noexcept nogil
cdef void* ring_peek(ring_t* ring) noexcept nogil
cdef void ring_advance(ring_t* ring) noexcept nogil

cdef void account_exchange(worker_t* worker, exchange_t* exchange) noexcept nogil
cdef void account_progress(worker_t* worker, exchange_t* exchange) noexcept nogil
cdef void account_event(worker_t* worker, uint32_t kind, int32_t slot, int32_t error,
                        uint32_t in_a_row) noexcept nogil
cdef void account_blame(worker_t* worker, exchange_t* exchange) noexcept nogil
cdef void account_failure(worker_t* worker, exchange_t* exchange, uint32_t kind,
                          int32_t error) noexcept nogil

cdef void account_status(worker_t* worker, exchange_t* exchange, uint32_t status) noexcept nogil

cdef bytes access_lines(ring_t* ring, list labels_json, list labels_text, bint as_json,
                        uint64_t wall_offset_ns)
