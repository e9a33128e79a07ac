"""`max_conns` bounds connections, too: exchanges and idle connections of all workers together.

A server that accepts so many and no more, or has so many processes that each wait for the next
request on their connection, is kept out of its own pool by the idle connections of another worker.
"""

import threading
from dataclasses import replace

import pytest

from fastlb.model.config import Mode
from support.backend import OK, answering, gated
from support.balance import PATIENT
from support.waiting import wait_until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
MAX_CONNS = 3
CLIENTS = 16
ROUNDS = 40


class Counted:
    """Counts the connections of a backend, and closes what is above its limit, as Node does."""

    def __init__(self, limit):
        self.limit = limit
        self.most = self.refused = self._open = 0
        self._lock = threading.Lock()

    def script(self, link):
        with self._lock:
            self._open += 1
            self.most = max(self.most, self._open)
            refused = self._open > self.limit
            self.refused += refused
        try:
            if not refused:
                answering(OK)(link)
        finally:
            with self._lock:
                self._open -= 1


def spread_clients(running, count):
    """Clients that are spread over the workers."""
    port = running.open_listener(Mode.HTTP, spread=True)
    return [running.connect(port) for _ in range(count)]


def ask(client, request, statuses):
    for _ in range(ROUNDS):
        client.send(request)
        statuses.append(client.response().status)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_backend_never_has_more_connections_than_it_may(balance, backend, workers):
    """POST, because it is not sent again when the backend closes what is one too many. One connection
    more is allowed to be seen: the backend may learn of a new one before the end of the old one."""
    counted = Counted(MAX_CONNS + 1)
    running = balance(backend(counted.script), max_conns=[MAX_CONNS], workers=workers)
    clients = spread_clients(running, CLIENTS)
    statuses = []
    threads = [threading.Thread(target=ask, args=(client, POST, statuses)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == [200] * CLIENTS * ROUNDS
    assert counted.refused == 0
    assert counted.most <= MAX_CONNS


def test_idle_connection_of_another_worker_is_handed_over(balance, backend):
    """It stays open, so that the backend does not see one too many for an instant."""
    started = backend(answering(OK))
    running = balance(started, max_conns=[1], workers=2)
    clients = spread_clients(running, CLIENTS)
    for client in clients * 3:
        client.send(GET)
        assert client.response().body == b"ok"

    assert len(started.links) == 1


def test_idle_connection_makes_room_for_a_session(balance, backend):
    """A listener in TCP mode takes none from the pool, and needs its place."""
    started = backend(answering(OK))
    running = balance(started, max_conns=[1], timeouts=replace(PATIENT, upstream_idle_s=600.0))
    port = running.open_listener(Mode.TCP)
    client = running.connect()
    client.send(GET)
    client.response()
    running.wait_idle()
    session = running.connect(port)
    session.send(GET)

    assert session.response().body == b"ok"
    wait_until(lambda: started.link(0).sock.fileno() == -1, "the end of the idle connection")
    session.close()


def test_lowered_limit_closes_idle_connections(balance, backend):
    """What is above the new one goes, at once or when its exchange has ended."""
    gate = threading.Event()
    started = backend(gated(gate))
    running = balance(started, max_conns=[4])
    clients = [running.connect() for _ in range(4)]
    for client in clients:
        client.send(GET)
    running.wait_in_flight(4)
    gate.set()
    for client in clients:
        client.response()
    running.wait_idle()
    entry = replace(running.plan.entries[0], max_conns=1, conns_max=1)
    running.publish(replace(running.plan, entries=(entry,)))

    wait_until(lambda: sum(link.sock.fileno() != -1 for link in started.links) == 1, "one that is left")


def test_backend_without_a_limit_keeps_its_idle_connections(balance, backend):
    """Nothing is closed or handed over for it."""
    gate = threading.Event()
    started = backend(gated(gate))
    running = balance(started, workers=2)
    clients = spread_clients(running, CLIENTS)
    for _ in range(2):
        gate.clear()
        for client in clients:
            client.send(GET)
        running.wait_in_flight(CLIENTS)
        gate.set()
        for client in clients:
            client.response()
        running.wait_idle()

    assert len(started.links) == CLIENTS
