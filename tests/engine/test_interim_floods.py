"""A backend that sends interim responses without end costs the others nothing, and no memory."""

import socket
import threading
from contextlib import suppress
from dataclasses import replace

import pytest

from fastlb.model.config import Mode
from support.backend import OK
from support.balance import PATIENT
from support.waiting import wait_until
from support.wire import TruncatedError

FLOOD = b"GET /flood HTTP/1.%d\r\nHost: a\r\n\r\n"
UPLOAD = b"POST /flood HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SHORT = b"HTTP/1.1 102 Processing\r\n\r\n"
LONG = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 4096 + b"\r\n\r\n"
HEADS = 4000
# What the kernel holds for two pairs of small sockets, with room; all heads are 16 MiB.
HELD_MAX_BYTES = 4_000_000
# One read of a backend, what stands behind it, and what one write may leave.
BUFFERS_MAX_BYTES = 400_000


@pytest.fixture
def over():
    """Set at the end of the test, whatever its outcome: the flood must not outlive it."""
    event = threading.Event()
    yield event
    event.set()


def endless(over):
    """Interim responses until the end of the test for one target, and an answer for others."""

    def script(link):
        while (request := link.request()) is not None:
            while b"/flood" in request.start and not over.is_set():
                link.send(SHORT * 1000)
            link.send(OK)

    return script


def counted(sent, *, read_body=False):
    """HEADS long interim responses and the final one; `sent` is how many bytes of them are written."""

    def script(link):
        link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        head = link.until(b"\r\n\r\n")
        for _ in range(HEADS):
            link.send(LONG)
            sent.append(len(LONG))
        if b"POST" in head:
            link.exactly(300_000)
        link.send(OK)
        link.rest()

    return script


def stalled_client(running, raw):
    """A client with small buffers that has asked and reads nothing."""
    port = running.open_listener(Mode.HTTP, send_buffer_bytes=4096)
    client = running.connect(port, receive_buffer_bytes=4096)
    client.send(raw)
    return client


def take_all(client):
    """Read until the end, however it comes."""
    with suppress(TruncatedError):
        client.rest()


def wait_until_held_back(sent):
    """Wait until the backend has not got rid of a byte for a while."""
    pause, last = threading.Event(), -1
    while last != len(sent) or not sent:
        last = len(sent)
        pause.wait(0.3)


@pytest.mark.parametrize("minor", [0, 1])
def test_flood_of_interim_responses_holds_no_worker(balance, backend, over, minor):
    """One worker, and a flood that a 1.0 client is not even told of: another client is served."""
    running = balance(backend(endless(over)), workers=1)
    flooded = running.connect()
    flooded.send(FLOOD % minor)
    reader = threading.Thread(target=take_all, args=[flooded])
    reader.start()
    running.wait_in_flight(1)
    client = running.connect()
    for _ in range(5):
        client.send(GET)
        assert client.response().body == b"ok"
    assert running.in_flight() >= 1
    over.set()
    flooded.shut()
    reader.join()


@pytest.mark.parametrize("raw", [FLOOD % 1, UPLOAD + bytes(300_000)], ids=["request", "upload"])
def test_client_that_reads_no_interim_responses_holds_its_backend_back(balance, backend, raw):
    """They wait in the backend and not in memory; all of them arrive when the client reads."""
    sent = []
    running = balance(backend(counted(sent)))
    client = stalled_client(running, raw)
    wait_until_held_back(sent)

    assert sum(sent) < HELD_MAX_BYTES
    assert running.ledger().buffer_bytes < BUFFERS_MAX_BYTES
    assert running.in_flight() == 1
    for _ in range(HEADS):
        assert client.response().head == LONG
    assert client.response().body == b"ok"


def test_client_that_takes_no_interim_responses_is_cut_off_in_time(balance, backend):
    """Else it would hold a unit of its backend for ever. It is to blame: code cH."""
    running = balance(backend(counted([])), timeouts=replace(PATIENT, tunnel_s=0.5, response_s=5))
    stalled_client(running, FLOOD % 1)
    wait_until(lambda: running.ledger().exchanges, "the end")

    assert (running.line()["code"], running.line()["status"]) == ("cH", None)
    assert not running.events()
