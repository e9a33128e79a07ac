"""Clients and backends that leave at random moments; at the end every count is exact.

FASTLB_SOAK_EXCHANGES sets how many exchanges, FASTLB_SOAK_SEED which ones.
"""

import os
import random
import threading

import pytest

from fastlb.model.config import Mode
from support.leaks import resident_bytes
from support.wire import TruncatedError

EXCHANGES = int(os.environ.get("FASTLB_SOAK_EXCHANGES", "600"))
SEED = int(os.environ.get("FASTLB_SOAK_SEED", "1"))
CLIENTS = 6
SHORTEST_BYTES = len(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
GROWTH_MAX_BYTES = 64 * 1024 * 1024


def leave(wire, rng):
    """End a connection in one of the ways there are."""
    rng.choice((wire.close, wire.reset, wire.shut))()


def moody_backend(seed):
    """A backend that mostly answers, and else breaks off at a random place."""

    def script(link):
        rng = random.Random(seed * 1_000_003 + link.number)
        while link.request() is not None:
            body = b"x" * rng.choice((0, 10, 5000, 100_000))
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            if rng.random() < 0.15:
                link.send(answer[: rng.randrange(len(answer))])
                rng.choice((link.close, link.reset))()
                return
            link.send(answer)

    return script


def moody_client(running, rng, count, done):
    """Requests of all kinds, abandoned at random phases. Nothing that happens is an error here."""
    client = None
    for _ in range(count):
        client = client or running.connect()
        try:
            body = b"y" * rng.choice((0, 0, 100, 50_000))
            verb = b"POST" if body else b"GET"
            request = verb + b" / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            phase = rng.random()
            if phase < 0.1:
                client.send(request[: rng.randrange(len(request))])
                leave(client, rng)
                client = None
            elif phase < 0.2:
                client.send(request)
                leave(client, rng)
                client = None
            elif phase < 0.3:
                client.send(request)
                client.exactly(rng.randrange(1, SHORTEST_BYTES))
                leave(client, rng)
                client = None
            else:
                client.send(request)
                client.response()
        except (OSError, TruncatedError):
            client = None
        done.append(1)


@pytest.mark.parametrize("mode", [Mode.HTTP, Mode.TCP])
def test_random_aborts_leave_every_count_exact(balance, backend, mode):
    """The fixture ends with: idle, counters equal to objects, nothing leaked."""
    running = balance(*[backend(moody_backend(SEED + n)) for n in range(3)], mode=mode, workers=2)
    before, done = resident_bytes(), []
    threads = [
        threading.Thread(
            target=moody_client, args=(running, random.Random(SEED * 7919 + n), EXCHANGES // CLIENTS, done)
        )
        for n in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert running.verify().exact
        threads[0].join(0.05)
    for client in running.clients:
        client.close()
    running.wait_idle()

    assert len(done) == EXCHANGES // CLIENTS * CLIENTS
    assert running.ledger().clients == 0
    assert resident_bytes() - before < GROWTH_MAX_BYTES
