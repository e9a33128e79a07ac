"""Clients that leave: what is not worth doing any more is not done (RFC 9112 9.5)."""

import threading

import pytest

from fastlb.model.config import Mode
from support.backend import OK, gated, silent
from support.balance import listen_socket
from support.waiting import wait_until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
# What has been sent when the client leaves.
SENT = {
    "request": GET,
    "head": POST,
    "part of the body": POST + b"3\r\nabc\r\n",
    "more than is read ahead": POST + b"30d40\r\n" + bytes(100_000),
    "and a second": GET + GET,
    "and many more": GET * 1000,
}
LEAVING = {
    "closes": lambda client: client.close(),
    "sends a FIN": lambda client: client.shut(),
    "resets": lambda client: client.reset(),
}


@pytest.mark.parametrize("leave", LEAVING)
@pytest.mark.parametrize("sent", SENT)
def test_client_that_leaves_the_queue_is_taken_out_of_it(balance, backend, sent, leave):
    """No backend works for nobody, and who waits behind moves up: code CQ."""
    running = balance(backend(silent), max_conns=[1])
    held, leaving, staying = (running.connect() for _ in range(3))
    held.send(GET)
    running.wait_in_flight(1)
    for n, (client, raw) in enumerate([(leaving, SENT[sent]), (staying, GET)], 1):
        client.send(raw)
        wait_until(lambda n=n: running.ledger().queued == n, f"{n} queued")
    LEAVING[leave](leaving)
    wait_until(lambda: running.ledger().queued == 1, "one queued")

    assert running.picked() == 1
    line = running.line()
    assert (line["code"], line["status"], line["backend"], line["tries"]) == ("CQ", 499, None, 0)


@pytest.mark.parametrize("sent", SENT)
def test_client_that_left_before_it_was_accepted_does_not_stay_in_the_queue(
    balance, backend, loop_thread, sent
):
    """Its FIN is told together with what it sent, and only once."""
    running = balance(backend(silent), max_conns=[1])
    held = running.connect()
    held.send(GET)
    running.wait_in_flight(1)
    with listen_socket() as listening:
        leaving = running.connect(listening.getsockname()[1])
        leaving.send(SENT[sent])
        leaving.shut()
        loop_thread.call(lambda: running.engine.open_listener(listening, Mode.HTTP))
    wait_until(lambda: running.ledger().exchanges == 1, "the end of its exchange")

    assert running.picked() == 1
    line = running.line()
    assert (line["code"] in ("CQ", "CR"), line["status"], line["tries"]) == (True, 499, 0)


@pytest.mark.parametrize("leave", LEAVING)
@pytest.mark.parametrize("sent", SENT)
def test_client_that_leaves_while_its_backend_connects_gives_its_unit_back(balance, unanswered, sent, leave):
    """The connect is given up: code CC."""
    running = balance(unanswered)
    client = running.connect()
    client.send(SENT[sent])
    running.wait_in_flight(1)
    LEAVING[leave](client)
    running.wait_in_flight(0)
    running.wait_idle()

    assert running.verify().connections <= 1  # its own, if it has only sent a FIN
    line = running.line()
    assert (line["code"], line["status"], line["tries"]) == ("CC", 499, 1)
    assert not running.events()


@pytest.mark.parametrize("leave", LEAVING)
@pytest.mark.parametrize("sent", SENT)
def test_client_that_leaves_while_its_backend_works_cancels_the_work(balance, backend, sent, leave):
    """The backend sees the end of its connection: code CH, or CD in the middle of an upload."""
    asked, ended = threading.Event(), threading.Event()

    def script(link):
        link.until(b"\r\n\r\n")
        asked.set()
        try:
            link.rest()
        finally:
            ended.set()

    running = balance(backend(script))
    client = running.connect()
    client.send(SENT[sent])
    assert asked.wait(5)
    LEAVING[leave](client)

    assert ended.wait(5)
    running.wait_in_flight(0)
    line = running.line()
    assert (line["code"], line["status"]) == ("CD" if SENT[sent].startswith(b"POST") else "CH", 499)
    assert not running.events()


def test_departure_is_no_failure_of_the_backend(balance, backend):
    """Client aborts never count: a popular page that people leave must not lose its backends."""
    gate = threading.Event()
    running = balance(backend(gated(gate)))
    for _ in range(10):
        client = running.connect()
        client.send(GET)
        running.wait_in_flight(1)
        client.reset()
        running.wait_in_flight(0)
    gate.set()
    client = running.connect()
    client.send(GET)

    assert client.response().body == OK[-2:]
    assert not running.events()
