"""Nothing is held back for a full buffer, and nothing is buffered without end."""

import random
import threading
from dataclasses import replace

import pytest

from fastlb.model.config import Mode
from support.balance import PATIENT, STREAMED
from support.leaks import resident_bytes
from support.waiting import wait_until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
MIB = 1 << 20
# What two pairs of kernel buffers may hold at their largest (tcp_rmem and tcp_wmem, 6 and 4 MiB),
# with room; a balancer that buffered would reach the whole body.
HELD_MAX_BYTES = 40 * MIB
BODY_BYTES = 96 * MIB


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3000\r\n", b""])
def test_each_piece_of_a_response_passes_before_the_next_is_sent(balance, backend, framing):
    """Server-sent events and tokens of a model must be seen as they are made."""
    got = [threading.Event() for _ in range(5)]

    def script(link):
        link.request()
        link.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
        for n, event in enumerate(got):
            piece = b"data: %d\n\n" % n
            link.send(b"%x\r\n%s\r\n" % (len(piece), piece) if b"chunked" in framing else piece)
            assert event.wait(5), "the client has not got the last piece"

    client = balance(backend(script)).connect()
    client.send(GET)
    head = client.response_head()
    for n, event in enumerate(got):
        piece = b"data: %d\n\n" % n
        assert (client.exactly(len(piece)) if head.values(b"Content-Length") else client.chunk()) == piece
        event.set()


@pytest.mark.parametrize("chunked", [True, False])
def test_each_piece_of_a_request_passes_before_the_next_is_sent(balance, backend, chunked):
    """Uploads stream too."""
    got = [threading.Event() for _ in range(5)]

    def script(link):
        link.until(b"\r\n\r\n")
        for event in got:
            assert (link.chunk() if chunked else link.exactly(5)) == b"piece"
            event.set()
        if chunked:
            assert link.chunk() == b""
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        link.request()

    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 25"
    client = balance(backend(script), limits=STREAMED).connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
    for event in got:
        client.send(b"5\r\npiece\r\n" if chunked else b"piece")
        assert event.wait(5), "the backend has not got the last piece"
    client.send(b"0\r\n\r\n" if chunked else b"")

    assert client.response().body == b"ok"


def test_response_may_begin_and_run_while_the_request_is_sent(balance, backend):
    """Both directions are independent until the response has ended."""

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while piece := link.chunk():
            link.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        link.send(b"0\r\n\r\n")
        link.request()

    client = balance(backend(script)).connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.send(b"2\r\nhi\r\n")
    client.response_head()
    assert client.chunk() == b"hi"
    client.send(b"3\r\nyou\r\n")
    assert client.chunk() == b"you"
    client.send(b"0\r\n\r\n")

    assert client.chunk() == b""


def stalls(counter):
    """Wait until a counter that grew has stopped growing for a while, and return it."""
    last = [-1, 0]

    def stopped():
        now = counter()
        last[1] = last[1] + 1 if now == last[0] and now > 0 else 0
        last[0] = now
        return last[1] > 100

    wait_until(stopped, "the sender to be held back")
    return last[0]


def test_client_that_does_not_read_holds_its_backend_back(balance, backend):
    """What a stalled reader has not read stays with the sender, not in our memory."""
    sent = [0]

    def script(link):
        link.request()
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES)
        piece = bytes(64 * 1024)
        while sent[0] < BODY_BYTES:
            link.send(piece)
            sent[0] += len(piece)

    running = balance(backend(script))
    before = resident_bytes()
    client = running.connect(receive_buffer_bytes=16_384)
    client.send(GET)
    held = stalls(lambda: sent[0])

    assert held < HELD_MAX_BYTES
    assert resident_bytes() - before < 16 * MIB
    client.response_head()
    left = BODY_BYTES - len(client.unread)
    while left:
        left -= len(client.sock.recv(MIB))
    running.wait_in_flight(0)


COPIED_BYTES = 24 * MIB


def reading_late(balance, backend, framing):
    """A client that has asked and reads nothing, so that everything on the way is full."""
    body = random.Random(1).randbytes(COPIED_BYTES)
    sent = [0]

    def script(link):
        link.request()
        link.send(b"HTTP/1.1 200 OK\r\n%s\r\n" % framing)
        for at in range(0, len(body), 50_000):
            piece = body[at : at + 50_000]
            link.send(b"%x\r\n%s\r\n" % (len(piece), piece) if b"chunked" in framing else piece)
            sent[0] += len(piece)
        if b"chunked" in framing:
            link.send(b"0\r\n\r\n")

    running = balance(backend(script))
    client = running.connect(receive_buffer_bytes=16_384)
    client.send(GET)
    assert stalls(lambda: sent[0]) < COPIED_BYTES
    return running, client, body


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n"])
def test_response_that_was_held_back_arrives_whole(balance, backend, framing):
    """What the kernel refused is sent later, once and in order."""
    _, client, body = reading_late(balance, backend, framing)

    assert client.response().body == body


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n"])
def test_client_that_leaves_a_held_back_response_is_seen(balance, backend, framing):
    """Code CD, and what was kept for it is given back."""
    running, client, _ = reading_late(balance, backend, framing)
    client.reset()

    assert running.line()["code"] == "CD"
    running.wait_idle()
    assert running.verify().taken.buffers == 0


def test_backend_that_does_not_read_holds_its_client_back(balance, backend):
    """The same for uploads."""
    gate, sent = threading.Event(), [0]

    def script(link):
        link.until(b"\r\n\r\n")
        assert gate.wait(10)
        left = BODY_BYTES - len(link.unread)
        while left:
            left -= len(link.sock.recv(MIB))
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    running = balance(backend(script))
    before = resident_bytes()
    client = running.connect()

    def upload():
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES)
        piece = bytes(64 * 1024)
        while sent[0] < BODY_BYTES:
            client.send(piece)
            sent[0] += len(piece)

    sender = threading.Thread(target=upload)
    sender.start()
    held = stalls(lambda: sent[0])
    grown = resident_bytes() - before
    gate.set()
    sender.join()

    assert held < HELD_MAX_BYTES
    assert grown < 16 * MIB
    assert client.response().status == 200


def test_response_under_way_without_progress_ends_after_its_time(balance, backend):
    """A backend that goes silent in a body must not hold its client for ever; code sD."""

    def script(link):
        link.request()
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        link.rest()

    running = balance(backend(script), timeouts=replace(PATIENT, tunnel_s=0.3))
    client = running.connect()
    client.send(GET)
    client.response_head()
    assert client.exactly(3) == b"abc"

    assert client.ending() in ("rst", "fin")
    running.wait_in_flight(0)
    assert running.line()["code"] == "sD"


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked\r\n", b""])
def test_small_pieces_that_find_no_room_arrive_later_and_whole(balance, backend, framing):
    """Each is taken before the next is sent, so the kernel refuses one from its first byte."""
    pieces = [random.Random(number).randbytes(100) for number in range(3000)]

    def script(link):
        link.request()
        link.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + framing + b"\r\n")
        sent = received()
        for piece in pieces:
            link.send(b"64\r\n%b\r\n" % piece if framing else piece)
            sent += 100
            if not stuck.is_set() and not within(0.2, lambda sent=sent: received() >= sent):
                stuck.set()
        link.send(b"0\r\n\r\n" if framing else b"")

    def received():
        return running.ledger().backends[0].bytes_in

    stuck = threading.Event()
    running = balance(backend(script))
    client = running.connect(
        running.open_listener(Mode.HTTP, send_buffer_bytes=4096), receive_buffer_bytes=4096
    )
    client.send(GET)
    assert stuck.wait(8)

    assert client.response().body == b"".join(pieces)
    running.wait_idle()
    assert running.line()["code"] == "--"


def within(seconds, condition):
    """True if it comes true in that time."""
    try:
        return wait_until(condition, timeout_s=seconds)
    except AssertionError:
        return False
