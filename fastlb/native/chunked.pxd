"""Chunked framing (RFC 9112 7.1): decoded in place, byte for byte strict, and written anew.

A chunk ends with CRLF and nothing else; sizes have no sign, prefix or space before them; behind them
there is space before an extension, and before CRLF too if half.padded; extensions are checked,
bounded and dropped, and so are trailers here: trailers_filter() is for who passes them on.
"""

from libc.stdint cimport uint8_t, uint32_t

from fastlb.native.field_names cimport names_t
from fastlb.native.types cimport half_t

# half_t.chunk_state
cdef enum:
    CHUNK_SIZE
    CHUNK_SIZE_SPACE
    CHUNK_EXTENSION
    CHUNK_SIZE_LF
    CHUNK_DATA
    CHUNK_DATA_CR
    CHUNK_DATA_LF
    CHUNK_TRAILER
    CHUNK_TRAILER_NAME
    CHUNK_TRAILER_VALUE
    CHUNK_TRAILER_LF
    CHUNK_END_LF
    CHUNK_DONE
    CHUNK_BAD

cdef enum:
    CHUNK_HEAD_BYTES = 24

cdef uint32_t chunks_decode(half_t* half, uint8_t* text, uint32_t len, uint32_t* used) noexcept nogil
cdef uint32_t trailers_filter(uint8_t* text, uint32_t len, const names_t* head_names) noexcept nogil
cdef uint32_t chunk_head_write(uint8_t* into, uint32_t len) noexcept nogil
