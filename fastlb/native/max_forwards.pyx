"""See max_forwards.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcpy, strlen

from fastlb.native.field_names cimport FIELD_MAX_FORWARDS, FIELD_OTHER
from fastlb.native.http1 cimport METHOD_TRACE, field_t, head_t
from fastlb.native.http_date cimport DATE_FIELD_BYTES, date_field
from fastlb.native.types cimport worker_t


cdef extern from "scan.h" nogil:
    bint scan_equal(const uint8_t* text, const char* lower, uint32_t len)


# ---- reading --------------------------------------------------------------------------------

cdef int64_t max_forwards_read(head_t* head, const uint8_t* text) noexcept nogil:
    """How often the request may still be passed on, or FORWARDS_NONE. A field that does not count
    becomes one like any other."""
    cdef field_t* field
    cdef int64_t value = FORWARDS_NONE
    cdef uint32_t i, seen = 0
    for i in range(head.field_count):
        field = &head.fields[i]
        if field.id == FIELD_MAX_FORWARDS:
            value = number(text + field.value_at, field.value_len)
            seen += 1
    if seen == 1 and value != FORWARDS_NONE:
        return value
    for i in range(head.field_count):
        if head.fields[i].id == FIELD_MAX_FORWARDS:
            head.fields[i].id = FIELD_OTHER
    return FORWARDS_NONE


cdef int64_t number(const uint8_t* text, uint32_t len) noexcept nogil:
    """1*DIGIT, however long; FORWARDS_NONE for anything else."""
    cdef int64_t value = 0
    cdef uint32_t i
    for i in range(len):
        if not c'0' <= text[i] <= c'9':
            return FORWARDS_NONE
        value = min(value * 10 + (text[i] - c'0'), <int64_t> FORWARDS_MAX + 1)
    return value if len else FORWARDS_NONE


cdef uint32_t max_forwards_left(const uint8_t* text, const field_t* field) noexcept nogil:
    """What a backend gets, of a field that max_forwards_read() found valid and above zero."""
    return <uint32_t> (number(text + field.value_at, field.value_len) - 1)


# ---- answering ------------------------------------------------------------------------------

cdef inline uint32_t put(uint8_t* into, uint32_t at, const void* text, uint32_t len) noexcept nogil:
    memcpy(into + at, text, len)
    return at + len


cdef inline uint32_t put_text(uint8_t* into, uint32_t at, const char* text) noexcept nogil:
    return put(into, at, text, <uint32_t> strlen(text))


cdef uint32_t max_forwards_answer(worker_t* worker, const head_t* head, const uint8_t* text, bint keep,
                                  bint to_http10) noexcept nogil:
    """The whole answer, into worker.frame. Returns its length, at most 256 bytes more than the request head.

    TRACE gets the head back, without what is a secret of the client (RFC 9110 9.3.8).
    """
    cdef bint trace = head.method == METHOD_TRACE
    cdef uint8_t* into = worker.frame
    cdef uint32_t at = put_text(into, 0, "HTTP/1.1 200 OK\r\n")
    at = put(into, at, date_field(worker), DATE_FIELD_BYTES)
    if trace:
        at = put_text(into, at, "Content-Type: message/http\r\n")
    at = put_text(into, at, "Content-Length: ")
    at = put_number(into, at, echo_length(head, text) if trace else 0)
    if not keep:
        at = put_text(into, at, "\r\nConnection: close")
    elif to_http10:
        at = put_text(into, at, "\r\nConnection: keep-alive")
    at = put_text(into, at, "\r\n\r\n")
    return echo_write(into, at, head, text) if trace else at


cdef uint32_t put_number(uint8_t* into, uint32_t at, uint32_t value) noexcept nogil:
    cdef uint8_t digits[10]
    cdef int first = 10
    while True:
        first -= 1
        digits[first] = <uint8_t> (c'0' + value % 10)
        value //= 10
        if value == 0:
            break
    return put(into, at, digits + first, 10 - first)


cdef bint is_secret(const uint8_t* text, const field_t* field) noexcept nogil:
    cdef const uint8_t* name = text + field.name_at
    return (field.name_len == 13 and scan_equal(name, "authorization", 13)) \
        or (field.name_len == 19 and scan_equal(name, "proxy-authorization", 19)) \
        or (field.name_len == 6 and scan_equal(name, "cookie", 6))


cdef uint32_t echo_length(const head_t* head, const uint8_t* text) noexcept nogil:
    cdef uint32_t i, len = head.method_len + head.received_target_len + 14
    for i in range(head.field_count):
        if not is_secret(text, &head.fields[i]):
            len += head.fields[i].name_len + head.fields[i].value_len + 4
    return len


cdef uint32_t echo_write(uint8_t* into, uint32_t at, const head_t* head, const uint8_t* text) noexcept nogil:
    cdef const field_t* field
    cdef uint32_t i
    at = put(into, at, text + head.start_at, head.method_len)
    at = put_text(into, at, " ")
    at = put(into, at, text + head.received_target_at, head.received_target_len)
    at = put_text(into, at, " HTTP/1.1\r\n" if head.version == 11 else " HTTP/1.0\r\n")
    for i in range(head.field_count):
        field = &head.fields[i]
        if is_secret(text, field):
            continue
        at = put(into, at, text + field.name_at, field.name_len)
        at = put_text(into, at, ": ")
        at = put(into, at, text + field.value_at, field.value_len)
        at = put_text(into, at, "\r\n")
    return put_text(into, at, "\r\n")
