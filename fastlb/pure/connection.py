"""One socket of ours, client side or upstream side, on an asyncio transport.

Facts about asyncio and uvloop transports that this file depends on:
- a write above the high-water mark calls pause_writing(), and resume_writing() follows below a quarter
  of it; nothing limits the buffer but the writer who listens to that;
- a BufferedProtocol says how much is read at once, 256 KiB otherwise; get_buffer(), the read and
  buffer_updated() follow each other with nothing of the same loop between them;
- between the two they tell nothing, but say how much they hold when they are asked;
- abort() closes the descriptor, and the kernel then sends FIN, not RST, unless SO_LINGER is on
  with a time of 0 (socket(7)) or there are unread bytes;
- when eof_received() returns True the reading stops and the writing goes on; resume_reading()
  after that would report the end a second time;
- so a reset that comes behind a FIN is seen only by a write, or by asking the socket;
- a FIN behind bytes that are not read is seen only by asking the socket, where poll(2) has POLLRDHUP;
- the descriptor is closed after connection_lost() has returned, so it can still be read there.
"""

import array
import asyncio
import errno
import os
import select
import socket
import struct
import sys
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import cast

from fastlb.pure.buffers import WRITE_MARK_BYTES, Buffers

if sys.platform == "linux":
    import fcntl
    import termios

# How often a peer that is not read is asked whether it has reset the connection, or ended it.
_LOOK_S = 0.25
_POLLRDHUP = getattr(select, "POLLRDHUP", 0)  # 0: this system cannot say
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Connection(asyncio.BufferedProtocol, ABC):
    """Bytes in and out of one socket, with what is needed for back-pressure and half-close."""

    __slots__ = (
        "_buffers",
        "_look_later",
        "_unbuffered",
        "eof",
        "finished",
        "full",
        "held_bytes",
        "lost",
        "paused",
        "reset_seen",
        "sock",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, sock: socket.socket, buffers: Buffers) -> None:
        self.sock = sock
        self._buffers = buffers
        self._unbuffered = False  # full with the first byte that waits, because memory is short
        self.full = False  # above the high-water mark: who writes much keeps it, and waits
        self.held_bytes = 0  # of it, counted against the limit on memory
        self.paused = False  # we do not read
        self.eof = False  # the peer has sent FIN
        self.finished = False  # we have sent FIN, or will after the write buffer
        self.lost = False
        self.reset_seen: ConnectionResetError | None = None  # what `watch` found
        self._look_later: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self.transport.set_write_buffer_limits(WRITE_MARK_BYTES)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffers.room()

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(self._buffers.taken(nbytes))

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """Take what was read."""

    def send(self, data: bytes) -> None:
        """Write; nothing happens if the socket is closing or its FIN was sent."""
        if not self.finished and not self.transport.is_closing():
            self.transport.write(data)
            short = self._buffers.short
            if short != self._unbuffered:
                self._unbuffered = short
                self.transport.set_write_buffer_limits(0 if short else WRITE_MARK_BYTES)

    def unsent_bytes(self) -> int:
        """What the write buffer holds."""
        return self.transport.get_write_buffer_size()

    def drained(self) -> None:
        """The write buffer is not full any more."""
        self.full = False
        self._buffers.let_go(self)

    def pause(self) -> None:
        """Read no more until `resume`."""
        if not self.paused and not self.eof and not self.transport.is_closing():
            self.paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self.paused:
            self.paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def finish(self) -> None:
        """Send FIN behind what is buffered; reading goes on."""
        if not self.finished and not self.transport.is_closing():
            self.finished = True
            self.transport.write_eof()

    def untaken_bytes(self) -> int:
        """Bytes that wait in the write buffer, and in the kernel for the peer to acknowledge them."""
        return self.transport.get_write_buffer_size() + (unacknowledged_bytes(self.sock) or 0)

    def close(self) -> None:
        """Close after what is buffered was written."""
        self.transport.close()

    def abort(self) -> None:
        """Close now; what is buffered is lost."""
        self.transport.abort()

    def has_unread(self) -> bool:
        """True if something has arrived, be it the end, that the loop has not told yet."""
        try:
            self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def watch(self) -> None:
        """Look for a reset as long as nothing is read, behind the FIN or while paused, and for a FIN.

        `connection_lost` comes after a reset with None, and the reason is in `reset_seen`.
        """
        if self._look_later is None and (self.eof or self.paused):
            self._look_later = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        self._look_later = None
        if self.lost or not (self.eof or self.paused):
            return
        if self._was_reset():
            self.reset_seen = ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            self.abort()
            return
        if self.paused and self._has_hung_up():
            self.hung_up()
        self.watch()

    def hung_up(self) -> None:
        """The peer has sent FIN behind what was not read yet. Called again with every look."""

    def _has_hung_up(self) -> bool:
        """True if the peer has sent FIN, maybe behind bytes that were not read; never without POLLRDHUP."""
        if not _POLLRDHUP:
            return False
        asked = select.poll()
        asked.register(self.sock, _POLLRDHUP)
        return bool(asked.poll(0))

    def _was_reset(self) -> bool:
        """True if the peer has reset the connection since this was last asked (SO_ERROR, socket(7))."""
        try:
            return self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        except OSError:  # it is closed
            return False

    def reset(self) -> None:
        """Close now with RST, so that the peer cannot take the end for a clean one."""
        if self.lost:
            return
        reset_socket(self.sock)
        self.transport.abort()


def unacknowledged_bytes(sock: socket.socket) -> int | None:
    """What the kernel has and the peer's has not (SIOCOUTQ, tcp(7)); RST would throw it away. None if it
    cannot be known."""
    if sys.platform != "linux":
        return None
    unacknowledged = array.array("i", [0])
    try:
        fcntl.ioctl(sock, termios.TIOCOUTQ, unacknowledged)
    except (OSError, ValueError):  # it is closed
        return None
    return unacknowledged[0]


def reset_socket(sock: socket.socket) -> None:
    """Let the close of `sock` send RST."""
    with suppress(OSError):  # a UNIX socket, on systems that have no such option there
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
