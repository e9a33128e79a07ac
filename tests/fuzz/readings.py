"""What four parsers make of the same bytes, as plain values that can be compared.

fastlb's two engines read a whole message here, head and body, as their workers do. The referees
are llhttp in its strict mode, through httptools, and h11. A referee gets exactly the bytes that
fastlb took for the message; it has to find one message in them, and to end where they end.
"""

import importlib
from dataclasses import dataclass, field
from typing import Any

import h11

from fastlb.model.limits import LimitConfig
from support.engines import EngineRooms

# Small, so that fuzzing meets them often.
LIMITS = LimitConfig(header_bytes=1024, line_bytes=192, fields=8)

Fields = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class Reading:
    """One message. `start` is method, target and version, or version, status and reason.

    `end`: the byte behind it; None if the head is complete and the body is not, or is refused.
    """

    start: tuple[Any, ...]
    fields: Fields
    framing: str
    keep_alive: bool
    head_bytes: int
    body: bytes | None
    end: int | None


@dataclass(frozen=True)
class No:
    """No message: not complete (status 0), or refused with this status."""

    status: int = 0


# ---- fastlb -----------------------------------------------------------------------------------


def read_request(rooms: EngineRooms, raw: bytes) -> Reading | No:
    """A request at the start of `raw`, by one engine."""
    try:
        head = rooms.http1.parse_request(raw, LIMITS)
    except rooms.http1.Refused as refused:
        return No(refused.status)
    if head is None:
        return No()
    return _with_body(rooms, raw, head, (head.method, head.received_target, head.version))


def read_response(rooms: EngineRooms, raw: bytes, method: bytes = b"GET") -> Reading | No:
    """A response at the start of `raw`, to a request with `method`, by one engine."""
    try:
        head = rooms.http1.parse_response(raw, method, LIMITS)
    except rooms.http1.Refused as refused:
        return No(refused.status)
    if head is None:
        return No()
    return _with_body(rooms, raw, head, (head.version, head.status, head.reason))


def _with_body(rooms: EngineRooms, raw: bytes, head: Any, start: tuple[Any, ...]) -> Reading:
    body, end = _body(rooms, raw, head, of_response=isinstance(start[1], int))
    fields = tuple((bytes(name), bytes(value)) for name, value in head.fields)
    return Reading(start, fields, head.framing, head.keep_alive, head.head_bytes, body, end)


def _body(rooms: EngineRooms, raw: bytes, head: Any, *, of_response: bool) -> tuple[bytes | None, int | None]:
    at = head.head_bytes
    if head.framing == "none":
        return b"", at
    if head.framing == "close":
        return raw[at:], len(raw)
    if head.framing == "length":
        end = at + head.length
        return (raw[at:end], end) if end <= len(raw) else (None, None)
    return read_chunks(rooms, raw, at, of_response=of_response)


def read_chunks(
    rooms: EngineRooms, raw: bytes, at: int = 0, *, of_response: bool = False
) -> tuple[bytes | None, int | None]:
    """The data of a chunked body and where it ends; None for both if it does not, or is refused."""
    decoder = rooms.ChunkDecoder(of_response=of_response)
    try:
        body = decoder.feed(raw[at:])
    except rooms.http1.Refused:
        return None, None
    return (body, len(raw) - len(decoder.rest)) if decoder.done else (None, None)


# ---- the referees -----------------------------------------------------------------------------


@dataclass
class Verdict:
    """What a referee found. `refused` is empty, or why it would not have it.

    `keep_alive`: None if it was not asked; h11 tells only when both sides have spoken.
    """

    refused: str = ""
    start: tuple[Any, ...] = ()
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    trailers: list[bytes] = field(default_factory=list)
    body: bytes = b""
    heads: int = 0
    messages: int = 0
    keep_alive: bool | None = None


class _Listener:
    """The callbacks of httptools."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self.parser: Any = None
        self.url = b""
        self.reason = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes | None) -> None:
        if self.verdict.heads:
            self.verdict.trailers.append(name.lower())
        else:
            self.verdict.fields.append((name, value or b""))

    def on_headers_complete(self) -> None:
        self.verdict.heads += 1

    def on_body(self, data: bytes) -> None:
        self.verdict.body += data

    def on_message_complete(self) -> None:
        self.verdict.messages += 1
        self.verdict.keep_alive = self.parser.should_keep_alive()


def ask_llhttp(raw: bytes, *, request: bool) -> Verdict:
    """Let llhttp read `raw`."""
    httptools = importlib.import_module("httptools")  # has no wheel for PyPy
    verdict = Verdict()
    listener = _Listener(verdict)
    kind = httptools.HttpRequestParser if request else httptools.HttpResponseParser
    parser = listener.parser = kind(listener)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade as behind:
        if behind.args[0] != len(raw):
            verdict.refused = f"upgraded at {behind.args[0]}"
    except httptools.HttpParserError as error:
        verdict.refused = f"{type(error).__name__}: {error}"
    if verdict.heads:
        major, minor = parser.get_http_version().split(".")
        version = int(major) * 10 + int(minor)
        if request:
            verdict.start = (parser.get_method(), listener.url, version)
        else:
            verdict.start = (version, parser.get_status_code(), listener.reason)
    return verdict


def ask_h11(raw: bytes, *, request: bool, method: bytes = b"GET", close: bool = False) -> Verdict:
    """Let h11 read `raw`; `close` ends the connection behind it."""
    verdict = Verdict()
    connection = h11.Connection(h11.SERVER if request else h11.CLIENT, max_incomplete_event_size=65_536)
    if not request:
        # An offer to upgrade, so that a 101 is an answer to it.
        offer = [("Host", "a"), ("Connection", "upgrade"), ("Upgrade", "x")]
        connection.send(h11.Request(method=method, target="/", headers=offer))
        connection.send(h11.EndOfMessage())
    try:
        connection.receive_data(raw)
        if close:
            connection.receive_data(b"")
        _read_events(connection, verdict)
    except h11.RemoteProtocolError as error:
        verdict.refused = str(error)
    if not verdict.refused and not close and connection.trailing_data[0]:
        verdict.refused = f"left {connection.trailing_data[0]!r}"
    return verdict


def _read_events(connection: h11.Connection, verdict: Verdict) -> None:
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Data):
            verdict.body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            verdict.messages += 1
        elif isinstance(event, (h11.Request, h11.Response, h11.InformationalResponse)):
            verdict.heads += 1
            verdict.fields = [(bytes(name), bytes(value)) for name, value in event.headers.raw_items()]
            version = int(event.http_version.replace(b".", b""))
            if isinstance(event, h11.Request):
                verdict.start = (event.method, event.target, version)
            else:
                verdict.start = (version, event.status_code, bytes(event.reason))
        else:  # NEED_DATA, PAUSED, ConnectionClosed
            return
