"""See field_names.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memset

from fastlb.model.fields import UnderscoreFields

FIXED = (
    (b"host", FIELD_HOST),
    (b"content-length", FIELD_CONTENT_LENGTH),
    (b"transfer-encoding", FIELD_TRANSFER_ENCODING),
    (b"connection", FIELD_CONNECTION),
    (b"keep-alive", FIELD_HOP),
    (b"proxy-connection", FIELD_HOP),
    (b"te", FIELD_TE),
    (b"trailer", FIELD_TRAILER),
    (b"http2-settings", FIELD_HOP),
    (b"upgrade", FIELD_UPGRADE),
    (b"expect", FIELD_EXPECT),
    (b"authorization", FIELD_AUTH),
    (b"proxy-authorization", FIELD_AUTH),
    (b"www-authenticate", FIELD_AUTH),
    (b"proxy-authenticate", FIELD_AUTH),
    (b"max-forwards", FIELD_MAX_FORWARDS),
    (b"date", FIELD_DATE),
    (b"forwarded", FIELD_FORWARDED),
    (b"x-forwarded-for", FIELD_FORWARDED),
    (b"x-forwarded-proto", FIELD_FORWARDED),
    (b"x-forwarded-host", FIELD_FORWARDED),
    (b"x-forwarded-port", FIELD_FORWARDED),
)


cdef int names_fill(names_t* names, object config) except -1:
    """Make the table. `config`: a model.fields.FieldConfig."""
    memset(names, 0, sizeof(names_t))
    names.drops_underscores = config.underscores is UnderscoreFields.DROP
    for text, field in FIXED:
        name_add(names, text, field)
    for text in config.client_names:
        name_add(names, text, FIELD_CLIENT)
    for text in config.protocols:
        protocol_add(names, text)
    return 0


cdef int names_fill_head(names_t* names, object config) except -1:
    """Make a table of what does not pass as a trailer."""
    memset(names, 0, sizeof(names_t))
    names.drops_underscores = config.underscores is UnderscoreFields.DROP
    for text in config.head_names:
        name_add(names, text, FIELD_HEAD)
    return 0


cdef int name_add(names_t* names, bytes text, int field) except -1:
    cdef const char* bytes_of = text
    cdef uint32_t len_of = <uint32_t> len(text), bucket
    cdef name_t* known
    assert names.count < NAMES_MAX and len_of <= NAME_MAX_BYTES
    known = &names.names[names.count]
    names.count += 1
    known.id = <uint8_t> field
    known.len = <uint8_t> len_of
    memcpy(known.text, bytes_of, len_of)
    bucket = name_bucket(<const uint8_t*> bytes_of, len_of)
    known.next = names.buckets[bucket]
    names.buckets[bucket] = names.count
    return 0


cdef int protocol_add(names_t* names, bytes text) except -1:
    cdef protocol_t* known
    assert names.protocol_count < PROTOCOLS_MAX and len(text) <= PROTOCOL_MAX_BYTES
    known = &names.protocols[names.protocol_count]
    names.protocol_count += 1
    known.len = <uint8_t> len(text)
    memcpy(known.text, <const char*> text, len(text))
    return 0
