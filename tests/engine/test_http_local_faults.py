"""Faults of this machine are not those of a backend: 503, code RC, and nobody is blamed."""

import errno
import threading
from contextlib import ExitStack, suppress

import pytest

from fastlb.model.address import Address
from fastlb.model.config import Mode
from fastlb.model.events import EventKind
from fastlb.model.limits import LimitConfig
from support import own_network
from support.backend import OK, answering, gated
from support.descriptors import NoMoreDescriptors
from support.serving import one_write_app
from support.waiting import wait_until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
BLAMING = {EventKind.CONNECT_FAILED, EventKind.BACKEND_FAILED}


def blamed(running):
    return [event for event in running.events() if event.kind in BLAMING]


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_connect_without_descriptors_is_503_and_blames_nobody(balance, backend, method):
    """Another backend would meet the same limit, so it is not tried."""
    running = balance(backend(answering(OK)), backend(answering(OK)))
    client = running.connect()
    wait_until(lambda: running.ledger().clients == 1)
    with NoMoreDescriptors():
        client.send(method + GET[3:])
        answer = client.response()

    assert (answer.status, answer.value(b"Retry-After")) == (503, b"2")
    line = running.line()
    assert (line["code"], line["tries"]) == ("RC", 1)
    assert not blamed(running)
    client.send(GET)
    assert client.response().status == 200


@pytest.fixture
def elsewhere():
    """Backends in processes of their own, whose descriptors are not those of the engine."""
    with ExitStack() as stack:

        def start(count):
            servers = [one_write_app() for _ in range(count)]
            for server in servers:
                stack.callback(server.end)
            return [Address(host="127.0.0.1", port=server.port) for server in servers]

        yield start


@pytest.mark.parametrize("workers", [1, 2])
def test_connect_without_descriptors_takes_that_of_an_idle_connection(balance, elsewhere, workers):
    """Idle connections to many backends, of any worker, are worth less than the request of a client."""
    running = balance(*elsewhere(2), workers=workers)
    port = running.open_listener(Mode.HTTP, spread=True)
    clients = [running.connect(port) for _ in range(16)]
    wait_until(lambda: running.ledger().clients == len(clients))
    running.keep_only(0)
    clients[0].send(GET)
    clients[0].response()
    running.wait_idle()
    running.publish(running.plan)
    with NoMoreDescriptors():
        for client in clients:
            client.send(GET)
            assert client.response().status == 200

    assert min(running.picked(index) for index in range(2)) >= 7
    assert not blamed(running)


def test_connect_without_ports_is_503_and_blames_nobody(request, engine, balance, backend):
    """EADDRNOTAVAIL: every local port is in use towards that backend (ip(7))."""
    if not own_network.is_own():
        own_network.run_again(request.node.nodeid, engine.name)
        return
    gate = threading.Event()
    running = balance(backend(gated(gate)))
    first, second = running.connect(), running.connect()
    own_network.keep_one_port()
    first.send(GET)
    wait_until(lambda: running.ledger().backends[0].connects == 1, "the one port is in use")
    second.send(GET)

    assert second.response().status == 503
    assert running.line()["code"] == "RC"
    assert not blamed(running)
    assert {event.slot for event in running.events() if event.kind is EventKind.NO_PORTS} == {
        running.slots[0]
    }
    gate.set()
    assert first.response().status == 200


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_connect_without_ports_tries_another_backend(request, engine, balance, backend, method):
    """Ports are counted for each destination, so the next one has all of them. That asks nothing of the
    first, so it costs nothing of the budget of retries."""
    if not own_network.is_own():
        own_network.run_again(request.node.nodeid, engine.name)
        return
    gate = threading.Event()
    limits = LimitConfig(retry_percent=0)
    running = balance(backend(gated(gate)), backend(answering(OK)), weights=[250, 1], limits=limits)
    clients = [running.connect() for _ in range(50)]
    own_network.keep_one_port()
    first = running.connect()
    first.send(GET)
    running.wait_in_flight(1)
    for client in clients:
        client.send(method + b" / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert client.response().status == 200

    assert not blamed(running)
    assert running.ledger().retries_denied == 0
    gate.set()
    assert first.response().status == 200


@pytest.mark.parametrize("mode", [Mode.HTTP, Mode.TCP])
def test_connect_that_meets_itself_is_refused(request, engine, balance, mode):
    """A backend that has ended, at a port that connects are made from: the socket gets that port, connects
    to itself, and what is sent would come back as the answer (RFC 9293 3.5)."""
    if not own_network.is_own():
        own_network.run_again(request.node.nodeid, engine.name)
        return
    running = balance(Address(host="127.0.0.1", port=own_network.ONE_PORT), mode=mode)
    own_network.keep_one_port()
    client = running.connect()
    if mode is Mode.HTTP:
        client.send(GET)
        assert client.response().status == 502
    else:
        with suppress(ConnectionError):  # the reset may come before
            client.send(GET)
            assert client.sock.recv(1) == b"", "its own words"

    assert {event.errno for event in running.wait_event(EventKind.CONNECT_FAILED)} == {errno.ECONNREFUSED}
