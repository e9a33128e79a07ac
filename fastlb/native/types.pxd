"""The structs of the data path, and who owns them.

A worker is one thread with one epoll loop. Everything below that is not marked as shared belongs
to one worker, and no other thread reads or writes it while the worker runs.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastlb.native.field_names cimport names_t
from fastlb.native.linux cimport iovec, sock_filter, sockaddr_storage, socklen_t


cdef extern from "atomics.h" nogil:
    ctypedef struct spin_t:
        int taken
    void spin_lock(spin_t* lock)
    void spin_unlock(spin_t* lock)
    uint64_t counter_read(const uint64_t* counter)
    void counter_add(uint64_t* counter, uint64_t amount)
    uint64_t counter_add_shared(uint64_t* counter, uint64_t amount)
    void counter_clear_shared(uint64_t* counter)
    uint32_t flag_read(const uint32_t* flag)
    void flag_write(uint32_t* flag, uint32_t value)
    uint32_t flag_swap(uint32_t* flag, uint32_t value)
    bint places_take(uint64_t* taken, uint64_t limit)
    void places_give(uint64_t* taken)
    uint64_t set_read(const uint64_t* members)
    bint set_add(uint64_t* members, uint32_t member)
    bint set_remove(uint64_t* members, uint32_t member)
    uint32_t set_first(uint64_t members, uint32_t start)


cdef extern from "uring.h" nogil:
    ctypedef struct uring_t:
        int fd
        uint32_t queued
    int uring_open(uring_t* ring)
    void uring_close(uring_t* ring)
    void uring_send(uring_t* ring, uint64_t id, int fd, const void* of, uint32_t len)
    void uring_submit(uring_t* ring)
    int uring_result(uring_t* ring, uint64_t* id, int32_t* sent)


# What a step of work came to.
ctypedef enum step_t:
    STEP_BLOCKED      # nothing more until epoll reports a change
    STEP_AGAIN        # there is more to do, but it is the others' turn
    STEP_EOF          # this piece of work has ended well
    STEP_FAILED       # it has ended badly; errno and side are in the struct

ctypedef enum side_t:
    SIDE_NONE
    SIDE_SOURCE
    SIDE_TARGET
    SIDE_MESSAGE      # the source broke the rules of the message's framing

# connection_t.role: which room its events go to.
ctypedef enum role_t:
    ROLE_FREE
    ROLE_LISTENER
    ROLE_HTTP_CLIENT
    ROLE_TCP_CLIENT
    ROLE_UPSTREAM
    ROLE_LINGER       # answered and shut; reads what is left so that the answer is not destroyed
    ROLE_PROXIED      # a client whose PROXY header is not complete; `requests` says what it will be
    ROLE_CUT          # will be reset as soon as its peer has what was sent before

# connection_t.flags
cdef enum:
    CONN_READABLE = 1        # recv may find something
    CONN_HANGUP = 2          # epoll reported a FIN: read on until recv returns 0
    CONN_BROKEN = 4          # epoll reported an error or a full hang-up
    CONN_CONNECTING = 8
    CONN_REUSED = 16         # came out of the pool of idle upstream connections
    CONN_NODELAY = 32        # TCP_NODELAY is set, or needs not be
    CONN_SENT_ONCE = 64
    CONN_IDLE = 128          # in the pool of idle upstream connections
    CONN_TCP = 256           # not a UNIX socket
    CONN_TRUSTED = 512       # what this client says about others is believed
    CONN_BATCHED = 1024      # its outbox is sent at the end of the turn
    CONN_UNSENT = 2048       # the kernel has taken nothing of its outbox yet
    CONN_URGENT = 4096       # urgent data has come: a short read may end at its mark
    CONN_PRIVATE = 8192      # of a backend, authenticated for one client: see bound.pxd

# Time-out classes: all members of a class wait equally long.
cdef enum:
    TIMER_NONE
    TIMER_CONNECT
    TIMER_HEADER
    TIMER_FRESH       # an HTTP client that has sent nothing yet; as long as TIMER_IDLE
    TIMER_IDLE
    TIMER_KEEPALIVE
    TIMER_RESPONSE
    TIMER_TUNNEL
    TIMER_SEND        # SEND_LOOKS of these are --send-timeout
    TIMER_FIN
    TIMER_POOL
    TIMER_QUEUE
    TIMER_LINGER
    TIMER_SILENCE     # of a client that has its answer and may send on
    TIMER_CUT
    TIMER_ACCEPT
    TIMER_ROOM        # waiting for a place or a descriptor of another worker's idle connections
    TIMER_CLASSES

# half_t.framing: how the end of what flows is found.
ctypedef enum framing_t:
    FRAME_NONE        # no body
    FRAME_LENGTH      # Content-Length
    FRAME_CHUNKED
    FRAME_CLOSE       # until the source's EOF
    FRAME_RAW         # a session or a tunnel: until EOF, passed on as FIN

# exchange_t.phase, in the order in which they follow each other.
ctypedef enum phase_t:
    PHASE_REQUEST     # its head is complete, and the body that is waited for is not
    PHASE_QUEUED
    PHASE_CONNECTING
    PHASE_HEAD        # the request is sent, the response head awaited
    PHASE_DATA
    PHASE_DONE

# exchange_t.failure: why no backend took the exchange.
ctypedef enum failure_t:
    FAIL_NONE
    FAIL_NO_BACKEND   # none in the plan
    FAIL_REFUSED
    FAIL_BROKEN       # it took the request and closed without an answer
    FAIL_TIMEOUT
    FAIL_LOCAL        # descriptors or memory of this machine
    FAIL_PORTS        # local ports, which are counted for each destination
    FAIL_QUEUE_FULL
    FAIL_QUEUE_TIMEOUT

# event_t.kind, in the order of model.events.EventKind.
cdef enum:
    EVENT_CONNECT_FAILED
    EVENT_BACKEND_FAILED
    EVENT_ACCEPT_PAUSED
    EVENT_ACCEPT_RESUMED
    EVENT_BUFFERS_FULL
    EVENT_BACKEND_ERROR
    EVENT_NO_PORTS

# settings_t.eject_errors: which statuses of a backend count as failures; see model.config.
cdef enum:
    EJECT_OFF
    EJECT_GATEWAY
    EJECT_ALL

# letter_t.kind
cdef enum:
    LETTER_LISTEN     # value: descriptor; role: ROLE_HTTP_CLIENT or ROLE_TCP_CLIENT, and LISTEN_PROXIED
    LETTER_PURGE      # close idle connections to backends that are not in the plan
    LETTER_END        # end exchanges; value: slot of their backend; role: who ends them
    LETTER_DEAF       # a drain begins: let no new client in
    LETTER_DRAIN      # and close what is idle
    LETTER_STOP
    LETTER_PAUSE
    # From one worker to another:
    LETTER_ROOM       # close an idle connection, or hand it over; value: slot, or -1; role: who asks
    LETTER_TAKE       # an idle connection; value: descriptor; role: slot of its backend
    LETTER_CROWDED    # let the longest idle client go; value: how many workers may be asked after this one

# letter_t.role of LETTER_LISTEN, on top of the role: each client begins with a PROXY header.
cdef enum:
    LISTEN_PROXIED = 256

# exchange_t.flags
cdef enum:
    X_COUNTED = 1            # holds a unit of its backend
    X_HTTP = 2
    X_HTTP10 = 4             # the client speaks HTTP/1.0
    X_HEAD = 8               # the method is HEAD
    X_IDEMPOTENT = 16
    X_UPGRADE = 32           # an upgrade was asked for and passed on
    X_TUNNEL = 64
    X_KEEP_CLIENT = 128
    X_KEEP_UPSTREAM = 256
    X_REPLAYABLE = 512       # all that was received of the request is still in `replay`
    X_RETRIED = 1024         # the stale-connection retry is spent
    X_ANSWERED = 2048        # bytes of a response went to the client
    X_READY = 4096           # in the worker's list of unfinished work
    X_WAITING = 8192         # in the balancer's queue
    X_REQUEST_LOST = 16384   # the backend stopped reading; its response may still come
    X_CONTINUED = 32768      # an interim response went to the client
    X_CUT = 65536            # its response has broken off; the client gets what there is of it
    X_WANTING = 131072       # in the worker's list of those that wait for room
    X_REST = 262144          # the client has its whole response; the rest of the request is on its way
    X_EXPECTS = 524288       # the client may wait for an answer before it sends its body
    X_PRIVATE = 1048576      # its request authenticates the connection that it is sent on

cdef enum:
    TRIES_MAX = 10           # model.limits.TRIES_MAX
    REST_MAX_BYTES = 65536   # of a request with its answer that are thrown away, for the next one
    SEND_LOOKS = 4           # in one --send-timeout, at whether the client takes anything
    METHOD_MAX_BYTES = 15
    TARGET_MAX_BYTES = 255
    PEER_MAX_BYTES = 46
    SCRATCH_BYTES = 65536
    PIPES_MAX = 64
    BUFFER_CLASSES = 4
    BACKENDS_CHUNK = 1024
    MAILBOX_LETTERS = 64
    WORKERS_LIMIT = 64
    FILTER_STEPS = 5
    EVENTS_PER_TURN = 256
    BATCH_MAX = 64           # uring.h has as many entries
    SLAB_CHUNK = 128
    CLIENT_CHAINS = 16384
    CLIENT_KEY_BYTES = 16


# A piece of memory for bytes in flight; the bytes follow the struct.
# OWNER: whoever points to it; back to the worker's pool with buffer_give().
cdef struct buffer_t:
    buffer_t* next
    uint32_t size_class
    uint32_t cap_bytes
    uint32_t start           # first byte not yet used
    uint32_t end             # one past the last

cdef struct slab_t:
    uint8_t** chunks
    uint32_t object_bytes
    uint32_t chunk_count
    uint32_t free_head       # index + 1; 0 = none
    uint32_t live

# The two ends of a client's connection, as a PROXY header announces them.
# OWNER: in connection_t, the client's connection, until it is closed.
cdef struct ends_t:
    uint8_t family           # AF_INET, AF_INET6; AF_UNSPEC: unknown
    uint16_t source_port
    uint16_t target_port
    uint8_t source[16]       # in network order; IPv4 uses four of them
    uint8_t target[16]

# Connections of one address. SHARED, behind the lock of the table; freed with the last of them.
cdef struct client_count_t:
    client_count_t* next
    uint32_t connections
    uint32_t chain
    uint8_t key[CLIENT_KEY_BYTES]    # IPv4 in its mapped form; of IPv6 the first half

# SHARED by all workers.
cdef struct client_counts_t:
    spin_t lock
    uint64_t secret
    client_count_t* chains[CLIENT_CHAINS]

# Where trusted proxies are. IPv4 is never written in its IPv6-mapped form here.
cdef struct network_t:
    uint8_t family
    uint8_t prefix_bits
    uint8_t address[16]

# OWNER: the balancer's lock. Lives in the exchange that waits.
cdef struct waiter_t:
    waiter_t* prev
    waiter_t* next
    void* exchange
    const int32_t* tried     # slots it must not be given
    uint32_t tried_count
    uint32_t worker_id
    uint32_t slot
    uint32_t in_flight

# One of the addresses of a backend, ready for connect().
cdef struct site_t:
    socklen_t len
    sockaddr_storage address

# A backend as the data path sees it. SHARED: made by the control plane before its slot is first
# published, never moved, freed with the engine. Counters are relaxed atomics. Another address gets the
# slot, and the struct, once no connection and no exchange knows of the one before.
cdef struct backend_t:
    uint32_t slot
    uint32_t known           # added and not removed
    uint32_t eligible        # in the current plan
    uint32_t proxy_version   # of the header that its connections begin with; 0: none
    site_t* sites
    uint32_t site_count
    uint32_t preferred       # the one that worked last
    uint64_t picked
    uint64_t connects
    uint64_t failures
    uint64_t failed_in_a_row
    uint64_t open            # connections, see places.pxd
    uint64_t wanted          # set of workers that wait for one
    uint32_t conns_max       # that may be open; 0 = no limit
    uint32_t own_port        # a connect may meet itself: see model/own_ports.py
    uint64_t bytes_in
    uint64_t bytes_out
    char host_line[80]           # for requests that bring no Host
    uint32_t host_line_len

# One access-log line before it is written. Copied whole into the worker's ring.
cdef struct record_t:
    uint64_t start_ns        # CLOCK_MONOTONIC
    uint64_t bytes_in
    uint64_t bytes_out
    int32_t tried[TRIES_MAX]     # slots, in order
    int64_t queue_us
    int64_t connect_us
    int64_t first_byte_us
    uint64_t total_us
    uint32_t in_flight
    uint16_t status
    uint16_t port
    uint8_t tries            # connections too: a stale one and a fresh one are two
    uint8_t tried_count
    uint8_t family
    uint8_t method_len
    uint8_t target_len
    char who
    char phase
    uint8_t peer_len
    char peer[PEER_MAX_BYTES]
    char method[METHOD_MAX_BYTES]
    char target[TARGET_MAX_BYTES]

# What the control plane is told. Copied into the worker's event ring.
cdef struct event_t:
    uint32_t kind
    int32_t slot
    int32_t error
    uint32_t in_a_row

# One direction of an exchange: bytes from `source` to `target`.
cdef struct half_t:
    connection_t* source
    connection_t* target
    uint64_t remaining_bytes     # FRAME_LENGTH, and the rest of a chunk
    uint64_t room_bytes          # that further chunks may have, all together
    uint64_t taken_bytes         # read from the source for this message, framing included
    uint64_t moved_bytes         # handed to the target, framing included
    uint64_t seen_bytes          # see relay_progress()
    buffer_t* trailers           # of the message, until their end has come and they are sent; or NULL
    buffer_t** keep              # a copy of all that is sent goes there, for a retry; or NULL
    uint32_t piped_bytes
    uint32_t pipe_bytes          # that the pipe can hold
    int pipe_r
    int pipe_w
    int error_errno
    uint16_t chunk_line_bytes
    uint16_t trailer_bytes
    uint8_t chunk_digits
    uint8_t chunk_state
    uint8_t framing
    uint8_t error_side
    uint8_t padded               # space behind a chunk size is accepted: some servers write it
    uint8_t rechunk              # frame what goes out as chunks
    uint8_t trailing             # and pass trailers on
    uint8_t closes               # its end is a FIN to the target
    uint8_t source_done          # the whole message was read
    uint8_t shut                 # FIN went to the target
    uint8_t full_reads           # reads in a row that filled the scratch
    uint8_t small_reads          # splices in a row that brought little
    uint8_t splicing
    uint8_t flows                # the target took the last pipe whole, and at once
    uint8_t splice_refused       # the kernel cannot splice these descriptors
    uint8_t starved              # memory is short: nothing is read that the target would not take at once

# One request and its response, or one TCP session.
# OWNER: the worker of its client, from exchange_open() to exchange_close().
cdef struct exchange_t:
    uint32_t index
    uint32_t generation
    exchange_t* ready_next
    exchange_t* want_next
    connection_t* client
    connection_t* upstream
    backend_t* backend
    buffer_t* replay             # request head and what came with it, until the response starts
    uint32_t replay_sent
    uint32_t flags
    uint8_t phase
    uint8_t method
    uint8_t failure              # why nothing was connected: failure_t
    uint8_t sites_left           # of its backend, that this try has not been at
    int32_t refused              # errno of one that this try has been at; 0: of none
    uint32_t host_gap            # where a Host line goes into `replay`; 0 = it has one
    uint64_t counted_in          # bytes that the ledger knows of already
    uint64_t counted_out
    uint64_t queued_ns
    uint64_t picked_ns
    uint64_t connect_ns
    uint64_t rest_ns             # when the rest of the request began to be thrown away
    half_t request
    half_t response
    waiter_t waiter
    record_t record

# One socket that the engine owns, client side or upstream side, or one listener.
# OWNER: the worker that accepted or opened it, from connection_open() to connection_close().
# Slab memory never moves; `generation` unmasks stale events.
cdef struct connection_t:
    uint32_t index
    uint32_t generation          # +1 whenever the slot is given back
    int fd                       # closed once, in connection_close()
    uint16_t flags
    uint8_t role
    uint8_t timer_class
    uint8_t family
    uint8_t peer_len
    uint8_t site                 # upstream only: the address of its backend that it goes to
    uint16_t port
    int error                    # errno of the last failed recv or send
    uint32_t requests            # heads completed on it
    uint64_t deadline_ns         # CLOCK_MONOTONIC
    connection_t* timer_prev
    connection_t* timer_next
    connection_t* partner        # a client's idle private connection, and the other way round
    connection_t* idle_prev      # in the pool of idle upstream connections
    connection_t* idle_next
    exchange_t* exchange
    backend_t* backend           # upstream only
    buffer_t* inbox              # received, not used yet
    buffer_t* outbox             # refused by the kernel so far
    void* head                   # head_t of a request or response that is not complete yet
    ends_t* announced            # by a PROXY header that named the client; or NULL
    client_count_t* counted      # among those of its address; or NULL
    uint64_t since_ns            # first byte of the request; ROLE_LINGER: its end; ROLE_CUT: last progress
    uint32_t unacked_bytes       # that its peer had not acknowledged when it was last looked at
    uint32_t looks               # at it, since the peer has taken anything
    char peer[PEER_MAX_BYTES]    # text of the client's address; empty for a UNIX socket
    uint16_t own_port            # where the client connected to; of a listener, too; 0 = a UNIX socket

cdef struct timer_list_t:
    connection_t* head
    connection_t* tail

cdef struct idle_list_t:
    connection_t* head
    connection_t* bound          # idle private ones
    uint32_t count

cdef struct pipe_t:
    int r
    int w
    uint32_t bytes               # that it can hold

# One writer (the worker) and one reader (the control plane), no lock: the writer moves `tail`,
# the reader moves `head`. SHARED.
cdef struct ring_t:
    uint8_t* slots
    uint32_t slot_bytes
    uint32_t mask
    uint64_t head
    uint64_t tail
    uint64_t dropped

# Counters of one worker. Written by it alone, read by the control plane. SHARED.
cdef struct ledger_t:
    uint64_t clients_opened
    uint64_t clients_refused     # their address had as many as it may
    uint64_t begun               # exchanges, those that are still open included
    uint64_t exchanges
    uint64_t retries
    uint64_t retries_denied
    uint64_t bytes_in
    uint64_t bytes_out
    uint64_t statuses[6]

# A request of the control plane to one worker. SHARED, behind its lock.
cdef struct letter_t:
    uint32_t kind
    int32_t value
    uint32_t role

cdef struct mailbox_t:
    spin_t lock
    letter_t letters[MAILBOX_LETTERS]
    uint32_t head
    uint32_t tail
    uint32_t obeyed              # letters, all told; written by the worker

# What every worker reads and the control plane wrote before the workers started.
cdef struct settings_t:
    uint64_t timeout_ns[TIMER_CLASSES]
    uint64_t linger_ns           # in all, of a client that sends on
    uint32_t header_bytes
    uint32_t line_bytes
    uint32_t fields
    names_t names                # of fields that mean something
    names_t head_names           # of fields that do not pass as trailers
    uint64_t body_bytes          # of a request; 0 = no limit
    uint32_t request_buffer_bytes    # of its body, awaited before a pick; 0 = none
    uint64_t buffer_bytes        # of one worker; 0 = no limit
    uint32_t queue_depth
    uint32_t idle_max            # idle connections to one backend in one worker
    uint32_t access_on
    uint32_t eject_errors
    uint32_t tries               # backends that one exchange may meet
    uint32_t workers
    uint32_t batch_events        # a turn with so many events sends in batches
    uint64_t connections_max
    uint32_t client_connections_max      # of one address; 0 = no limit
    int wake_fds[WORKERS_LIMIT]  # the eventfd of every worker
    network_t* trusted           # proxies that are believed
    uint32_t trusted_count
    uint32_t trusted_unix        # and peers of UNIX sockets
    char via10[96]               # the Via field, ready to be copied
    char via11[96]
    uint32_t via_len
    sock_filter no_syn[FILTER_STEPS]     # see model/handshake.py

# OWNER: its thread, while it runs.
cdef struct worker_t:
    uint32_t id
    int epfd
    int wake_fd                  # eventfd; written by anyone
    uint64_t now_ns              # read once for each turn of the loop
    settings_t* settings
    void* balancer               # balancer_t, SHARED
    void* retry_budget           # retry_budget_t, SHARED
    backend_t*** backends        # chunks of pointers by slot, SHARED
    worker_t** peers             # all workers, by id; SHARED
    uint64_t* clients_total      # SHARED by all workers
    client_counts_t* client_counts       # SHARED by all workers; NULL without a limit
    slab_t connections
    slab_t exchanges
    timer_list_t timers[TIMER_CLASSES]
    mailbox_t mailbox
    uring_t uring
    uint64_t batch[BATCH_MAX]    # handles of connections to send for
    uint32_t batch_count
    uint32_t turn_events         # how many epoll reported this time
    uint32_t full_turns          # polls in a row that had more to tell than one takes
    uint64_t asked_ns            # when the first of them was made
    uint64_t heard_ns            # all that had come by then is known
    uint32_t batching            # they are many, and there is a ring
    exchange_t* ready_head
    exchange_t* ready_tail
    exchange_t* wanting          # that wait for a place or a descriptor
    idle_list_t* idle            # by slot
    uint32_t idle_cap
    buffer_t* buffers[BUFFER_CLASSES]
    uint32_t buffer_count[BUFFER_CLASSES]
    uint64_t buffer_bytes        # in use, in the pool, and what pipes hold
    uint32_t buffers_full        # the limit was reached, and the control plane told
    uint32_t buffers_made        # in use and in the pool
    pipe_t pipes[PIPES_MAX]
    uint32_t pipe_count
    uint32_t pipes_made          # in use and in the pool
    uint32_t pipes_small         # the kernel allows this user no large ones
    uint8_t* scratch             # SCRATCH_BYTES; holds what recv() brought until it is used
    uint8_t* frame               # small messages are put together here before one send()
    void* head                   # head_t; a head that arrives whole needs no memory of its own
    ring_t access
    ring_t events
    ledger_t ledger
    uint32_t* retry_after_s      # SHARED: of the current plan
    uint32_t draining
    uint32_t stopping
    uint32_t paused              # SHARED: standing still so that its objects can be counted
    uint32_t resume              # SHARED
    uint32_t accept_paused
    uint32_t closing             # the listeners go once their accept queues are empty
    uint32_t listening           # SHARED: listeners still open
    uint32_t listen_refused      # SHARED: how many could not be opened
    uint32_t* log_armed          # SHARED: the control plane sleeps and wants to be woken
    int log_fd                   # its eventfd
    uint64_t event_wake_ns       # when it was last woken for an event
    char date[40]                # see http_date.pyx
    uint64_t date_until_ns       # CLOCK_MONOTONIC; from then on it is another
