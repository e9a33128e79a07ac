"""The client connection as its exchange sees it, and what the connection sees of its exchange.

With this between them neither of the two rooms imports the other.
"""

import socket
from abc import abstractmethod
from typing import Protocol

from fastlb.pure.buffers import Buffers
from fastlb.pure.connection import Connection
from fastlb.pure.peer import Peer
from fastlb.pure.timers import Deadline
from fastlb.pure.upstream import UpstreamConnection


class ClientUser(Protocol):
    """What a client connection works for: an HTTP exchange, or the relay of a tunnel."""

    def client_data(self, data: bytes) -> bytes | None:
        """Take what arrived. Returns: what belongs to the next request, if anything."""

    def client_eof(self) -> None: ...
    def client_hung_up(self) -> None: ...
    def client_lost(self, error: Exception | None) -> None: ...
    def client_full(self) -> None: ...
    def client_drained(self) -> None: ...
    def expired(self) -> None: ...
    def kill(self) -> None: ...


class Requester(Connection):
    """A client connection that has asked for something.

    `peer`: who the client is. `deadline`: the one timer of the connection and of its exchange.
    `bound`: the connection to a backend that is authenticated for this client, while it is idle.
    """

    __slots__ = ("bound", "deadline", "peer")

    def __init__(self, sock: socket.socket, peer: Peer, deadline: Deadline, buffers: Buffers) -> None:
        super().__init__(sock, buffers)
        self.peer = peer
        self.deadline = deadline
        self.bound: UpstreamConnection | None = None

    @abstractmethod
    def exchange_over(self, *, keep: bool, linger: bool, cut: bool = False) -> None:
        """The exchange has ended: go on with the next request, or close; with RST if it is `cut`."""

    @abstractmethod
    def tunnel(self, relay: ClientUser) -> bytes:
        """Work for `relay` until `exchange_over`. Returns: what was received behind the request."""
