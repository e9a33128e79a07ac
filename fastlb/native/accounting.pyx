"""See accounting.pxd. The fields of a line are described in model/ledger.py.

Lines are rendered here, in one pass and without a Python object for each field: building a dict
and serialising it costs several times what the whole rest of an exchange costs in user space.
Only what needs escaping beyond ASCII is unusual, and targets cannot hold it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcpy, memset, strlen

from fastlb.native.balancer cimport balancer_blame, balancer_t
from fastlb.native.linux cimport gmtime_r, tm
from fastlb.native.mailbox cimport wake
from fastlb.native.types cimport (
    EJECT_ALL, EJECT_GATEWAY, EVENT_BACKEND_ERROR, TRIES_MAX, X_ANSWERED, counter_add, counter_add_shared,
    counter_clear_shared, event_t, exchange_t, flag_read, flag_swap, record_t, ring_t, worker_t,
)


cdef extern from *:
    """
    #define RING_LOAD(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define RING_STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    """
    uint64_t RING_LOAD(const uint64_t* place) nogil
    void RING_STORE(uint64_t* place, uint64_t value) nogil


cdef enum:
    EVENT_WAKE_NS = 2_000_000


# ---- rings ----------------------------------------------------------------------------------

cdef bint ring_init(ring_t* ring, uint32_t slot_bytes, uint32_t slots) noexcept nogil:
    """`slots` is a power of two. False without memory."""
    memset(ring, 0, sizeof(ring_t))
    ring.slots = <uint8_t*> calloc(slots, slot_bytes)
    ring.slot_bytes = slot_bytes
    ring.mask = slots - 1
    return ring.slots != NULL


cdef void ring_free(ring_t* ring) noexcept nogil:
    free(ring.slots)
    ring.slots = NULL


cdef void* ring_claim(ring_t* ring) noexcept nogil:
    """The slot to write next, or NULL and one more dropped."""
    if ring.tail - RING_LOAD(&ring.head) > ring.mask:
        counter_add(&ring.dropped, 1)
        return NULL
    return ring.slots + (ring.tail & ring.mask) * ring.slot_bytes


cdef void ring_commit(ring_t* ring) noexcept nogil:
    RING_STORE(&ring.tail, ring.tail + 1)


cdef void* ring_peek(ring_t* ring) noexcept nogil:
    """The oldest slot not read yet, or NULL. For the reader."""
    if ring.slots == NULL or RING_LOAD(&ring.tail) == ring.head:
        return NULL
    return ring.slots + (ring.head & ring.mask) * ring.slot_bytes


cdef void ring_advance(ring_t* ring) noexcept nogil:
    RING_STORE(&ring.head, ring.head + 1)


cdef inline void wake_reader(worker_t* worker) noexcept nogil:
    """The control plane arms this before it sleeps, so there is one wake-up for each sleep."""
    if flag_read(worker.log_armed) and flag_swap(worker.log_armed, 0):
        wake(worker.log_fd)


cdef inline void wake_soon(worker_t* worker) noexcept nogil:
    """For events the control plane is woken also between two of its turns: until it has ejected a
    backend that failed, every exchange that goes there costs a retry, and their number is limited."""
    if worker.now_ns - worker.event_wake_ns >= EVENT_WAKE_NS:
        worker.event_wake_ns = worker.now_ns
        wake(worker.log_fd)
    else:
        wake_reader(worker)


# ---- what workers write ---------------------------------------------------------------------

cdef void account_exchange(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """The exchange has ended: count it and, if there is an access log, record it. Once each."""
    cdef record_t* record = &exchange.record
    cdef record_t* slot
    account_progress(worker, exchange)
    record.bytes_in += exchange.request.taken_bytes
    record.bytes_out += exchange.response.moved_bytes
    counter_add(&worker.ledger.exchanges, 1)
    if exchange.flags & X_ANSWERED:
        counter_add(&worker.ledger.statuses[min(record.status // 100, 5)], 1)
    else:
        counter_add(&worker.ledger.statuses[0], 1)
    if not worker.settings.access_on:
        return
    slot = <record_t*> ring_claim(&worker.access)
    if slot == NULL:
        return
    record.total_us = (worker.now_ns - record.start_ns) // 1000
    # The target stands last in the struct, so what it does not use is not copied.
    memcpy(slot, record, sizeof(record_t) - sizeof(record.target) + record.target_len)
    ring_commit(&worker.access)
    wake_reader(worker)


cdef void account_progress(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """Count the bytes moved since the last call, so that long sessions show while they last."""
    cdef uint64_t bytes_in = exchange.record.bytes_in + exchange.request.taken_bytes - exchange.counted_in
    cdef uint64_t bytes_out = exchange.record.bytes_out + exchange.response.moved_bytes - exchange.counted_out
    if bytes_in:
        counter_add(&worker.ledger.bytes_in, bytes_in)
        exchange.counted_in += bytes_in
    if bytes_out:
        counter_add(&worker.ledger.bytes_out, bytes_out)
        exchange.counted_out += bytes_out


cdef void account_event(worker_t* worker, uint32_t kind, int32_t slot, int32_t error,
                        uint32_t in_a_row) noexcept nogil:
    cdef event_t* event = <event_t*> ring_claim(&worker.events)
    if event == NULL:
        return
    event.kind = kind
    event.slot = slot
    event.error = error
    event.in_a_row = in_a_row
    ring_commit(&worker.events)
    wake_soon(worker)


cdef void account_blame(worker_t* worker, exchange_t* exchange) noexcept nogil:
    """The backend of the exchange failed: it must not look idle because of that."""
    balancer_blame(<balancer_t*> worker.balancer, exchange.backend.slot)


cdef void account_failure(worker_t* worker, exchange_t* exchange, uint32_t kind,
                          int32_t error) noexcept nogil:
    """The backend of the exchange failed: blame it, count it and tell the control plane."""
    cdef uint64_t in_a_row = counter_add_shared(&exchange.backend.failed_in_a_row, 1)
    counter_add_shared(&exchange.backend.failures, 1)
    account_blame(worker, exchange)
    account_event(worker, kind, <int32_t> exchange.backend.slot, error, <uint32_t> in_a_row)


cdef void account_status(worker_t* worker, exchange_t* exchange, uint32_t status) noexcept nogil:
    """The backend has answered, which is a success unless its status counts as a failure. A server
    error is blamed also if it does not."""
    cdef uint32_t rule = worker.settings.eject_errors
    cdef bint failed = status >= 500 and status != 501 and status != 505
    if failed and (rule == EJECT_ALL or (rule == EJECT_GATEWAY and 502 <= status <= 504)):
        account_failure(worker, exchange, EVENT_BACKEND_ERROR, 0)
        return
    if failed:
        account_blame(worker, exchange)
    counter_clear_shared(&exchange.backend.failed_in_a_row)


# ---- lines ----------------------------------------------------------------------------------

cdef struct line_t:
    char* text
    size_t at


cdef inline void put(line_t* line, const char* text, size_t len) noexcept nogil:
    memcpy(line.text + line.at, text, len)
    line.at += len


cdef inline void put_text(line_t* line, const char* text) noexcept nogil:
    put(line, text, strlen(text))


cdef inline void put_char(line_t* line, char c) noexcept nogil:
    line.text[line.at] = c
    line.at += 1


cdef inline void put_number(line_t* line, uint64_t value) noexcept nogil:
    cdef char digits[20]
    cdef int at = 20
    while True:
        at -= 1
        digits[at] = <char> (c'0' + value % 10)
        value //= 10
        if value == 0:
            break
    put(line, digits + at, 20 - at)


cdef inline void put_padded(line_t* line, uint32_t value, int width) noexcept nogil:
    cdef int i
    for i in range(width - 1, -1, -1):
        line.text[line.at + i] = <char> (c'0' + value % 10)
        value //= 10
    line.at += width


cdef void put_string(line_t* line, const char* text, size_t len, bint as_json) noexcept nogil:
    """Text that holds no control characters: targets, methods and addresses."""
    cdef size_t i
    cdef char c
    if not as_json:
        put(line, text, len)
        return
    put_char(line, c'"')
    for i in range(len):
        c = text[i]
        if c == c'"' or c == c'\\':
            put_char(line, c'\\')
        put_char(line, c)
    put_char(line, c'"')


cdef inline void put_none(line_t* line, bint as_json) noexcept nogil:
    put_text(line, "null" if as_json else "-")


cdef struct second_t:
    int64_t second
    char text[20]             # 2026-01-31T23:59:59


cdef void put_time(line_t* line, second_t* cached, uint64_t wall_ns) noexcept nogil:
    """RFC 3339 in UTC with microseconds. The calendar is asked once a second."""
    cdef int64_t second = <int64_t> (wall_ns // 1_000_000_000)
    cdef tm parts
    cdef line_t part
    if cached.second != second:
        cached.second = second
        gmtime_r(&second, &parts)
        part.text = cached.text
        part.at = 0
        put_padded(&part, parts.tm_year + 1900, 4)
        put_char(&part, c'-')
        put_padded(&part, parts.tm_mon + 1, 2)
        put_char(&part, c'-')
        put_padded(&part, parts.tm_mday, 2)
        put_char(&part, c'T')
        put_padded(&part, parts.tm_hour, 2)
        put_char(&part, c':')
        put_padded(&part, parts.tm_min, 2)
        put_char(&part, c':')
        put_padded(&part, parts.tm_sec, 2)
    put(line, cached.text, 19)
    put_char(line, c'.')
    put_padded(line, <uint32_t> (wall_ns // 1000 % 1_000_000), 6)
    put_char(line, c'Z')


cdef inline void put_key(line_t* line, const char* key, bint as_json) noexcept nogil:
    """The separator and, in JSON, the key with its colon."""
    if as_json:
        put_text(line, key)
    else:
        put_char(line, c' ')


cdef inline void put_us(line_t* line, const char* key, int64_t value, bint as_json) noexcept nogil:
    put_key(line, key, as_json)
    if value < 0:
        put_text(line, "-1")
    else:
        put_number(line, <uint64_t> value)


cdef struct label_t:
    const char* text
    size_t len


cdef void put_tried(line_t* line, const label_t* labels, uint32_t count, bint as_json) noexcept nogil:
    """The labels of the backends tried, in order."""
    cdef uint32_t i
    put_key(line, ",\"tried\":", as_json)
    if as_json:
        put_char(line, c'[')
    elif count == 0:
        put_none(line, as_json)
    for i in range(count):
        if i:
            put_char(line, c',')
        put(line, labels[i].text, labels[i].len)
    if as_json:
        put_char(line, c']')


cdef void put_record(line_t* line, const record_t* record, const label_t* labels, second_t* cached,
                     uint64_t wall_offset_ns, bint as_json) noexcept nogil:
    cdef char code[2]
    cdef char peer[64]
    cdef line_t address
    cdef bint v6
    if as_json:
        put_text(line, "{\"time\":\"")
    put_time(line, cached, record.start_ns + wall_offset_ns)
    put_text(line, "\",\"client\":" if as_json else " ")
    address.text = peer
    address.at = 0
    v6 = memchr(record.peer, c':', record.peer_len) != NULL
    if v6:
        put_char(&address, c'[')
    if record.peer_len:
        put(&address, record.peer, record.peer_len)
    else:
        put_text(&address, "unix")
    if v6:
        put_char(&address, c']')
    if record.port:
        put_char(&address, c':')
        put_number(&address, record.port)
    put_string(line, peer, address.at, as_json)
    put_key(line, ",\"method\":", as_json)
    if record.method_len:
        put_string(line, record.method, record.method_len, as_json)
    else:
        put_none(line, as_json)
    put_key(line, ",\"target\":", as_json)
    if record.target_len:
        put_string(line, record.target, record.target_len, as_json)
    else:
        put_none(line, as_json)
    put_key(line, ",\"status\":", as_json)
    if record.status:
        put_number(line, record.status)
    else:
        put_none(line, as_json)
    put_key(line, ",\"backend\":", as_json)
    if record.tried_count:
        put(line, labels[record.tried_count - 1].text, labels[record.tried_count - 1].len)
    else:
        put_none(line, as_json)
    put_us(line, ",\"bytes_in\":", <int64_t> record.bytes_in, as_json)
    put_us(line, ",\"bytes_out\":", <int64_t> record.bytes_out, as_json)
    put_us(line, ",\"queue_us\":", record.queue_us, as_json)
    put_us(line, ",\"connect_us\":", record.connect_us, as_json)
    put_us(line, ",\"first_byte_us\":", record.first_byte_us, as_json)
    put_us(line, ",\"total_us\":", <int64_t> record.total_us, as_json)
    put_us(line, ",\"tries\":", record.tries, as_json)
    put_tried(line, labels, record.tried_count, as_json)
    put_us(line, ",\"in_flight\":", record.in_flight, as_json)
    put_key(line, ",\"code\":", as_json)
    code[0] = record.who
    code[1] = record.phase
    put_string(line, code, 2, as_json)
    if as_json:
        put_char(line, c'}')
    put_char(line, c'\n')


cdef enum:
    # Punctuation, keys and numbers, and a target and a method that double when escaped: 930. The
    # labels come on top, which have LABEL_MAX_BYTES before they are escaped.
    LINE_MAX_BYTES = 1024
    BATCH_BYTES = 524288


cdef label_t label_of(list labels, int32_t slot):
    """The label of a slot. `labels` owns the text."""
    cdef label_t found
    cdef bytes label = labels[slot]
    found.text = PyBytes_AS_STRING(label)
    found.len = PyBytes_GET_SIZE(label)
    return found


cdef bytes access_lines(ring_t* ring, list labels_json, list labels_text, bint as_json,
                        uint64_t wall_offset_ns):
    """Read the ring empty; without memory the rest waits in it. `labels_*` hold the label of each
    slot as bytes, ready to be copied."""
    cdef line_t line
    cdef second_t cached
    cdef const record_t* record
    cdef list labels = labels_json if as_json else labels_text
    cdef list batches = []
    cdef label_t tried[TRIES_MAX]
    cdef size_t labels_bytes
    cdef uint32_t i
    cached.second = -1
    line.at = 0
    line.text = <char*> malloc(BATCH_BYTES)
    try:
        record = <const record_t*> ring_peek(ring) if line.text != NULL else NULL
        while record != NULL:
            labels_bytes = 0
            for i in range(record.tried_count):
                tried[i] = label_of(labels, record.tried[i])
                labels_bytes += 2 * tried[i].len
            if line.at + LINE_MAX_BYTES + labels_bytes > BATCH_BYTES:
                batches.append(PyBytes_FromStringAndSize(line.text, line.at))
                line.at = 0
            put_record(&line, record, tried, &cached, wall_offset_ns, as_json)
            ring_advance(ring)
            record = <const record_t*> ring_peek(ring)
        batches.append(PyBytes_FromStringAndSize(line.text, line.at))
        return b"".join(batches)
    finally:
        free(line.text)
