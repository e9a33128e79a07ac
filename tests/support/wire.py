"""One end of a TCP connection as a test sees it, with a reader of HTTP/1.1 of its own.

The reader knows nothing of the code under test: it is the second opinion. It is strict about
framing, because a balancer that frames loosely must be seen.
"""

import re
import socket
import struct
from dataclasses import dataclass, field

from support.waiting import PATIENCE_S

READ_BYTES = 65_536
# SO_LINGER with a time of zero makes close() send RST (socket(7)).
_RESET = struct.pack("ii", 1, 0)


# Other dates are of the test that sent them.
_DATE = re.compile(rb"Date: [A-Z][a-z]{2}, [^\r]* GMT\r\n")


def undated(text: bytes) -> bytes:
    """What was received, without the dates of its heads."""
    return _DATE.sub(b"", text)


class TruncatedError(Exception):
    """The peer ended in the middle of a message. `how` is "fin" or "rst"."""

    def __init__(self, how: str, got: bytes) -> None:
        super().__init__(f"{how} after {got[-200:]!r}")
        self.how = how
        self.got = got


@dataclass(frozen=True)
class Message:
    """A request or response as it came. `chunks` is None if it was not chunked; `trailers` are lines."""

    head: bytes
    body: bytes = b""
    chunks: list[bytes] | None = None
    trailers: bytes = b""

    @property
    def undated(self) -> bytes:
        """The head without a Date that says when it was sent."""
        return undated(self.head)

    @property
    def start(self) -> bytes:
        """The request line or status line."""
        return self.head.split(b"\r\n", 1)[0]

    @property
    def status(self) -> int:
        """The status code of a response."""
        return int(self.start.split(b" ")[1])

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """Names and values in order, as they came."""
        return [tuple(line.split(b": ", 1)) for line in self.head.split(b"\r\n")[1:-2]]  # type: ignore[misc]

    def values(self, name: bytes) -> list[bytes]:
        """Every value of one field."""
        return [value for found, value in self.fields if found.lower() == name.lower()]

    def value(self, name: bytes) -> bytes | None:
        """The value of a field that is there once, or None."""
        found = self.values(name)
        assert len(found) <= 1, f"{name!r} is repeated in {self.head!r}"
        return found[0] if found else None


@dataclass
class Wire:
    """A connected socket with what has been read of it and not used yet."""

    sock: socket.socket
    unread: bytearray = field(default_factory=bytearray)
    received_bytes: int = 0

    def __post_init__(self) -> None:
        self.sock.settimeout(PATIENCE_S)
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, *parts: bytes) -> None:
        """Send all of it."""
        self.sock.sendall(b"".join(parts))

    def more(self) -> bool:
        """Read once. False at the end of the stream. Raises ConnectionResetError."""
        got = self.sock.recv(READ_BYTES)
        self.unread += got
        self.received_bytes += len(got)
        return bool(got)

    def _need(self) -> None:
        try:
            if self.more():
                return
        except ConnectionResetError:
            raise TruncatedError("rst", bytes(self.unread)) from None
        raise TruncatedError("fin", bytes(self.unread))

    def exactly(self, count: int) -> bytes:
        """The next `count` bytes."""
        while len(self.unread) < count:
            self._need()
        taken = bytes(self.unread[:count])
        del self.unread[:count]
        return taken

    def until(self, marker: bytes) -> bytes:
        """Everything up to `marker`, which is included."""
        while (at := self.unread.find(marker)) < 0:
            self._need()
        return self.exactly(at + len(marker))

    def rest(self) -> bytes:
        """Everything up to a clean end. Raises TruncatedError on a reset."""
        try:
            while self.more():
                pass
        except ConnectionResetError:
            raise TruncatedError("rst", bytes(self.unread)) from None
        return self.exactly(len(self.unread))

    def ending(self) -> str:
        """How the peer ended with nothing more to read: "fin" or "rst"."""
        try:
            extra = self.rest()
        except TruncatedError as end:
            assert not end.got, f"unexpected bytes before the reset: {end.got!r}"
            return end.how
        assert not extra, f"unexpected bytes before the end: {extra!r}"
        return "fin"

    def chunk(self) -> bytes:
        """The next chunk's data, empty for the last one (with no trailers, RFC 9112 7.1)."""
        piece = self._chunk()
        assert piece or not self._trailers()
        return piece

    def _chunk(self) -> bytes:
        size = int(self.until(b"\r\n")[:-2], 16)
        piece = self.exactly(size)
        assert not size or self.exactly(2) == b"\r\n"
        return piece

    def _trailers(self) -> bytes:
        lines = list(iter(lambda: self.until(b"\r\n"), b"\r\n"))
        return b"".join(lines)

    def _body(self, head: bytes, *, to_end: bool) -> Message:
        bare = Message(head)
        coding, length = bare.value(b"transfer-encoding"), bare.value(b"content-length")
        assert coding is None or length is None, f"two framings in {head!r}"
        if coding is not None:
            assert coding.lower() == b"chunked"
            chunks = list(iter(self._chunk, b""))
            return Message(head, b"".join(chunks), chunks, self._trailers())
        if length is not None:
            return Message(head, self.exactly(int(length)))
        return Message(head, self.rest() if to_end else b"")

    def request(self) -> Message | None:
        """The next request; None if the peer ended before its first byte."""
        try:
            if not self.unread and not self.more():
                return None
        except ConnectionResetError:
            return None
        return self._body(self.until(b"\r\n\r\n"), to_end=False)

    def response_head(self) -> Message:
        """The head of the next response, whatever follows it."""
        return Message(self.until(b"\r\n\r\n"))

    def response(self, method: str = "GET") -> Message:
        """The next response; interim ones are returned like any other."""
        head = self.response_head()
        if method == "HEAD" or head.status < 200 or head.status in (204, 304):
            return head
        return self._body(head.head, to_end=True)

    def shut(self) -> None:
        """Send FIN and go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.sock.close()

    def close(self) -> None:
        """Close; a RST follows if something was left unread."""
        self.sock.close()
