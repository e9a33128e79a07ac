"""Whatever fastlb accepts, llhttp and h11 accept too, with the same framing and the same fields.

A judge returns in silence or raises Disagreement, which no test may swallow.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fuzz import corpus
from fuzz.differences import explained
from fuzz.readings import (
    LIMITS,
    No,
    Reading,
    Verdict,
    ask_h11,
    ask_llhttp,
    read_chunks,
    read_request,
    read_response,
)
from support.cuts import Growing, decode, outcome
from support.engines import EngineRooms

Engines = Mapping[str, EngineRooms]


class Disagreement(AssertionError):  # noqa: N818 - what is found, not what went wrong
    """Two parsers read the same bytes differently."""


def judge(engines: Engines, data: bytes) -> None:
    """An input of the corpus; see fuzz.corpus."""
    if not data:
        return
    which, raw = data[0] % 4, data[1:]
    if which == corpus.REQUEST:
        judge_request(engines, raw)
    elif which == corpus.CHUNKS:
        judge_chunks(engines, raw)
    else:
        judge_response(engines, raw, b"HEAD" if which == corpus.RESPONSE_TO_HEAD else b"GET")


def judge_request(engines: Engines, raw: bytes) -> Reading | No:
    """A request: the engines agree, whole and cut; the referees agree with what is accepted."""
    reading = _alike(engines, raw, read_request)
    for rooms in engines.values():
        _cut_alike(
            rooms, raw, lambda text, rooms=rooms: rooms.http1.parse_request(text, LIMITS), "RequestReader"
        )
    if isinstance(reading, Reading):
        taken = raw[: _taken(reading)]
        _agree("llhttp", reading, taken, ask_llhttp(taken, request=True))
        _agree("h11", reading, taken, ask_h11(taken, request=True))
    return reading


def judge_response(engines: Engines, raw: bytes, method: bytes = b"GET") -> Reading | No:
    """A response to a request with `method`; llhttp is not told of HEAD, and judges its head only."""
    reading = _alike(engines, raw, lambda rooms, text: read_response(rooms, text, method))
    for rooms in engines.values():
        _cut_alike(
            rooms,
            raw,
            lambda text, rooms=rooms: rooms.http1.parse_response(text, b"GET", LIMITS),
            "ResponseReader",
        )
    if isinstance(reading, Reading):
        taken = raw[: _taken(reading)]
        close = reading.framing == "close"
        if method != b"HEAD":
            _agree("llhttp", reading, taken, ask_llhttp(taken, request=False))
        _agree("h11", reading, taken, ask_h11(taken, request=False, method=method, close=close))
    return reading


def judge_chunks(engines: Engines, raw: bytes) -> None:
    """A chunked body alone, of a request and of a response."""
    _judge_chunks(engines, raw, of_response=False)
    _judge_chunks(engines, raw, of_response=True)


def _judge_chunks(engines: Engines, raw: bytes, *, of_response: bool) -> None:
    """The engines agree, whole and cut, at every stage."""
    cut = _cut(raw)
    first, *others = [(decode(rooms, [raw], of_response=of_response), rooms) for rooms in engines.values()]
    for found, rooms in others:
        _equal((found.refused, found.done), (first[0].refused, first[0].done), rooms.name, raw)
        if found.refused is None:
            _equal(found, first[0], rooms.name, raw)
            _equal(found.trailers, first[0].trailers, f"{rooms.name}, trailers", raw)
    for whole, rooms in (first, *others):
        pieces = decode(rooms, [raw[:cut], raw[cut:]], of_response=of_response)
        _equal(pieces.refused, whole.refused, f"{rooms.name} cut at {cut}", raw)
        if whole.refused is None:
            _equal(pieces, whole, f"{rooms.name} cut at {cut}", raw)
    _, end = read_chunks(first[1], raw, of_response=of_response)
    if end is None:
        return
    if of_response:
        judge_response(engines, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + raw[:end])
    else:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        judge_request(engines, head + raw[:end])


def _alike(engines: Engines, raw: bytes, read: Callable[[EngineRooms, bytes], Reading | No]) -> Reading | No:
    readings = {name: read(rooms, raw) for name, rooms in engines.items()}
    first, *others = readings.values()
    for other in others:
        _equal(other, first, " and ".join(readings), raw)
    return first


def _cut_alike(rooms: EngineRooms, raw: bytes, parse: Callable[[bytes], Any], reader: str) -> None:
    """Cut in two, the outcome is the same."""
    cut = _cut(raw)
    whole = outcome(rooms, lambda: parse(raw))
    made = getattr(rooms.http1, reader, None)
    if made is None:
        feed = Growing(parse).feed
    else:
        feed = (made(LIMITS) if reader == "RequestReader" else made(b"GET", LIMITS)).feed
    found = outcome(rooms, lambda: feed(raw[:cut]))
    if found is None:
        found = outcome(rooms, lambda: feed(raw[cut:]))
    _equal(found, whole, f"{rooms.name} cut at {cut}", raw)


def _cut(raw: bytes) -> int:
    """A place that depends on the bytes alone, so that a finding can be repeated."""
    return sum(raw) % (len(raw) + 1)


def _taken(reading: Reading) -> int:
    return reading.head_bytes if reading.end is None else reading.end


def _agree(referee: str, reading: Reading, taken: bytes, verdict: Verdict) -> None:
    """The referee found the same message in `taken`, or the table of differences says why not."""
    wants_body = reading.end is not None and not _is_interim(reading)
    checks = {
        "refuses": (verdict.refused, ""),
        "heads": (verdict.heads, 1),
        "start": (verdict.start, reading.start),
        "fields": (tuple(verdict.fields), reading.fields),
    }
    if wants_body:
        checks["body"] = (verdict.body, reading.body)
        checks["messages"] = (verdict.messages, 1)
    if verdict.keep_alive is not None:
        checks["keep_alive"] = (verdict.keep_alive, reading.keep_alive)
    for what, (theirs, ours) in checks.items():
        if theirs != ours:
            if not explained(referee, what, reading, verdict):
                raise Disagreement(f"{referee}, {what}: {theirs!r}, fastlb: {ours!r}; {taken!r}")
            if what in ("refuses", "heads"):
                return


def _is_interim(reading: Reading) -> bool:
    return isinstance(reading.start[1], int) and reading.start[1] < 200


def _equal(theirs: Any, ours: Any, who: str, raw: bytes) -> None:
    if theirs != ours:
        raise Disagreement(f"{who}: {theirs!r} is not {ours!r}; {raw!r}")
