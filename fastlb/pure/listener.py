"""Accepting connections, and not accepting them when there is no room.

accept(2) facts: EMFILE, ENFILE, ENOBUFS and ENOMEM leave the connection in the queue, so the
socket stays readable and a loop that goes on asking would spin; ECONNABORTED and the network
errors of Linux only concern the connection that was not accepted.
"""

import array
import asyncio
import errno
import socket
import struct
import sys
from contextlib import suppress
from functools import partial

from fastlb.model.config import Mode
from fastlb.model.events import EventKind
from fastlb.model.handshake import NO_SYN_PROGRAM, SO_ATTACH_FILTER
from fastlb.pure.connection import reset_socket
from fastlb.pure.http_client import HttpClient
from fastlb.pure.peer import Peer, accepted_peer, own_port
from fastlb.pure.proxied import ProxiedClient, refuse_untrusted
from fastlb.pure.tcp_exchange import TcpClient
from fastlb.pure.worker import Client, Worker

_FULL_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE_S = 0.1
# Connections accepted in one turn of the loop, so that open ones are served in between.
_BURST = 64
# The kernel is given its address, so it has to stay where it is.
_NO_SYN = array.array("B", b"".join(struct.pack("HBBI", *step) for step in NO_SYN_PROGRAM))


class Listener:
    """One listening socket; it owns the descriptor."""

    def __init__(self, worker: Worker, sock: socket.socket, mode: Mode, proxy_protocol: bool) -> None:
        self._worker = worker
        self._sock = sock
        self._port = own_port(sock)
        self._mode = mode
        self._proxy_protocol = proxy_protocol
        self._reading = False
        self._out_of_room = False  # told the control plane, and not yet recovered
        self._at_limit = False  # that is why it pauses
        self._retry: asyncio.TimerHandle | None = None
        self._starting: set[asyncio.Task[object]] = set()
        sock.setblocking(False)
        self._resume()

    @property
    def closed(self) -> bool:
        """True once the socket is closed."""
        return self._sock.fileno() == -1

    def close(self) -> None:
        """Stop accepting and close the socket."""
        self._pause()
        self._sock.close()

    def deafen(self) -> None:
        """Let no new client begin: see model/handshake.py. Without it a drain is only less gentle."""
        if sys.platform != "linux":
            return
        with suppress(OSError):
            address, _ = _NO_SYN.buffer_info()
            program = struct.pack("HP", len(NO_SYN_PROGRAM), address)
            self._sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

    def emptied(self) -> bool:
        """Accept of what waits in the queue as much as there is room for. Once nothing waits: close.

        Returns: True if it is closed.
        """
        if not self.closed and self._accept_burst():
            self.close()
        return self.closed

    async def stop(self) -> None:
        """Close, and end what was being accepted."""
        self.close()
        for task in self._starting:
            task.cancel()
        if self._starting:
            await asyncio.wait(self._starting)

    def room_again(self) -> None:
        """A client has left: accept again if the limit was why not."""
        if self._at_limit and not self.closed:
            self._pause()
            self._resume()

    # --- accepting --------------------------------------------------------------------------

    def _resume(self) -> None:
        self._retry = None
        self._at_limit = False
        if not self._reading:
            self._reading = True
            self._worker.loop.add_reader(self._sock, self._accept_burst)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._worker.loop.remove_reader(self._sock)
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._at_limit = False

    def _accept_burst(self) -> bool:
        """Accept some. True if nobody waits any more."""
        worker = self._worker
        limit = worker.limits.connections
        for turn in range(_BURST):
            if limit and len(worker.clients) >= limit:
                if turn == 0:  # else the loop tells whether anybody waits
                    self._wait_for_room()
                return False
            try:
                sock, peer = self._sock.accept()
            except BlockingIOError:
                return True
            except OSError as error:
                if error.errno not in _FULL_ERRNOS:
                    continue
                self._no_room(error.errno)
                self._retry = worker.loop.call_later(_PAUSE_S, self._resume)
                return False
            if self._out_of_room:
                self._out_of_room = False
                worker.accounts.event(EventKind.ACCEPT_RESUMED)
            self._open(sock, peer)
            if limit and len(worker.clients) * 10 >= limit * 9 and not worker.draining:
                worker.make_room()
        return False

    def _wait_for_room(self) -> None:
        """Somebody waits at the limit: go on when a client has left, and ask one to go from time to time."""
        worker = self._worker
        self._no_room(0)
        self._at_limit = True
        if not worker.draining:
            worker.make_room()
            self._retry = worker.loop.call_later(_PAUSE_S, self._resume)

    def _no_room(self, error: int) -> None:
        self._pause()
        if not self._out_of_room:
            self._out_of_room = True
            self._worker.accounts.event(EventKind.ACCEPT_PAUSED, errno=error)

    def _open(self, sock: socket.socket, name: object) -> None:
        worker = self._worker
        sock.setblocking(False)
        worker.accounts.accepted += 1
        peer = accepted_peer(name, worker.config.trusted_proxies, self._port)
        if not worker.enter(peer):
            reset_socket(sock)
            sock.close()
            return
        client: HttpClient | TcpClient | ProxiedClient
        if not self._proxy_protocol:
            client = self._make(sock, peer)
        elif peer.trusted:
            client = ProxiedClient(worker, sock, peer, self._make)
        else:
            refuse_untrusted(worker, sock, peer)
            return
        worker.clients.add(client)
        task = worker.loop.create_task(worker.loop.connect_accepted_socket(lambda: client, sock))
        self._starting.add(task)
        task.add_done_callback(partial(self._started, sock, client))

    def _make(self, sock: socket.socket, peer: Peer) -> HttpClient | TcpClient:
        kind = HttpClient if self._mode is Mode.HTTP else TcpClient
        return kind(self._worker, sock, peer)

    def _started(self, sock: socket.socket, client: Client, task: asyncio.Task[object]) -> None:
        """The client has its transport, or never will: a stop may cancel the task before its first step."""
        self._starting.discard(task)
        try:
            task.result()
        except (OSError, asyncio.CancelledError):
            sock.close()
            self._worker.client_lost(client)
