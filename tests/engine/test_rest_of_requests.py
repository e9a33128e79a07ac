"""A client that has its answer before it has sent its whole request."""

import threading
import time
from dataclasses import replace

import pytest

from fastlb.model.config import Mode
from fastlb.model.limits import LimitConfig
from support.backend import OK, answering, recording
from support.balance import PATIENT, STREAMED
from support.waiting import PATIENCE_S, wait_until
from support.wire import TruncatedError

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LONG_BYTES = 300_000
LONG = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % LONG_BYTES
SHORT = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"a\r\n0123456789\r\n0\r\n\r\n"
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"


def early(answer, got):
    """Answer each request before its body is read, and read it."""

    def script(link):
        while True:
            try:
                head = link.until(b"\r\n\r\n")
            except TruncatedError:
                return
            link.send(answer)
            if b"chunked" in head:
                got.append(b"".join(iter(link.chunk, b"")))
            else:
                length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]) if b"Length" in head else 0
                got.append(link.exactly(length))

    return script


def closing(answer):
    """Answer a request before its body is read, and close, and say so."""

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))

    return script


@pytest.mark.parametrize("connection", [b"", b"Connection: close\r\n"])
def test_early_answer_does_not_cut_the_upload_to_a_backend_that_reads_on(balance, backend, connection):
    """A server may say 202 and then read what it has accepted. Its unit is held meanwhile, and the
    client, which sees the end of its answer at once, may take longer than it would linger."""
    got = []
    running = balance(
        backend(early(ACCEPTED.replace(b"\r\n\r\nok", b"\r\n" + connection + b"\r\nok"), got)),
        limits=STREAMED,
    )
    client = running.connect()
    client.send(LONG, b"x" * 1000)
    answer = client.response()
    assert (answer.status, answer.value(b"Connection")) == (202, b"close")
    assert client.rest() == b""
    assert running.in_flight() == 1
    assert running.ledger().exchanges == 0
    for _ in range(0, LONG_BYTES - 1000, 1000):
        client.send(b"x" * 1000)
    running.wait_in_flight(0)
    wait_until(lambda: got, "the whole upload")

    assert got == [b"x" * LONG_BYTES]
    line = running.line()
    assert (line["code"], line["status"], line["bytes_in"]) == ("--", 202, len(LONG) + LONG_BYTES)


@pytest.mark.parametrize("body", [SHORT + b"0123456789", CHUNKED + CHUNKS], ids=["length", "chunked"])
@pytest.mark.parametrize("whose", ["reads on", "closes", "ours"])
def test_short_rest_of_an_answered_request_does_not_cost_the_connection(
    balance, backend, refused, body, whose
):
    """It is read to its end, by the backend or by nobody, and the next request is found behind it."""
    got = []
    if whose == "ours":
        running = balance(refused, limits=STREAMED)
    else:
        running = balance(
            backend(early(ACCEPTED, got) if whose == "reads on" else closing(ACCEPTED)), limits=STREAMED
        )
    client = running.connect()
    for _ in range(3):
        at = body.index(b"\r\n\r\n") + 6
        client.send(body[:at])
        answer = client.response()
        client.send(body[at:])
        assert answer.status == (502 if whose == "ours" else 202)
        assert answer.value(b"Connection") is None

    running.wait_in_flight(0)
    assert {line["code"] for line in running.lines(3)} == {"SC" if whose == "ours" else "--"}
    if whose == "reads on":
        assert got == [b"0123456789"] * 3


def test_413_of_a_short_body_keeps_the_connection(balance, backend):
    """The request was understood, and its body is thrown away; no backend hears of it."""
    seen = []
    running = balance(backend(recording(seen)), limits=LimitConfig(body_bytes=5))
    client = running.connect()
    client.send(SHORT + b"0123456789" + GET)

    assert client.response().status == 413
    assert client.response().status == 200
    client.send(SHORT + b"01234")
    assert client.response().status == 413
    client.send(b"56789" + GET)
    assert client.response().status == 200
    assert len(seen) == 2


def test_413_of_a_long_body_closes(balance, backend):
    """Reading it would be what the limit is there to prevent."""
    running = balance(backend(answering(OK)), limits=LimitConfig(body_bytes=5))
    client = running.connect()
    client.send(LONG)
    answer = client.response()

    assert (answer.status, answer.value(b"Connection")) == (413, b"close")
    assert client.ending() == "fin"


def test_chunks_that_turn_out_to_be_long_close(balance, backend):
    """How many there will be is not known when the answer goes out."""
    running = balance(backend(closing(ACCEPTED)), limits=STREAMED)
    client = running.connect()
    client.send(CHUNKED)
    assert client.response().value(b"Connection") is None
    running.wait_in_flight(0)
    for _ in range(20):
        client.send(b"2000\r\n" + bytes(0x2000) + b"\r\n")

    assert client.ending() == "fin"
    assert running.line()["code"] == "--"


def test_client_may_leave_instead_of_sending_the_rest(balance, backend):
    """It has its answer: nothing went wrong."""
    running = balance(backend(early(ACCEPTED, [])), limits=STREAMED)
    for request, leave in ((LONG, "close"), (SHORT, "close"), (LONG, "reset"), (SHORT, "reset")):
        client = running.connect()
        client.send(request)
        assert client.response().status == 202
        getattr(client, leave)()

    assert {line["code"] for line in running.lines(4)} == {"--"}
    running.wait_in_flight(0)


def test_slow_uploader_sees_an_early_answer(balance, backend):
    """It lingers as long as bytes come, so that a RST does not take the answer along: longer than the
    two seconds that a drain gives."""
    running = balance(
        backend(closing(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")), limits=STREAMED
    )
    client = running.connect()
    client.send(LONG)
    pause = threading.Event()
    until = time.monotonic() + 3.0
    while time.monotonic() < until:
        client.send(b"x" * 1000)
        pause.wait(0.2)

    assert client.response().status == 413
    assert client.ending() == "fin"


@pytest.mark.parametrize("kind", ["lingering", "rest"])
def test_silent_client_with_its_answer_is_left_in_time(balance, backend, kind):
    """Five seconds without a byte: nobody waits for the rest for ever."""
    answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"
    running = balance(backend(closing(answer) if kind == "lingering" else early(answer, [])), limits=STREAMED)
    client = running.connect()
    client.send(LONG if kind == "lingering" else SHORT)
    assert client.response().status == 413
    started = time.monotonic()
    wait_until(lambda: running.verify().connections == 0, "the client is left", timeout_s=30.0)

    assert time.monotonic() - started > 4.0
    assert running.line()["code"] == "--"


# ---- what in_flight shows meanwhile ----------------------------------------------------------------


def test_slow_reader_of_a_whole_answer_holds_no_unit(balance, backend):
    """Its backend has sent everything and may work for others; only the client is slow."""
    size = 90_000
    running = balance(
        backend(answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)))
    )
    port = running.open_listener(Mode.HTTP, send_buffer_bytes=4096)
    client = running.connect(port, receive_buffer_bytes=4096)
    client.send(GET)
    head = client.response_head()
    seen = []

    def sample():
        seen.append(running.in_flight())
        client.unread += client.sock.recv(2048)
        return seen[-1] == 0

    wait_until(sample, "the unit is given back")
    assert client.received_bytes + len(client.unread) < size
    assert seen == sorted(seen, reverse=True)
    client.exactly(int(head.value(b"Content-Length")))

    assert running.line()["code"] == "--"


def test_unit_of_an_upload_whose_backend_closes_is_given_back_at_once(balance, backend):
    """The client may linger; the backend has nothing to do with that."""
    running = balance(backend(closing(ACCEPTED)), limits=STREAMED)
    client = running.connect()
    client.send(LONG)
    assert client.response().status == 202
    running.wait_in_flight(0)
    assert running.verify().connections == 1


@pytest.mark.parametrize("request_bytes", [GET, SHORT + b"abc"], ids=["waiting", "in its body"])
def test_half_closed_client_that_is_given_up_gets_fin(balance, backend, request_bytes):
    """A RST would take the answer before it along, which the client may not have read."""
    got_second = threading.Event()

    def script(link):
        link.request()
        link.send(OK)
        link.until(b"\r\n\r\n")
        got_second.set()
        link.rest()

    running = balance(backend(script), limits=STREAMED)
    client = running.connect()
    client.send(GET + request_bytes)
    assert got_second.wait(PATIENCE_S)
    client.shut()
    running.wait_in_flight(0)

    assert client.response().body == b"ok"
    assert client.ending() == "fin"
    assert [line["status"] for line in running.lines(2)] == [200, 499]


def test_idle_client_whose_next_request_crosses_the_end_sees_no_reset(balance, backend):
    """Its time is over while the request is on its way: the connection lingers, as in a drain."""
    running = balance(backend(answering(OK)), timeouts=replace(PATIENT, keepalive_s=0.2), limits=STREAMED)
    client = running.connect()
    client.send(GET)
    assert client.response().body == b"ok"
    assert client.rest() == b""
    client.send(GET)

    assert client.ending() == "fin"
    wait_until(lambda: running.verify().connections <= 1, "the client is left")
    running.lines(1)
