"""Moving bytes between two connections until both directions have ended.

The end of one direction is passed on as FIN behind what is buffered, and the other goes on
(RFC 9293 3.6). A reset is passed on as a reset, so that a truncated stream never looks whole.
A reader that stalls stops the sender: at most one write buffer and one read are held for it.
"""

import time
from collections.abc import Callable

from fastlb.pure.accounting import Record
from fastlb.pure.buffers import Buffers
from fastlb.pure.connection import Connection
from fastlb.pure.timers import Deadline, Patience
from fastlb.pure.upstream import UpstreamConnection


class Relay:
    """One session between a client and a backend.

    `idle_s`: no byte in either direction. `fin_s`: the same after one side has sent FIN.
    `ended` is called once, with the termination code, when both sockets are closed; `silent` before,
    if the backend is the first to end and has not said a word.
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
        "_patience",
        "_record",
        "_silent",
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
        silent: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._upstream = upstream
        self._record = record
        self._deadline = deadline
        self._patience = Patience(deadline)
        self._idle_s = idle_s
        self._fin_s = fin_s
        self._buffers = buffers
        self._ended = ended
        self._silent = silent
        self._code = "--"
        self._client_lost = False
        self._upstream_lost = False

    def start(self, from_client: bytes, from_upstream: bytes) -> None:
        """Begin with what was read before; `from_client` is counted already."""
        self._touch()
        if from_client:
            self._upstream.send(from_client)
        if from_upstream:
            self.upstream_data(from_upstream)
        self._upstream.resume()
        if self._upstream.full:
            self._stop(self._client)
        else:
            self._client.resume()
        if self._client.eof:
            self.client_eof()

    def expired(self) -> None:
        """Reset a session in which nothing moves any more; the code names the side that owes."""
        if self._patience.goes_on():
            return
        backend_owes = self._upstream.full or self._client.eof
        self._reset("sD" if backend_owes and not self._client.full else "cD")

    def kill(self, who: str = "K") -> None:
        """Reset both sides."""
        self._reset(who + "D")

    def _reset(self, code: str) -> None:
        self._code = code
        self._client.reset()
        self._upstream.reset()

    # --- the client side --------------------------------------------------------------------

    def client_data(self, data: bytes) -> None:
        self._record.bytes_in += len(data)
        self._upstream.send(data)
        if self._upstream.full:
            self._stop(self._client)
        self._touch()

    def client_eof(self) -> None:
        self._upstream.finish()
        self._close_if_done()

    def client_hung_up(self) -> None:
        """A FIN is passed on when what stands before it has been read."""

    def client_lost(self, error: Exception | None) -> None:
        self._client_lost = True
        self._side_lost(error, "CD", self._upstream)

    def client_full(self) -> None:
        self._buffers.hold(self._client)
        self._stop(self._upstream)

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
            self._stop(self._upstream)
        self._touch()

    def upstream_eof(self) -> None:
        if not self._client.eof:
            self._tell_if_silent()
        self._client.finish()
        self._close_if_done()

    def upstream_lost(self, error: Exception | None) -> None:
        self._upstream_lost = True
        if error is not None and self._code == "--":
            self._tell_if_silent()
        self._side_lost(error, "SD", self._client)

    def upstream_full(self) -> None:
        self._buffers.hold(self._upstream)
        self._stop(self._client)

    def upstream_drained(self) -> None:
        self._client.resume()
        self._touch()

    def _tell_if_silent(self) -> None:
        if not self._record.first_byte_ns:
            self._silent()

    # --- both -------------------------------------------------------------------------------

    def _touch(self) -> None:
        half_closed = self._client.eof or self._upstream.eof
        self._patience.begin(self._fin_s if half_closed else self._idle_s, self._client, self._upstream)

    def _close_if_done(self) -> None:
        self._touch()
        if self._client.eof and self._upstream.eof:
            self._client.close()
            self._upstream.close()
        else:
            self._client.watch()
            self._upstream.watch()

    def _stop(self, source: Connection) -> None:
        """Read no more from `source` until the other side has taken what is here."""
        source.pause()
        source.watch()

    def _side_lost(self, error: Exception | None, code: str, other: Connection) -> None:
        if error is not None:
            if self._code == "--":
                self._code = code
            other.reset()
        if self._client_lost and self._upstream_lost:
            self._deadline.clear()
            self._ended(self._code)
