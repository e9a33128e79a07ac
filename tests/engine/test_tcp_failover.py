"""TCP mode when backends are refused, unanswered, full or absent."""

import threading
from dataclasses import replace

import pytest

from fastlb.model.config import Mode
from fastlb.model.events import EventKind
from fastlb.model.limits import LimitConfig
from fastlb.model.plan import Plan
from support.backend import echo
from support.balance import PATIENT
from support.waiting import wait_until


@pytest.fixture
def tcp(balance):
    """Start engines in TCP mode."""

    def start(*backends, **settings):
        return balance(*backends, mode=Mode.TCP, **settings)

    return start


def test_refused_connect_tries_another_backend(tcp, backend, refused):
    """Before the first byte any session may go elsewhere; what the client said is not lost."""
    running = tcp(refused, backend(echo))
    client = running.connect()
    client.send(b"hello")

    assert client.exactly(5) == b"hello"
    assert running.in_flight(0) == 0
    client.close()
    assert running.line()["tries"] == 2
    (event,) = running.wait_event(EventKind.CONNECT_FAILED)
    assert event.slot == running.slots[0]


def test_unanswered_connect_tries_another_backend(tcp, backend, unanswered):
    """A host that is gone drops the SYN."""
    running = tcp(unanswered, backend(echo), timeouts=replace(PATIENT, connect_s=0.2))
    client = running.connect()
    client.send(b"hello")

    assert client.exactly(5) == b"hello"


def test_refused_everywhere_is_a_reset(tcp, refused):
    """Nothing was said, and the client must not take it for an empty answer: code SC."""
    running = tcp(refused)
    client = running.connect()

    assert client.ending() == "rst"
    line = running.line()
    assert (line["code"], line["tries"]) == ("SC", 1)
    running.wait_in_flight(0)


def test_unanswered_everywhere_is_a_reset(tcp, unanswered):
    """Code sC."""
    running = tcp(unanswered, timeouts=replace(PATIENT, connect_s=0.2))
    client = running.connect()

    assert client.ending() == "rst"
    assert running.line()["code"] == "sC"


def test_no_backend_is_a_reset(tcp, backend):
    """All down in TCP mode: close at once."""
    running = tcp(backend(echo))
    running.publish(Plan())
    client = running.connect()

    assert client.ending() == "rst"
    assert (running.line()["code"], running.line()["backend"]) == ("SC", None)
    running.publish(running.plan)
    again = running.connect()
    again.send(b"x")
    assert again.exactly(1) == b"x"


def test_client_that_leaves_while_connecting_gives_its_unit_back(tcp, unanswered):
    """Counted from the pick, so also given back before there is a connection."""
    running = tcp(unanswered)
    client = running.connect()
    running.wait_in_flight(1)
    client.reset()

    running.wait_in_flight(0)
    assert running.line()["code"] == "CC"


def test_success_resets_the_count_of_failures(tcp, backend, refused):
    """In TCP mode a connect is a success."""
    running = tcp(refused, backend(echo))
    for _ in range(3):
        client = running.connect()
        client.send(b"x")
        client.exactly(1)
        client.close()
        running.wait_idle()
    events = running.wait_event(EventKind.CONNECT_FAILED)

    assert [event.in_a_row for event in events] == list(range(1, len(events) + 1))
    assert {event.slot for event in events} == {running.slots[0]}


def test_full_backends_queue_sessions(tcp, backend):
    """max_conns holds in TCP mode too, and what the client said meanwhile is kept."""
    running = tcp(backend(echo), max_conns=[1])
    first = running.connect()
    first.send(b"1")
    assert first.exactly(1) == b"1"
    second = running.connect()
    second.send(b"2")
    wait_until(lambda: running.ledger().queued == 1, "one queued")
    assert running.in_flight() == 1
    first.close()

    assert second.exactly(1) == b"2"


def test_waiting_in_the_queue_ends_after_its_time(tcp, backend):
    """Code sQ, and a reset."""
    running = tcp(backend(echo), max_conns=[1], timeouts=replace(PATIENT, queue_s=0.2))
    first = running.connect()
    running.wait_in_flight(1)
    second = running.connect()

    assert second.ending() == "rst"
    assert running.line()["code"] == "sQ"
    first.close()


def test_full_queue_is_a_reset_at_once(tcp, backend):
    """A bounded queue: code PQ."""
    running = tcp(backend(echo), max_conns=[1], limits=LimitConfig(queue_depth=1))
    first = running.connect()
    running.wait_in_flight(1)
    second = running.connect()
    wait_until(lambda: running.ledger().queued == 1, "one queued")

    assert running.connect().ending() == "rst"
    assert running.line()["code"] == "PQ"
    first.close()
    second.close()


def test_failover_under_concurrency_loses_nobody(tcp, backend, refused):
    """Every session ends up at the one backend that is there."""
    unlimited = LimitConfig(retry_percent=None)
    running = tcp(refused, backend(echo), workers=2, limits=unlimited)
    got = []

    def session(n):
        client = running.connect()
        client.send(b"%04d" % n)
        got.append(client.exactly(4))
        client.close()

    threads = [threading.Thread(target=session, args=(n,)) for n in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(got) == [b"%04d" % n for n in range(60)]
