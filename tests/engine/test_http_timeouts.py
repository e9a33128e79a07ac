"""Time-outs of HTTP mode: what each answers, what it logs, and what it does not count as idle."""

import threading
import time
from dataclasses import replace

import pytest

from fastlb.model.events import EventKind
from support.backend import OK, answering, gated, silent
from support.balance import PATIENT, STREAMED

pytestmark = pytest.mark.unbatched

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_slow_head_is_408(balance, backend):
    """A client may hold a connection, and not for ever: code cR."""
    running = balance(backend(answering(OK)), timeouts=replace(PATIENT, header_s=0.2))
    client = running.connect()
    client.send(b"GET / HTTP/1.1\r\nHo")
    answer = client.response()

    assert (answer.status, answer.value(b"Connection")) == (408, b"close")
    assert answer.body == b"408 Request Timeout\n"
    assert client.ending() == "fin"
    line = running.line()
    assert (line["status"], line["code"], line["method"]) == (408, "cR", None)


def test_dripping_does_not_extend_the_time_of_a_head(balance, backend):
    """The time counts from the first byte, or a byte a second would hold a connection for ever."""
    running = balance(backend(answering(OK)), timeouts=replace(PATIENT, header_s=0.4, idle_s=10))
    client = running.connect()
    client.send(b"GET / HTTP/1.1\r\n")
    client.sock.settimeout(0.02)
    status = None
    for n in range(200):
        try:
            client.more()
            client.sock.settimeout(5)
            status = client.response().status
            break
        except TimeoutError:
            client.send(b"X%d: y\r\n" % n)

    assert status == 408


def test_slow_head_of_a_kept_connection_is_408(balance, backend):
    """The same rule for every request of a connection."""
    client = balance(backend(answering(OK)), timeouts=replace(PATIENT, header_s=0.2)).connect()
    client.send(GET + b"GET /")
    assert client.response().status == 200

    assert client.response().status == 408


def test_stalled_request_body_is_408(balance, backend):
    """Nothing was answered yet, so it can still be said: code cD."""
    running = balance(backend(silent), limits=STREAMED, timeouts=replace(PATIENT, idle_s=0.3))
    client = running.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    answer = client.response()

    assert (answer.status, answer.value(b"Connection")) == (408, b"close")
    running.wait_in_flight(0)
    assert running.line()["code"] == "cD"


def test_slow_response_is_504(balance, backend):
    """Off by default; once set, it covers from the request's end to the first byte: code sH."""
    running = balance(backend(silent), timeouts=replace(PATIENT, response_s=0.2))
    client = running.connect()
    for _ in range(2):
        client.send(GET)
        assert client.response().status == 504
    running.wait_in_flight(0)
    assert [line["code"] for line in running.lines(2)] == ["sH", "sH"]
    failed = running.wait_event(EventKind.BACKEND_FAILED, 2)
    assert [(event.slot, event.in_a_row) for event in failed] == [
        (running.slots[0], 1),
        (running.slots[0], 2),
    ]


def test_response_time_ends_with_the_first_byte(balance, backend):
    """It must not cut long downloads."""
    gate = threading.Event()

    def script(link):
        link.request()
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
        assert gate.wait(5)
        link.send(b"k")

    client = balance(backend(script), timeouts=replace(PATIENT, response_s=0.2)).connect()
    client.send(GET)
    client.response_head()
    assert client.exactly(1) == b"o"
    assert not gate.wait(0.4)  # longer than the time-out, which must not strike now
    gate.set()

    assert client.exactly(1) == b"k"


@pytest.mark.parametrize("first", [b"HTTP/1.1 2", b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 2"])
def test_response_time_ends_with_the_first_byte_of_a_head(balance, backend, first):
    """Of an interim one, too: the backend is at work."""
    gate = threading.Event()

    def script(link):
        link.request()
        link.send(first)
        assert gate.wait(5)
        link.send(OK[len(b"HTTP/1.1 2") :])

    client = balance(backend(script), timeouts=replace(PATIENT, response_s=0.2)).connect()
    client.send(GET)
    assert not gate.wait(0.6)  # longer than the time-out, which must not strike now
    gate.set()
    answer = client.response()
    while answer.status == 103:
        answer = client.response()

    assert (answer.status, answer.body) == (200, b"ok")


@pytest.mark.parametrize("first", [b"HTTP/1.1 2", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
@pytest.mark.parametrize("response_s", [None, 0.2])
def test_head_that_stalls_is_504_after_the_time_of_a_response(balance, backend, first, response_s):
    """Also without a time for the first byte: what was begun must go on."""

    def script(link):
        link.request()
        link.send(first)
        link.rest()

    times = replace(PATIENT, response_s=response_s, tunnel_s=0.5)
    running = balance(backend(script), timeouts=times)
    client = running.connect()
    began_s = time.monotonic()
    client.send(GET)
    answer = client.response()
    while answer.status == 103:
        answer = client.response()

    assert (answer.status, running.line()["code"]) == (504, "sH")
    assert time.monotonic() - began_s >= 0.5


def test_response_time_begins_behind_a_body_that_waited_for_100(balance, backend):
    """The leave to send it is no part of the answer to it."""

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        link.rest()

    running = balance(backend(script), timeouts=replace(PATIENT, response_s=0.2))
    client = running.connect()
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert client.response().status == 100
    client.send(b"123", b"45")

    assert client.response().status == 504
    assert running.line()["code"] == "sH"


def test_waiting_for_a_response_is_not_idling(balance, backend):
    """There is no total time-out by default: a model may think for minutes."""
    gate = threading.Event()
    client = balance(backend(gated(gate)), timeouts=replace(PATIENT, idle_s=0.1, header_s=0.1)).connect()
    client.send(GET)
    assert not gate.wait(0.4)  # four times what an idle client would get
    gate.set()

    assert client.response().body == b"ok"


def test_client_s_time_starts_again_with_each_request(balance, backend):
    """A kept connection that is used is not idle."""
    client = balance(backend(answering(OK)), timeouts=replace(PATIENT, idle_s=0.5)).connect()
    pause = threading.Event()
    for _ in range(6):
        client.send(GET)
        assert client.response().status == 200
        pause.wait(0.15)


def test_client_idle_between_requests_has_its_own_time(balance, backend):
    """keepalive_s, once something was asked; before that idle_s counts."""
    running = balance(backend(answering(OK)), timeouts=replace(PATIENT, keepalive_s=0.2))
    asked, fresh = running.connect(), running.connect()
    asked.send(GET)
    assert asked.response().status == 200

    assert asked.ending() == "fin"
    fresh.send(GET)
    assert fresh.response().status == 200
    assert len(running.lines(2)) == 2


def test_client_idle_before_its_first_request_has_the_idle_time(balance, backend):
    """The other way round: a kept client may stay longer than one that never asked."""
    running = balance(backend(answering(OK)), timeouts=replace(PATIENT, idle_s=0.2, keepalive_s=15.0))
    asked, fresh = running.connect(), running.connect()
    asked.send(GET)
    assert asked.response().status == 200

    assert fresh.ending() == "fin"
    asked.send(GET)
    assert asked.response().status == 200


def test_time_between_requests_does_not_cut_a_body(balance, backend):
    """In the middle of a request idle_s counts again."""
    client = balance(backend(answering(OK)), timeouts=replace(PATIENT, keepalive_s=0.1)).connect()
    client.send(GET)
    assert client.response().status == 200
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nha")
    assert not threading.Event().wait(0.3)  # three times what an idle client would get
    client.send(b"lf")

    assert client.response().status == 200


@pytest.mark.parametrize("behind", [b"\r\n", b"\r"])
def test_empty_line_is_not_the_first_byte_of_a_request(balance, backend, behind):
    """Some clients send CRLF behind a body (RFC 9112 2.2). A 408 for it would be read as the answer to
    the next request, and a connection that only sent this has asked for nothing."""
    running = balance(backend(answering(OK)), timeouts=replace(PATIENT, header_s=0.2, keepalive_s=1.0))
    client, silent_one = running.connect(), running.connect()
    silent_one.send(behind)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi" + behind)
    assert client.response().body == b"ok"
    threading.Event().wait(0.5)  # longer than a head may take
    client.send((b"\r\n" + GET).removeprefix(behind))
    assert client.response().body == b"ok"
    client.send(behind)

    assert client.ending() == "fin"
    silent_one.close()
    assert [line["status"] for line in running.lines(2)] == [200, 200]
