"""See http_head.pxd."""

from libc.errno cimport EAGAIN
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy, strlen

from fastlb.native.buffer cimport (
    buffer_append, buffer_bytes, buffer_drop, buffer_length, buffer_spare,
)
from fastlb.native.connection cimport connection_forget_head, connection_receive
from fastlb.native.field_names cimport (
    FIELD_CLIENT, FIELD_CONNECTION, FIELD_CONTENT_LENGTH, FIELD_DATE, FIELD_FOLDED, FIELD_FORWARDED,
    FIELD_HOP, FIELD_HOST, FIELD_MAX_FORWARDS, FIELD_TE, FIELD_TRAILER, FIELD_TRANSFER_ENCODING,
    FIELD_UPGRADE, names_t, protocol_passes,
)
from fastlb.native.http1 cimport (
    HEAD_ABSOLUTE, HEAD_CHUNKED, HEAD_CONN_NAMES, HEAD_DONE, HEAD_HAS_DATE, HEAD_HAS_UPGRADE,
    HEAD_LENGTH_REWRITE, HEAD_MORE, HEAD_SECURE, HEAD_TE_TRAILERS, METHOD_OPTIONS, METHOD_TRACE, field_t,
    head_limits_t, head_names_field, head_parse, head_passes_trailers, head_start, head_t, list_item,
)
from fastlb.native.http_date cimport DATE_FIELD_BYTES, date_field
from fastlb.native.linux cimport MSG_PEEK, call_recv
from fastlb.native.max_forwards cimport max_forwards_left
from fastlb.native.types cimport (
    CONN_READABLE, CONN_TRUSTED, SCRATCH_BYTES, X_HTTP10, X_UPGRADE, connection_t, counter_add, exchange_t,
    worker_t,
)

cdef extern from "scan.h" nogil:
    bint scan_equal(const uint8_t* text, const char* lower, uint32_t len)


# The fields that FIELD_FORWARDED stands for.
cdef enum:
    FORWARDED_OTHER = 1
    FORWARDED_FOR = 2
    FORWARDED_PROTO = 4
    FORWARDED_HOST = 8
    FORWARDED_PORT = 16

cdef enum:
    ADDED_BYTES = 512        # request line, Via and the names of the fields that are added
    RESPONSE_READ_BYTES = 16384  # with a head; a long body is not copied, but spliced from there on
    SHORT_READ_BYTES = 8192      # of a request, where memory is short


# ---- receiving ------------------------------------------------------------------------------

cdef int head_receive(worker_t* worker, connection_t* conn, bint is_response,
                      received_t* found) noexcept nogil:
    """Read until a head is complete or there is nothing more to read.

    A head that arrives whole, as nearly all do, is parsed where recv() put it. One that does not
    moves to the connection's inbox, and its parser to memory of its own.
    Returns: HEAD_DONE with `found`, HEAD_MORE, HEAD_EOF, HEAD_LOST, or the status of a refusal;
             503 is this machine's fault. A client whose head is not complete is told so first.
    """
    cdef head_limits_t limits
    cdef head_t* head = <head_t*> conn.head
    cdef ssize_t n = 0
    cdef size_t room = RESPONSE_READ_BYTES
    cdef int outcome
    limits.line_bytes = worker.settings.line_bytes
    limits.header_bytes = worker.settings.header_bytes
    limits.fields = worker.settings.fields
    limits.names = &worker.settings.names
    if head == NULL:
        head = <head_t*> worker.head
        head_start(head, is_response)
        if conn.inbox != NULL:                       # came with the message before
            outcome = inbox_parse(conn, head, &limits, found)
            if outcome != HEAD_MORE:
                return outcome
    found.head = head
    found.len = 0
    if conn.inbox != NULL:
        found.text = buffer_bytes(conn.inbox) + conn.inbox.start
        found.len = buffer_length(conn.inbox)
    if not is_response:
        room = SCRATCH_BYTES if buffer_spare(worker, SCRATCH_BYTES) else short_room(worker, conn, &limits)
    while conn.flags & CONN_READABLE:
        n = connection_receive(conn, worker.scratch, room)
        if n == 0:
            return HEAD_EOF
        if n == -EAGAIN:
            break
        if n < 0:
            return HEAD_LOST
        if conn.inbox == NULL and conn.head == NULL:
            found.head = head
            found.text = worker.scratch
            found.len = <uint32_t> n
            found.in_inbox = False
            outcome = head_parse(head, worker.scratch, <uint32_t> n, &limits)
            if outcome != HEAD_MORE:
                return outcome
        if not is_response and not buffer_spare(worker, <uint64_t> n):
            return 503
        if not buffer_append(worker, &conn.inbox, worker.scratch, <size_t> n):
            return 503                               # the limits of a head leave room for one read
        outcome = inbox_parse(conn, head, &limits, found)
        if outcome != HEAD_MORE:
            return outcome
    if conn.inbox != NULL and conn.head == NULL:
        if not is_response and not buffer_spare(worker, sizeof(head_t)):
            return 503
        conn.head = malloc(sizeof(head_t))
        if conn.head == NULL:
            return 503
        counter_add(&worker.buffer_bytes, sizeof(head_t))
        memcpy(conn.head, head,
               sizeof(head_t) - sizeof(head.fields) + head.field_count * sizeof(field_t))
    return HEAD_MORE


cdef size_t short_room(worker_t* worker, connection_t* conn, head_limits_t* limits) noexcept nogil:
    """How much to read of a client where memory is short: only the head, if it is here whole, so that
    nothing behind it has to be kept."""
    cdef head_t* head = <head_t*> worker.head
    cdef size_t room = SHORT_READ_BYTES
    cdef ssize_t n
    if conn.inbox != NULL or conn.head != NULL or not conn.flags & CONN_READABLE:
        return room
    n = call_recv(conn.fd, worker.scratch, SHORT_READ_BYTES, MSG_PEEK)
    if n > 0 and head_parse(head, worker.scratch, <uint32_t> n, limits) == HEAD_DONE:
        room = head.bytes
    head_start(head, False)
    return room


cdef int inbox_parse(connection_t* conn, head_t* head, head_limits_t* limits,
                     received_t* found) noexcept nogil:
    found.head = head
    found.text = buffer_bytes(conn.inbox) + conn.inbox.start
    found.len = buffer_length(conn.inbox)
    found.in_inbox = True
    return head_parse(head, found.text, found.len, limits)


cdef bint head_consume(worker_t* worker, connection_t* conn, received_t* found, uint32_t used) noexcept nogil:
    """The first `used` bytes are done with; what is behind them stays in the inbox. `found.head`
    is gone after this. False without memory."""
    connection_forget_head(worker, conn)
    if found.in_inbox:
        conn.inbox.start += used
        if buffer_length(conn.inbox) == 0:
            buffer_drop(worker, &conn.inbox)
        return True
    return buffer_append(worker, &conn.inbox, found.text + used, found.len - used)


# ---- judging --------------------------------------------------------------------------------

cdef bint head_scheme_fits(const head_t* head, const uint8_t* text,
                           const connection_t* client) noexcept nogil:
    """False for a target whose scheme the client's connection does not have (RFC 9110 7.4). Of TLS only
    trusted proxies can tell."""
    cdef bint secure
    if not head.flags & HEAD_ABSOLUTE:
        return True
    secure = client.flags & CONN_TRUSTED != 0 and is_proto_secure(head, text)
    return secure == (head.flags & HEAD_SECURE != 0)


cdef bint is_proto_secure(const head_t* head, const uint8_t* text) noexcept nogil:
    """What the first X-Forwarded-Proto says of the client, whose hop is the first of several."""
    cdef const field_t* field
    cdef uint32_t i, item_at = 0, item_len = 0
    for i in range(head.field_count):
        field = &head.fields[i]
        if field.id == FIELD_FORWARDED and forwarded_kind(text, field) == FORWARDED_PROTO:
            list_item(text, field.value_at, field.value_at + field.value_len, &item_at, &item_len)
            return (item_len == 5 and scan_equal(text + item_at, "https", 5)) \
                or (item_len == 3 and scan_equal(text + item_at, "wss", 3))
    return False


# ---- writing --------------------------------------------------------------------------------

cdef struct pen_t:
    uint8_t* into
    uint32_t at


cdef inline void put(pen_t* pen, const void* text, uint32_t len) noexcept nogil:
    memcpy(pen.into + pen.at, text, len)
    pen.at += len


cdef inline void put_text(pen_t* pen, const char* text) noexcept nogil:
    put(pen, text, <uint32_t> strlen(text))


cdef void put_number(pen_t* pen, uint64_t value) noexcept nogil:
    cdef uint8_t digits[20]
    cdef int at = 20
    while True:
        at -= 1
        digits[at] = <uint8_t> (c'0' + value % 10)
        value //= 10
        if value == 0:
            break
    put(pen, digits + at, 20 - at)


cdef inline bint is_dropped(const head_t* head, const uint8_t* text, const field_t* field,
                            bint trusted, bint trailers, bint* length_seen) noexcept nogil:
    """True for what must not be passed on as it is."""
    if field.id == FIELD_CONNECTION or field.id == FIELD_HOP or field.id == FIELD_UPGRADE \
            or field.id == FIELD_TRANSFER_ENCODING or field.id == FIELD_FOLDED or field.id == FIELD_TE:
        return True
    if field.id == FIELD_TRAILER:
        return not trailers
    if field.id == FIELD_CONTENT_LENGTH:
        if head.flags & HEAD_CHUNKED or length_seen[0]:
            return True
        if head.is_response and (head.status < 200 or head.status == 204):
            return True                              # RFC 9110 8.6: they have none
        length_seen[0] = True
        return False
    if field.id == FIELD_HOST or (field.id == FIELD_DATE and head.is_response):
        return False
    if field.id == FIELD_FORWARDED and not head.is_response:
        return not trusted or forwarded_kind(text, field) & (FORWARDED_OTHER | FORWARDED_FOR)
    if field.id == FIELD_CLIENT and not head.is_response:
        return not trusted
    return head.flags & HEAD_CONN_NAMES and head_names_field(head, text, field)


cdef inline bint is_rewritten(const head_t* head, const field_t* field) noexcept nogil:
    if field.id == FIELD_CONTENT_LENGTH:
        return head.flags & HEAD_LENGTH_REWRITE != 0
    if field.id == FIELD_MAX_FORWARDS:
        return head.method == METHOD_OPTIONS or head.method == METHOD_TRACE
    return field.id == FIELD_HOST and head.flags & HEAD_ABSOLUTE != 0


cdef void put_fields(pen_t* pen, const head_t* head, const uint8_t* text, bint trusted,
                     bint trailers) noexcept nogil:
    """The sender's fields, in order and case. Neighbours that stand as they should are copied
    together. `trusted`: what they say about the client is kept. `trailers`: some may follow."""
    cdef uint32_t i, run_at = 0, run_end = 0
    cdef const field_t* field
    cdef bint length_seen = False
    for i in range(head.field_count):
        field = &head.fields[i]
        if is_dropped(head, text, field, trusted, trailers, &length_seen):
            continue
        if field.plain and not is_rewritten(head, field):
            if run_end != field.name_at:
                put(pen, text + run_at, run_end - run_at)
                run_at = field.name_at
            run_end = field.value_at + field.value_len + 2
            continue
        put(pen, text + run_at, run_end - run_at)
        run_at = run_end = 0
        put(pen, text + field.name_at, field.name_len)
        put_text(pen, ": ")
        if not is_rewritten(head, field):
            put(pen, text + field.value_at, field.value_len)
        elif field.id == FIELD_HOST:
            put(pen, text + head.host_at, head.host_len)
        elif field.id == FIELD_MAX_FORWARDS:
            put_number(pen, max_forwards_left(text, field))
        else:
            put_number(pen, head.content_length)
        put_text(pen, "\r\n")
    put(pen, text + run_at, run_end - run_at)


cdef inline uint32_t forwarded_kind(const uint8_t* text, const field_t* field) noexcept nogil:
    """Which of the FIELD_FORWARDED fields it is; their names tell them apart by length and `P` of Port."""
    if field.name_len == 15:
        return FORWARDED_FOR
    if field.name_len == 17:
        return FORWARDED_PROTO
    if field.name_len == 16:
        return FORWARDED_PORT if text[field.name_at + 12] | 32 == c'p' else FORWARDED_HOST
    return FORWARDED_OTHER


cdef void put_forwarded(pen_t* pen, const head_t* head, const uint8_t* text,
                        const connection_t* client) noexcept nogil:
    """What fastlb says about the client, and what a trusted one has not said itself; but the port that
    the client of a proxy has connected to is known to that proxy alone."""
    cdef uint32_t seen = 0
    if client.flags & CONN_TRUSTED:
        seen = put_forwarded_for(pen, head, text, client)
    elif client.peer_len:
        put_text(pen, "X-Forwarded-For: ")
        put(pen, client.peer, client.peer_len)
        put_text(pen, "\r\n")
    if not seen & FORWARDED_PROTO:
        put_text(pen, "X-Forwarded-Proto: http\r\n")
    if head.host_len and not seen & FORWARDED_HOST:
        put_text(pen, "X-Forwarded-Host: ")
        put(pen, text + head.host_at, head.host_len)
        put_text(pen, "\r\n")
    if client.own_port and not seen:
        put_text(pen, "X-Forwarded-Port: ")
        put_number(pen, client.own_port)
        put_text(pen, "\r\n")


cdef uint32_t put_forwarded_for(pen_t* pen, const head_t* head, const uint8_t* text,
                                const connection_t* client) noexcept nogil:
    """One X-Forwarded-For: the values that came, in order, and the client that sent them. Returns
    which of the other fields are there."""
    cdef uint32_t i, kind, seen = 0
    cdef const field_t* field
    cdef bint begun = False
    for i in range(head.field_count):
        field = &head.fields[i]
        if field.id != FIELD_FORWARDED:
            continue
        kind = forwarded_kind(text, field)
        seen |= kind
        if kind == FORWARDED_FOR and field.value_len:
            put_text(pen, ", " if begun else "X-Forwarded-For: ")
            put(pen, text + field.value_at, field.value_len)
            begun = True
    if client.peer_len:
        put_text(pen, ", " if begun else "X-Forwarded-For: ")
        put(pen, client.peer, client.peer_len)
        begun = True
    if begun:
        put_text(pen, "\r\n")
    return seen


cdef void put_protocols(pen_t* pen, const head_t* head, const uint8_t* text,
                        const names_t* names) noexcept nogil:
    """Of the protocols that a request names those that it may ask for."""
    cdef uint32_t i, at, end, item_at = 0, item_len = 0
    cdef const field_t* field
    cdef bint begun = False
    put_text(pen, "Upgrade: ")
    for i in range(head.field_count):
        field = &head.fields[i]
        if field.id != FIELD_UPGRADE:
            continue
        at = field.value_at
        end = at + field.value_len
        while at <= end:
            at = list_item(text, at, end, &item_at, &item_len)
            if protocol_passes(names, text + item_at, item_len):
                if begun:
                    put_text(pen, ", ")
                put(pen, text + item_at, item_len)
                begun = True
    put_text(pen, "\r\n")


cdef void put_upgrade(pen_t* pen, const head_t* head, const uint8_t* text) noexcept nogil:
    """The Upgrade fields of a response as they came."""
    cdef uint32_t i
    cdef const field_t* field
    for i in range(head.field_count):
        field = &head.fields[i]
        if field.id == FIELD_UPGRADE:
            put_text(pen, "Upgrade: ")
            put(pen, text + field.value_at, field.value_len)
            put_text(pen, "\r\n")


cdef uint32_t request_head_size(const head_t* head) noexcept nogil:
    """At most so many bytes will request_head_write() write."""
    return head.bytes + 3 * head.host_len + 2 * head.field_count + ADDED_BYTES


cdef uint32_t request_head_write(worker_t* worker, uint8_t* into, const head_t* head,
                                 const uint8_t* text, exchange_t* exchange) noexcept nogil:
    """The request head as the backend gets it. Returns its length."""
    cdef pen_t pen
    pen.into = into
    pen.at = 0
    put(&pen, text + head.start_at, head.method_len)
    put_text(&pen, " ")
    if head.target_len == 0 or (text[head.target_at] != c'/' and head.flags & HEAD_ABSOLUTE):
        put_text(&pen, "*" if head.method == METHOD_OPTIONS and head.target_len == 0 else "/")
    put(&pen, text + head.target_at, head.target_len)
    put_text(&pen, " HTTP/1.1\r\n")
    if head.host_count == 0 and head.host_len == 0:
        exchange.host_gap = pen.at          # HTTP/1.0 without a name: the backend's goes here
    elif head.host_count == 0:
        put_text(&pen, "Host: ")
        put(&pen, text + head.host_at, head.host_len)
        put_text(&pen, "\r\n")
    put_fields(&pen, head, text, exchange.client.flags & CONN_TRUSTED != 0, head_passes_trailers(head))
    if head.flags & HEAD_CHUNKED:
        put_text(&pen, "Transfer-Encoding: chunked\r\n")
    put_forwarded(&pen, head, text, exchange.client)
    if exchange.flags & X_HTTP10:
        put(&pen, worker.settings.via10, worker.settings.via_len)
    else:
        put(&pen, worker.settings.via11, worker.settings.via_len)
    if head.flags & HEAD_TE_TRAILERS and head.version == 11:
        put_text(&pen, "TE: trailers\r\n")
        put_text(&pen, "Connection: TE" if not exchange.flags & X_UPGRADE else "Connection: TE, Upgrade")
        put_text(&pen, "\r\n")
    elif exchange.flags & X_UPGRADE:
        put_text(&pen, "Connection: Upgrade\r\n")
    if exchange.flags & X_UPGRADE:
        put_protocols(&pen, head, text, &worker.settings.names)
    put_text(&pen, "\r\n")
    return pen.at


cdef uint32_t response_head_write(worker_t* worker, const head_t* head, const uint8_t* text,
                                  bint rechunk, bint keep, bint to_http10) noexcept nogil:
    """The response head as the client gets it, into worker.frame. Returns its length, at most that of the
    head and of its fields' number, and 192."""
    cdef pen_t pen
    pen.into = worker.frame
    pen.at = 0
    put_text(&pen, "HTTP/1.1 ")
    put_number(&pen, head.status)
    put_text(&pen, " ")
    put(&pen, text + head.reason_at, head.reason_len)
    put_text(&pen, "\r\n")
    put_fields(&pen, head, text, False, rechunk and head_passes_trailers(head))
    if head.status >= 200 and not head.flags & HEAD_HAS_DATE:
        put(&pen, date_field(worker), DATE_FIELD_BYTES)
    if rechunk:
        put_text(&pen, "Transfer-Encoding: chunked\r\n")
    if head.status >= 200 or head.status == 101:
        put_connection(&pen, head, text, keep, to_http10)
    put_text(&pen, "\r\n")
    return pen.at


cdef inline void put_connection(pen_t* pen, const head_t* head, const uint8_t* text, bint keep,
                                bint to_http10) noexcept nogil:
    """A final response may carry Upgrade, as 426 must (RFC 9110 7.8, 15.5.22)."""
    cdef bint upgrade = head.flags & HEAD_HAS_UPGRADE or head.status == 101
    if keep and not to_http10:
        if not upgrade:
            return
        put_text(pen, "Connection: Upgrade")
    else:
        put_text(pen, "Connection: keep-alive" if keep else "Connection: close")
        if upgrade:
            put_text(pen, ", Upgrade")
    put_text(pen, "\r\n")
    put_upgrade(pen, head, text)


cdef const char* reason_of(uint32_t status) noexcept nogil:
    if status == 400:
        return "Bad Request"
    if status == 408:
        return "Request Timeout"
    if status == 413:
        return "Content Too Large"
    if status == 414:
        return "URI Too Long"
    if status == 421:
        return "Misdirected Request"
    if status == 431:
        return "Request Header Fields Too Large"
    if status == 501:
        return "Not Implemented"
    if status == 502:
        return "Bad Gateway"
    if status == 503:
        return "Service Unavailable"
    if status == 504:
        return "Gateway Timeout"
    return "HTTP Version Not Supported"


cdef uint32_t reply_write(worker_t* worker, uint32_t status, bint keep, bint to_http10, bint to_head,
                          uint32_t retry_after_s) noexcept nogil:
    """An answer of our own, with a body of one line, into worker.frame. Returns its length."""
    cdef pen_t pen
    cdef const char* reason = reason_of(status)
    pen.into = worker.frame
    pen.at = 0
    put_text(&pen, "HTTP/1.1 ")
    put_number(&pen, status)
    put_text(&pen, " ")
    put_text(&pen, reason)
    put_text(&pen, "\r\n")
    put(&pen, date_field(worker), DATE_FIELD_BYTES)
    put_text(&pen, "Content-Type: text/plain\r\nContent-Length: ")
    put_number(&pen, strlen(reason) + 5)
    if status == 503:
        put_text(&pen, "\r\nRetry-After: ")
        put_number(&pen, retry_after_s)
    if not keep:
        put_text(&pen, "\r\nConnection: close")
    elif to_http10:
        put_text(&pen, "\r\nConnection: keep-alive")
    put_text(&pen, "\r\n\r\n")
    if not to_head:
        put_number(&pen, status)
        put_text(&pen, " ")
        put_text(&pen, reason)
        put_text(&pen, "\n")
    return pen.at
