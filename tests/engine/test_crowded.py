"""When nearly all of `--max-connections` is taken, clients that only wait make room for others.

Otherwise silent connections of one address would take the balancer from everybody for as long as an
idle client is kept.
"""

import threading
import time
from dataclasses import replace

import pytest

from fastlb.model.config import Mode
from fastlb.model.limits import LimitConfig
from support.backend import OK, answering, gated
from support.balance import PATIENT

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345"
LIMIT = 10
# Nobody has to go who has been idle between requests for less than a second.
IDLE_S = 1.1
ROUNDS = 4


def asked(client):
    client.send(GET)
    return client.response().status


def test_client_that_has_been_idle_for_longest_goes_first(balance, backend):
    """At nine tenths, so that there is room for the next one before it comes. Each newcomer takes the
    place of one, and nobody else is disturbed."""
    running = balance(backend(answering(OK)), limits=LimitConfig(connections=LIMIT))
    kept = running.connect()
    assert asked(kept) == 200
    time.sleep(0.01)
    silent = [running.connect() for _ in range(LIMIT - 2)]
    time.sleep(IDLE_S)
    assert running.ledger().clients == LIMIT - 1
    newcomer = running.connect()

    assert asked(newcomer) == 200
    assert kept.ending() == "fin"
    assert [asked(client) for client in silent] == [200] * len(silent)


def test_next_client_does_not_wait_for_silent_ones(balance, backend):
    """All places are taken by clients that never say anything, and that do not go when they are told to."""
    timeouts = replace(PATIENT, header_s=1.0)
    running = balance(backend(answering(OK)), limits=LimitConfig(connections=2), timeouts=timeouts)
    silent = [running.connect() for _ in range(2)]
    began_s = time.monotonic()
    assert asked(running.connect()) == 200

    assert time.monotonic() - began_s < 10  # they may be idle for 15 s
    assert silent[0].ending() == "fin"


def test_idle_client_of_any_worker_makes_room(balance, backend):
    """The limit is that of all workers together, so one that has no idle client asks the others."""
    running = balance(backend(answering(OK)), limits=LimitConfig(connections=1), workers=2)
    port = running.open_listener(Mode.HTTP, spread=True)
    client = running.connect(port)
    for _ in range(ROUNDS):
        assert asked(client) == 200
        following = running.connect(port)
        assert client.ending() == "fin"
        client.close()
        client = following


def test_fresh_clients_and_those_at_work_are_left_alone(balance, backend):
    """A request under way, or a part of one, is not idle, however long it takes."""
    gate = threading.Event()
    running = balance(backend(gated(gate)), limits=LimitConfig(connections=3))
    waits, uploads, begins = (running.connect() for _ in range(3))
    waits.send(GET)
    uploads.send(UPLOAD)
    begins.send(GET[:10])
    running.wait_in_flight(1)  # a short body is awaited before a backend is picked
    newcomer = running.connect()
    newcomer.send(GET)
    time.sleep(2 * IDLE_S)
    assert running.ledger().clients == 3
    gate.set()
    uploads.send(b"67890")
    begins.send(GET[10:])

    assert [client.response().status for client in (waits, uploads, begins)] == [200] * 3
    assert newcomer.response().status == 200


def test_sessions_are_left_alone(balance, backend):
    """In TCP mode nobody knows whether silence is a part of the conversation."""
    running = balance(backend(lambda link: link.rest()), limits=LimitConfig(connections=2), mode=Mode.TCP)
    sessions = [running.connect() for _ in range(2)]
    running.wait_in_flight(2)
    running.connect()
    time.sleep(IDLE_S)
    for session in sessions:
        session.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            session.sock.recv(1)
