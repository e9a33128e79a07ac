"""Moving bytes from one connection to another, inside the framing of a message or without one.

Small pieces are copied through the worker's scratch: one recv, one send. Much is spliced through
a pipe, never past the end of a message. At most 64 KiB of bytes wait for a target that does not read,
in a buffer or in a pipe; until it does, the source is not read either. Where memory is short, only so
much is read as the target's kernel has room for, and copied: nobody is cut off for want of memory.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastlb.native.buffer cimport buffer_length
from fastlb.native.types cimport half_t, connection_t, step_t, worker_t

cdef inline bint relay_pending(const half_t* half) noexcept nogil:
    """True if there is more to read, or read bytes that the target has not taken."""
    return not half.source_done or half.piped_bytes != 0 or half.target.outbox != NULL


cdef inline uint32_t last_chunk_bytes(const half_t* half) noexcept nogil:
    """Of `0`, CRLF and the empty line, which is that of the trailers if there are any."""
    return 5 if half.trailers == NULL else 3


cdef inline bint relay_blocked(const half_t* half) noexcept nogil:
    """True if the target's kernel has refused bytes, or would: its peer does not read."""
    return half.starved or half.piped_bytes != 0 or half.target.outbox != NULL


cdef inline bint relay_progress(half_t* half) noexcept nogil:
    """True if the target's kernel has taken bytes since this was last asked. A slow reader may need
    more than one time-out for what waits here, while nothing new is read for it."""
    cdef uint64_t taken_bytes = half.moved_bytes - half.piped_bytes
    if half.target.outbox != NULL:
        taken_bytes -= buffer_length(half.target.outbox)     # of a head, too: only changes count
    if taken_bytes == half.seen_bytes:
        return False
    half.seen_bytes = taken_bytes
    return True


cdef void relay_open(half_t* half, connection_t* source, connection_t* target, int framing,
                     uint64_t length, bint rechunk) noexcept nogil
cdef void relay_close(worker_t* worker, half_t* half) noexcept nogil
cdef step_t relay_pump(worker_t* worker, half_t* half) noexcept nogil
cdef step_t relay_send(worker_t* worker, half_t* half, uint8_t* text, uint32_t len,
                       uint8_t* before, uint32_t before_len) noexcept nogil
cdef uint32_t relay_decode(worker_t* worker, half_t* half, uint8_t* text, uint32_t len,
                           uint32_t* used) noexcept nogil
