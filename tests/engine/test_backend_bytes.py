"""A backend's bytes are what it was sent and what it has said, to the byte."""

import hashlib

import pytest

from fastlb.model.config import Mode
from fastlb.model.proxied import ProxyProtocol
from support.backend import OK, answering, echo
from support.waiting import wait_until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LONG_BYTES = 3_000_000  # far beyond what is copied rather than spliced


def counted(running, index=0):
    """Bytes to the backend and from it."""
    slot = running.slots[index]
    (counts,) = (counts for counts in running.ledger().backends if counts.slot == slot)
    return counts.bytes_out, counts.bytes_in


def received_bytes(backend):
    """By all connections of a backend."""
    return sum(link.received_bytes for link in backend.links)


def test_heads_count_as_the_backend_gets_and_sends_them(balance, backend):
    """What the client sent is another matter: heads are written anew in both directions."""
    started = backend(answering(OK))
    running = balance(started)
    client = running.connect()
    for _ in range(2):
        client.send(GET)
        client.response()

    assert counted(running) == (received_bytes(started), 2 * len(OK))
    wait_until(lambda: running.ledger().bytes_in == 2 * len(GET) != received_bytes(started))


def test_chunk_framing_counts_as_the_backend_gets_and_sends_it(balance, backend):
    """Extensions and trailers are dropped, and chunks put together."""
    response = (
        b"HTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nT: 1\r\n\r\n"
    )
    started = backend(answering(response))
    running = balance(started)
    client = running.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.send(b"4;x=y\r\nbody\r\n", b"0\r\nT: 1\r\n\r\n")
    assert client.response_head().status == 100
    assert client.response().body == b"hello"

    assert counted(running) == (received_bytes(started), len(response))


def test_long_bodies_count_in_both_directions(balance, backend):
    """Also where no byte of them passes through the engine's own memory."""
    body = b"x" * LONG_BYTES
    response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    started = backend(answering(response))
    running = balance(started)
    client = running.connect()
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body), body)
    assert hashlib.sha256(client.response().body).digest() == hashlib.sha256(body).digest()

    assert counted(running) == (received_bytes(started), len(response))


def test_retried_request_counts_for_each_backend_that_got_it(balance, backend):
    """And once more for the one that got it twice."""
    refusing = backend(lambda link: link.request())
    serving = backend(answering(OK))
    running = balance(refusing, serving)
    client = running.connect()
    client.send(GET)
    assert client.response().status == 200
    running.wait_idle()

    assert counted(running, 0) == (received_bytes(refusing), 0)
    assert counted(running, 1) == (received_bytes(serving), len(OK))
    assert received_bytes(refusing) == received_bytes(serving) > len(GET)


def test_what_stands_behind_a_response_counts_too(balance, backend):
    """The backend has said it, although nobody gets it."""
    running = balance(backend(answering(OK + b"more")))
    client = running.connect()
    client.send(GET)
    assert client.response().body == b"ok"
    running.wait_idle()

    assert counted(running)[1] == len(OK + b"more")


@pytest.mark.parametrize("version", [ProxyProtocol.V1, ProxyProtocol.V2])
@pytest.mark.parametrize("mode", Mode)
def test_proxy_header_counts_for_the_backend_only(balance, backend, version, mode):
    """It gets it; no client has sent it."""

    def script(link):
        link.until(b"GET ")
        link.until(b"\r\n\r\n")
        link.send(OK)
        link.rest()

    started = backend(script)
    running = balance(started, mode=mode, proxy_protocol=version)
    client = running.connect()
    client.send(GET)
    assert client.response().body == b"ok"

    assert counted(running) == (received_bytes(started), len(OK))
    wait_until(lambda: running.ledger().bytes_in == len(GET), "the bytes of the client alone")


def test_tunnel_counts_its_head_and_its_bytes(balance, backend):
    """Both heads, and all that is said behind them."""
    switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(switched)
        echo(link)

    started = backend(script)
    running = balance(started)
    client = running.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    client.until(b"\r\n\r\n")
    client.send(b"x" * LONG_BYTES)
    assert client.exactly(LONG_BYTES) == b"x" * LONG_BYTES

    assert counted(running) == (received_bytes(started), len(switched) + LONG_BYTES)
