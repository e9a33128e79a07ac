"""Expect: 100-continue in every order of events (RFC 9110 10.1.1)."""

import threading
from dataclasses import replace

import pytest

from support.backend import OK, answering, silent
from support.balance import PATIENT
from support.wire import undated

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def head(method=b"POST", version=b"1.1", length=4):
    """A request that waits for 100 before its body."""
    return b"%b / HTTP/%b\r\nHost: a\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n" % (
        method,
        version,
        length,
    )


def test_continue_before_the_body_of_each_request(balance, backend):
    """The connections of both sides live on; a 100 is no answer."""

    def script(link):
        while True:
            link.until(b"\r\n\r\n")
            link.send(CONTINUE)
            assert link.exactly(4) == b"body"
            link.send(OK)

    started = backend(script)
    client = balance(started).connect()
    for _ in range(3):
        client.send(head())
        assert client.response().head == CONTINUE
        client.send(b"body")
        assert client.response().body == b"ok"
    assert len(started.links) == 1


def test_client_that_does_not_wait_for_continue_is_served(balance, backend):
    """Waiting is its right and not its duty; the 100 comes all the same."""

    def script(link):
        link.until(b"\r\n\r\n")
        link.exactly(4)
        link.send(CONTINUE, OK)
        link.request()

    client = balance(backend(script)).connect()
    client.send(head() + b"body")

    assert client.response().head == CONTINUE
    assert client.response().body == b"ok"


def test_backend_that_sends_no_continue_may_answer_at_the_end(balance, backend):
    """A client that grows tired of waiting sends its body."""
    client = balance(backend(answering(OK))).connect()
    client.send(head())
    client.send(b"body")

    assert client.response().body == b"ok"


def test_no_continue_is_made_up(balance, backend):
    """Only the backend knows whether it wants the body."""
    asked = threading.Event()

    def script(link):
        link.until(b"\r\n\r\n")
        asked.set()
        assert link.exactly(4) == b"body"
        link.send(OK)
        link.request()

    client = balance(backend(script)).connect()
    client.send(head())
    assert asked.wait(5)
    client.sock.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.more()
    client.sock.settimeout(5)
    client.send(b"body")

    assert client.response().body == b"ok"


def test_final_answer_after_continue_reaches_a_client_that_sends_no_body(balance, backend):
    """The backend changes its mind; the client's connection ends, for its body may still come."""

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(CONTINUE, b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno")
        link.rest()

    running = balance(backend(script))
    client = running.connect()
    client.send(head())
    assert client.response().head == CONTINUE
    answer = client.response()

    assert (answer.status, answer.body, answer.value(b"Connection")) == (401, b"no", b"close")
    assert client.ending() == "fin"
    running.wait_in_flight(0)


def test_body_sent_after_a_final_answer_reads_as_nobody_s_request(balance, backend):
    """A client that meets its refusal with the body it had promised must not smuggle a request."""
    heads = []

    def script(link):
        heads.append(link.until(b"\r\n\r\n"))
        link.send(b"HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno")
        heads.append(link.rest())

    body = b"GET /no HTTP/1.1\r\nHost: a\r\n\r\n"
    running = balance(backend(script))
    client = running.connect()
    client.send(head(length=len(body)))
    assert client.response().status == 417
    client.send(body + body)

    assert client.ending() == "fin"
    running.wait_idle()
    assert running.ledger().exchanges == 1


def test_client_that_never_sends_its_body_is_408(balance, backend):
    """It was invited and did not come: the body stalls like any other, code cD."""

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(CONTINUE)
        link.rest()

    running = balance(backend(script), timeouts=replace(PATIENT, idle_s=0.3, tunnel_s=0.3))
    client = running.connect()
    client.send(head())
    assert client.response().head == CONTINUE
    answer = client.response()

    assert (answer.status, answer.value(b"Connection")) == (408, b"close")
    assert client.ending() == "fin"
    assert running.line()["code"] == "cD"


def test_client_that_waits_for_a_continue_that_never_comes_is_408(balance, backend):
    """Neither side moves, and it is the client that has more to send."""
    running = balance(backend(silent), timeouts=replace(PATIENT, idle_s=0.3))
    client = running.connect()
    client.send(head())

    assert client.response().status == 408
    assert running.line()["code"] == "cD"


def test_client_that_leaves_instead_of_sending_its_body_is_counted_out(balance, backend):
    """Code CD: its body was due."""

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(CONTINUE)
        link.rest()

    running = balance(backend(script))
    client = running.connect()
    client.send(head())
    assert client.response().head == CONTINUE
    client.close()
    running.wait_in_flight(0)

    assert (running.line()["status"], running.line()["code"]) == (499, "CD")


def test_continue_is_kept_from_a_1_0_client(balance, backend):
    """It would be taken for the answer; the body comes by itself (RFC 9110 10.1.1, 15.2)."""

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(CONTINUE)
        assert link.exactly(4) == b"body"
        link.send(OK)
        link.request()

    client = balance(backend(script)).connect()
    client.send(head(version=b"1.0"), b"body")

    assert undated(client.rest()) == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_request_whose_backend_said_continue_is_not_sent_again(balance, backend, version):
    """An interim response shows that the request is being worked on, whoever hears of it."""
    seen = []

    def script(link):
        seen.append(link.request().start)
        link.send(b"HTTP/1.1 102 Processing\r\n\r\n")

    running = balance(backend(script), backend(script))
    client = running.connect()
    client.send(b"GET / HTTP/%b\r\nHost: a\r\n\r\n" % version)
    if version == b"1.1":
        assert client.response().status == 102

    assert client.response().status == 502
    assert len(seen) == 1
    assert running.line()["code"] == "SH"


@pytest.mark.parametrize(("method", "times"), [(b"PUT", 2), (b"POST", 1)])
def test_body_not_yet_sent_leaves_a_retry_to_the_method(balance, backend, method, times):
    """A PUT that waits for 100 on a stale connection is sent anew; a POST never is (RFC 9110 9.2.2)."""
    seen = []

    def script(link):
        if link.number == 0:
            link.request()
            link.send(OK)
        while (start := link.until(b"\r\n\r\n")) and seen.append(start.split(b" ")[0]) is None:
            if link.number == 0:
                return
            link.send(CONTINUE)
            link.exactly(4)
            link.send(OK)

    running = balance(backend(script))
    client = running.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    client.response()
    running.wait_in_flight(0)
    client.send(head(method))
    first = client.response()
    if times == 2:
        assert first.head == CONTINUE
        client.send(b"body")
        first = client.response()

    assert first.status == (200 if times == 2 else 502)
    assert seen == [method] * times
