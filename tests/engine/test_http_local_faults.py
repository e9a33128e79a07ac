"""Faults of this machine are not those of a backend: 503, code RC, and nobody is blamed."""

import threading

import pytest

from fastlb.model.events import EventKind
from support import own_network
from support.backend import OK, answering, gated
from support.descriptors import NoMoreDescriptors
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
    gate.set()
    assert first.response().status == 200
