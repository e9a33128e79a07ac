"""Connections that carry more than one request, on both sides."""

import threading
from dataclasses import replace

import pytest

from support.backend import OK, answering, gated, recording
from support.balance import PATIENT
from support.waiting import wait_until
from support.wire import TruncatedError

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def ask(client, request=GET):
    client.send(request)
    return client.response()


def test_client_connection_carries_many_requests(balance, backend):
    """Keep-alive is the default of HTTP/1.1 (RFC 9112 9.3)."""
    running = balance(backend(answering(OK)))
    client = running.connect()

    assert [ask(client).body for _ in range(20)] == [b"ok"] * 20
    assert running.ledger().accepted == 1
    wait_until(lambda: running.ledger().exchanges == 20, "the end of the last exchange")


def test_backend_connection_is_used_again(balance, backend):
    """A connect per request would cost more than the request. Each worker has a pool of its own."""
    started = backend(answering(OK))
    running = balance(started, workers=1)
    for _ in range(5):
        client = running.connect()
        assert ask(client).body == b"ok"
        client.close()

    assert len(started.links) == 1


def test_backend_connection_used_last_is_used_next(balance, backend):
    """LIFO keeps few connections busy, and lets the others reach their idle time-out."""
    gate = threading.Event()
    started = backend(gated(gate))
    running = balance(started)
    clients = [running.connect() for _ in range(3)]
    for client in clients:
        client.send(GET)
    started.link(2)
    gate.set()
    for client in clients:
        assert client.response().body == b"ok"
    running.wait_idle()
    before = [link.received_bytes for link in started.links]
    for _ in range(6):
        ask(clients[0])
    grew = [link.received_bytes > was for link, was in zip(started.links, before, strict=True)]

    assert len(started.links) == 3
    assert sum(grew) == 1


def test_pipelined_requests_are_answered_in_order(balance, backend):
    """RFC 9112 9.3.2, also when the next backend would be quicker."""

    def script(link):
        while (request := link.request()) is not None:
            target = request.start.split(b" ")[1]
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(target), target)

    client = balance(backend(script), backend(script)).connect()
    client.send(*[b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(50)])

    assert [client.response().body for _ in range(50)] == [b"/%d" % n for n in range(50)]


def test_pipelined_requests_with_bodies_are_told_apart(balance, backend):
    """The end of a body is found by counting and never by what comes next."""
    bodies = []

    def script(link):
        while (request := link.request()) is not None:
            bodies.append(request.body)
            link.send(OK)

    client = balance(backend(script)).connect()
    client.send(
        b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\nGET /no HTTP/1.1\r\n\r\n",
        b"POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n",
        b"POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        GET,
    )

    assert [client.response().status for _ in range(4)] == [200] * 4
    assert bodies == [b"GET /no HTTP/1.1\r\n\r\n", b"abcdefg", b"", b""]


def test_next_pipelined_request_waits_for_the_response(balance, backend):
    """One exchange at a time on a connection, so that what is pending is bounded."""
    gate, heads = threading.Event(), []

    def script(link):
        while (request := link.request()) is not None:
            heads.append(request.start)
            gate.wait(5)
            link.send(OK)

    running = balance(backend(script), backend(script))
    client = running.connect()
    client.send(GET, GET)
    wait_until(lambda: heads, "the first request")

    assert running.verify().exchanges == 1
    assert len(heads) == 1
    gate.set()
    assert [client.response().body, client.response().body] == [b"ok", b"ok"]


def test_pipeline_ends_at_a_request_that_closes(balance, backend):
    """What follows Connection: close is not looked at (RFC 9112 9.6)."""
    heads = []
    client = balance(backend(recording(heads))).connect()
    client.send(b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", GET)

    assert client.response().body == b"ok"
    assert client.ending() == "fin"
    assert len(heads) == 1


def test_empty_line_between_requests_is_tolerated(balance, backend):
    """Old clients send one CRLF too many after a body (RFC 9112 2.2)."""
    client = balance(backend(answering(OK))).connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\r\n", GET)

    assert [client.response().status, client.response().status] == [200, 200]


def test_client_that_sends_fin_after_its_request_is_answered_or_counted_out(balance, backend):
    """A FIN is a half-close and may come with the request; either way the unit is given back."""
    running = balance(backend(answering(OK)))
    client = running.connect()
    client.send(GET)
    client.shut()
    try:
        assert client.response().body == b"ok"
    except TruncatedError as end:
        assert not end.got
    running.wait_in_flight(0)

    assert running.line()["status"] in (200, 499)


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
def test_backend_connection_that_will_close_is_not_used_again(balance, backend, response):
    """A backend that said it will close is taken at its word, and the client's connection stays."""
    started = backend(answering(response))
    client = balance(started).connect()
    for n in range(3):
        assert ask(client).body == b"ok"
        assert len(started.links) == n + 1


def test_backend_of_1_0_with_keep_alive_is_used_again(balance, backend):
    """RFC 9112 9.3: 1.0 persists when it says so."""
    started = backend(answering(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok"))
    client = balance(started).connect()
    for _ in range(3):
        assert ask(client).body == b"ok"

    assert len(started.links) == 1


def test_extra_bytes_after_a_response_close_the_backend_connection(balance, backend):
    """Bytes that nobody asked for would become the next user's response."""
    started = backend(answering(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"))
    client = balance(started).connect()

    assert [ask(client).body for _ in range(3)] == [b"ok"] * 3
    assert len(started.links) == 3


def test_bytes_from_an_idle_backend_connection_close_it(balance, backend):
    """A response that was not asked for (408 before closing, say) is nobody's."""
    late = threading.Event()

    def script(link):
        link.request()
        link.send(OK)
        if link.number == 0:
            late.wait(5)
            link.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
            link.rest()
        else:
            link.request()

    running = balance(backend(script))
    client = running.connect()
    ask(client)
    late.set()
    wait_until(lambda: running.verify().connections == 1, "the pooled connection closed")

    assert ask(client).status == 200


def test_idle_backend_connection_is_closed_after_its_time(balance, backend):
    """Below the idle time-out of application servers, so that they are not met half-closed."""
    started = backend(answering(OK))
    running = balance(started, timeouts=replace(PATIENT, upstream_idle_s=0.2))
    client = running.connect()
    ask(client)
    wait_until(lambda: running.verify().connections == 1, "the pooled connection closed")
    ask(client)

    assert len(started.links) == 2


def test_idle_client_is_closed_silently_after_its_time(balance, backend):
    """Nothing was asked, so nothing is answered and nothing is logged."""
    running = balance(backend(answering(OK)), timeouts=replace(PATIENT, idle_s=0.2, keepalive_s=0.2))
    asked, fresh = running.connect(), running.connect()
    ask(asked)

    assert asked.ending() == "fin"
    assert fresh.ending() == "fin"
    assert len(running.lines(1)) == 1


def test_idle_keep_alive_connection_counts_nothing(balance, backend):
    """The unit is the exchange's, not the connection's."""
    running = balance(backend(answering(OK)))
    client = running.connect()
    ask(client)
    running.wait_in_flight(0)

    assert running.verify().connections == 2


@pytest.mark.parametrize("status", [502, 503])
def test_own_answer_to_1_0_says_that_the_connection_stays(balance, backend, refused, status):
    """A 1.0 client that has asked for it does not know otherwise (RFC 9112 9.3)."""
    running = balance(refused, backend(answering(OK)))
    request = b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
    running.keep_only(*([0] if status == 502 else []))
    client = running.connect()
    answer = ask(client, request)

    assert (answer.status, answer.value(b"Connection")) == (status, b"keep-alive")
    running.keep_only(1)
    assert ask(client, request).body == b"ok"
    assert running.ledger().accepted == 1
