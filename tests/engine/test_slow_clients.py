"""A slow client holds a connection, and never a worker: everybody else is served at once."""

import time

import pytest

from fastlb.model.config import Mode
from support.backend import OK, answering
from support.waiting import wait_until

pytestmark = pytest.mark.unbatched

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SLOW_CLIENTS = 20
LARGE_BYTES = 8_000_000
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE_BYTES + bytes(LARGE_BYTES)


def drip(running, slow, request, fast):
    """Send a request of all slow clients one byte at a time; in each round the fast client is served."""
    for at in range(len(request)):
        for client in slow:
            client.send(request[at : at + 1])
        if at % 4 == 0:
            fast.send(GET)
            assert fast.response().body == b"ok"
    for client in slow:
        assert client.response().status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /slow HTTP/1.1\r\nHost: a\r\nX-Field: value\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n" + b"b" * 40,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n"
        + b"c" * 20
        + b"\r\n0\r\n\r\n",
    ],
    ids=["head", "body", "chunks"],
)
def test_client_that_sends_a_byte_at_a_time_holds_no_worker(balance, backend, request_bytes):
    """One worker, twenty of them, and a fast one between each of their bytes."""
    running = balance(backend(answering(OK)))
    slow = [running.connect() for _ in range(SLOW_CLIENTS)]

    drip(running, slow, request_bytes, running.connect())
    running.wait_idle()
    assert {line["code"] for line in running.lines(running.ledger().exchanges)} == {"--"}


def test_client_that_reads_a_byte_at_a_time_holds_no_worker(balance, backend):
    """Its response waits in the kernel and in one buffer; the fast one is served meanwhile."""

    def script(link):
        while (request := link.request()) is not None:
            link.send(LARGE if b"/large" in request.start else OK)

    running = balance(backend(script))
    slow = [running.connect(receive_buffer_bytes=4096) for _ in range(SLOW_CLIENTS)]
    for client in slow:
        client.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    fast = running.connect()
    for _ in range(40):
        for client in slow:
            assert len(client.sock.recv(1)) == 1
        fast.send(GET)
        assert fast.response().body == b"ok"

    assert running.in_flight() > 0
    running.close_clients()
    wait_until(lambda: running.in_flight() == 0, "the slow ones are gone")


def test_client_that_reads_the_last_bytes_slowly_gets_them_all(balance, backend):
    """Its connection closes behind this answer, and not in the middle of it."""
    body = bytes(60_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    running = balance(backend(answering(head + body)))
    client = running.connect(
        running.open_listener(Mode.HTTP, send_buffer_bytes=4096), receive_buffer_bytes=4096
    )
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    client.response_head()
    for _ in range(9):
        client.exactly(1000)
        time.sleep(0.3)  # in all longer than a connection lingers whose client takes nothing

    assert client.rest() == body[9000:]
