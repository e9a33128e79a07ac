"""The client side of HTTP: requests are taken from a connection one after the other.

While one exchange is open, what comes behind its request is held, and the socket is read no more
once that is more than a little: a client that pipelines costs bounded memory.
"""

import asyncio
import socket
import time

from fastlb.model.limits import LAST_REQUEST_S, LINGER_S, LINGER_SILENCE_S
from fastlb.pure.accounting import Record
from fastlb.pure.http1 import Refused, parse_request, request_line
from fastlb.pure.http_exchange import HttpExchange
from fastlb.pure.http_head import answer
from fastlb.pure.peer import Peer
from fastlb.pure.requester import ClientUser, Requester
from fastlb.pure.timers import Deadline
from fastlb.pure.worker import Worker

# How often a client that is to take the rest is looked at before its connection is closed.
_FLUSH_LOOK_S = 2.0
# How often a client that is to be reset is looked at, whether it has what was sent before.
_CUT_LOOK_S = 0.05
# What a client may send ahead of its next turn before we stop reading.
_HELD_MAX_BYTES = 16_384
# What may stand before a request line (RFC 9112 2.2), and is no part of a request.
_NO_HEAD = (b"", b"\r", b"\r\n")


class HttpClient(Requester):
    """A client connection of an HTTP listener."""

    __slots__ = (
        "_advancing",
        "_buffer",
        "_closing",
        "_counted_bytes",
        "_cut",
        "_fresh",
        "_linger_until_s",
        "_started_ns",
        "_taken_s",
        "_untaken_bytes",
        "_user",
        "_worker",
    )

    def __init__(self, worker: Worker, sock: socket.socket, peer: Peer) -> None:
        super().__init__(sock, peer, Deadline(worker.loop, self._expired), worker.buffers)
        self._worker = worker
        self._buffer = b""
        self._counted_bytes = 0  # of it, against the limit on memory
        self._user: ClientUser | None = None
        self._started_ns = 0  # first byte of a request whose head is not complete
        self._fresh = True  # nothing was ever received
        self._advancing = False
        self._closing = False  # whatever still comes is dropped
        self._cut = False  # it will be reset once it has what was sent
        self._linger_until_s = 0.0  # what comes keeps it open; 0: it does not
        self._untaken_bytes = 0  # when it was last looked at, while closing
        self._taken_s = 0.0  # and when it last took something

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.deadline.set(LAST_REQUEST_S if self._worker.draining else self._worker.timeouts.idle_s)
        self._worker.fresh[self] = self._worker.loop.time()

    # --- requests ---------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        user = self._user
        if user is not None:
            rest = user.client_data(data)
            if rest:
                self._hold(self._buffer + rest)
                if self._user is None and not self._closing:
                    self._advance()
        elif not self._closing:
            self._fresh = False
            self._worker.not_idle(self)
            self._buffer = self._buffer + data if self._buffer else data
            self._advance()
        elif self._linger_until_s and not self._worker.draining:
            if self._worker.loop.time() < self._linger_until_s:
                self.deadline.set(LINGER_SILENCE_S)
            else:
                self.abort()

    def tunnel(self, relay: ClientUser) -> bytes:
        self._user = relay
        buffer, self._buffer = self._buffer, b""
        self._count()
        return buffer

    def exchange_over(self, *, keep: bool, linger: bool, cut: bool = False) -> None:
        self._user = None
        if self.lost or self.transport.is_closing():
            return
        if cut:
            self._cut_off()
        elif keep:
            waited_s = self._worker.timeouts.keepalive_s
            self.deadline.set(LAST_REQUEST_S if self._worker.draining else waited_s)
            self._advance()
        elif linger or self._worker.draining:
            self._linger()
        else:
            self._closing = True
            self._wait_for_flush()
            self.close()

    def _advance(self) -> None:
        """Open exchanges until one has to wait for something."""
        if self._advancing:
            return
        self._advancing = True
        while (
            self._buffer not in _NO_HEAD
            and self._user is None
            and not self._closing
            and self._open_exchange()
        ):
            pass
        self._advancing = False
        if self._user is not None or self._closing or self.transport.is_closing():
            return
        self.resume()
        if self._buffer in _NO_HEAD:
            self._worker.kept[self] = self._worker.loop.time()

    def _open_exchange(self) -> bool:
        """Parse a head and start its exchange. False if there is no whole head."""
        if not self._started_ns:
            self._started_ns = time.monotonic_ns()
            self.deadline.clear()
        try:
            request = parse_request(self._buffer, self._worker.limits, self._worker.names)
        except Refused as refused:
            self._refuse(refused.status, "PR", *request_line(self._buffer))
            return False
        if request is None:
            if not self._worker.buffers.spare(len(self._buffer) - self._counted_bytes):
                self._refuse(503, "RR")
                return False
            self._count()
            self.deadline.set_once(self._worker.timeouts.header_s)
            return False
        rest, self._buffer = self._buffer[request.head_bytes :], b""
        if self._counted_bytes:
            self._count()
        record = Record(self.peer.label, self._started_ns)
        record.method = request.method
        record.target = request.received_target
        record.bytes_in = request.head_bytes
        self._started_ns = 0
        self.deadline.clear()
        if len(rest) < _HELD_MAX_BYTES:
            self.resume()  # a client that leaves must be seen
        self._user = exchange = HttpExchange(self._worker, self, request, record)
        rest = exchange.start(rest)
        if rest:
            self._hold(rest)
        return True

    def _hold(self, pipelined: bytes) -> None:
        """Keep what comes behind an open exchange; a FIN behind it can still be seen, up to a limit."""
        self._buffer = pipelined
        self._count()
        if self._user is None:
            return
        if len(pipelined) >= _HELD_MAX_BYTES or not self._worker.buffers.spare(0):
            self.pause()

    def _count(self) -> None:
        """Count what is held of a head that is not complete, or behind a request."""
        if self._counted_bytes != len(self._buffer):
            self._worker.buffers.change(self._counted_bytes, len(self._buffer))
            self._counted_bytes = len(self._buffer)

    def _refuse(
        self, status: int, code: str, method: bytes | None = None, target: bytes | None = None
    ) -> None:
        """Answer a request that was not understood or never completed, and close."""
        record = self._head_record()
        record.method = method
        record.target = target
        raw = answer(status, connection=b"close")
        record.status = status
        record.bytes_out = len(raw)
        self.send(raw)
        self._worker.accounts.finish(record, code)
        self._linger()

    def _head_record(self) -> Record:
        record = Record(self.peer.label, self._started_ns)
        record.bytes_in = len(self._buffer)
        self._buffer = b""
        self._count()
        self._started_ns = 0
        return record

    # --- the end ----------------------------------------------------------------------------

    def drain(self) -> None:
        """Close if nothing is going on; a request under way gets its answer and then the end."""
        if self._user is not None or self._started_ns:
            return
        if self._closing:
            if self._linger_until_s:
                self.deadline.set(LAST_REQUEST_S)
            return
        if self._fresh or self.has_unread():
            self.deadline.set(LAST_REQUEST_S)
        else:
            self._linger_idle()

    def give_way(self) -> bool:
        if self._closing or self.transport.is_closing() or self.has_unread():
            return False
        self._linger_idle()
        return True

    def kill(self) -> None:
        if self._user is not None:
            self._user.kill()
        elif self._started_ns:
            self._worker.accounts.finish(self._head_record(), "KR")
        self._closing = True
        self.reset()

    def _linger(self) -> None:
        """Send FIN and read on: a close with unread bytes would turn into a RST that destroys the answer
        on its way (RFC 9112 9.6)."""
        self._linger_until_s = self._worker.loop.time() + LINGER_S
        self._finish_and_wait(LAST_REQUEST_S if self._worker.draining else LINGER_SILENCE_S)

    def _linger_idle(self) -> None:
        """Send FIN, and close a little later: the next request may be on its way."""
        self._finish_and_wait(LAST_REQUEST_S)

    def _finish_and_wait(self, wait_s: float) -> None:
        self._closing = True
        self._worker.not_idle(self)
        self._buffer = b""
        self._count()
        self.resume()
        self.finish()
        self._wait_for_flush(wait_s)

    def _cut_off(self) -> None:
        """Close with RST once the client has what was sent before, which a RST would destroy."""
        self._closing = True
        self._cut = True
        self._buffer = b""
        self._wait_for_flush()
        self._look_at_rest()

    def _wait_for_flush(self, wait_s: float = _FLUSH_LOOK_S) -> None:
        self._untaken_bytes = self.untaken_bytes()
        self._taken_s = self._worker.loop.time()
        self.deadline.set(wait_s)

    def _look_at_rest(self) -> None:
        """A slow reader may take its time; one that takes nothing has that of any client."""
        before, self._untaken_bytes = self._untaken_bytes, self.untaken_bytes()
        now_s = self._worker.loop.time()
        if self._untaken_bytes < before:
            self._taken_s = now_s
        waits = self._untaken_bytes if self._cut else self.transport.get_write_buffer_size()
        if waits and now_s - self._taken_s < self._worker.timeouts.send_s:
            self.deadline.set(_CUT_LOOK_S if self._cut else _FLUSH_LOOK_S)
        elif self._cut:
            self.reset()
        else:
            self.abort()

    def _expired(self) -> None:
        if self._user is not None:
            self._user.expired()
        elif self._closing:
            self._look_at_rest()
        elif self._started_ns:
            self._refuse(408, "cR")
        else:
            self._linger_idle()

    def _client_left(self) -> None:
        """The client went away in the middle of a head."""
        record = self._head_record()
        record.status = 499
        record.unanswered = True
        self._worker.accounts.finish(record, "CR")

    # --- from the transport -----------------------------------------------------------------

    def pause(self) -> None:
        super().pause()
        self.watch()

    def hung_up(self) -> None:
        if self._user is not None:
            self._user.client_hung_up()

    def eof_received(self) -> bool:
        self.eof = True
        if self._user is not None:
            self._user.client_eof()
            return True
        if self._cut:
            return True
        if self._started_ns:
            self._client_left()
        self._closing = True
        self._wait_for_flush()
        self.close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self.bound is not None:
            self.bound.unbind().close()
        self.deadline.cancel()
        self._worker.not_idle(self)
        self._worker.buffers.let_go(self)
        if self._user is not None:
            self._user.client_lost(exc or self.reset_seen)
        elif self._started_ns:
            self._client_left()
        self._buffer = b""
        self._count()
        self._worker.client_lost(self)

    def pause_writing(self) -> None:
        self.full = True
        if self._user is not None:
            self._user.client_full()

    def resume_writing(self) -> None:
        self.drained()
        if self._user is not None:
            self._user.client_drained()
