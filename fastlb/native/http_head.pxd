"""Heads between connections: received whole or in pieces, and written anew.

What goes out is written from what was parsed: hop-by-hop fields are left out, and the fields of a
gateway are added behind the sender's own (RFC 9110 7.6, RFC 7239's predecessors X-Forwarded-*).
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastlb.native.http1 cimport head_t
from fastlb.native.types cimport connection_t, exchange_t, worker_t

# What head_receive() returns besides HEAD_DONE, HEAD_MORE and a status.
cdef enum:
    HEAD_EOF = -1
    HEAD_LOST = -2           # conn.error says why

# A head that has been received: where it stands, and what came with it.
cdef struct received_t:
    head_t* head
    uint8_t* text            # the head's first byte
    uint32_t len             # all that is there, the head included
    bint in_inbox            # text stands in conn.inbox; otherwise in the worker's scratch

cdef int head_receive(worker_t* worker, connection_t* conn, bint is_response,
                      received_t* found) noexcept nogil
cdef bint head_consume(worker_t* worker, connection_t* conn, received_t* found, uint32_t used) noexcept nogil
cdef bint head_scheme_fits(const head_t* head, const uint8_t* text, const connection_t* client) noexcept nogil
cdef uint32_t request_head_size(const head_t* head) noexcept nogil
cdef uint32_t request_head_write(worker_t* worker, uint8_t* into, const head_t* head,
                                 const uint8_t* text, exchange_t* exchange) noexcept nogil
cdef uint32_t response_head_write(worker_t* worker, const head_t* head, const uint8_t* text,
                                  bint rechunk, bint keep, bint to_http10) noexcept nogil
cdef uint32_t reply_write(worker_t* worker, uint32_t status, bint keep, bint to_http10, bint to_head,
                          uint32_t retry_after_s) noexcept nogil
