"""Checks and traffic read answers alike, whichever engine carries the traffic."""

import asyncio

import pytest

from fastlb.model.config import StatusRange
from fastlb.probe import ProbeResult, probe_http
from support.backend import answering
from support.heads import REFUSED_RESPONSES, bare
from support.wire import TruncatedError

GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
ANY = (StatusRange(200, 999),)
CHUNKED = bare(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked")

# What other parsers refuse.
SERVED: dict[str, bytes] = {
    "plain": bare(b"HTTP/1.1 200 OK", b"Content-Length: 2") + b"hi",
    "HTTP/1.0": bare(b"HTTP/1.0 200 OK", b"Content-Length: 2") + b"hi",
    "HTTP/1.0 with chunks": bare(b"HTTP/1.0 200 OK", b"Transfer-Encoding: chunked") + b"2\r\nhi\r\n0\r\n\r\n",
    "HTTP/1.2": bare(b"HTTP/1.2 200 OK", b"Content-Length: 2") + b"hi",
    "status above 599": bare(b"HTTP/1.1 999 Odd", b"Content-Length: 0"),
    "no reason": bare(b"HTTP/1.1 204 "),
    "space before a colon": bare(b"HTTP/1.1 200 OK", b"Server : x", b"Content-Length: 2") + b"hi",
    "space before the colon of the length": bare(b"HTTP/1.1 200 OK", b"Content-Length : 2") + b"hi",
    "length twice": bare(b"HTTP/1.1 200 OK", b"Content-Length: 2", b"Content-Length: 2") + b"hi",
    "length as a list": bare(b"HTTP/1.1 200 OK", b"Content-Length: 2, 2") + b"hi",
    "bytes above ASCII": bare(b"HTTP/1.1 200 \xe9", b"X: \xff\t\x80", b"Content-Length: 2") + b"hi",
    "names of every character": bare(b"HTTP/1.1 200 OK", b"!#$%&'*+-.^_`|~09azAZ: a", b"Content-Length: 0"),
    "100 fields": bare(b"HTTP/1.1 200 OK", *[b"X%d: a" % n for n in range(99)], b"Content-Length: 0"),
    "head of 60 KB": bare(b"HTTP/1.1 200 OK", b"X: " + b"a" * 60_000, b"Content-Length: 0"),
    "status of its own": bare(b"HTTP/1.1 299 Own", b"Content-Length: 0"),
    "interim before": bare(b"HTTP/1.1 103 Early") + bare(b"HTTP/1.1 200 OK", b"Content-Length: 2") + b"hi",
    "chunks": CHUNKED + b"2\r\nhi\r\n0\r\n\r\n",
    "chunks with an extension": CHUNKED + b"2;a=b\r\nhi\r\n0\r\n\r\n",
    "chunks with white space": CHUNKED + b"2 ;a=b\r\nhi\r\n0 \r\n\r\n",
    "chunks with a trailer": CHUNKED + b"2\r\nhi\r\n0\r\nX: a\r\n\r\n",
    "Upgrade": bare(b"HTTP/1.1 426 No", b"Upgrade: h2c", b"Connection: upgrade", b"Content-Length: 0"),
    "304 with a length": bare(b"HTTP/1.1 304 No", b"Content-Length: 5"),
}
# What other parsers accept.
REFUSED: dict[str, bytes] = {
    "coding twice": REFUSED_RESPONSES["two TE"],
    "HTTP/2.0": REFUSED_RESPONSES["version 2.0"],
    "101 fields": REFUSED_RESPONSES["fields over the limit"],
    "head of 80 KB": REFUSED_RESPONSES["section over the limit"],
    "head of 70 KB without an end": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000,
    "101 that was not asked for": bare(b"HTTP/1.1 101 Go", b"Upgrade: x", b"Connection: upgrade"),
    "chunks that are none": CHUNKED + b"hi\r\n0\r\n\r\n",
    "chunk that is longer than it says": CHUNKED + b"2\r\nhi!\r\n0\r\n\r\n",
}


def checked(backend) -> ProbeResult:
    """What a check finds out."""
    return asyncio.run(probe_http(backend.address, host="a", path="/", expect=ANY, timeout_s=15))


def served(balance, backend) -> bool:
    """Whether a client gets the backend's own answer, whole."""
    client = balance(backend).connect()
    client.send(GET)
    try:
        return client.response().status != 502
    except (TruncatedError, ConnectionError):
        return False


@pytest.mark.parametrize("answer", SERVED)
def test_check_passes_on_what_traffic_accepts(balance, backend, answer):
    """A backend that would be served must not be down for ever."""
    started = backend(answering(SERVED[answer]))

    assert served(balance, started)
    assert checked(started).passed


@pytest.mark.parametrize("answer", REFUSED)
def test_check_fails_on_what_traffic_refuses(balance, backend, answer):
    """Every request would end with 502 while the checks go on passing."""
    started = backend(answering(REFUSED[answer]))

    assert not served(balance, started)
    result = checked(started)
    assert not result.passed
    assert result.reason.startswith("invalid answer: ")


@pytest.mark.parametrize("answer", REFUSED_RESPONSES)
def test_check_and_traffic_say_the_same(balance, backend, answer):
    """Of every answer that is refused, or was."""
    started = backend(answering(REFUSED_RESPONSES[answer]))

    assert checked(started).passed is served(balance, started)
