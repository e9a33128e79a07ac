"""A response that breaks off: the client gets all that its backend had sent, and sees that it is not all."""

import threading
import time
from dataclasses import replace

import pytest

from fastlb.model.config import Mode
from support.backend import OK
from support.balance import PATIENT
from support.waiting import PATIENCE_S, wait_until
from support.wire import TruncatedError

SENT_BYTES = 1_000_000
BODY = bytes(range(256)) * (SENT_BYTES // 256 + 1)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
RESPONSES = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + BODY[:SENT_BYTES],
    "chunked": CHUNKED + b"%x\r\n%b\r\n" % (SENT_BYTES, BODY[:SENT_BYTES]),
    "in a chunk": CHUNKED + b"2dc6c0\r\n" + BODY[:SENT_BYTES],
    "bad chunk": CHUNKED + b"%x\r\n%b\r\nno chunk" % (SENT_BYTES, BODY[:SENT_BYTES]),
}
SMALL_BYTES = 200_000
SMALL = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + BODY[:SMALL_BYTES],
    "chunked": CHUNKED + b"%x\r\n%b\r\n" % (SMALL_BYTES, BODY[:SMALL_BYTES]),
}


def breaking(response):
    """Send `response`, which is no whole one, and close."""

    def script(link):
        link.request()
        link.send(response)

    return script


def body_of(client, head):
    """The body as far as it came, and how it ended: "fin" or "rst"."""
    body = b""
    try:
        while True:
            if head.values(b"Transfer-Encoding"):
                piece = client.chunk()
                assert piece, "a last chunk that no backend sent"
                body += piece
            else:
                body += client.exactly(1)
                body += client.exactly(len(client.unread))
    except TruncatedError as cut:
        return body + (cut.got if not head.values(b"Transfer-Encoding") else b""), cut.how


def asked(running, version=b"1.1", **how):
    client = running.connect(**how)
    client.send(b"GET / HTTP/%b\r\nHost: a\r\n\r\n" % version)
    return client


@pytest.mark.parametrize("why", RESPONSES)
def test_everything_that_had_arrived_comes_before_the_end(balance, backend, why):
    """The framing shows that it is not all, so the end is FIN: a RST would take what lies in the kernel
    along, and clients report it as another error, or hang."""
    running = balance(backend(breaking(RESPONSES[why])))
    client = asked(running)
    body, how = body_of(client, client.response_head())

    assert (len(body), how) == (SENT_BYTES, "fin")
    assert body == BODY[:SENT_BYTES]
    running.wait_in_flight(0)
    assert running.line()["code"] == ("PD" if why == "bad chunk" else "SD")


@pytest.mark.parametrize("why", [name for name in RESPONSES if name != "length"])
def test_reset_comes_behind_everything_where_the_end_is_that_of_the_body(balance, backend, why):
    """A 1.0 client knows no chunks: FIN would be the right end of the body."""
    running = balance(backend(breaking(RESPONSES[why])))
    client = asked(running, b"1.0")
    body, how = body_of(client, client.response_head())

    assert (len(body), how) == (SENT_BYTES, "rst")
    assert running.line()["code"] == ("PD" if why == "bad chunk" else "SD")


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_what_arrived_before_a_reset_of_the_backend_is_passed_on(balance, backend, version):
    """It lies in our kernel, behind which the error stands."""
    arrived = threading.Event()

    def script(link):
        link.request()
        link.send(b"HTTP/1.1 200 OK\r\n\r\n", BODY[:20_000])
        assert arrived.wait(PATIENCE_S)
        link.send(BODY[20_000:40_000])
        link.reset()

    running = balance(backend(script))
    client = asked(running, version)
    head = client.response_head()
    arrived.set()
    body, how = body_of(client, head)

    assert (body, how) == (BODY[:40_000], "rst" if version == b"1.0" else "fin")
    assert running.line()["code"] == "SD"


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("why", SMALL)
def test_slow_reader_of_a_broken_response_gets_everything(balance, backend, why, version):
    """Most of it waits in buffers when the backend is gone."""
    started = backend(breaking(SMALL[why]))
    running = balance(started)
    port = running.open_listener(Mode.HTTP, send_buffer_bytes=16_384)
    client = asked(running, version, port=port, receive_buffer_bytes=16_384)
    head = client.response_head()
    wait_until(lambda: started.link().sock.fileno() < 0, "the backend has closed")
    body, how = body_of(client, head)

    assert body == BODY[:SMALL_BYTES]
    assert how == ("rst" if (why, version) == ("chunked", b"1.0") else "fin")
    assert running.line()["code"] == "SD"


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_client_that_takes_nothing_of_a_broken_response_is_cut_off_in_time(balance, backend, version):
    """It has the time of any client, also when only the kernel still holds something for it."""
    response = CHUNKED + b"%x\r\n%b\r\n" % (30_000, BODY[:30_000])
    running = balance(backend(breaking(response)), timeouts=replace(PATIENT, send_s=0.4))
    asked(running, version, receive_buffer_bytes=4096)

    assert running.line()["code"] == "SD"
    wait_until(lambda: running.verify().connections == 0, "every connection is closed")


BAD = {
    "at once": b"x\r\n",
    "behind a chunk": b"5\r\nhello\r\nx\r\n",
    "in the trailers": b"5\r\nhello\r\n0\r\nno field\r\n\r\n",
}


@pytest.mark.parametrize("halves", [1, 2])
@pytest.mark.parametrize("why", BAD)
def test_bad_chunk_that_comes_with_the_head_is_a_502(balance, backend, why, halves):
    """What is wrong is known before anything is sent: the client is told, and may go on."""
    taken = threading.Event()
    response = CHUNKED + BAD[why]
    first = 20 if halves == 2 else 0

    def script(link):
        link.request()
        if link.number:
            link.send(OK)
            return
        link.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + response[:first])
        assert taken.wait(PATIENCE_S)
        link.send(response[first:])
        link.rest()

    running = balance(backend(script))
    client = asked(running)
    assert client.response_head().status == 103
    taken.set()
    answer = client.response()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")

    assert (answer.status, answer.value(b"Connection")) == (502, None)
    assert client.response().body == b"ok"
    lines = [(line["status"], line["code"]) for line in running.lines(2)]
    assert lines == [(502, "PH"), (200, "--")]


@pytest.mark.parametrize("kind", ["response", "interim"])
def test_client_that_takes_nothing_has_its_own_time(balance, backend, kind):
    """Not that of a tunnel: a few of them would hold every place of a backend for an hour."""

    def script(link):
        link.request()
        if kind == "response":
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            link.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000)

    running = balance(backend(script), timeouts=replace(PATIENT, send_s=0.4, tunnel_s=600.0))
    port = running.open_listener(Mode.HTTP, send_buffer_bytes=4096)
    client = asked(running, port=port, receive_buffer_bytes=4096)

    assert running.line()["code"] == ("cD" if kind == "response" else "cH")
    running.wait_in_flight(0)
    with pytest.raises(TruncatedError):
        client.exactly(100_000_000)


def test_reader_that_takes_little_in_time_is_not_cut_off(balance, backend):
    """The kernel tells of it only when a third of a large send buffer is free."""

    def script(link):
        link.request()
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (4 * SENT_BYTES), bytes(4 * SENT_BYTES))
        link.rest()

    running = balance(backend(script), timeouts=replace(PATIENT, send_s=0.5))
    client = asked(
        running,
        port=running.open_listener(Mode.HTTP, send_buffer_bytes=2_000_000),
        receive_buffer_bytes=4096,
    )
    head = client.response_head()
    until = time.monotonic() + 2.0
    got = 0
    pause = threading.Event()
    while time.monotonic() < until:
        got += len(client.exactly(3000))
        pause.wait(0.05)
    while got < 4 * SENT_BYTES:
        got += len(client.exactly(min(65_536, 4 * SENT_BYTES - got)))

    assert int(head.value(b"Content-Length")) == got
    assert running.line()["code"] == "--"
