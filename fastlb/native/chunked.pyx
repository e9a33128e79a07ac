"""See chunked.pxd."""

from libc.errno cimport EMSGSIZE
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memmove

from fastlb.native.field_names cimport FIELD_OTHER, name_id, names_t
from fastlb.native.types cimport half_t


cdef extern from "scan.h" nogil:
    const uint8_t SCAN_TOKEN[256]


cdef enum:
    CR = 13
    LF = 10
    SP = 32
    TAB = 9
    CHUNK_LINE_MAX_BYTES = 1024
    CHUNK_SIZE_MAX_DIGITS = 15
    TRAILER_MAX_BYTES = 8192


cdef inline int hex_digit(uint8_t c) noexcept nogil:
    if c'0' <= c <= c'9':
        return c - c'0'
    c |= 32
    if c'a' <= c <= c'f':
        return c - c'a' + 10
    return -1


cdef uint32_t chunks_decode(half_t* half, uint8_t* text, uint32_t len, uint32_t* used) noexcept nogil:
    """Decode in place: the data of all chunks moves to the front of `text`.

    Returns: bytes of data now at the front. `used` is how much of `text` was read; less than
    `len` only if the last chunk has ended or the framing is bad (half.chunk_state says which). A
    chunk that half.room_bytes has no room for is bad once its size was read, with EMSGSIZE.
    Memory: none; the state is in `half`. RFC 9112 7.1. Trailers are checked; they stand at the end of
    what was read, as many bytes as half.trailer_bytes has grown by.
    """
    cdef uint32_t at = 0, out = 0, piece
    cdef uint8_t c
    cdef int digit
    while at < len and half.chunk_state < CHUNK_DONE:
        if half.chunk_state == CHUNK_DATA:
            piece = len - at
            if half.remaining_bytes < piece:
                piece = <uint32_t> half.remaining_bytes
            if out != at:
                memmove(text + out, text + at, piece)
            out += piece
            at += piece
            half.remaining_bytes -= piece
            if half.remaining_bytes == 0:
                half.chunk_state = CHUNK_DATA_CR
            continue
        c = text[at]
        at += 1
        if half.chunk_state == CHUNK_SIZE:
            digit = hex_digit(c)
            half.chunk_line_bytes += 1
            if digit >= 0:
                half.chunk_digits += 1
                half.remaining_bytes = half.remaining_bytes * 16 + <uint32_t> digit
                if half.chunk_digits > CHUNK_SIZE_MAX_DIGITS:
                    half.chunk_state = CHUNK_BAD
            elif half.chunk_digits == 0:
                half.chunk_state = CHUNK_BAD
            elif c == CR:
                half.chunk_state = CHUNK_SIZE_LF
            elif c == c';':
                half.chunk_state = CHUNK_EXTENSION
            elif c == SP or c == TAB:
                half.chunk_state = CHUNK_SIZE_SPACE
            else:
                half.chunk_state = CHUNK_BAD
        elif half.chunk_state == CHUNK_SIZE_SPACE:       # RFC 9112 7.1.1: before an extension
            half.chunk_line_bytes += 1
            if c == CR and half.padded:
                half.chunk_state = CHUNK_SIZE_LF
            elif half.chunk_line_bytes > CHUNK_LINE_MAX_BYTES:
                half.chunk_state = CHUNK_BAD
            elif c == c';':
                half.chunk_state = CHUNK_EXTENSION
            elif c != SP and c != TAB:
                half.chunk_state = CHUNK_BAD
        elif half.chunk_state == CHUNK_EXTENSION:
            half.chunk_line_bytes += 1
            if c == CR:
                half.chunk_state = CHUNK_SIZE_LF
            elif (c < 32 and c != TAB) or c == 127 or half.chunk_line_bytes > CHUNK_LINE_MAX_BYTES:
                half.chunk_state = CHUNK_BAD
        elif half.chunk_state == CHUNK_SIZE_LF:
            if c != LF:
                half.chunk_state = CHUNK_BAD
            elif half.remaining_bytes > half.room_bytes:
                half.chunk_state = CHUNK_BAD
                half.error_errno = EMSGSIZE
            elif half.remaining_bytes:
                half.room_bytes -= half.remaining_bytes
                half.chunk_state = CHUNK_DATA
            else:
                half.chunk_state = CHUNK_TRAILER
        elif half.chunk_state == CHUNK_DATA_CR:
            half.chunk_state = CHUNK_DATA_LF if c == CR else CHUNK_BAD
        elif half.chunk_state == CHUNK_DATA_LF:
            half.chunk_state = CHUNK_SIZE if c == LF else CHUNK_BAD
            half.chunk_digits = 0
            half.chunk_line_bytes = 0
        else:
            trailer_step(half, c)
    used[0] = at
    return out


cdef void trailer_step(half_t* half, uint8_t c) noexcept nogil:
    """One byte of the trailer section: checked like fields (RFC 9112 7.1.2)."""
    half.trailer_bytes += 1
    if half.trailer_bytes > TRAILER_MAX_BYTES:
        half.chunk_state = CHUNK_BAD
    elif half.chunk_state == CHUNK_TRAILER:
        if c == CR:
            half.chunk_state = CHUNK_END_LF
        else:
            half.chunk_state = CHUNK_TRAILER_NAME if SCAN_TOKEN[c] else CHUNK_BAD
    elif half.chunk_state == CHUNK_TRAILER_NAME:
        if c == c':':
            half.chunk_state = CHUNK_TRAILER_VALUE
        elif not SCAN_TOKEN[c]:
            half.chunk_state = CHUNK_BAD
    elif half.chunk_state == CHUNK_TRAILER_VALUE:
        if c == CR:
            half.chunk_state = CHUNK_TRAILER_LF
        elif (c < 32 and c != TAB) or c == 127:
            half.chunk_state = CHUNK_BAD
    elif half.chunk_state == CHUNK_TRAILER_LF:
        half.chunk_state = CHUNK_TRAILER if c == LF else CHUNK_BAD
    elif half.chunk_state == CHUNK_END_LF:
        half.chunk_state = CHUNK_DONE if c == LF else CHUNK_BAD


cdef uint32_t trailers_filter(uint8_t* text, uint32_t len, const names_t* head_names) noexcept nogil:
    """Take out of a trailer section what must not be passed on. It is complete and checked, with the
    empty line at its end. Returns how many bytes are left."""
    cdef uint32_t at = 0, out = 0, line, colon
    while at < len:
        line = colon = at
        while text[colon] != c':' and text[colon] != CR:
            colon += 1
        at = colon
        while text[at] != LF:
            at += 1
        at += 1
        if colon == line or name_id(head_names, text + line, colon - line, False) == FIELD_OTHER:
            memmove(text + out, text + line, at - line)
            out += at - line
    return out


cdef uint32_t chunk_head_write(uint8_t* into, uint32_t len) noexcept nogil:
    """The size line of a chunk. Returns its length."""
    cdef const char* digits = "0123456789abcdef"
    cdef int shift = 28
    cdef uint32_t at = 0
    while shift > 0 and not len >> shift:
        shift -= 4
    while shift >= 0:
        into[at] = digits[(len >> shift) & 15]
        at += 1
        shift -= 4
    into[at] = 13
    into[at + 1] = 10
    return at + 2
