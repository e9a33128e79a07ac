"""See http1.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastlb.native.field_names cimport (
    FIELD_AMBIGUOUS, FIELD_AUTH, FIELD_CONNECTION, FIELD_CONTENT_LENGTH, FIELD_DATE, FIELD_EXPECT,
    FIELD_HOST, FIELD_OTHER, FIELD_TE, FIELD_TRANSFER_ENCODING, FIELD_UPGRADE, name_id, names_t,
    protocol_passes,
)
from fastlb.native.types cimport FRAME_CHUNKED, FRAME_CLOSE, FRAME_LENGTH, FRAME_NONE


cdef extern from "<arpa/inet.h>" nogil:
    int AF_INET6
    int inet_pton(int family, const char* text, void* address)

cdef extern from "scan.h" nogil:
    const uint8_t* scan_token(const uint8_t* at, const uint8_t* end)
    const uint8_t* scan_text(const uint8_t* at, const uint8_t* end)
    const uint8_t* scan_target(const uint8_t* at, const uint8_t* end)
    bint scan_equal(const uint8_t* text, const char* lower, uint32_t len)
    const uint8_t SCAN_TOKEN[256]


cdef uint64_t CONTENT_LENGTH_MAX = 0x7FFFFFFFFFFFFFFF

cdef enum:
    CR = 13
    LF = 10
    SP = 32
    TAB = 9
    CONNECTION_NAMES_MAX = 32
    CONTENT_LENGTH_MAX_DIGITS = 19
    IPV6_MAX_BYTES = 45
    PORT_MAX = 65535


cdef void head_start(head_t* head, bint is_response) noexcept nogil:
    """Make ready for the first byte of a head. The fields need no clearing."""
    memset(head, 0, sizeof(head_t) - sizeof(head.fields))
    head.is_response = is_response


# ---- lines ----------------------------------------------------------------------------------

cdef int head_parse(head_t* head, const uint8_t* text, uint32_t len,
                    const head_limits_t* limits) noexcept nogil:
    """Go on parsing with the `len` bytes there are now. HEAD_DONE sets head.bytes.

    The same bytes give the same answer in whatever pieces they come, so nothing behind a limit
    is ever looked at.
    """
    cdef int outcome
    cdef uint32_t cut
    if not head.has_start_line:
        outcome = start_line_parse(head, text, len, limits)
        if outcome != HEAD_DONE:
            return outcome
    cut = head.fields_at + limits.header_bytes
    while True:
        outcome = field_parse(head, text, min(len, cut), limits)
        if outcome == HEAD_MORE and len >= cut:
            return too_large(head, 431)
        if outcome != HEAD_DONE:
            return outcome
        if head.bytes:
            return head_check(head, text)


cdef inline int bad(const head_t* head) noexcept nogil:
    return 502 if head.is_response else 400


cdef inline int too_large(const head_t* head, int status) noexcept nogil:
    return 502 if head.is_response else status


cdef inline int line_end(const head_t* head, const uint8_t* text, uint32_t len, const uint8_t* at,
                         uint32_t* next_at) noexcept nogil:
    """`at` should stand on the CR of a CRLF."""
    cdef uint32_t here = <uint32_t> (at - text)
    if here >= len:
        return HEAD_MORE
    if at[0] != CR:
        return bad(head)
    if here + 1 >= len:
        return HEAD_MORE
    if at[1] != LF:
        return bad(head)
    next_at[0] = here + 2
    return HEAD_DONE


cdef int start_line_parse(head_t* head, const uint8_t* text, uint32_t len,
                          const head_limits_t* limits) noexcept nogil:
    cdef int outcome
    cdef uint32_t next_at = 0, cut
    if head.line_at == 0 and not head.is_response and len > 0 and text[0] == CR:
        outcome = line_end(head, text, len, text, &next_at)      # RFC 9112 2.2: one empty line
        if outcome != HEAD_DONE:
            return outcome
        head.line_at = head.start_at = 2
    cut = head.start_at + limits.line_bytes + 2
    if head.is_response:
        outcome = status_line_parse(head, text, min(len, cut), &next_at)
    else:
        outcome = request_line_parse(head, text, min(len, cut), &next_at)
    if outcome == HEAD_MORE and len >= cut:
        return too_large(head, 414)
    if outcome == HEAD_DONE:
        head.line_at = head.fields_at = next_at
        head.has_start_line = True
    return outcome


cdef int request_line_parse(head_t* head, const uint8_t* text, uint32_t len,
                            uint32_t* next_at) noexcept nogil:
    """method SP target SP version CRLF (RFC 9112 3)."""
    cdef const uint8_t* end = text + len
    cdef const uint8_t* start = text + head.start_at
    cdef const uint8_t* at = scan_token(start, end)
    if at == end:
        return HEAD_MORE
    if at[0] != SP or at == start:
        return 400
    head.method_len = <uint32_t> (at - start)
    head.target_at = <uint32_t> (at + 1 - text)
    at = scan_target(at + 1, end)
    if at == end:
        return HEAD_MORE
    head.target_len = <uint32_t> (at - text) - head.target_at
    if at[0] != SP or head.target_len == 0:
        return 400
    head.received_target_at = head.target_at
    head.received_target_len = head.target_len
    at += 1
    return version_parse(head, text, len, at, next_at)


cdef int version_parse(head_t* head, const uint8_t* text, uint32_t len, const uint8_t* at,
                       uint32_t* next_at) noexcept nogil:
    """HTTP/1 and the end of the line; another well-formed version is 505. A minor version above 1 is read
    as 1 (RFC 9110 2.5)."""
    cdef const char* prefix = "HTTP/"
    cdef uint32_t i, left = len - <uint32_t> (at - text)
    cdef int outcome
    for i in range(8):
        if i >= left:
            return HEAD_MORE
        if i < 5:
            if at[i] != <uint8_t> prefix[i]:
                return 400
        elif i == 6:
            if at[i] != c'.':
                return 400
        elif not c'0' <= at[i] <= c'9':
            return 400
    outcome = line_end(head, text, len, at + 8, next_at)
    if outcome != HEAD_DONE:
        return outcome
    if at[5] != c'1':
        return 505
    head.version = 10 if at[7] == c'0' else 11
    return HEAD_DONE


cdef int status_line_parse(head_t* head, const uint8_t* text, uint32_t len,
                           uint32_t* next_at) noexcept nogil:
    """version SP three digits [SP reason] CRLF (RFC 9112 4)."""
    cdef const char* prefix = "HTTP/1."
    cdef const uint8_t* at
    cdef uint32_t i
    for i in range(12):
        if i >= len:
            return HEAD_MORE
        if i < 7:
            if text[i] != <uint8_t> prefix[i]:
                return 502
        elif i == 7:
            if not c'0' <= text[i] <= c'9':
                return 502
        elif i == 8:
            if text[i] != SP:
                return 502
        elif not c'0' <= text[i] <= c'9' or (i == 9 and text[i] == c'0'):
            return 502
    head.version = 10 if text[7] == c'0' else 11
    head.status = (text[9] - c'0') * 100 + (text[10] - c'0') * 10 + (text[11] - c'0')
    at = text + 12
    if len > 12 and at[0] == SP:
        head.reason_at = 13
        at = scan_text(text + 13, text + len)
        head.reason_len = <uint32_t> (at - text) - 13
    return line_end(head, text, len, at, next_at)


# ---- fields ---------------------------------------------------------------------------------

cdef int field_parse(head_t* head, const uint8_t* text, uint32_t len,
                     const head_limits_t* limits) noexcept nogil:
    """One field line, or the empty line that ends the head (which sets head.bytes)."""
    cdef const uint8_t* end = text + len
    cdef const uint8_t* line = text + head.line_at
    cdef const uint8_t* at
    cdef const uint8_t* name_end
    cdef const uint8_t* value
    cdef const uint8_t* value_end
    cdef uint32_t next_at = 0
    cdef int outcome
    cdef field_t* field
    if line < end and line[0] == CR:
        outcome = line_end(head, text, len, line, &next_at)
        if outcome == HEAD_DONE:
            head.bytes = next_at
        return outcome
    at = scan_token(line, end)
    if at == end:
        return HEAD_MORE
    name_end = at
    if at[0] != c':':
        if not head.is_response or at == line:                  # a colon right behind the name
            return bad(head)
        while at[0] == SP or at[0] == TAB:                      # RFC 9112 5.1: removed from responses
            at += 1
            if at == end:
                return HEAD_MORE
    if at[0] != c':' or name_end == line or name_end - line > 65535:
        return bad(head)
    if head.field_count >= limits.fields or head.field_count >= FIELDS_MAX:
        return too_large(head, 431)
    value = at + 1
    while value < end and (value[0] == SP or value[0] == TAB):
        value += 1
    value_end = scan_text(value, end)
    outcome = line_end(head, text, len, value_end, &next_at)
    if outcome != HEAD_DONE:
        return outcome
    while value_end > value and ((value_end - 1)[0] == SP or (value_end - 1)[0] == TAB):
        value_end -= 1
    field = &head.fields[head.field_count]
    field.name_at = head.line_at
    field.name_len = <uint16_t> (name_end - line)
    field.value_at = <uint32_t> (value - text)
    field.value_len = <uint32_t> (value_end - value)
    field.plain = (at == name_end and value == at + 2 and at[1] == SP
                   and field.value_at + field.value_len + 2 == next_at)
    field.id = name_id(limits.names, line, field.name_len, head.is_response)
    if field.id != FIELD_OTHER:
        outcome = field_read(head, field, text, limits.names)
        if outcome != HEAD_DONE:
            return outcome
    head.field_count += 1
    head.line_at = next_at
    return HEAD_DONE


cdef int field_read(head_t* head, field_t* field, const uint8_t* text,
                    const names_t* names) noexcept nogil:
    """What the field says to a proxy."""
    if field.id == FIELD_HOST:
        head.host_count += 1
        head.host_at = field.value_at
        head.host_len = field.value_len
    elif field.id == FIELD_CONNECTION:
        return connection_read(head, field, text)
    elif field.id == FIELD_CONTENT_LENGTH:
        return length_read(head, field, text)
    elif field.id == FIELD_TRANSFER_ENCODING:
        return coding_read(head, field, text)
    elif field.id == FIELD_UPGRADE:
        upgrade_read(head, field, text, names)
    elif field.id == FIELD_EXPECT:
        head.flags |= HEAD_EXPECTS
    elif field.id == FIELD_TE:
        te_read(head, field, text)
    elif field.id == FIELD_DATE:
        head.flags |= HEAD_HAS_DATE
    elif field.id == FIELD_AUTH:
        auth_read(head, field, text)
    elif field.id == FIELD_AMBIGUOUS:
        return bad(head)
    return HEAD_DONE


cdef void auth_read(head_t* head, const field_t* field, const uint8_t* text) noexcept nogil:
    """Is one of the schemes NTLM or Negotiate? A comma in a quoted string may end a member too early, which
    at worst makes a connection private that need not be."""
    cdef uint32_t at = field.value_at, end = field.value_at + field.value_len
    cdef uint32_t item_at = 0, item_len = 0, word
    while at <= end:
        at = list_item(text, at, end, &item_at, &item_len)
        word = 0
        while word < item_len and text[item_at + word] != SP and text[item_at + word] != TAB:
            word += 1
        if (word == 4 and scan_equal(text + item_at, "ntlm", 4)) \
                or (word == 9 and scan_equal(text + item_at, "negotiate", 9)):
            head.flags |= HEAD_BINDS


cdef void upgrade_read(head_t* head, const field_t* field, const uint8_t* text,
                       const names_t* names) noexcept nogil:
    """A request may ask for some protocols only; a response is taken as it comes."""
    cdef uint32_t at = field.value_at, end = field.value_at + field.value_len
    cdef uint32_t item_at = 0, item_len = 0
    if head.is_response:
        head.flags |= HEAD_HAS_UPGRADE
        return
    while at <= end:
        at = list_item(text, at, end, &item_at, &item_len)
        if protocol_passes(names, text + item_at, item_len):
            head.flags |= HEAD_HAS_UPGRADE


cdef int connection_read(head_t* head, const field_t* field, const uint8_t* text) noexcept nogil:
    cdef uint32_t at = field.value_at, end = field.value_at + field.value_len
    cdef uint32_t item_at = 0, item_len = 0
    while at <= end:
        at = list_item(text, at, end, &item_at, &item_len)
        if item_len == 5 and scan_equal(text + item_at, "close", 5):
            head.flags |= HEAD_CLOSE
        elif item_len == 10 and scan_equal(text + item_at, "keep-alive", 10):
            head.flags |= HEAD_KEEP_ALIVE
        elif item_len == 7 and scan_equal(text + item_at, "upgrade", 7):
            head.flags |= HEAD_CONN_UPGRADE
        elif item_len and not (item_len == 2 and scan_equal(text + item_at, "te", 2)):
            head.flags |= HEAD_CONN_NAMES
            head.connection_names += 1
            if head.connection_names > CONNECTION_NAMES_MAX:
                return bad(head)
    return HEAD_DONE


cdef void te_read(head_t* head, const field_t* field, const uint8_t* text) noexcept nogil:
    """RFC 9110 10.1.4: of TE only `trailers` can be meant for the next hop, too."""
    cdef uint32_t at = field.value_at, end = field.value_at + field.value_len
    cdef uint32_t item_at = 0, item_len = 0
    while at <= end:
        at = list_item(text, at, end, &item_at, &item_len)
        if item_len == 8 and scan_equal(text + item_at, "trailers", 8):
            head.flags |= HEAD_TE_TRAILERS


cdef int length_read(head_t* head, const field_t* field, const uint8_t* text) noexcept nogil:
    """1*DIGIT; a list or a repetition only of the same digits (RFC 9112 6.3)."""
    cdef uint32_t at = field.value_at, end = field.value_at + field.value_len
    cdef uint32_t item_at = 0, item_len = 0, i
    cdef uint64_t value
    while at <= end:
        at = list_item(text, at, end, &item_at, &item_len)
        if item_len == 0 or item_len > CONTENT_LENGTH_MAX_DIGITS:
            return bad(head)
        value = 0
        for i in range(item_len):
            if not c'0' <= text[item_at + i] <= c'9':
                return bad(head)
            value = value * 10 + (text[item_at + i] - c'0')
        if value > CONTENT_LENGTH_MAX:
            return bad(head)
        if head.flags & HEAD_HAS_LENGTH:
            if value != head.content_length or item_len != head.length_digits:
                return bad(head)
            head.flags |= HEAD_LENGTH_REWRITE
        head.content_length = value
        head.length_digits = item_len
        head.flags |= HEAD_HAS_LENGTH
    return HEAD_DONE


cdef int coding_read(head_t* head, const field_t* field, const uint8_t* text) noexcept nogil:
    """Only `chunked`, once, is a coding that fastlb can frame (RFC 9112 6.1, 7)."""
    cdef uint32_t at = field.value_at, end = field.value_at + field.value_len
    cdef uint32_t item_at = 0, item_len = 0, i
    while at <= end:
        at = list_item(text, at, end, &item_at, &item_len)
        if item_len == 0 or head.flags & HEAD_CHUNKED:
            return bad(head)                   # empty, or something behind `chunked`
        head.flags |= HEAD_HAS_CODING
        if item_len == 7 and scan_equal(text + item_at, "chunked", 7):
            head.flags |= HEAD_CHUNKED
            continue
        for i in range(item_len):
            if not SCAN_TOKEN[text[item_at + i]]:
                return bad(head)
        head.flags |= HEAD_CODING_OTHER
    return HEAD_DONE


cdef bint head_names_field(const head_t* head, const uint8_t* text, const field_t* field) noexcept nogil:
    """True if a Connection field names `field` (RFC 9110 7.6.1)."""
    cdef uint32_t at, end, item_at = 0, item_len = 0, i, k
    cdef const field_t* connection
    cdef uint8_t a, b
    for i in range(head.field_count):
        connection = &head.fields[i]
        if connection.id != FIELD_CONNECTION:
            continue
        at = connection.value_at
        end = at + connection.value_len
        while at <= end:
            at = list_item(text, at, end, &item_at, &item_len)
            if item_len != field.name_len:
                continue
            for k in range(item_len):
                a = text[item_at + k]
                b = text[field.name_at + k]
                if a != b and not ((a ^ b) == 32 and c'a' <= (a | 32) <= c'z'):
                    break
            else:
                return True
    return False


# ---- the whole head -------------------------------------------------------------------------

cdef int head_check(head_t* head, const uint8_t* text) noexcept nogil:
    """What can only be judged with all fields read."""
    if head.is_response:
        return response_check(head)
    return request_check(head, text)


cdef int response_check(const head_t* head) noexcept nogil:
    """A coding besides `chunked` was not asked for, and no client would learn of it: TE and
    Transfer-Encoding are fields of one hop (RFC 9110 10.1.4)."""
    if head.flags & HEAD_HAS_CODING and head.flags & (HEAD_HAS_LENGTH | HEAD_CODING_OTHER):
        return 502
    return HEAD_DONE


cdef int request_check(head_t* head, const uint8_t* text) noexcept nogil:
    cdef int outcome
    head.method = method_read(text + head.start_at, head.method_len)
    if head.method == METHOD_CONNECT:
        return 400
    if head.host_count > 1 or (head.host_count == 0 and head.version == 11):
        return 400
    if head.host_count and not host_valid(text + head.host_at, head.host_len):
        return 400
    outcome = target_check(head, text)
    if outcome != HEAD_DONE:
        return outcome
    if head.flags & HEAD_HAS_CODING:
        if head.flags & HEAD_HAS_LENGTH or head.version == 10:
            return 400
        if not head.flags & HEAD_CHUNKED:
            return 400
        if head.flags & HEAD_CODING_OTHER:
            return 501
    return HEAD_DONE


cdef uint8_t method_read(const uint8_t* name, uint32_t len) noexcept nogil:
    """Methods are case-sensitive (RFC 9110 9.1)."""
    if len == 3:
        if bytes_are(name, "GET", 3):
            return METHOD_GET
        if bytes_are(name, "PUT", 3):
            return METHOD_PUT
    elif len == 4:
        if bytes_are(name, "POST", 4):
            return METHOD_POST
        if bytes_are(name, "HEAD", 4):
            return METHOD_HEAD
    elif len == 5 and bytes_are(name, "TRACE", 5):
        return METHOD_TRACE
    elif len == 6 and bytes_are(name, "DELETE", 6):
        return METHOD_DELETE
    elif len == 7:
        if bytes_are(name, "OPTIONS", 7):
            return METHOD_OPTIONS
        if bytes_are(name, "CONNECT", 7):
            return METHOD_CONNECT
    return METHOD_OTHER


cdef inline bint bytes_are(const uint8_t* text, const char* other, uint32_t len) noexcept nogil:
    cdef uint32_t i
    for i in range(len):
        if text[i] != <uint8_t> other[i]:
            return False
    return True


cdef bint host_valid(const uint8_t* host, uint32_t len) noexcept nogil:
    """uri-host [ ":" port ] of RFC 3986 3.2.2, without user information and IPvFuture.

    Nothing at all is allowed (RFC 9110 7.2); a port without a host is not (4.2.1). Nor are a port that
    no socket has, and a comma, by which two hosts would be joined.
    """
    cdef uint32_t i, port = 0
    if len == 0:
        return True
    if len > HOST_MAX_BYTES:
        return False
    i = ipv6_bytes(host, len) if host[0] == c'[' else name_bytes(host, len)
    if i == 0:
        return False
    if i < len:
        if host[i] != c':':
            return False
        i += 1
    while i < len:
        if not c'0' <= host[i] <= c'9':
            return False
        port = port * 10 + (host[i] - c'0')
        if port > PORT_MAX:
            return False
        i += 1
    return True


cdef uint32_t ipv6_bytes(const uint8_t* host, uint32_t len) noexcept nogil:
    """Length of the address in brackets at the start of `host`; 0 if there is none."""
    cdef char text[IPV6_MAX_BYTES + 1]
    cdef uint8_t address[16]
    cdef uint32_t i = 1
    while i < len and host[i] != c']':
        if i > IPV6_MAX_BYTES:
            return 0
        i += 1
    if i == len:
        return 0
    memcpy(text, host + 1, i - 1)
    text[i - 1] = 0
    return i + 1 if inet_pton(AF_INET6, text, address) == 1 else 0


cdef uint32_t name_bytes(const uint8_t* host, uint32_t len) noexcept nogil:
    """Length of the reg-name or IPv4 address at the start of `host`; 0 if it is none."""
    cdef uint32_t i = 0
    cdef uint8_t c
    while i < len and host[i] != c':':
        c = host[i]
        if c == c'%':
            if i + 2 >= len or not (is_hex(host[i + 1]) and is_hex(host[i + 2])):
                return 0
        elif not SCAN_TOKEN[c] and c not in (c'(', c')', c';', c'='):  # sub-delims that are no tchar
            return 0
        elif c == c'#' or c == c'^' or c == c'`' or c == c'|':         # tchar, but not in reg-name
            return 0
        i += 1
    return i


cdef inline bint is_hex(uint8_t c) noexcept nogil:
    return c'0' <= c <= c'9' or c'a' <= (c | 32) <= c'f'


cdef uint32_t scheme_read(head_t* head, const uint8_t* target, uint32_t len) noexcept nogil:
    """Where the authority of an absolute-form target begins; 0 for a scheme that is not known here."""
    if len > 7 and scan_equal(target, "http://", 7):
        return 7
    if len > 5 and scan_equal(target, "ws://", 5):
        return 5
    head.flags |= HEAD_SECURE
    if len > 8 and scan_equal(target, "https://", 8):
        return 8
    return 6 if len > 6 and scan_equal(target, "wss://", 6) else 0


cdef int target_check(head_t* head, const uint8_t* text) noexcept nogil:
    """origin-form, absolute-form, or `*` with OPTIONS (RFC 9112 3.2)."""
    cdef const uint8_t* target = text + head.target_at
    cdef uint32_t len = head.target_len, host_at, at
    if target[0] == c'/':
        return HEAD_DONE
    if len == 1 and target[0] == c'*' and head.method == METHOD_OPTIONS:
        return HEAD_DONE
    host_at = scheme_read(head, target, len)
    at = host_at
    while at < len and target[at] != c'/' and target[at] != c'?':
        at += 1
    # RFC 9110 4.2.1: a host, not only a port
    if host_at == 0 or at == host_at or not host_valid(target + host_at, at - host_at):
        return 400
    head.flags |= HEAD_ABSOLUTE
    head.host_at = head.target_at + host_at
    head.host_len = at - host_at
    head.target_at += at
    head.target_len -= at
    return HEAD_DONE


cdef int head_request_framing(const head_t* head) noexcept nogil:
    if head.flags & HEAD_CHUNKED:
        return FRAME_CHUNKED
    if head.flags & HEAD_HAS_LENGTH and head.content_length:
        return FRAME_LENGTH
    return FRAME_NONE


cdef int head_response_framing(const head_t* head, bint to_head_request) noexcept nogil:
    """RFC 9112 6.3."""
    if to_head_request or head.status < 200 or head.status == 204 or head.status == 304:
        return FRAME_NONE
    if head.flags & HEAD_CHUNKED:
        return FRAME_CHUNKED
    if head.flags & HEAD_HAS_LENGTH:
        return FRAME_LENGTH if head.content_length else FRAME_NONE
    return FRAME_CLOSE


cdef bint head_passes_trailers(const head_t* head) noexcept nogil:
    """Only a chunked message has them. Connection may name them (RFC 9110 7.6.1), and its names are
    forgotten when they come, so then none pass."""
    return head.flags & (HEAD_CHUNKED | HEAD_CONN_NAMES) == HEAD_CHUNKED


cdef bint head_keeps_alive(const head_t* head) noexcept nogil:
    """RFC 9112 9.3. Not behind a coding in HTTP/1.0, whose framing may be a mistake (6.1)."""
    if head.flags & HEAD_CLOSE:
        return False
    return head.version == 11 or head.flags & (HEAD_KEEP_ALIVE | HEAD_HAS_CODING) == HEAD_KEEP_ALIVE
