"""HTTP/1.1 message heads: strict, incremental, without allocation.

A head is parsed line by line. All positions are offsets from its first byte, so the bytes may be
moved between two calls. What is accepted can be read in one way only (RFC 9112 2.2, 3, 5, 6, 11):
lines end with CRLF and nothing else, no folding, no space before a colon, no control characters,
one Host, and one way to find the end of the body.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastlb.native.field_names cimport names_t

cdef enum:
    FIELDS_MAX = 256
    HOST_MAX_BYTES = 512

# What head_parse() returns, or a status code of 400 and more: refused.
cdef enum:
    HEAD_DONE = 0
    HEAD_MORE = 1

ctypedef enum method_t:
    METHOD_OTHER
    METHOD_GET
    METHOD_HEAD
    METHOD_OPTIONS
    METHOD_TRACE
    METHOD_PUT
    METHOD_DELETE
    METHOD_POST
    METHOD_CONNECT

# head_t.flags
cdef enum:
    HEAD_HAS_LENGTH = 1
    HEAD_HAS_CODING = 2
    HEAD_CHUNKED = 4          # chunked is the final coding
    HEAD_CODING_OTHER = 8     # a coding that is not chunked
    HEAD_CLOSE = 16
    HEAD_KEEP_ALIVE = 32
    HEAD_CONN_UPGRADE = 64
    HEAD_HAS_UPGRADE = 128    # in a request: with a protocol that may be asked for
    HEAD_CONN_NAMES = 256     # Connection names fields that must go
    HEAD_ABSOLUTE = 512       # the host was taken from the target
    HEAD_LENGTH_REWRITE = 1024  # Content-Length came repeated or as a list
    HEAD_SECURE = 2048        # the target is one of https or wss
    HEAD_EXPECTS = 4096       # the client may wait for an answer before it sends its body
    HEAD_HAS_DATE = 8192
    HEAD_TE_TRAILERS = 16384  # TE says that the sender takes trailers
    HEAD_BINDS = 32768        # credentials or a challenge that authenticate the connection

cdef struct field_t:
    uint32_t name_at
    uint32_t value_at
    uint32_t value_len
    uint16_t name_len
    uint8_t id                # field_id_t
    uint8_t plain             # "Name: value\r\n" as it stands: may be copied whole

cdef struct head_t:
    uint32_t line_at          # start of the first line not parsed yet
    uint32_t start_at         # start of the start line, after an empty line that is tolerated
    uint32_t fields_at        # start of the first field line
    uint32_t bytes            # length of the whole head, once done
    uint32_t flags
    uint16_t status           # responses
    uint16_t field_count
    uint8_t is_response
    uint8_t has_start_line
    uint8_t version           # 10, or 11 for all that is higher
    uint8_t method
    uint16_t host_count
    uint16_t connection_names
    uint32_t method_len
    uint32_t target_at        # in origin-form, after the authority of an absolute-form
    uint32_t target_len
    uint32_t received_target_at
    uint32_t received_target_len
    uint32_t reason_at
    uint32_t reason_len
    uint32_t host_at
    uint32_t host_len
    uint64_t content_length
    uint32_t length_digits    # of the Content-Length as it came
    field_t fields[FIELDS_MAX]

cdef struct head_limits_t:
    uint32_t line_bytes
    uint32_t header_bytes
    uint32_t fields
    const names_t* names

cdef void head_start(head_t* head, bint is_response) noexcept nogil
cdef int head_parse(head_t* head, const uint8_t* text, uint32_t len,
                    const head_limits_t* limits) noexcept nogil
cdef bint head_names_field(const head_t* head, const uint8_t* text, const field_t* field) noexcept nogil
cdef int head_request_framing(const head_t* head) noexcept nogil
cdef int head_response_framing(const head_t* head, bint to_head_request) noexcept nogil
cdef bint head_passes_trailers(const head_t* head) noexcept nogil
cdef bint head_keeps_alive(const head_t* head) noexcept nogil


cdef inline uint32_t list_item(const uint8_t* text, uint32_t at, uint32_t end, uint32_t* item_at,
                               uint32_t* item_len) noexcept nogil:
    """The next item of a comma-separated list, without white space around it.

    Returns: where to go on; `end` + 1 after the last one.
    """
    cdef uint32_t stop = at
    cdef uint32_t first = at
    while stop < end and text[stop] != c',':
        stop += 1
    at = stop + 1
    while first < stop and (text[first] == c' ' or text[first] == c'\t'):
        first += 1
    while stop > first and (text[stop - 1] == c' ' or text[stop - 1] == c'\t'):
        stop -= 1
    item_at[0] = first
    item_len[0] = stop - first
    return at
