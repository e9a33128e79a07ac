"""The PROXY protocol of HAProxy (doc/proxy-protocol.txt), versions 1 and 2: its headers, read and written.

- A header may come in any pieces. It is refused with the first byte that fits neither version, and
  its addresses are looked at when it is complete.
- Version 1 is a line of at most 107 bytes; version 2 is 16 bytes and a block whose length they say,
  of which the TLVs behind the addresses are skipped.
- UNKNOWN, LOCAL, and families that are valid but not TCP mean: the ends of the connection itself.
"""

from libc.stdint cimport uint8_t, uint32_t

from fastlb.native.types cimport ends_t

cdef enum:
    PROXY_READ_MAX_BYTES = 4112      # 16 and PROXY_BLOCK_MAX_BYTES of model.proxied
    PROXY_WRITTEN_MAX_BYTES = 107

# What proxy_read() returns besides the length of the header.
cdef enum:
    PROXY_MORE = 0
    PROXY_BAD = -1

cdef int proxy_read(const uint8_t* text, uint32_t len, ends_t* ends) noexcept nogil
cdef uint32_t proxy_write(uint8_t* into, uint32_t version, const ends_t* ends) noexcept nogil
