"""How connections to backends end: with RST where that loses nothing, so that TIME_WAIT, which keeps a
local port for a minute, is with the backend or nowhere (RFC 9293 3.10.7.4)."""

import socket
import threading
from dataclasses import replace

import pytest

from fastlb.model.limits import IDLE_MAX
from support.backend import OK, answering, gated
from support.balance import PATIENT
from support.waiting import PATIENCE_S, wait_until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
CHUNKED_CLOSE = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n"
)
HTTP10 = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"
BODY = b"b" * 60_000
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BODY)


def noting_its_end(ends, response):
    """Answer one request and note how the connection ends, with nothing done to end it."""

    def script(link):
        if link.request() is not None:
            link.send(response)
            ends.append(link.ending())

    return script


@pytest.mark.parametrize("response", [CLOSE, CHUNKED_CLOSE, HTTP10])
def test_backend_that_says_close_is_reset_once_its_response_is_complete(balance, backend, response):
    """With FIN the port would be ours for a minute, and 500 ports are 8 requests a second."""
    ends = []
    running = balance(backend(noting_its_end(ends, response)))
    client = running.connect()
    client.send(GET)

    assert client.response().body == b"ok"
    wait_until(lambda: ends == ["rst"], f"a reset, not {ends}")
    assert running.line()["code"] == "--"


def test_request_that_its_backend_has_not_taken_yet_is_not_cut_by_a_reset(balance, backend):
    """RST throws away what the peer has not acknowledged; a server may answer first and read then."""
    answered, bodies = threading.Event(), []

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(CLOSE)
        assert answered.wait(PATIENCE_S)
        bodies.append(link.rest())

    started = backend(script, receive_buffer_bytes=4096)
    running = balance(started)
    client = running.connect()
    client.send(POST, BODY)
    assert client.response().status == 200
    running.line()
    answered.set()
    wait_until(lambda: bodies, "the end of the request")

    assert bodies == [BODY]


def test_idle_connection_is_reset_when_its_time_is_over(balance, backend):
    """A pool that comes and goes with the load would use up the ports as well."""
    ends = []
    running = balance(backend(noting_its_end(ends, OK)), timeouts=replace(PATIENT, upstream_idle_s=0.1))
    client = running.connect()
    client.send(GET)
    client.response()

    wait_until(lambda: ends == ["rst"], f"a reset, not {ends}")


def test_idle_connection_to_a_backend_out_of_the_plan_is_reset(balance, backend):
    """It is closed by us, and nothing is under way on it."""
    ends = []
    running = balance(backend(noting_its_end(ends, OK)), backend(answering(OK)))
    client = running.connect()
    client.send(GET)
    client.response()
    running.wait_idle()
    running.keep_only(1)

    wait_until(lambda: ends == ["rst"], f"a reset, not {ends}")


def test_backend_that_ends_first_gets_a_fin(balance, backend):
    """Whoever sends FIN first has TIME_WAIT, so there is no reason to reset."""
    ends = []

    def script(link):
        link.request()
        link.send(b"HTTP/1.1 200 OK\r\n\r\nok")
        link.sock.shutdown(socket.SHUT_WR)
        ends.append(link.ending())

    running = balance(backend(script))
    client = running.connect()
    client.send(GET)

    assert client.response().body == b"ok"
    wait_until(lambda: ends == ["fin"], f"FIN, not {ends}")


def test_no_more_than_512_idle_connections_are_kept_to_one_backend(balance, backend):
    """A burst leaves as many connections as it had requests; in both engines as many of them stay."""
    gate = threading.Event()
    started = backend(gated(gate))
    running = balance(started, timeouts=replace(PATIENT, upstream_idle_s=600.0))
    clients = [running.connect() for _ in range(IDLE_MAX + 8)]
    for client in clients:
        client.send(GET)
    running.wait_in_flight(len(clients))
    gate.set()
    for client in clients:
        client.response()
    running.wait_idle()
    wait_until(lambda: sum(link.sock.fileno() != -1 for link in started.links) == IDLE_MAX, "those that stay")

    assert len(started.links) == IDLE_MAX + 8
