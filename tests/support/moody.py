"""Backends that do what the request asks for, and clients that leave at random phases.

A request line (HTTP: its target, TCP: the session's first line) is `/SERIAL/MOOD/BYTES`. What comes
back starts with that line, so that an answer that went to the wrong client is seen.
Both run in processes of their own and are driven over a pipe: see `backends` and `clients`.
"""

import random
import socket
from collections.abc import Generator
from multiprocessing.connection import Connection

from support.sessions import Session, Sessions, Stream, Wait, pause

# How a backend answers, and how often that is asked for, of 1000. Most is well, or nothing else
# would be under way while something goes wrong.
MOODS = {
    "ok": 700,  # with Content-Length
    "chunk": 60,
    "close": 30,  # framed by the end of the connection
    "slow": 50,  # the head at once, the body later
    "late": 50,  # all of it later
    "cut": 30,  # FIN in the middle of the body
    "break": 30,  # RST in the middle of the body
    "half": 15,  # FIN in the middle of the head
    "drop": 15,  # FIN instead of an answer
    "kick": 10,  # RST instead of an answer
    "noise": 5,  # not HTTP
    "mute": 5,  # nothing
}
# How a client goes through an exchange, of 1000.
PHASES = {
    "whole": 640,
    "slow-head": 20,
    "slow-body": 20,
    "in-head": 50,
    "in-body": 50,
    "at-once": 50,  # all is sent: connecting or queued
    "waiting": 60,
    "reading": 60,
    "half-closed": 30,  # FIN behind the request
    "silent": 10,  # not a byte
    "stalled": 10,  # stops reading
}
SIZES = (0, 0, 0, 10, 10, 10, 300, 300, 300, 300, 3000, 3000, 3000, 20_000, 20_000, 200_000)
SLOW_S = 0.02


def _choices(weights: dict[str, int]) -> list[str]:
    return [name for name, weight in weights.items() for _ in range(weight // 5)]


_MOOD_LIST, _PHASE_LIST = _choices(MOODS), _choices(PHASES)


# --- backends -----------------------------------------------------------------------------------


def _request(stream: Stream) -> Generator[Wait, None, bytes]:
    """Read one request, body and all. Returns its target."""
    head = yield from stream.until(b"\r\n\r\n")
    at = head.find(b"Content-Length: ")
    if at >= 0:
        length = int(head[at + 16 : head.index(b"\r\n", at)])
        yield from stream.at_least(length)
        del stream.unread[:length]
    return head.split(b" ", 2)[1]


def _http_answer(mood: bytes, target: bytes, size: int) -> tuple[bytes, bytes]:
    """Head and body. The body starts with the target."""
    body = target + b"x" * size
    if mood == b"noise":
        return b"\x16\x03\x01 nonsense\r\n\r\n", b""
    if mood == b"close":
        return b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", body
    if mood == b"chunk":
        half = len(body) // 2
        pieces = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[:half], body[half:]) if piece]
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"".join(pieces) + b"0\r\n\r\n"
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body


def _answer(stream: Stream, mood: bytes, head: bytes, body: bytes) -> Generator[Wait, None, bool]:
    """Send it as the mood wants it. Returns whether the connection goes on."""
    if mood == b"mute":
        yield from stream.to_end()
        return False
    if mood in (b"drop", b"kick"):
        if mood == b"kick":
            stream.reset()
        return False
    if mood == b"half":
        yield from stream.send(head[: len(head) // 2])
        return False
    if mood in (b"cut", b"break"):
        yield from stream.send(head + body[: len(body) // 2])
        if mood == b"break":
            stream.reset()
        return False
    if mood == b"late":
        yield from pause(SLOW_S)
    if mood == b"slow":
        yield from stream.send(head)
        yield from pause(SLOW_S)
        head = b""
    yield from stream.send(head + body)
    return mood not in (b"close", b"noise")


def _http_backend(stream: Stream) -> Session:
    goes_on = True
    while goes_on:
        target = yield from _request(stream)
        _, _, mood, size = target.split(b"/")
        head, body = _http_answer(mood, target, int(size))
        goes_on = yield from _answer(stream, mood, head, body)


def _tcp_backend(stream: Stream) -> Session:
    line = yield from stream.until(b"\n")
    _, _, mood, size = line.split(b"/")
    yield from _answer(stream, mood, line, b"x" * int(size))
    stream.sock.shutdown(socket.SHUT_WR)
    yield from stream.to_end()


def _served(stream: Stream) -> Session:
    """HTTP or a TCP session, whichever comes."""
    yield from stream.at_least(1)
    yield from (_tcp_backend if stream.unread[:1] == b"/" else _http_backend)(stream)


def backends(link: Connection, count: int) -> None:
    """Listen on `count` ports and tell them, serve until the link closes."""
    sessions = Sessions()
    listening = [socket.create_server(("127.0.0.1", 0), backlog=4096) for _ in range(count)]
    by_fd = {sock.fileno(): sock for sock in listening}
    for fd, sock in by_fd.items():
        sock.setblocking(False)
        sessions.watch(fd)
    sessions.watch(link.fileno())
    link.send([sock.getsockname()[1] for sock in listening])
    while True:
        for fd in sessions.turn(10.0):
            if fd == link.fileno():
                sessions.close()
                return
            _accept(sessions, by_fd[fd])


def _accept(sessions: Sessions, listening: socket.socket) -> None:
    for _ in range(64):
        try:
            sock, _ = listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        stream = Stream(sock)
        sessions.add(stream, _served(stream))


# --- clients ------------------------------------------------------------------------------------


class Clients:
    """`at_once` connections, each replaced when it has ended, until `leaving`. `ports`: HTTP, TCP.

    `answered` are the serials of requests to which at least one byte came back; `wrong` are answers
    that were not what was asked for.
    """

    def __init__(self, ports: tuple[int, int], first_serial: int, seed: int, at_once: int) -> None:
        self.answered: list[int] = []
        self.wrong: list[str] = []
        self.connects = 0
        self.leaving = False
        self._ports = ports
        self._serial = first_serial
        self._random = random.Random(seed)
        self._at_once = at_once
        self.sessions = Sessions()

    def fill(self) -> None:
        """Open connections until there are enough."""
        while len(self.sessions) < self._at_once and not self.leaving:
            is_tcp = self._random.random() < 0.25
            sock = socket.socket()
            sock.connect(("127.0.0.1", self._ports[is_tcp]))
            self.connects += 1
            stream = Stream(sock)
            self.sessions.add(stream, self._tcp(stream) if is_tcp else self._http(stream))

    def _next_line(self) -> tuple[int, bytes]:
        self._serial += 1
        mood = self._random.choice(_MOOD_LIST)
        return self._serial, b"/%d/%s/%d" % (self._serial, mood.encode(), self._random.choice(SIZES))

    def _leave(self, stream: Stream) -> None:
        """FIN with the close that follows, or RST, or FIN first and a look at what still comes."""
        if self._random.random() < 0.4:
            stream.reset()

    def _http(self, stream: Stream) -> Session:
        for _ in range(self._random.choice((1, 2, 5, 20))):
            phase = self._random.choice(_PHASE_LIST)
            serial, target = self._next_line()
            goes_on = yield from self._exchange(stream, phase, serial, *self._http_request(phase, target))
            if not goes_on or self.leaving:
                return

    def _http_request(self, phase: str, target: bytes) -> tuple[bytes, bytes, bytes]:
        """The target, the head of a request and its body."""
        is_post = phase in ("in-body", "slow-body") or self._random.random() < 0.2
        body = b"y" * self._random.choice((1, 100, 5000, 100_000)) if is_post else b""
        field = b"Content-Length: %d\r\n" % len(body) if is_post else b""
        verb = b"POST" if is_post else b"GET"
        return target, b"%s %s HTTP/1.1\r\nHost: a\r\n%s\r\n" % (verb, target, field), body

    def _tcp(self, stream: Stream) -> Session:
        phase = self._random.choice(_PHASE_LIST)
        serial, target = self._next_line()
        yield from self._exchange(stream, phase, serial, b"", target + b"\n", b"")

    def _exchange(
        self, stream: Stream, phase: str, serial: int, target: bytes, head: bytes, body: bytes
    ) -> Generator[Wait, None, bool]:
        """One exchange, gone through as the phase says. Returns whether the connection goes on."""
        rng = self._random
        if phase == "silent":
            yield from pause(rng.random() * SLOW_S)
        elif phase == "in-head":
            yield from stream.send(head[: rng.randrange(1, len(head))])
            yield from pause(rng.choice((0.0, SLOW_S)))
        elif phase == "in-body":
            yield from stream.send(head + body[: len(body) // 2])
            yield from pause(rng.choice((0.0, SLOW_S)))
        elif phase == "at-once":
            yield from stream.send(head + body)
        elif phase == "waiting":
            yield from stream.send(head + body)
            yield from pause(rng.random() * SLOW_S)
        else:
            return (yield from self._long_exchange(stream, phase, serial, target, head, body))
        self._leave(stream)
        return False

    def _long_exchange(
        self, stream: Stream, phase: str, serial: int, target: bytes, head: bytes, body: bytes
    ) -> Generator[Wait, None, bool]:
        """The phases in which an answer is at least begun."""
        if phase == "slow-head":
            yield from stream.send(head[:5])
            yield from pause(SLOW_S)
        yield from stream.send(head[5:] if phase == "slow-head" else head)
        if phase == "slow-body":
            yield from pause(SLOW_S)
        yield from stream.send(body)
        if phase == "half-closed":
            stream.sock.shutdown(socket.SHUT_WR)
        if phase == "stalled":
            yield from pause(10 * SLOW_S)
        yield from stream.at_least(1)
        if target:
            self.answered.append(serial)
        if phase in ("reading", "stalled"):
            yield from stream.at_least(self._random.randrange(1, 60))
            self._leave(stream)
            return False
        if not target:
            yield from self._tcp_answer(stream, head)
            return False
        return (yield from self._http_answer(stream, target)) and phase != "half-closed"

    def _tcp_answer(self, stream: Stream, line: bytes) -> Session:
        first = yield from stream.until(b"\n")
        if first != line:
            self.wrong.append(f"{first!r} is the answer to {line!r}")
        yield from stream.to_end()

    def _http_answer(self, stream: Stream, target: bytes) -> Generator[Wait, None, bool]:
        """Read one response. Returns whether another request may follow."""
        head = yield from stream.until(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 "):
            self.wrong.append(f"{head!r} is no response")
            return False
        stays = b"\r\nConnection: close\r\n" not in head
        at = head.find(b"Content-Length: ")
        if at >= 0:
            length = int(head[at + 16 : head.index(b"\r\n", at)])
            yield from stream.at_least(length)
            body = stream.take(length)
        elif b"chunked" in head:
            body = yield from self._chunks(stream)
        else:
            return False
        if head.startswith(b"HTTP/1.1 200 ") and body[: len(target) + 1].rstrip(b"x") != target:
            self.wrong.append(f"{body[:60]!r} is the answer to {target!r}")
        return stays

    def _chunks(self, stream: Stream) -> Generator[Wait, None, bytes]:
        body = b""
        while True:
            size = int((yield from stream.until(b"\r\n"))[:-2], 16)
            yield from stream.at_least(size + 2)
            body += stream.take(size + 2)[:-2]
            if size == 0:
                return body


def clients(link: Connection, ports: tuple[int, int], first_serial: int, seed: int, at_once: int) -> None:
    """Be moody until anything comes over the link; then let open sessions end and report.

    Reports (answered, wrong, connects), now and then and at last; the last one is followed by None.
    """
    crowd = Clients(ports, first_serial, seed, at_once)
    crowd.sessions.watch(link.fileno())
    while not crowd.leaving or len(crowd.sessions):
        crowd.fill()
        if link.fileno() in crowd.sessions.turn(0.5):
            link.recv()
            crowd.leaving = True
        if len(crowd.answered) > 2000:
            _report(link, crowd)
    _report(link, crowd)
    link.send(None)


def _report(link: Connection, crowd: Clients) -> None:
    link.send((crowd.answered, crowd.wrong, crowd.connects))
    crowd.answered, crowd.wrong, crowd.connects = [], [], 0
