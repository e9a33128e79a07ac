"""The same bytes in other pieces: whole, cut at every byte, and one byte at a time.

A parser must make the same of them. The functions here read as a test asks, read again in pieces,
and fail if the pieces tell another story. Of long inputs the middle is cut at some bytes only.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fastlb.model.limits import LimitConfig
from support.engines import EngineRooms

DENSE_BYTES = 400
SPARSE_STEP = 4999
DEFAULT_LIMITS = LimitConfig()
NO_LIMIT = 2**64 - 1

Feed = Callable[[bytes], Any]


@dataclass(frozen=True)
class RefusedAs:
    """A refusal as a plain value."""

    status: int


@dataclass
class Chunks:
    """What a chunk decoder made of a body. `refused` is None, or the status, and `taken_bytes` what
    was read until then. `trailers` are judged by those who are about them."""

    body: bytes = b""
    done: bool = False
    rest: bytes = b""
    refused: int | None = None
    taken_bytes: int = 0
    trailers: bytes = field(default=b"", compare=False)


@dataclass
class Growing:
    """Feeds a parser that reads from the first byte each time, as the pure engine's listener does."""

    parse: Callable[[bytes], Any]
    raw: bytes = field(default=b"")

    def feed(self, piece: bytes) -> Any:
        """The head, or None if it is not complete."""
        self.raw += piece
        return self.parse(self.raw)


def cuts(raw: bytes) -> Iterator[int]:
    """Where to cut: everywhere, but in the middle of long inputs now and then."""
    for at in range(len(raw) + 1):
        if at <= DENSE_BYTES or len(raw) - at <= DENSE_BYTES or at % SPARSE_STEP == 0:
            yield at


def read_request(engine: EngineRooms, raw: bytes, limits: LimitConfig = DEFAULT_LIMITS) -> Any:
    """Parse a request head, whole and in pieces. Raises: the engine's Refused."""

    def parse(text: bytes) -> Any:
        return engine.http1.parse_request(text, limits)

    return _read_head(engine, raw, parse, lambda: _feed(engine, "RequestReader", parse, limits))


def read_response(
    engine: EngineRooms, raw: bytes, request_method: bytes = b"GET", limits: LimitConfig = DEFAULT_LIMITS
) -> Any:
    """Parse a response head, whole and in pieces. Raises: the engine's Refused."""

    def parse(text: bytes) -> Any:
        return engine.http1.parse_response(text, request_method, limits)

    return _read_head(
        engine, raw, parse, lambda: _feed(engine, "ResponseReader", parse, request_method, limits)
    )


def _feed(engine: EngineRooms, reader: str, parse: Callable[[bytes], Any], *settings: Any) -> Feed:
    made = getattr(engine.http1, reader, None)
    return Growing(parse).feed if made is None else made(*settings).feed


def outcome(engine: EngineRooms, read: Callable[[], Any]) -> Any:
    """A head, None if it is not complete, or RefusedAs."""
    try:
        return read()
    except engine.http1.Refused as refused:
        return RefusedAs(refused.status)


def _read_head(
    engine: EngineRooms, raw: bytes, parse: Callable[[bytes], Any], start: Callable[[], Feed]
) -> Any:
    whole = outcome(engine, lambda: parse(raw))
    end = getattr(whole, "head_bytes", len(raw))
    for cut in cuts(raw):
        feed = start()
        first = outcome(engine, lambda feed=feed, cut=cut: feed(raw[:cut]))
        assert first == outcome(engine, lambda cut=cut: parse(raw[:cut])), f"prefix of {cut} bytes"
        if first is not None:
            assert first == whole, f"cut at {cut}"
            assert cut >= end or isinstance(first, RefusedAs), f"accepted at {cut}, before the end"
            continue
        assert outcome(engine, lambda feed=feed, cut=cut: feed(raw[cut:])) == whole, f"cut at {cut}"
    assert _byte_by_byte(engine, raw, start()) == whole, "one byte at a time"
    return parse(raw)


def _byte_by_byte(engine: EngineRooms, raw: bytes, feed: Feed) -> Any:
    """The outcome of single bytes; those in the middle of a long input come together."""
    before = 0
    for at in cuts(raw):
        if at > before:
            found = outcome(engine, lambda piece=raw[before:at]: feed(piece))
            if found is not None:
                return found
            before = at
    return None


def read_chunks(
    engine: EngineRooms, raw: bytes, max_bytes: int = NO_LIMIT, *, of_response: bool = False
) -> Chunks:
    """Decode a chunked body, whole and in pieces."""
    whole = decode(engine, [raw], max_bytes, of_response=of_response)
    places = list(cuts(raw))
    for cut in places:
        found = decode(engine, [raw[:cut], raw[cut:]], max_bytes, of_response=of_response)
        _assert_same(found, whole, f"cut at {cut}")
    pieces = [raw[a:b] for a, b in itertools.pairwise(places)]
    found = decode(engine, pieces, max_bytes, of_response=of_response)
    _assert_same(found, whole, "one byte at a time")
    return whole


def decode(
    engine: EngineRooms, pieces: list[bytes], max_bytes: int = NO_LIMIT, *, of_response: bool = False
) -> Chunks:
    """Decode these pieces one after the other. Pieces behind the end are not fed."""
    decoder = engine.ChunkDecoder(max_bytes, of_response)
    found = Chunks()
    for at, piece in enumerate(pieces):
        try:
            found.body += decoder.feed(piece)
        except engine.http1.Refused as refused:
            found.refused = refused.status
            found.taken_bytes = sum(map(len, pieces[:at])) + refused.taken_bytes
            return found
        if decoder.done:
            found.done, found.rest = True, decoder.rest + b"".join(pieces[at + 1 :])
            found.trailers = decoder.trailers
            return found
    return found


def _assert_same(found: Chunks, whole: Chunks, how: str) -> None:
    """What came before a refusal may have been passed on or not; all else is the same."""
    if whole.refused is None:
        assert (found, found.trailers) == (whole, whole.trailers), how
    assert (found.refused, found.taken_bytes) == (whole.refused, whole.taken_bytes), how
