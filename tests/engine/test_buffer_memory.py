"""Memory for bytes in flight is limited: what a slow peer holds is bounded, and nobody is cut off for it."""

import json
import socket
import threading
import time
from contextlib import suppress

import pytest

from fastlb.model.config import Mode
from fastlb.model.events import EventKind
from fastlb.model.limits import LimitConfig
from support.backend import OK
from support.balance import Balance
from support.waiting import PATIENCE_S, wait_until
from support.wire import Wire

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ENDLESS = b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n"
LIMIT_BYTES = 1_048_576
PIECE = b"10000\r\n" + b"x" * 65_536 + b"\r\n"


def pouring(link):
    """As much as is asked for in the path, endless chunks, or a short answer."""
    while (request := link.request()) is not None:
        path = request.start.split(b" ")[1][1:]
        if path == b"endless":
            link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                link.send(PIECE)
        elif path:
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (left := int(path)))
            while left:
                link.send(bytes(piece := min(left, 65_536)))
                left -= piece
        else:
            link.send(OK)


def limited(balance, *backends, **settings) -> Balance:
    """An engine with very little memory for buffers, all of it one worker's."""
    return balance(*backends, limits=LimitConfig(buffer_bytes=LIMIT_BYTES), workers=1, **settings)


class Settled:
    """True once a number has not changed for a while."""

    def __init__(self, ask) -> None:
        self._ask = ask
        self._seen = None
        self._since_s = 0.0

    def __call__(self) -> bool:
        now_s, value = time.monotonic(), self._ask()
        if value != self._seen:
            self._seen, self._since_s = value, now_s
        return now_s - self._since_s > 0.5


def codes(running, count) -> list[str]:
    """The termination codes of the first exchanges that ended."""
    return [json.loads(line)["code"] for line in running.raw_lines(count)]


def stalled_readers(running, count) -> list[Wire]:
    """Clients that ask for much and read nothing."""
    clients = [running.connect(receive_buffer_bytes=4096) for _ in range(count)]
    for client in clients:
        client.send(ENDLESS)
    return clients


def honest_download(running, size=4_000_000) -> None:
    """A client that takes what it asked for gets it."""
    client = running.connect()
    client.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % size)
    assert len(client.response().body) == size
    client.close()


def wait_short(running, floor_bytes=LIMIT_BYTES // 2) -> None:
    """Wait until memory is short, and everybody has as much of it as they will get."""
    running.wait_event(EventKind.BUFFERS_FULL)
    wait_until(lambda: running.ledger().buffer_bytes >= floor_bytes, "memory is short")


@pytest.mark.parametrize("path", [b"/endless", b"/100000000"], ids=["chunked", "spliced"])
def test_stalled_readers_cut_nobody_off(balance, backend, path):
    """Ten thousand of them must not take the machine's memory, nor the downloads of the others."""
    running = limited(balance, backend(pouring))
    clients = [running.connect(receive_buffer_bytes=4096) for _ in range(80)]
    for client in clients:
        client.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
    wait_until(Settled(lambda: running.ledger().bytes_out), "all of them have stalled")
    for _ in range(3):
        honest_download(running)
        client = running.connect()
        client.send(GET)
        assert client.response().body == b"ok"

    assert running.ledger().buffer_bytes <= LIMIT_BYTES
    assert set(codes(running, 6)) == {"--"}
    assert running.ledger().exchanges == 6


def test_reader_that_stalled_without_memory_goes_on_when_it_reads(balance, backend):
    """Nothing of its response is lost, whether memory has come back or not."""
    size = 3_000_000
    running = limited(balance, backend(pouring))
    stalled = stalled_readers(running, 40)
    wait_short(running)
    late = [running.connect(receive_buffer_bytes=4096) for _ in range(4)]
    for client in late:
        client.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % size)
    wait_until(lambda: running.in_flight() == 44, "all of them wait")
    assert len(late[0].response().body) == size
    for client in stalled:
        client.reset()
    for client in late[1:]:
        assert len(client.response().body) == size


def test_memory_comes_back_when_stalled_readers_leave(balance, backend):
    """Nothing of what was held is lost to the ones that come later."""
    running = limited(balance, backend(pouring))
    for _ in range(2):
        stalled_readers(running, 80)
        wait_short(running)
        running.close_clients()
        running.wait_idle()
        client = running.connect()
        client.send(GET)
        assert client.response().body == b"ok"
        client.close()

    running.wait_idle()
    assert running.ledger().buffer_bytes < LIMIT_BYTES


@pytest.mark.parametrize("path", [b"/endless", b"/100000000"], ids=["chunked", "spliced"])
def test_stalled_reader_holds_64_kib_at_most(balance, backend, path):
    """In a buffer or in a pipe, also if it has taken much before it stalls. (A buffer is 80 KiB.)"""
    running = balance(backend(pouring), limits=LimitConfig(buffer_bytes=1 << 30))
    clients = [running.connect() for _ in range(10)]
    for client in clients:
        client.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
        client.response_head()
        client.exactly(2_000_000)
    wait_until(Settled(lambda: running.ledger().bytes_out), "all of them have stalled")

    assert running.ledger().buffer_bytes <= 10 * 84_000


def test_sessions_that_stall_cut_nobody_off(balance, backend):
    """A session in TCP mode has the same rule, in both directions."""

    def flood(link):
        size = int(link.until(b"\n"))
        while size > 0:
            link.send(bytes(min(size, 65_536)))
            size -= 65_536

    running = limited(balance, backend(flood), mode=Mode.TCP)
    for _ in range(80):
        running.connect(receive_buffer_bytes=4096).send(b"100000000\n")
    wait_short(running)
    client = running.connect()
    client.send(b"4000000\n")
    assert len(client.rest()) == 4_000_000
    client.close()

    assert codes(running, 1) == ["--"]
    assert running.ledger().buffer_bytes <= LIMIT_BYTES


def test_uploads_to_a_backend_that_stalls_cut_nobody_off(balance, backend):
    """What a backend does not read is bounded as well."""
    gate = threading.Event()

    def stalling(link):
        while (head := link.until(b"\r\n\r\n")) is not None:
            if b"/stall" in head:
                gate.wait(PATIENCE_S)
                return
            link.exactly(3_000_000)
            link.send(OK)

    running = limited(balance, backend(stalling))
    upload = b"PUT %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
    senders = []
    for _ in range(30):
        client = running.connect()
        client.send(upload % (b"/stall", 100_000_000))
        senders.append(threading.Thread(target=pour, args=(client,)))
        senders[-1].start()
    try:
        running.wait_in_flight(30)
        wait_short(running)
        client = running.connect()
        client.send(upload % (b"/", 3_000_000), bytes(3_000_000))
        assert client.response().status == 200
        assert running.ledger().exchanges == 1
        assert running.ledger().buffer_bytes <= LIMIT_BYTES
    finally:
        for client in running.clients:
            with suppress(OSError):
                client.sock.shutdown(socket.SHUT_RDWR)
        gate.set()
        for sender in senders:
            sender.join()


def pour(client) -> None:
    """Send until the connection ends."""
    with suppress(OSError):
        while True:
            client.send(bytes(65_536))


@pytest.mark.parametrize("size", [27, 60_000])
def test_heads_that_never_end_share_the_memory(balance, backend, engine, size):
    """A client whose head is not complete is told so where memory is short: 503, code RR. The others are
    served."""
    if engine.name == "pure" and size < 1000:
        pytest.skip("counts the bytes of a head, where the native engine counts the buffer it stands in")
    running = limited(balance, backend(pouring))
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
    head += b"x" * (size - len(head))
    count = 30 if size > 1000 else 600
    clients = [running.connect() for _ in range(count)]
    for client in clients:
        client.send(head)
    wait_until(lambda: running.ledger().exchanges >= count // 3, "some are refused")
    line = json.loads(running.raw_lines(1)[0])
    assert (line["status"], line["code"]) == (503, "RR")
    assert running.ledger().buffer_bytes <= LIMIT_BYTES
    client = running.connect()
    client.send(GET)

    assert client.response().body == b"ok"


def test_bodies_that_are_kept_share_the_memory(balance, backend):
    """What is kept for a retry counts too; without memory for it a body is sent on, and not kept."""

    def mute(link):
        link.rest()

    running = limited(balance, backend(mute))
    clients = [running.connect() for _ in range(30)]
    head = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n"
    for client in clients:
        client.send(head)
    wait_until(lambda: running.ledger().bytes_in == 30 * len(head), "every head is here")
    for client in clients:
        client.send(bytes(60_000))
    running.wait_in_flight(30)

    assert running.ledger().buffer_bytes <= LIMIT_BYTES
    assert running.ledger().exchanges == 0
