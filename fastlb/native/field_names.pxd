"""Names of fields, and what each means to a proxy: one look into a table for each field of a head.

Two names fold to one if they differ in case and in `-` and `_` only: CGI and WSGI give a program
both under one name (RFC 3875 4.1.18). Folded names are told from exact ones, because a message is
framed and routed by exact ones alone.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr


cdef extern from "scan.h" nogil:
    bint scan_equal(const uint8_t* text, const char* lower, uint32_t len)
    bint scan_folds(const uint8_t* text, const char* lower, uint32_t len)

cdef enum:
    NAME_BUCKETS = 128
    NAMES_MAX = 192              # those below, model.fields.CLIENT_FIELDS, and the user's
    NAME_MAX_BYTES = 64
    PROTOCOLS_MAX = 17           # one, and model.fields.ADDED_PROTOCOLS_MAX
    PROTOCOL_MAX_BYTES = 32

# field_t.id: the fields that mean something to a proxy.
ctypedef enum field_id_t:
    FIELD_OTHER
    FIELD_HOST
    FIELD_CONTENT_LENGTH
    FIELD_TRANSFER_ENCODING
    FIELD_CONNECTION
    FIELD_HOP             # Keep-Alive, Proxy-Connection, HTTP2-Settings
    FIELD_TE
    FIELD_TRAILER
    FIELD_UPGRADE
    FIELD_FORWARDED       # Forwarded and X-Forwarded-For, -Proto, -Host, -Port
    FIELD_CLIENT          # other ways of saying who a client is; for trusted proxies alone
    FIELD_EXPECT
    FIELD_AUTH            # Authorization, WWW-Authenticate and their relatives for proxies
    FIELD_MAX_FORWARDS
    FIELD_DATE
    FIELD_HEAD            # one that does not pass as a trailer
    FIELD_FOLDED          # a name that folds to one that is framed with, owned or dropped: to be dropped
    FIELD_AMBIGUOUS       # one that folds to Content-Length or Transfer-Encoding: to be refused

cdef struct name_t:
    uint8_t id
    uint8_t len
    uint8_t next              # in its bucket, + 1; 0 = none
    char text[NAME_MAX_BYTES]     # folded: small letters and hyphens

cdef struct protocol_t:
    uint8_t len
    char text[PROTOCOL_MAX_BYTES]     # small letters

# OWNER: settings_t, written before the workers start.
cdef struct names_t:
    uint8_t buckets[NAME_BUCKETS]     # number of the first name, + 1; 0 = none
    uint8_t count
    bint drops_underscores
    name_t names[NAMES_MAX]
    uint8_t protocol_count
    protocol_t protocols[PROTOCOLS_MAX]

cdef int names_fill(names_t* names, object config) except -1
cdef int names_fill_head(names_t* names, object config) except -1


cdef inline uint32_t name_bucket(const uint8_t* name, uint32_t len) noexcept nogil:
    """The names in the table begin and end with a letter or digit, of which the factor drops the bit of
    the case. Of the usual fields of requests and responses few meet one of them in a bucket."""
    return (len + 4 * (name[0] + name[len - 1])) % NAME_BUCKETS


cdef inline uint8_t name_id(const names_t* names, const uint8_t* name, uint32_t len,
                            bint in_response) noexcept nogil:
    """What a field, in the head or in the trailers, is by its name: field_id_t. Backends are not
    read by CGI, so names in responses are not folded.

    Cost: one byte of the table for nearly all names that mean nothing.
    """
    cdef uint8_t at = names.buckets[name_bucket(name, len)]
    cdef const name_t* known
    while at:
        known = &names.names[at - 1]
        if known.len == len:
            if scan_equal(name, known.text, len):
                return known.id
            if not in_response and known.id != FIELD_AUTH and scan_folds(name, known.text, len):
                if known.id == FIELD_CONTENT_LENGTH or known.id == FIELD_TRANSFER_ENCODING:
                    return FIELD_AMBIGUOUS
                return FIELD_FOLDED
        at = known.next
    if names.drops_underscores and not in_response and memchr(name, c'_', len) != NULL:
        return FIELD_FOLDED
    return FIELD_OTHER


cdef inline bint protocol_passes(const names_t* names, const uint8_t* item, uint32_t len) noexcept nogil:
    """True for a member of Upgrade, `protocol[/version]` (RFC 9110 7.8), that may be asked for."""
    cdef const uint8_t* slash = <const uint8_t*> memchr(item, c'/', len)
    cdef uint32_t i
    if slash != NULL:
        len = <uint32_t> (slash - item)
    for i in range(names.protocol_count):
        if names.protocols[i].len == len and scan_equal(item, names.protocols[i].text, len):
            return True
    return False
