"""See relay.pxd."""

from libc.errno cimport EAGAIN, EINTR, EINVAL, EPIPE, ENOMEM, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from fastlb.native.buffer cimport (
    BUFFER_BODY_BYTES, buffer_append, buffer_bytes, buffer_drop, buffer_length, buffer_spare, buffer_uncount,
)
from fastlb.native.connection cimport (
    connection_flush, connection_push, connection_receive, connection_room, connection_send,
    connection_writable,
)
from fastlb.native.chunked cimport (
    CHUNK_BAD, CHUNK_DONE, CHUNK_END_LF, CHUNK_HEAD_BYTES, CHUNK_SIZE, chunk_head_write, chunks_decode,
    trailers_filter,
)
from fastlb.native.linux cimport (
    F_SETPIPE_SZ, O_CLOEXEC, O_NONBLOCK, SPLICE_F_MOVE, SPLICE_F_NONBLOCK, close, fcntl, iovec,
    pipe2, read, call_splice,
)
from fastlb.native.types cimport (
    CONN_BATCHED, CONN_BROKEN, CONN_HANGUP, CONN_READABLE, CONN_URGENT, FRAME_CHUNKED, FRAME_CLOSE,
    FRAME_LENGTH, FRAME_NONE, FRAME_RAW, PIPES_MAX, SCRATCH_BYTES, SIDE_MESSAGE, SIDE_SOURCE, SIDE_TARGET,
    STEP_AGAIN, STEP_BLOCKED, STEP_EOF, STEP_FAILED, connection_t, counter_add, counter_add_shared,
    half_t, step_t, worker_t,
)

cdef enum:
    SPLICE_MIN_BYTES = 65536      # a message's rest that is worth a pipe
    STREAM_READ_BYTES = 16384     # of an unframed stream, as long as it is copied
    SPLICE_AFTER_READS = 1        # of these, full and in a row, and it is spliced
    SPLICE_SMALL_BYTES = 8192     # a stream that has become small again has had so little
    SPLICE_SMALL_READS = 4        # so many times in a row
    KEEP_MAX_BYTES = 65536        # of a request, for a retry
    PIPE_BYTES = 131072           # pages may be half empty, so it holds more than is put in at first
    PIPE_FLOW_BYTES = 524288      # for a target that takes all: fewer calls, where there is so much
    HELD_MAX_BYTES = 65536        # of a target that stops reading
    SHORT_READ_BYTES = 8192       # where memory is short
    BUDGET_BYTES = 1048576        # for one half in one turn; then it is the others' turn


cdef void relay_open(half_t* half, connection_t* source, connection_t* target, int framing,
                     uint64_t length, bint rechunk) noexcept nogil:
    memset(half, 0, sizeof(half_t))
    half.source = source
    half.target = target
    half.framing = framing
    half.remaining_bytes = length
    half.room_bytes = <uint64_t> -1
    half.padded = source != NULL and source.backend != NULL
    half.rechunk = rechunk
    half.closes = framing == FRAME_RAW
    half.chunk_state = CHUNK_SIZE
    half.pipe_r = half.pipe_w = -1
    half.source_done = framing == FRAME_NONE


cdef void relay_close(worker_t* worker, half_t* half) noexcept nogil:
    """Give the pipe back; one that is not empty is closed, or another exchange would get its
    bytes."""
    if half.pipe_r >= 0:
        pipe_give(worker, half)
    buffer_drop(worker, &half.trailers)


cdef inline step_t failed(half_t* half, int side, int error) noexcept nogil:
    half.error_side = side
    half.error_errno = error
    return STEP_FAILED


cdef step_t relay_pump(worker_t* worker, half_t* half) noexcept nogil:
    """Move what can be moved now.

    Returns: STEP_EOF      all of it has been handed to the target's kernel;
             STEP_BLOCKED  until epoll reports the source or the target;
             STEP_AGAIN    the budget of this turn is used up;
             STEP_FAILED   half.error_side and error_errno say why; a source that ended too early
                           has errno 0.
    """
    cdef uint64_t until = half.moved_bytes + BUDGET_BYTES
    cdef step_t step
    cdef bint short
    half.starved = False
    while True:
        if half.target.flags & CONN_BATCHED:
            return STEP_BLOCKED                      # until the end of this turn
        if half.target.outbox != NULL:
            step = connection_flush(worker, half.target)
            if step == STEP_BLOCKED:
                return STEP_BLOCKED
            if step == STEP_FAILED:
                return failed(half, SIDE_TARGET, half.target.error)
        if half.piped_bytes:
            step = pipe_drain(worker, half)
            if step != STEP_AGAIN:
                return step
            if not half.source_done:
                return STEP_AGAIN            # let more gather: fewer and larger splices
        if half.source_done:
            return STEP_EOF
        if half.moved_bytes >= until:
            return STEP_AGAIN
        short = not buffer_spare(worker, BUFFER_BODY_BYTES)
        if half.source.inbox == NULL and not half.source.flags & CONN_READABLE:
            step = STEP_BLOCKED
        elif short and not connection_writable(half.target):
            half.starved = True
            step = STEP_BLOCKED
        elif half.source.inbox != NULL:
            step = inbox_take(worker, half, short)
        elif splice_wanted(half) and not short:
            step = pipe_fill(worker, half)
        else:
            step = copy_once(worker, half, short)
        if step == STEP_FAILED:
            connection_push(half.target)     # what was to go with the source's FIN
            return STEP_FAILED
        if step == STEP_BLOCKED:
            if half.pipe_r >= 0 and half.piped_bytes == 0:
                pipe_give(worker, half)
            return STEP_BLOCKED


# ---- copy -----------------------------------------------------------------------------------

cdef step_t inbox_take(worker_t* worker, half_t* half, bint short) noexcept nogil:
    """What was received together with a head."""
    cdef connection_t* source = half.source
    cdef uint32_t used = 0, out, len = buffer_length(source.inbox)
    cdef uint8_t* text = buffer_bytes(source.inbox) + source.inbox.start
    cdef step_t step
    if short:
        len = min(len, <uint32_t> SHORT_READ_BYTES)
    out = relay_decode(worker, half, text, len, &used)
    if half.chunk_state == CHUNK_BAD:
        return message_bad(worker, half, text, out)
    step = relay_send(worker, half, text, out, NULL, 0)
    source.inbox.start += used
    if buffer_length(source.inbox) == 0:
        buffer_drop(worker, &source.inbox)
    return step


cdef step_t copy_once(worker_t* worker, half_t* half, bint short) noexcept nogil:
    cdef uint32_t room = SCRATCH_BYTES
    cdef ssize_t n
    if short:
        room = SHORT_READ_BYTES
    elif half.framing == FRAME_RAW and not half.splice_refused:
        room = STREAM_READ_BYTES
    n = connection_receive(half.source, worker.scratch, room)
    if n == 0:
        return source_ended(worker, half)
    if n == -EAGAIN:
        return STEP_BLOCKED
    if n < 0:
        return failed(half, SIDE_SOURCE, <int> -n)
    if <uint32_t> n < room:
        half.full_reads = 0
    elif half.full_reads < SPLICE_AFTER_READS:
        half.full_reads += 1
    return copied(worker, half, worker.scratch, <uint32_t> n)


cdef step_t source_ended(worker_t* worker, half_t* half) noexcept nogil:
    """EOF: the end of a stream, or a message that is cut off."""
    if half.framing != FRAME_RAW and half.framing != FRAME_CLOSE:
        return failed(half, SIDE_SOURCE, 0)
    half.source_done = True
    if half.rechunk:
        return relay_send(worker, half, NULL, 0, NULL, 0)
    return STEP_AGAIN


cdef step_t copied(worker_t* worker, half_t* half, uint8_t* text, uint32_t len) noexcept nogil:
    """Send on what was received. What stands behind the end of the message goes to the source's inbox."""
    cdef uint32_t used = 0
    cdef uint32_t out = relay_decode(worker, half, text, len, &used)
    if half.chunk_state == CHUNK_BAD:
        return message_bad(worker, half, text, out)
    if used < len and not buffer_append(worker, &half.source.inbox, text + used, len - used):
        return failed(half, SIDE_MESSAGE, ENOMEM)
    return relay_send(worker, half, text, out, NULL, 0)


cdef step_t message_bad(worker_t* worker, half_t* half, uint8_t* text, uint32_t len) noexcept nogil:
    """The framing breaks the rules behind `len` bytes of data, which are passed on."""
    cdef int error = half.error_errno
    relay_send(worker, half, text, len, NULL, 0)
    return failed(half, SIDE_MESSAGE, error)


cdef uint32_t relay_decode(worker_t* worker, half_t* half, uint8_t* text, uint32_t len,
                           uint32_t* used) noexcept nogil:
    """Take the message's own bytes to the front of `text`. Returns how many; sets source_done, or
    CHUNK_BAD as chunks_decode() does, and with ENOMEM if there is no memory for trailers."""
    cdef uint32_t out = len, seen_bytes
    used[0] = len
    if half.framing == FRAME_LENGTH:
        if half.remaining_bytes < len:
            out = <uint32_t> half.remaining_bytes
        used[0] = out
        half.remaining_bytes -= out
        half.source_done = half.remaining_bytes == 0
    elif half.framing == FRAME_CHUNKED:
        seen_bytes = half.trailer_bytes
        out = chunks_decode(half, text, len, used)
        half.source_done = half.chunk_state == CHUNK_DONE
        if half.trailer_bytes != seen_bytes and half.trailing:
            trailers_hold(worker, half, text + used[0], half.trailer_bytes - seen_bytes)
    elif half.framing == FRAME_NONE:
        used[0] = out = 0
    half.taken_bytes += used[0]
    return out


cdef void trailers_hold(worker_t* worker, half_t* half, const uint8_t* behind, uint32_t len) noexcept nogil:
    """Keep the `len` bytes of the trailer section before `behind`. Nothing of it is sent before its end
    has come and all of it was checked; then what must not pass is taken out."""
    if half.chunk_state == CHUNK_BAD or (half.chunk_state >= CHUNK_END_LF and half.trailer_bytes <= 2):
        return                                   # or the section is empty, as nearly all are
    if not buffer_append(worker, &half.trailers, behind - len, len):
        half.chunk_state = CHUNK_BAD
        half.error_errno = ENOMEM
    elif half.source_done:
        half.trailers.end = half.trailers.start + trailers_filter(
            buffer_bytes(half.trailers) + half.trailers.start, buffer_length(half.trailers),
            &worker.settings.head_names)


cdef step_t relay_send(worker_t* worker, half_t* half, uint8_t* text, uint32_t len,
                       uint8_t* before, uint32_t before_len) noexcept nogil:
    """Frame and send, behind the `before_len` bytes at `before` (a head); the last chunk goes out with
    the data before it."""
    cdef iovec pieces[5]
    cdef uint8_t chunk_head[CHUNK_HEAD_BYTES]
    cdef const char* ends = "\r\n0\r\n\r\n"
    cdef uint32_t count = 0, i
    cdef step_t step
    if before_len:
        pieces[count].iov_base = before
        pieces[count].iov_len = before_len
        count += 1
    if len and half.rechunk:
        pieces[count].iov_base = chunk_head
        pieces[count].iov_len = chunk_head_write(chunk_head, len)
        count += 1
    if len:
        pieces[count].iov_base = text
        pieces[count].iov_len = len
        count += 1
    if half.rechunk and (len or half.source_done):
        # CRLF behind the data, or the last chunk, or both.
        pieces[count].iov_base = <void*> (ends if len else ends + 2)
        pieces[count].iov_len = (2 if len else 0) + (last_chunk_bytes(half) if half.source_done else 0)
        count += 1
    if half.source_done and half.trailers != NULL:
        pieces[count].iov_base = buffer_bytes(half.trailers) + half.trailers.start
        pieces[count].iov_len = buffer_length(half.trailers)
        count += 1
    for i in range(1 if before_len else 0, count):
        half.moved_bytes += pieces[i].iov_len
    keep_copy(worker, half, pieces, count)
    step = connection_send(worker, half.target, pieces, count, fin_follows(half))
    if half.source_done:
        buffer_drop(worker, &half.trailers)
    if step == STEP_FAILED:
        return failed(half, SIDE_TARGET, half.target.error)
    return step


cdef inline bint fin_follows(const half_t* half) noexcept nogil:
    """True if what is sent now are the last bytes before a FIN to the target. Where the source's FIN
    is its end, epoll has reported it, and the rest is read in the same turn."""
    if half.source_done or half.framing != FRAME_RAW:
        return half.closes and half.source_done
    return half.source.flags & (CONN_HANGUP | CONN_BROKEN) == CONN_HANGUP


cdef void keep_copy(worker_t* worker, half_t* half, const iovec* pieces, uint32_t count) noexcept nogil:
    """Keep what is sent as long as it is short enough to be sent once more."""
    cdef uint32_t i
    if half.keep == NULL:
        return
    for i in range(count):
        if half.taken_bytes > KEEP_MAX_BYTES or not buffer_spare(worker, pieces[i].iov_len) \
                or not buffer_append(worker, half.keep, <const uint8_t*> pieces[i].iov_base,
                                     pieces[i].iov_len):
            half.keep = NULL
            return


# ---- splice ---------------------------------------------------------------------------------

cdef inline bint splice_wanted(half_t* half) noexcept nogil:
    if half.splice_refused or half.source.flags & CONN_URGENT:
        return False
    if half.framing == FRAME_LENGTH:
        return half.remaining_bytes >= SPLICE_MIN_BYTES or half.splicing
    if half.framing == FRAME_RAW:
        return half.splicing or half.full_reads >= SPLICE_AFTER_READS
    return False


cdef bint pipe_take(worker_t* worker, half_t* half) noexcept nogil:
    cdef int fds[2]
    if worker.pipe_count:
        worker.pipe_count -= 1
        half.pipe_r = worker.pipes[worker.pipe_count].r
        half.pipe_w = worker.pipes[worker.pipe_count].w
        half.pipe_bytes = worker.pipes[worker.pipe_count].bytes
        return True
    if pipe2(fds, O_NONBLOCK | O_CLOEXEC) != 0:
        return False
    if fcntl(fds[1], F_SETPIPE_SZ, PIPE_BYTES) < 0:
        close(fds[0])                            # the user's share of pipes is used up, and small ones
        close(fds[1])                            # cost more than a copy
        return False
    worker.pipes_made += 1
    half.pipe_r = fds[0]
    half.pipe_w = fds[1]
    half.pipe_bytes = PIPE_BYTES
    return True


cdef void pipe_give(worker_t* worker, half_t* half) noexcept nogil:
    if half.piped_bytes == 0 and worker.pipe_count < PIPES_MAX:
        worker.pipes[worker.pipe_count].r = half.pipe_r
        worker.pipes[worker.pipe_count].w = half.pipe_w
        worker.pipes[worker.pipe_count].bytes = half.pipe_bytes
        worker.pipe_count += 1
    else:
        close(half.pipe_r)
        close(half.pipe_w)
        worker.pipes_made -= 1
        buffer_uncount(worker, half.piped_bytes)
    half.pipe_r = half.pipe_w = -1
    half.piped_bytes = 0


cdef size_t pipe_room(worker_t* worker, half_t* half) noexcept nogil:
    """How much to take at once: what the target's kernel has room for, because what it refuses stays in
    the pipe for as long as its peer does not read, and cannot be put back. The pipe of a stream that flows
    becomes a large one, as long as memory is not short."""
    cdef uint64_t limit = worker.settings.buffer_bytes
    cdef size_t want = PIPE_FLOW_BYTES
    if not half.flows or worker.pipes_small or (limit and worker.buffer_bytes + PIPE_FLOW_BYTES > limit // 2):
        want = PIPE_BYTES
    if half.framing == FRAME_LENGTH and half.remaining_bytes < want:
        want = half.remaining_bytes
    if want <= HELD_MAX_BYTES:
        return want
    want = min(want, max(connection_room(half.target), <size_t> HELD_MAX_BYTES))
    if want > PIPE_BYTES and half.pipe_bytes < PIPE_FLOW_BYTES:
        if fcntl(half.pipe_w, F_SETPIPE_SZ, PIPE_FLOW_BYTES) < 0:
            worker.pipes_small = True
            return PIPE_BYTES
        half.pipe_bytes = PIPE_FLOW_BYTES
    return want


cdef step_t pipe_fill(worker_t* worker, half_t* half) noexcept nogil:
    """Source to pipe. The pipe is empty here, so EAGAIN means that the source is."""
    cdef size_t want
    cdef ssize_t n
    if half.pipe_r < 0 and not pipe_take(worker, half):
        half.splice_refused = True
        return STEP_AGAIN
    want = pipe_room(worker, half)
    while True:
        n = call_splice(half.source.fd, half.pipe_w, want, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
        if n >= 0 or errno != EINTR:
            break
    if n > 0:
        half.keep = NULL                     # it never was in user space
        half.splicing = True
        half.piped_bytes += <uint32_t> n
        counter_add(&worker.buffer_bytes, <uint64_t> n)
        half.taken_bytes += <uint64_t> n
        half.moved_bytes += <uint64_t> n
        if half.source.backend != NULL:
            counter_add_shared(&half.source.backend.bytes_in, <uint64_t> n)
        if half.framing == FRAME_LENGTH:
            half.remaining_bytes -= <uint64_t> n
            half.source_done = half.remaining_bytes == 0
        elif n >= SPLICE_SMALL_BYTES:
            half.small_reads = 0
        else:
            half.small_reads += 1
            if half.small_reads == SPLICE_SMALL_READS:
                half.splicing = False
                half.full_reads = half.small_reads = 0
        return STEP_AGAIN
    if n == 0:
        half.source.flags = (half.source.flags & ~CONN_READABLE) | CONN_HANGUP
        return source_ended(worker, half)
    if errno == EAGAIN:
        half.source.flags &= ~CONN_READABLE
        return STEP_BLOCKED
    if errno == EINVAL:
        half.splice_refused = True
        return STEP_AGAIN
    half.source.flags &= ~CONN_READABLE
    return failed(half, SIDE_SOURCE, errno)


cdef step_t pipe_drain(worker_t* worker, half_t* half) noexcept nogil:
    """Pipe to target. STEP_AGAIN if the pipe is empty now."""
    cdef ssize_t n
    while half.piped_bytes > 0:
        n = call_splice(half.pipe_r, half.target.fd, half.piped_bytes,
                        SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
        if n > 0:
            half.piped_bytes -= <uint32_t> n
            buffer_uncount(worker, <uint64_t> n)
            if half.target.backend != NULL:
                counter_add_shared(&half.target.backend.bytes_out, <uint64_t> n)
        elif n == -1 and errno == EINTR:
            continue
        elif n == -1 and errno == EAGAIN:
            half.flows = False
            return STEP_BLOCKED
        elif n == -1 and errno == EINVAL:
            half.splice_refused = True
            return pipe_copy(worker, half)
        else:                                # 0 with bytes waiting: the target is gone
            return failed(half, SIDE_TARGET, errno if n == -1 else EPIPE)
    half.flows = True
    return STEP_AGAIN


cdef step_t pipe_copy(worker_t* worker, half_t* half) noexcept nogil:
    """Pipe to target through user space, for a target that takes no splice."""
    cdef iovec piece
    cdef ssize_t n
    cdef step_t step = STEP_AGAIN
    piece.iov_base = worker.scratch
    while half.piped_bytes > 0 and step == STEP_AGAIN:
        n = read(half.pipe_r, worker.scratch, SCRATCH_BYTES)     # a pipe that holds bytes does not wait
        half.piped_bytes -= <uint32_t> n
        buffer_uncount(worker, <uint64_t> n)
        piece.iov_len = <size_t> n
        step = connection_send(worker, half.target, &piece, 1, False)
    return failed(half, SIDE_TARGET, half.target.error) if step == STEP_FAILED else step
