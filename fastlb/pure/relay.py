"""Moving bytes between two connections until both directions have ended.

The end of one direction is passed on as FIN behind what is buffered, and the other goes on
(RFC 9293 3.6). A reset is passed on as a reset, so that a truncated stream never looks whole.
A reader that stalls stops the sender: at most one write buffer and one read are held for it.
"""

import asyncio
import time
from collections.abc import Callable

from fastlb.pure.accounting import Record
from fastlb.pure.buffers import Buffers
from fastlb.pure.connection import Connection
from fastlb.pure.timers import Deadline
from fastlb.pure.upstream import UpstreamConnection

# How often a side that has sent FIN is asked whether a reset has followed.
_RESET_CHECK_S = 0.25


class Relay:
    """One session between a client and a backend.

    `idle_s`: no byte in either direction. `fin_s`: the same after one side has sent FIN.
    `ended` is called once, with the termination code, when both sockets are closed.
    """

    __slots__ = (
        "_buffers",
        "_client",
        "_client_lost",
        "_code",
        "_deadline",
        "_ended",
        "_fin_s",
        "_idle_s",
        "_record",
        "_reset_check",
        "_upstream",
        "_upstream_lost",
    )

    def __init__(
        self,
        client: Connection,
        upstream: UpstreamConnection,
        *,
        record: Record,
        deadline: Deadline,
        idle_s: float,
        fin_s: float,
        buffers: Buffers,
        ended: Callable[[str], None],
    ) -> None:
        self._client = client
        self._upstream = upstream
        self._record = record
        self._deadline = deadline
        self._idle_s = idle_s
        self._fin_s = fin_s
        self._buffers = buffers
        self._ended = ended
        self._code = "--"
        self._client_lost = False
        self._upstream_lost = False
        self._reset_check: asyncio.TimerHandle | None = None

    def start(self, from_client: bytes, from_upstream: bytes) -> None:
        """Begin with what was read before; `from_client` is counted already."""
        self._touch()
        if from_client:
            self._upstream.send(from_client)
        if from_upstream:
            self.upstream_data(from_upstream)
        self._upstream.resume()
        if self._upstream.full:
            self._client.pause()
        else:
            self._client.resume()
        if self._client.eof:
            self.client_eof()

    def expired(self) -> None:
        """Reset a session in which nothing moves any more; the code names the side that owes."""
        waits_for_client = self._client.full or not self._client.eof
        self._reset("cD" if waits_for_client else "sD")

    def kill(self) -> None:
        """Reset both sides."""
        self._reset("KD")

    def _reset(self, code: str) -> None:
        self._code = code
        self._client.reset()
        self._upstream.reset()

    def _hold(self, connection: Connection) -> None:
        """Its buffer is full. Without memory for it the session ends, but not inside of its write."""
        if not self._buffers.hold(connection):
            self._upstream.backend.loop.call_soon(self._reset, "RD")

    # --- the client side --------------------------------------------------------------------

    def client_data(self, data: bytes) -> None:
        self._record.bytes_in += len(data)
        self._upstream.send(data)
        if self._upstream.full:
            self._client.pause()
        self._touch()

    def client_eof(self) -> None:
        self._upstream.finish()
        self._close_if_done()

    def client_lost(self, error: Exception | None) -> None:
        self._client_lost = True
        self._side_lost(error, "CD", self._upstream)

    def client_full(self) -> None:
        self._hold(self._client)
        self._upstream.pause()

    def client_drained(self) -> None:
        self._upstream.resume()
        self._touch()

    # --- the upstream side ------------------------------------------------------------------

    def upstream_data(self, data: bytes) -> None:
        if not self._record.first_byte_ns:
            self._record.first_byte_ns = time.monotonic_ns()
        self._record.bytes_out += len(data)
        self._client.send(data)
        if self._client.full:
            self._upstream.pause()
        self._touch()

    def upstream_eof(self) -> None:
        self._client.finish()
        self._close_if_done()

    def upstream_lost(self, error: Exception | None) -> None:
        self._upstream_lost = True
        self._side_lost(error, "SD", self._client)

    def upstream_full(self) -> None:
        self._hold(self._upstream)
        self._client.pause()

    def upstream_drained(self) -> None:
        self._client.resume()
        self._touch()

    # --- both -------------------------------------------------------------------------------

    def _touch(self) -> None:
        half_closed = self._client.eof or self._upstream.eof
        self._deadline.set(self._fin_s if half_closed else self._idle_s)

    def _close_if_done(self) -> None:
        self._touch()
        if self._client.eof and self._upstream.eof:
            self._client.close()
            self._upstream.close()
        elif self._reset_check is None:
            self._check_later()

    def _check_later(self) -> None:
        self._reset_check = self._upstream.backend.loop.call_later(_RESET_CHECK_S, self._check_reset)

    def _check_reset(self) -> None:
        """Who has sent FIN can still vanish; nothing is read there any more that would tell."""
        if self._client_lost or self._upstream_lost or (self._client.eof and self._upstream.eof):
            return
        gone, code = (self._client, "CD") if self._client.eof else (self._upstream, "SD")
        if gone.was_reset():
            self._reset(code)
        else:
            self._check_later()

    def _side_lost(self, error: Exception | None, code: str, other: Connection) -> None:
        if error is not None:
            if self._code == "--":
                self._code = code
            other.reset()
        if self._client_lost and self._upstream_lost:
            self._deadline.clear()
            if self._reset_check is not None:
                self._reset_check.cancel()
            self._ended(self._code)
