"""The backend side: one counted object for each backend, its connections, and how they are made.

An idle connection stays in its backend's pool, last in first out, so that the rest of them grow
old and are closed. One that says anything while idle is closed unused: either the backend closed
it, or what it says would be read as the answer to somebody else's request.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Protocol

from fastlb.model.address import Address, SocketAddress, SocketName, socket_address
from fastlb.model.limits import IDLE_MAX
from fastlb.model.own_ports import may_meet_itself
from fastlb.model.proxied import Ends, ProxyProtocol
from fastlb.pure.buffers import Buffers
from fastlb.pure.connection import Connection, reset_socket, unacknowledged_bytes
from fastlb.pure.proxy_protocol import write_header
from fastlb.pure.timers import Deadline

# Faults of this machine, which say nothing about the backend.
LOCAL_ERRNOS = frozenset({errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
# What is read at once from a connection that was reset.
_SALVAGE_BYTES = 65_536
# Between two looks for a place among the connections of a backend, while none of them is idle.
_ROOM_RETRY_S = 0.02
# So many turns of the loop may pass before a connection that was closed has given its descriptor back.
_CLOSE_TURNS = 3


class Backend:
    """One backend, at one address or several, with its counters and its pool of idle connections."""

    __slots__ = (
        "addresses",
        "bound",
        "bytes_in",
        "bytes_out",
        "connects",
        "conns_max",
        "failed_in_a_row",
        "failures",
        "host",
        "idle",
        "idle_deadline",
        "idle_s",
        "label",
        "loop",
        "met_by",
        "own_port",
        "picked",
        "places",
        "pooling",
        "preferred",
        "proxy_version",
        "removed",
        "sites",
        "slot",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        slot: int,
        addresses: tuple[Address, ...],
        label: str,
        idle_s: float,
    ) -> None:
        self.loop = loop
        self.slot = slot
        self.addresses = addresses
        self.label = label
        self.sites = [socket_address(address) for address in addresses]
        self.preferred = 0  # the one that worked last
        self.host = addresses[0].authority.encode("latin-1")  # for requests of 1.0 clients that name none
        # A connect may meet itself: see model/own_ports.py.
        self.own_port = any(not a.is_unix and may_meet_itself(a.host, a.port) for a in addresses)
        self.idle_s = idle_s
        self.idle: list[UpstreamConnection] = []  # oldest first
        self.bound: list[UpstreamConnection] = []  # idle ones of one client each, oldest first
        self.idle_deadline = Deadline(loop, self._close_old)
        self.pooling = True  # False while no plan names it
        self.removed = False
        self.proxy_version = 0  # of the header that its connections begin with; 0: none
        self.places: set[object] = set()  # one for each connection, those being opened included
        self.conns_max = 0  # of them; 0 = no limit
        self.met_by = 0  # open exchanges that went on to another backend
        self.picked = 0
        self.connects = 0
        self.failures = 0
        self.failed_in_a_row = 0
        self.bytes_in = 0
        self.bytes_out = 0

    def begin_with(self, proxy_protocol: ProxyProtocol) -> None:
        """Begin each connection with a PROXY header, or not. One with a header has one client only."""
        self.proxy_version = proxy_protocol.version
        if self.proxy_version:
            self.close_idle()

    def site_after(self, site: int) -> int:
        """The address to try after number `site`."""
        return (site + 1) % len(self.sites)

    def take(self) -> "UpstreamConnection | None":
        """The idle connection used last that is still alive, or None."""
        while self.idle:
            connection = self.idle.pop()
            if connection.is_quiet():
                return connection
            connection.discard()
        return None

    def put(self, connection: "UpstreamConnection") -> None:
        """Keep a connection for the next exchange, or close it if the backend is on its way out."""
        connection.user = None
        crowded = 0 < self.conns_max < len(self.places)  # the limit was lowered
        if not self.pooling or self.proxy_version or crowded or len(self.idle) >= IDLE_MAX:
            connection.close()
            return
        connection.resume()
        connection.reused = True
        connection.idle_since_s = self.loop.time()
        self.idle.append(connection)
        if len(self.idle) == 1:
            self.idle_deadline.set(self.idle_s)

    @property
    def full(self) -> bool:
        """True if it has as many connections as it may have."""
        return 0 < self.conns_max <= len(self.places)

    def limit(self, conns_max: int) -> None:
        """Let it have so many connections, and close idle ones above that."""
        self.conns_max = conns_max
        for _ in range(len(self.places) - conns_max if conns_max else 0):
            self.close_oldest()

    def close_oldest(self) -> bool:
        """Close the connection that is idle for longest. False if there is none. One that belongs to a
        client is the last to go, because that client would have to authenticate again."""
        if self.idle:
            self.idle.pop(0).close()
            return True
        if self.bound:
            self.bound[0].unbind().close()
            return True
        return False

    def close_idle(self) -> None:
        """Close every idle connection now."""
        idle, self.idle = self.idle, []
        for connection in idle:
            connection.close()
        while self.bound:
            self.bound[-1].unbind().close()
        self.idle_deadline.clear()

    def close(self) -> None:
        """Keep no connection any more; the last call."""
        self.pooling = False
        self.close_idle()
        self.idle_deadline.cancel()

    def _close_old(self) -> None:
        oldest_s = self.loop.time() - self.idle_s + 0.001
        while self.idle and self.idle[0].idle_since_s <= oldest_s:
            self.idle.pop(0).close()
        if self.idle:
            self.idle_deadline.set(self.idle[0].idle_since_s - oldest_s)


class Owner(Protocol):
    """The client connection that a private connection belongs to."""

    bound: "UpstreamConnection | None"


class UpstreamUser(Protocol):
    """The exchange that a connection works for."""

    def upstream_data(self, data: bytes) -> None: ...
    def upstream_eof(self) -> None: ...
    def upstream_lost(self, error: Exception | None) -> None: ...
    def upstream_full(self) -> None: ...
    def upstream_drained(self) -> None: ...


class Roster:
    """Every connection to a backend, and every connect under way. `buffers`: what they all may hold."""

    __slots__ = ("buffers", "connections", "dials")

    def __init__(self, buffers: Buffers) -> None:
        self.buffers = buffers
        self.connections: set[UpstreamConnection] = set()
        self.dials: set[asyncio.Task[None]] = set()

    def close_oldest(self) -> bool:
        """Close the connection to any backend that is idle for longest. False if there is none. O(n)."""
        idle = [connection for connection in self.connections if connection in connection.backend.idle]
        if not idle:
            return False
        oldest = min(idle, key=lambda connection: connection.idle_since_s)
        return oldest.backend.close_oldest()


class UpstreamConnection(Connection):
    """One connection to a backend: working for one exchange, or idle in the pool.

    NTLM and Negotiate authenticate a connection and not a request (RFC 4559 6): what comes on it later
    is taken for the same user. One on which such credentials were sent, or such a challenge came, is
    `private`. Between two exchanges it is bound to its client's connection: in no pool, without a
    time-out of its own, taken again by the next request of that client, and closed with it.
    """

    __slots__ = (
        "_early",
        "_error",
        "_is_new",
        "_owner",
        "_place",
        "_roster",
        "backend",
        "idle_since_s",
        "private",
        "reused",
        "user",
    )

    def __init__(self, sock: socket.socket, backend: Backend, roster: Roster, place: object) -> None:
        super().__init__(sock, roster.buffers)
        self._place = place
        self.backend = backend
        self.user: UpstreamUser | None = None
        self.reused = False
        self.private = False
        self._owner: Owner | None = None
        self.idle_since_s = 0.0
        self._is_new = True  # until it is attached
        self._roster = roster
        # What happens between the connect and `attach`: a backend may be the first to speak.
        self._early = b""
        self._error: Exception | None = None
        roster.connections.add(self)

    def attach(self, user: UpstreamUser) -> None:
        """Work for `user` from now on; it is told first what happened before."""
        self._is_new = False
        self.user = user
        early, self._early = self._early, b""
        if early:
            user.upstream_data(early)
        if self.eof and self.user is user:
            user.upstream_eof()
        if self.lost and self.user is user:
            self.user = None
            user.upstream_lost(self._error)

    def announce(self, ends: Ends | None) -> None:
        """Send the PROXY header. Its bytes are no exchange's, and count for the backend only."""
        self.send(write_header(self.backend.proxy_version, ends))

    def send(self, data: bytes) -> None:
        self.backend.bytes_out += len(data)
        super().send(data)

    def bind(self, owner: Owner) -> None:
        """Wait for the next exchange of a client, and of nobody else."""
        if (
            self.backend.pooling
            and owner.bound is None
            and not 0 < self.backend.conns_max < len(self.backend.places)
        ):
            self.user = None
            self.resume()
            self.reused = True
            self.backend.bound.append(self)
            self._owner = owner
            owner.bound = self
        else:
            self.close()

    def unbind(self) -> "UpstreamConnection":
        """Belong to nobody, for an exchange or the end."""
        if self._owner is not None:
            self._owner.bound = None
            self._owner = None
            self.backend.bound.remove(self)
        return self

    def close(self) -> None:
        """Close a connection that is not needed any more, after what is buffered was written."""
        if self.transport.get_write_buffer_size():
            super().close()
        else:
            self.discard()

    def discard(self) -> None:
        """Close now; what is buffered is lost. With RST, so that no local port is left in TIME_WAIT, unless
        the peer has sent FIN first or has not acknowledged all that was sent."""
        if (
            not (self.lost or self.eof or self.transport.get_write_buffer_size())
            and unacknowledged_bytes(self.sock) == 0
        ):
            reset_socket(self.sock)
        self.abort()

    def is_quiet(self) -> bool:
        """True if the peer has neither said anything nor closed since the last exchange."""
        return not (self.lost or self.eof or self.transport.is_closing() or self.has_unread())

    def data_received(self, data: bytes) -> None:
        self.backend.bytes_in += len(data)
        if self.user is not None:
            self.user.upstream_data(data)
        elif self._is_new:
            self._early += data
            self.pause()
        else:
            self.discard()

    def eof_received(self) -> bool:
        self.eof = True
        if self.user is not None:
            self.user.upstream_eof()
        elif not self._is_new:
            self.abort()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        exc = exc or self.reset_seen
        if exc is not None and self.user is not None and not self.eof:
            self._salvage()
        self.lost = True
        self.backend.places.discard(self._place)
        self.unbind()
        self._roster.connections.discard(self)
        self._roster.buffers.let_go(self)
        if self in self.backend.idle:
            self.backend.idle.remove(self)
        self._error = exc
        user, self.user = self.user, None
        if user is not None:
            user.upstream_lost(exc)

    def pause_writing(self) -> None:
        self.full = True
        if self.user is not None:
            self.user.upstream_full()

    def resume_writing(self) -> None:
        self.drained()
        if self.user is not None:
            self.user.upstream_drained()

    def _salvage(self) -> None:
        """Read what came before the reset; the kernel holds no more than its receive buffer.

        A backend may answer in the middle of an upload and close; our next write then fails
        although its answer is already here (RFC 9112 9.5).
        """
        while self.user is not None:
            try:
                data = self.sock.recv(_SALVAGE_BYTES, socket.MSG_DONTWAIT)
            except OSError:
                return
            if not data:
                return
            self.backend.bytes_in += len(data)
            self.user.upstream_data(data)


class Dial:
    """One connect under way. Calls exactly one of `opened` and `failed`, or neither once cancelled."""

    __slots__ = (
        "_backend",
        "_cancelled",
        "_deadline",
        "_failed",
        "_loop",
        "_opened",
        "_placed",
        "_roster",
        "_site",
        "_task",
        "_timeout_s",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        backend: Backend,
        timeout_s: float,
        *,
        opened: Callable[[UpstreamConnection], None],
        failed: Callable[[int], None],
        roster: Roster,
    ) -> None:
        self._loop = loop
        self._backend = backend
        self._opened = opened
        self._failed = failed
        self._roster = roster
        self._cancelled = False
        self._placed = False  # among the connections of the backend
        self._task = loop.create_task(self._run())
        roster.dials.add(self._task)
        self._task.add_done_callback(roster.dials.discard)
        self._timeout_s = timeout_s
        self._site = backend.preferred
        self._deadline = Deadline(loop, self._expired)
        self._deadline.set(timeout_s)

    def cancel(self) -> None:
        """Give up without telling anybody."""
        self._cancelled = True
        self._deadline.cancel()
        self._task.cancel()

    def _expired(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        error = 0
        try:
            connection = await self._connect()
        except asyncio.CancelledError:
            error = errno.ETIMEDOUT if self._placed else errno.EBUSY
            if self._placed and not self._cancelled:
                self._backend.preferred = self._backend.site_after(self._site)
        except OSError as failure:
            error = failure.errno or errno.ECONNREFUSED
        self._deadline.cancel()
        if self._cancelled:
            if not error:
                connection.abort()
        elif error:
            self._failed(error)
        else:
            self._opened(connection)

    async def _connect(self) -> UpstreamConnection:
        """Take a place among the connections of the backend, which goes with the connection, and connect."""
        backend = self._backend
        while backend.full:  # noqa: ASYNC110 - any connection may end it
            # A unit of the backend is held, so another connection is idle, or about to close.
            await asyncio.sleep(0 if backend.close_oldest() else _ROOM_RETRY_S)
        backend.places.add(self)
        self._placed = True
        try:
            return await self._open()
        except BaseException:
            backend.places.discard(self)
            raise

    async def _open(self) -> UpstreamConnection:
        """To the address that worked last, or to the next one that does not refuse (RFC 1123 2.3)."""
        backend = self._backend
        self._site = backend.preferred
        refused: OSError | None = None
        for left in reversed(range(len(backend.sites))):
            try:
                connection = await self._open_site(backend.sites[self._site])
            except OSError as failure:
                # EADDRNOTAVAIL: cannot be reached from here, as ::1 without IPv6.
                if failure.errno != errno.EADDRNOTAVAIL:
                    refused = failure
                if failure.errno in LOCAL_ERRNOS - {errno.EADDRNOTAVAIL} or not left:
                    raise (refused or failure) from None
                self._site = backend.site_after(self._site)
                self._deadline.set(self._timeout_s)  # for one address
            else:
                backend.preferred = self._site
                return connection
        raise AssertionError("a backend has an address")

    async def _socket(self, family: int) -> socket.socket:
        """A socket, if need be with the descriptor of the connection that is idle for longest."""
        for _ in range(_CLOSE_TURNS):
            try:
                return socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._roster.close_oldest():
                    raise
            await asyncio.sleep(0)  # the loop closes it in its next turn
        return socket.socket(family, socket.SOCK_STREAM)

    async def _open_site(self, site: SocketAddress) -> UpstreamConnection:
        backend = self._backend
        family, sockaddr = site
        sock = await self._socket(family)
        try:
            sock.setblocking(False)
            await _connect_socket(self._loop, sock, sockaddr)
            if backend.own_port and sock.getsockname() == sock.getpeername():
                reset_socket(sock)
                raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        except BaseException:
            sock.close()
            raise
        connection = UpstreamConnection(sock, backend, self._roster, self)
        try:
            if family == socket.AF_UNIX:
                await self._loop.create_unix_connection(lambda: connection, sock=sock)
            else:
                await self._loop.create_connection(lambda: connection, sock=sock)
        except BaseException:
            self._roster.connections.discard(connection)
            sock.close()
            raise
        return connection


async def _connect_socket(loop: asyncio.AbstractEventLoop, sock: socket.socket, sockaddr: SocketName) -> None:
    """connect(2) without blocking. The loop's own would resolve the address, in a thread.

    A UNIX socket connects at once, or fails with EAGAIN if the backlog is full (unix(7)).
    """
    error = sock.connect_ex(sockaddr)
    if error == errno.EINPROGRESS:
        writable = loop.create_future()
        loop.add_writer(sock, _wake, writable)
        try:
            await writable
        finally:
            loop.remove_writer(sock)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
