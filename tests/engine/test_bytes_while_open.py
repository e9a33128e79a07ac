"""Bytes are counted while an exchange lasts, not only at its end."""

import threading
from itertools import pairwise

import pytest

from fastlb.model.config import Mode
from support.backend import echo
from support.waiting import wait_until

SIZE_BYTES = 100_000


def counted(running):
    """Bytes from clients and to clients, bytes to the backend and from it."""
    ledger = running.ledger()
    (backend,) = ledger.backends
    return ledger.bytes_in, ledger.bytes_out, backend.bytes_out, backend.bytes_in


def test_bytes_of_an_open_session_are_counted(balance, backend):
    """A session may last for days; who watches the counters must see it move."""
    running = balance(backend(echo), mode=Mode.TCP)
    client = running.connect()
    for n in range(1, 4):
        client.send(b"x" * SIZE_BYTES)
        assert client.exactly(SIZE_BYTES) == b"x" * SIZE_BYTES
        wait_until(lambda n=n: counted(running) == (n * SIZE_BYTES,) * 4, f"{n} rounds counted")
    assert running.ledger().exchanges == 0
    client.close()
    running.wait_in_flight(0)

    assert running.ledger().exchanges == 1
    assert counted(running) == (3 * SIZE_BYTES,) * 4  # nothing is counted twice


@pytest.mark.parametrize("framing", [b"Content-Length: 200000", b"Transfer-Encoding: chunked"])
def test_bytes_of_an_open_response_are_counted(balance, backend, framing):
    """So is a stream of events, which never ends."""
    gate = threading.Event()
    chunked = framing.startswith(b"Transfer")

    def script(link):
        link.request()
        link.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        half = b"x" * SIZE_BYTES
        link.send(b"%x\r\n%b\r\n" % (len(half), half) if chunked else half)
        assert gate.wait(10)
        link.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(half), half) if chunked else half)
        link.rest()

    running = balance(backend(script))
    client = running.connect()
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    client.send(request)
    try:
        wait_until(lambda: running.ledger().bytes_out > SIZE_BYTES, "the first half counted")
        wait_until(lambda: counted(running)[3] > SIZE_BYTES, "and for the backend")
        assert running.ledger().bytes_in == len(request)
        assert running.ledger().exchanges == 0
    finally:
        gate.set()
    assert len(client.response().body) == 2 * SIZE_BYTES
    running.wait_in_flight(0)

    assert running.line()["bytes_out"] == running.ledger().bytes_out == client.received_bytes


def test_counted_bytes_only_grow(balance, backend):
    """What is read twice must not go back when an exchange ends in between."""
    running = balance(backend(echo), mode=Mode.TCP)
    stop, seen = threading.Event(), [(0, 0, 0, 0)]

    def watch():
        while not stop.is_set():
            seen.append(counted(running))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        for _ in range(20):
            client = running.connect()
            client.send(b"x" * 10_000)
            client.exactly(10_000)
            client.close()
        running.wait_idle()
    finally:
        stop.set()
        watching.join()

    assert all(a <= b for before, after in pairwise(seen) for a, b in zip(before, after, strict=True))
    assert counted(running) == (200_000,) * 4
