"""Many connections in one thread, each driven by a generator: fast enough to outrun a balancer.

A session yields to wait: None for the next change of its socket, a number for that change or so
many seconds, whichever is first. Sockets are registered once, edge-triggered, so a session always
tries first and waits only when the kernel has refused.
"""

import heapq
import itertools
import select
import socket
import struct
import time
from collections.abc import Generator

READ_BYTES = 65_536
# SO_LINGER with a time of zero makes close() send RST (socket(7)).
_RESET = struct.pack("ii", 1, 0)
_CHANGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET

Wait = float | None
Session = Generator[Wait, None, None]


def pause(seconds: float) -> Session:
    """Do nothing for so long, whatever the socket does."""
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        yield left_s


class EndedError(Exception):
    """The peer has ended the connection before what was awaited."""


class Stream:
    """One non-blocking socket and what was read of it and not used yet."""

    __slots__ = ("sock", "unread")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.unread = bytearray()

    def send(self, data: bytes) -> Session:
        """Send all of it."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.sock.send(rest) :]
            except BlockingIOError:
                yield None

    def receive(self) -> Session:
        """Read once. Raises EndedError at the end, and ConnectionResetError."""
        while True:
            try:
                got = self.sock.recv(READ_BYTES)
            except BlockingIOError:
                yield None
                continue
            if not got:
                raise EndedError
            self.unread += got
            return

    def at_least(self, count: int) -> Session:
        """Read until so many bytes are there."""
        while len(self.unread) < count:
            yield from self.receive()

    def until(self, marker: bytes) -> Generator[Wait, None, bytes]:
        """Everything up to `marker`, which is included."""
        while (at := self.unread.find(marker)) < 0:
            yield from self.receive()
        return self.take(at + len(marker))

    def to_end(self) -> Session:
        """Read and forget until the peer ends."""
        try:
            while True:
                yield from self.receive()
                self.unread.clear()
        except EndedError:
            return

    def take(self, count: int) -> bytes:
        """The first `count` of the unread bytes."""
        taken = bytes(self.unread[:count])
        del self.unread[:count]
        return taken

    def reset(self) -> None:
        """Make the close that follows send RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


class Sessions:
    """Runs sessions until each has ended; a session's socket is closed with it."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._running: dict[int, tuple[Session, socket.socket]] = {}
        self._timed: list[tuple[float, int, int, Session]] = []
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._running)

    def add(self, stream: Stream, session: Session) -> None:
        """Begin a session at once."""
        fd = stream.sock.fileno()
        self._running[fd] = (session, stream.sock)
        self._poll.register(fd, _CHANGES)
        self._step(fd, session)

    def watch(self, fd: int) -> None:
        """Have `turn` return this descriptor whenever it can be read."""
        self._poll.register(fd, select.EPOLLIN)

    def turn(self, longest_s: float) -> list[int]:
        """Wait for what happens, let the sessions go on. Returns the watched descriptors."""
        watched = []
        if self._timed:
            longest_s = min(longest_s, max(self._timed[0][0] - time.monotonic(), 0.0))
        for fd, _ in self._poll.poll(longest_s):
            running = self._running.get(fd)
            if running is None:
                watched.append(fd)
            else:
                self._step(fd, running[0])
        now = time.monotonic()
        while self._timed and self._timed[0][0] <= now:
            _, _, fd, session = heapq.heappop(self._timed)
            running = self._running.get(fd)
            if running is not None and running[0] is session:
                self._step(fd, session)
        return watched

    def close(self) -> None:
        """End every session where it stands."""
        for session, sock in self._running.values():
            session.close()
            sock.close()
        self._running.clear()
        self._poll.close()

    def _step(self, fd: int, session: Session) -> None:
        try:
            wait_s = next(session)
        except (StopIteration, EndedError, OSError):
            _, sock = self._running.pop(fd)
            sock.close()
            return
        if wait_s is not None:
            heapq.heappush(self._timed, (time.monotonic() + wait_s, next(self._order), fd, session))
