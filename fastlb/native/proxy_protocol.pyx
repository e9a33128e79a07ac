"""See proxy_protocol.pxd."""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy, memset, strlen

from fastlb.native.linux cimport AF_INET, AF_INET6, AF_UNSPEC, inet_ntop, inet_pton

from fastlb.model.address import Address
from fastlb.model.proxied import PROXY_BLOCK_MAX_BYTES, Ends

cdef enum:
    V1_MAX_BYTES = 107
    V1_START_BYTES = 6
    V2_START_BYTES = 16
    V2_SIGNATURE_BYTES = 12
    V2_LOCAL = 0x20
    V2_PROXY = 0x21
    V2_TCP4 = 0x11
    V2_TCP6 = 0x21
    V2_TCP4_BYTES = 12
    V2_TCP6_BYTES = 36
    V2_FAMILY_MAX = 3        # AF_UNIX
    V2_TRANSPORT_MAX = 2     # DGRAM
    ADDRESS_TEXT_BYTES = 46

cdef const uint8_t* V1_START = <const uint8_t*> b"PROXY "
cdef const uint8_t* V2_SIGNATURE = <const uint8_t*> b"\r\n\r\n\x00\r\nQUIT\n"

assert PROXY_BLOCK_MAX_BYTES + V2_START_BYTES == PROXY_READ_MAX_BYTES


# ---- reading --------------------------------------------------------------------------------

cdef int proxy_read(const uint8_t* text, uint32_t len, ends_t* ends) noexcept nogil:
    """Read the header at the start of `text`.

    Returns: its length with `ends`, PROXY_MORE if it is not complete, PROXY_BAD if it is none.
    """
    memset(ends, 0, sizeof(ends_t))
    if len == 0:
        return PROXY_MORE
    return v1_read(text, len, ends) if text[0] == c'P' else v2_read(text, len, ends)


cdef int v1_read(const uint8_t* text, uint32_t len, ends_t* ends) noexcept nogil:
    cdef uint32_t at = V1_START_BYTES
    if memcmp(text, V1_START, min(len, <uint32_t> V1_START_BYTES)) != 0:
        return PROXY_BAD
    while True:
        if at >= V1_MAX_BYTES - 1:
            return PROXY_BAD                 # no room for CRLF
        if at >= len:
            return PROXY_MORE
        if text[at] == c'\n':
            return PROXY_BAD
        if text[at] == c'\r':
            break
        at += 1
    if at + 1 == len:
        return PROXY_MORE
    if text[at + 1] != c'\n' or not v1_line_read(text + V1_START_BYTES, at - V1_START_BYTES, ends):
        return PROXY_BAD
    return <int> at + 2


cdef bint v1_line_read(const uint8_t* text, uint32_t len, ends_t* ends) noexcept nogil:
    """What stands between `PROXY ` and CRLF. Behind UNKNOWN anything may stand."""
    cdef uint32_t at = 5
    if len >= 7 and memcmp(text, "UNKNOWN", 7) == 0:
        return len == 7 or text[7] == c' '
    if len < 5 or memcmp(text, "TCP", 3) != 0 or text[4] != c' ':
        return False
    if text[3] == c'4':
        ends.family = AF_INET
    elif text[3] == c'6':
        ends.family = AF_INET6
    else:
        return False
    return v1_address_read(text, len, &at, ends.family, ends.source) \
        and v1_address_read(text, len, &at, ends.family, ends.target) \
        and v1_port_read(text, len, &at, &ends.source_port) \
        and v1_port_read(text, len, &at, &ends.target_port) and at == len + 1


cdef uint32_t word_length(const uint8_t* text, uint32_t len, uint32_t* at) noexcept nogil:
    """The length of the word at `at`, which moves behind the space after it."""
    cdef uint32_t start = at[0], end
    if start > len:
        return 0
    end = start
    while end < len and text[end] != c' ':
        end += 1
    at[0] = end + 1
    return end - start


cdef bint v1_address_read(const uint8_t* text, uint32_t len, uint32_t* at, int family,
                          uint8_t* into) noexcept nogil:
    cdef char word[ADDRESS_TEXT_BYTES]
    cdef uint32_t start = at[0]
    cdef uint32_t size = word_length(text, len, at)
    if size == 0 or size >= ADDRESS_TEXT_BYTES:
        return False
    memcpy(word, text + start, size)
    word[size] = 0
    return strlen(word) == size and inet_pton(family, word, into) == 1


cdef bint v1_port_read(const uint8_t* text, uint32_t len, uint32_t* at, uint16_t* into) noexcept nogil:
    cdef uint32_t start = at[0], value = 0, i
    cdef uint32_t size = word_length(text, len, at)
    if size == 0 or size > 5 or (size > 1 and text[start] == c'0'):
        return False
    for i in range(start, start + size):
        if not c'0' <= text[i] <= c'9':
            return False
        value = value * 10 + text[i] - c'0'
    into[0] = <uint16_t> value
    return value <= 65535


cdef int v2_read(const uint8_t* text, uint32_t len, ends_t* ends) noexcept nogil:
    cdef uint32_t block
    if memcmp(text, V2_SIGNATURE, min(len, <uint32_t> V2_SIGNATURE_BYTES)) != 0:
        return PROXY_BAD
    if len > 12 and text[12] != V2_LOCAL and text[12] != V2_PROXY:
        return PROXY_BAD
    if len < V2_START_BYTES:
        return PROXY_MORE
    block = (<uint32_t> text[14] << 8) + text[15]
    if block > PROXY_READ_MAX_BYTES - V2_START_BYTES:
        return PROXY_BAD
    if text[12] == V2_PROXY and not v2_family_fits(text[13], block):
        return PROXY_BAD
    if len < V2_START_BYTES + block:
        return PROXY_MORE
    if text[12] == V2_PROXY:
        v2_block_read(text[13], text + V2_START_BYTES, ends)
    return <int> (V2_START_BYTES + block)


cdef bint v2_family_fits(uint8_t family, uint32_t block) noexcept nogil:
    if family == V2_TCP4:
        return block >= V2_TCP4_BYTES
    if family == V2_TCP6:
        return block >= V2_TCP6_BYTES
    return family >> 4 <= V2_FAMILY_MAX and family & 15 <= V2_TRANSPORT_MAX


cdef void v2_block_read(uint8_t family, const uint8_t* block, ends_t* ends) noexcept nogil:
    cdef uint32_t size
    if family == V2_TCP4:
        ends.family = AF_INET
        size = 4
    elif family == V2_TCP6:
        ends.family = AF_INET6
        size = 16
    else:
        return
    memcpy(ends.source, block, size)
    memcpy(ends.target, block + size, size)
    block += 2 * size
    ends.source_port = <uint16_t> ((block[0] << 8) + block[1])
    ends.target_port = <uint16_t> ((block[2] << 8) + block[3])


# ---- writing --------------------------------------------------------------------------------

cdef uint32_t proxy_write(uint8_t* into, uint32_t version, const ends_t* ends) noexcept nogil:
    """The header of version 1 or 2. Returns its length, at most PROXY_WRITTEN_MAX_BYTES."""
    return v1_write(into, ends) if version == 1 else v2_write(into, ends)


cdef uint32_t put(uint8_t* into, uint32_t at, const char* text) noexcept nogil:
    cdef uint32_t len = <uint32_t> strlen(text)
    memcpy(into + at, text, len)
    return at + len


cdef uint32_t put_port(uint8_t* into, uint32_t at, uint32_t port) noexcept nogil:
    cdef uint32_t unit = 10000
    into[at] = c' '
    at += 1
    while unit > 1 and port < unit:
        unit //= 10
    while unit:
        into[at] = <uint8_t> (c'0' + port // unit % 10)
        at += 1
        unit //= 10
    return at


cdef uint32_t v1_write(uint8_t* into, const ends_t* ends) noexcept nogil:
    cdef char text[ADDRESS_TEXT_BYTES]
    cdef uint32_t at
    if ends.family == AF_UNSPEC:
        return put(into, 0, "PROXY UNKNOWN\r\n")
    at = put(into, 0, "PROXY TCP4 " if ends.family == AF_INET else "PROXY TCP6 ")
    at = put(into, at, inet_ntop(ends.family, ends.source, text, ADDRESS_TEXT_BYTES))
    at = put(into, at, " ")
    at = put(into, at, inet_ntop(ends.family, ends.target, text, ADDRESS_TEXT_BYTES))
    at = put_port(into, at, ends.source_port)
    at = put_port(into, at, ends.target_port)
    return put(into, at, "\r\n")


cdef uint32_t v2_write(uint8_t* into, const ends_t* ends) noexcept nogil:
    cdef uint32_t size = 4 if ends.family == AF_INET else 16
    cdef uint32_t block = 0 if ends.family == AF_UNSPEC else 2 * size + 4
    cdef uint8_t* ports = into + V2_START_BYTES + 2 * size
    memcpy(into, V2_SIGNATURE, V2_SIGNATURE_BYTES)
    into[12] = V2_PROXY
    into[13] = 0
    into[14] = 0
    into[15] = <uint8_t> block
    if block == 0:
        return V2_START_BYTES
    into[13] = V2_TCP4 if ends.family == AF_INET else V2_TCP6
    memcpy(into + V2_START_BYTES, ends.source, size)
    memcpy(into + V2_START_BYTES + size, ends.target, size)
    ports[0] = <uint8_t> (ends.source_port >> 8)
    ports[1] = <uint8_t> (ends.source_port & 255)
    ports[2] = <uint8_t> (ends.target_port >> 8)
    ports[3] = <uint8_t> (ends.target_port & 255)
    return V2_START_BYTES + block


# ---- for Python -----------------------------------------------------------------------------

class BadHeaderError(ValueError):
    """The bytes are not the beginning of a PROXY header."""


cdef address_of(int family, const uint8_t* octets, int port):
    cdef char text[ADDRESS_TEXT_BYTES]
    return Address(host=inet_ntop(family, octets, text, ADDRESS_TEXT_BYTES).decode(), port=port)


def read_header(raw: bytes):
    """Read a header at the start of `raw`.

    Returns: its length and the ends it announces, or None for the latter; None if it is not complete.
    Raises:  BadHeaderError.
    """
    cdef ends_t ends
    cdef int used = proxy_read(<const uint8_t*> PyBytes_AS_STRING(raw), <uint32_t> len(raw), &ends)
    if used == PROXY_BAD:
        raise BadHeaderError(raw[:PROXY_WRITTEN_MAX_BYTES])
    if used == PROXY_MORE:
        return None
    if ends.family == AF_UNSPEC:
        return used, None
    return used, Ends(address_of(ends.family, ends.source, ends.source_port),
                      address_of(ends.family, ends.target, ends.target_port))


def write_header(version: int, ends) -> bytes:
    """The header of version 1 or 2; `ends` are None if they cannot be told."""
    cdef uint8_t into[PROXY_WRITTEN_MAX_BYTES]
    cdef ends_t given
    cdef bytes source, target
    memset(&given, 0, sizeof(ends_t))
    if ends is not None:
        source, target = ends.source.host.encode(), ends.target.host.encode()
        given.family = AF_INET6 if b":" in source else AF_INET
        if inet_pton(given.family, source, given.source) != 1 \
                or inet_pton(given.family, target, given.target) != 1:
            raise ValueError("the ends are not numeric addresses of one family")
        given.source_port = ends.source.port
        given.target_port = ends.target.port
    return into[:proxy_write(into, version, &given)]
