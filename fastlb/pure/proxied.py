"""A client connection that begins with a PROXY header, until the header is complete.

Only trusted proxies may connect to a listener that wants headers, and nothing else is done with a
connection before: no exchange, no byte of an answer, no backend. What stands behind the header
belongs to the first request or to the session.
"""

import asyncio
import socket
from collections.abc import Callable

from fastlb.model.proxied import Ends
from fastlb.pure.accounting import Record
from fastlb.pure.connection import Connection, reset_socket
from fastlb.pure.http_client import HttpClient
from fastlb.pure.peer import Peer, announced_peer
from fastlb.pure.proxy_protocol import BadHeaderError, read_header
from fastlb.pure.tcp_exchange import TcpClient
from fastlb.pure.timers import Deadline
from fastlb.pure.worker import Worker

# A connection that was accepted in the moment of the drain has sent its header, or soon will.
_FRESH_S = 1.0


def refuse_untrusted(worker: Worker, sock: socket.socket, peer: Peer) -> None:
    """Close a connection whose header would not be believed."""
    reset_socket(sock)
    sock.close()
    worker.accounts.finish(Record(peer.label), "PR")


class ProxiedClient(Connection):
    """A connection of a trusted proxy that has not said yet who its client is."""

    __slots__ = ("_buffer", "_deadline", "_make", "_over", "_record", "_worker", "peer")

    def __init__(
        self,
        worker: Worker,
        sock: socket.socket,
        peer: Peer,
        make: Callable[[socket.socket, Peer], HttpClient | TcpClient],
    ) -> None:
        """`make`: the connection that goes on behind the header."""
        super().__init__(sock, worker.buffers)
        self._worker = worker
        self.peer = peer
        self._make = make
        self._record = Record(peer.label)
        self._buffer = b""
        self._over = False
        self._deadline = Deadline(worker.loop, self._expired)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._deadline.set(_FRESH_S if self._worker.draining else self._worker.timeouts.header_s)

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self._buffer += data
        try:
            header = read_header(self._buffer)
        except BadHeaderError:
            self._refuse("PR")
            return
        if header is not None:
            used, ends = header
            self._go_on(ends, self._buffer[used:])

    def _go_on(self, ends: Ends | None, rest: bytes) -> None:
        """The header is complete: go on as if the client had connected itself."""
        worker = self._worker
        peer = self.peer if ends is None else announced_peer(ends, worker.config.trusted_proxies)
        self._over = True
        if peer is not self.peer and not worker.enter(peer):
            self.reset()
            return
        client = self._make(self.sock, peer)
        self._deadline.cancel()
        worker.clients.discard(self)
        worker.clients.add(client)
        self.transport.set_protocol(client)
        client.connection_made(self.transport)
        if rest:
            client.data_received(rest)

    # --- the end ----------------------------------------------------------------------------

    def _refuse(self, code: str) -> None:
        self._over = True
        self._worker.accounts.finish(self._record, code)
        self.reset()

    def _expired(self) -> None:
        if self._worker.draining:
            self.kill()
        else:
            self._refuse("cR")

    def drain(self) -> None:
        self._deadline.set(_FRESH_S)

    def kill(self) -> None:
        self._over = True
        self.reset()

    def eof_received(self) -> bool:
        self.eof = True
        self._left()
        return True

    def _left(self) -> None:
        """A connection that never said anything was somebody's health check."""
        if self._buffer and not self._over:
            self._refuse("CR")
        elif not self.lost:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._deadline.cancel()
        self._left()
        self._worker.client_lost(self)
