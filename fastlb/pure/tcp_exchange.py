"""TCP mode: one client connection, one exchange, bytes relayed as they come."""

import asyncio
import socket

from fastlb.model.proxied import Ends
from fastlb.pure.accounting import Record
from fastlb.pure.connection import Connection
from fastlb.pure.exchange import Exchange
from fastlb.pure.peer import Peer, client_ends
from fastlb.pure.relay import Relay
from fastlb.pure.timers import Deadline
from fastlb.pure.upstream import UpstreamConnection
from fastlb.pure.worker import Worker

# What a client may say before its backend is connected; then it is read no more.
_EARLY_MAX_BYTES = 65_536


class TcpClient(Connection):
    """A client connection of a TCP listener."""

    __slots__ = ("_session", "_worker", "peer")

    _session: "TcpExchange"  # from `connection_made` on, before which nothing else is called

    def __init__(self, worker: Worker, sock: socket.socket, peer: Peer) -> None:
        super().__init__(sock, worker.buffers)
        self._worker = worker
        self.peer = peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._session = TcpExchange(self._worker, self, Record(self.peer.label))
        self._session.pick()

    def drain(self) -> None:
        """A session ends when its peers end it, or with `kill`."""

    def kill(self) -> None:
        self._session.kill()
        self.reset()

    def data_received(self, data: bytes) -> None:
        self._session.client_data(data)

    def eof_received(self) -> bool:
        self.eof = True
        self._session.client_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._worker.buffers.let_go(self)
        self._session.client_lost(exc or self.reset_seen)
        self._worker.client_lost(self)

    def pause_writing(self) -> None:
        self.full = True
        self._session.client_full()

    def resume_writing(self) -> None:
        self.drained()
        self._session.client_drained()


class TcpExchange(Exchange):
    """One whole session: from accept to the end of both directions."""

    __slots__ = ("_client", "_deadline", "_early", "_relay")

    def __init__(self, worker: Worker, client: TcpClient, record: Record) -> None:
        super().__init__(worker, record)
        self._client = client
        self._early = b""
        self._relay: Relay | None = None
        self._deadline = Deadline(worker.loop, self._expired)

    def kill(self) -> None:
        """Reset what is open."""
        if self._relay is not None:
            self._relay.kill()
        else:
            self.end("K" + self.waiting_phase)

    def backend_out(self, who: str) -> None:
        """Reset what is open; who is still connecting finds out by itself."""
        if self._relay is not None:
            self._relay.kill(who)

    def end(self, code: str) -> None:
        self._deadline.cancel()
        super().end(code)

    # --- from the exchange ------------------------------------------------------------------

    def _connected(self, upstream: UpstreamConnection) -> None:
        upstream.backend.failed_in_a_row = 0
        timeouts = self.worker.timeouts
        self._relay = Relay(
            self._client,
            upstream,
            record=self.record,
            deadline=self._deadline,
            idle_s=timeouts.idle_s,
            fin_s=timeouts.fin_s,
            buffers=self.worker.buffers,
            ended=self.end,
            silent=self._backend_silent,
        )
        early, self._early = self._early, b""
        self._relay.start(early, b"")
        upstream.attach(self._relay)

    def _backend_silent(self) -> None:
        assert self.backend is not None
        self.worker.balancer.blame(self.backend.slot)

    def _client_ends(self) -> Ends | None:
        return client_ends(self._client.sock, self._client.peer)

    def _unavailable(self, status: int, code: str) -> None:
        self._client.reset()
        self.end(code)

    def _expired(self) -> None:
        if self._relay is not None:
            self._relay.expired()

    # --- from the client --------------------------------------------------------------------

    def client_data(self, data: bytes) -> None:
        if self._relay is not None:
            self._relay.client_data(data)
            return
        self.record.bytes_in += len(data)
        self._early += data
        if len(self._early) >= _EARLY_MAX_BYTES:
            self._client.pause()

    def client_eof(self) -> None:
        """A FIN before the connect is passed on after it."""
        if self._relay is not None:
            self._relay.client_eof()

    def client_lost(self, error: Exception | None) -> None:
        if self._relay is not None:
            self._relay.client_lost(error)
        else:
            self.end("C" + (self.waiting_phase or "C"))

    def client_full(self) -> None:
        if self._relay is not None:
            self._relay.client_full()

    def client_drained(self) -> None:
        if self._relay is not None:
            self._relay.client_drained()
