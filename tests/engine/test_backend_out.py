"""Backends that must not be used any longer, and what their answers say about them."""

import random
import threading
from collections import Counter

import pytest

from fastlb.model.config import EjectErrors, Mode, TimeoutConfig
from fastlb.model.events import EventKind
from support.backend import OK, answering, echo, gated, silent, unanswered_address
from support.waiting import wait_until

QUICK_CONNECT = TimeoutConfig(connect_s=0.5)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def response(status):
    """An empty answer."""
    return b"HTTP/1.1 %d Some Reason\r\nContent-Length: 0\r\n\r\n" % status


@pytest.mark.parametrize("who", ["D", "K"])
def test_unanswered_request_is_answered_502(balance, backend, who):
    """It may have been acted on, so it is not sent again; the client can decide. Its connection stays."""
    running = balance(backend(silent), backend(answering(OK)), workers=2)
    client, other = running.connect(), running.connect()
    client.send(GET)
    running.wait_in_flight(1, 0)
    other.send(GET)
    other.response()
    running.keep_only(1)
    running.end_exchanges(running.slots[0], who)
    answer = client.response()
    client.send(GET)

    assert (answer.status, answer.value(b"Connection")) == (502, None)
    assert client.response().body == b"ok"
    assert [line["code"] for line in running.lines(3) if line["code"] != "--"] == [who + "H"]


def test_response_under_way_is_cut_off(balance, backend):
    """Truncated, and seen to be."""

    def script(link):
        link.request()
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        link.rest()

    running = balance(backend(script))
    client = running.connect()
    client.send(GET)
    client.response_head()
    client.exactly(3)
    running.end_exchanges(running.slots[0])

    assert client.ending() == "rst"
    assert running.line()["code"] == "DD"


def test_session_is_reset(balance, backend):
    """On both sides."""
    started = backend(echo)
    running = balance(started, mode=Mode.TCP, workers=2)
    client = running.connect()
    client.send(b"x")
    client.exactly(1)
    running.end_exchanges(running.slots[0])

    assert client.ending() == "rst"
    assert running.line()["code"] == "DD"
    wait_until(lambda: started.link().sock.fileno() == -1, "the backend's script ended")


def test_tunnel_is_reset(balance, backend):
    """A WebSocket is no longer HTTP."""

    def script(link):
        link.request()
        link.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        echo(link)

    running = balance(backend(script))
    client = running.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    client.response_head()
    client.send(b"x")
    client.exactly(1)
    running.end_exchanges(running.slots[0], "K")

    assert client.ending() == "rst"
    assert running.line()["code"] == "KD"


def test_exchanges_of_others_go_on(balance, backend):
    """And idle connections of clients are nobody's exchange."""
    gate = threading.Event()
    running = balance(backend(silent), backend(gated(gate)))
    lost, kept = running.connect(), running.connect()
    lost.send(GET)
    running.wait_in_flight(1, 0)
    kept.send(GET)
    running.wait_in_flight(1, 1)
    running.end_exchanges(running.slots[0])
    assert lost.response().status == 502
    gate.set()

    assert kept.response().body == b"ok"


def test_connect_under_way_finds_another_backend(balance, backend):
    """Nothing was sent: there is nothing to end."""
    with unanswered_address() as address:
        running = balance(address, backend(answering(OK)), timeouts=QUICK_CONNECT)
        client = running.connect()
        client.send(GET)
        running.wait_in_flight(1, 0)
        running.end_exchanges(running.slots[0])

        assert client.response().body == b"ok"
        running.wait_idle()


def test_unknown_slot_is_ignored(balance, backend):
    """Its last exchange may have ended meanwhile."""
    running = balance(backend(answering(OK)))
    running.end_exchanges(4711, "K")
    client = running.connect()
    client.send(GET)

    assert client.response().body == b"ok"


@pytest.mark.parametrize(
    ("rule", "statuses"),
    [
        (EjectErrors.OFF, set()),
        (EjectErrors.GATEWAY, {502, 503, 504}),
        (EjectErrors.ALL, {500, 502, 503, 504, 599, 666}),
    ],
)
def test_only_the_server_errors_that_are_meant_count_as_failures(balance, backend, rule, statuses):
    """4xx never: they are the client's. 501 and 505 speak of the request too. Each reaches the client."""
    tried = (200, 404, 499, 500, 501, 502, 503, 504, 505, 599, 666)
    running = balance(backend(answering(*(response(status) for status in tried))), eject_errors=rule)
    client = running.connect()
    seen = set()
    for status in tried:
        before = len(running.events())
        client.send(GET)
        assert client.response().status == status
        running.wait_idle()
        if len(running.events()) > before:
            seen.add(status)
            assert running.events()[-1].kind is EventKind.BACKEND_ERROR

    assert seen == statuses


def test_server_errors_in_a_row_are_counted_until_an_answer_that_is_none(balance, backend):
    """A 404 is an answer of a backend that works."""
    script = answering(*(response(status) for status in (503, 503, 404, 503)))
    running = balance(backend(script), eject_errors=EjectErrors.GATEWAY)
    client = running.connect()
    for _ in range(4):
        client.send(GET)
        client.response()

    assert [event.in_a_row for event in running.wait_event(EventKind.BACKEND_ERROR, 3)] == [1, 2, 1]


def test_client_that_leaves_counts_against_nobody(balance, backend):
    """It says nothing about the backend."""
    running = balance(backend(silent), eject_errors=EjectErrors.ALL)
    client = running.connect()
    client.send(GET)
    running.wait_in_flight(1)
    client.reset()
    running.wait_idle()

    assert running.events() == []


def test_ending_exchanges_at_any_moment_leaves_every_count_exact(balance, backend):
    """Clients of all kinds ask without a pause while backends go out and come back. Each gets an answer
    or a cut, nobody hangs; the counters are compared with the objects over and over."""
    running = balance(
        *[backend(answering(OK, response(404))) for _ in range(3)], workers=2, max_conns=[3] * 3
    )
    asked, stop = Counter(), threading.Event()

    def ask_on():
        client = running.connect()
        while not stop.is_set():
            client.send(GET * 3)
            for _ in range(3):
                asked[client.response().status] += 1

    crowd = [threading.Thread(target=ask_on) for _ in range(12)]
    for member in crowd:
        member.start()
    rng = random.Random(1)
    for turn in range(80):
        wait_until(lambda turn=turn: sum(asked.values()) > 5 * turn, "answers")
        slot = rng.randrange(3)
        running.keep_only(*({0, 1, 2} - {slot}))
        running.end_exchanges(running.slots[slot])
        assert running.verify().exact
        running.publish(running.plan)
    stop.set()
    for member in crowd:
        member.join(10)
        assert not member.is_alive()

    running.wait_idle()
    assert set(asked) <= {200, 404, 502}
    assert asked[502] > 0
