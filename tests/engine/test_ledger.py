"""What the counters cost to read."""

import pickle
import tracemalloc

from fastlb.model.address import Address
from support.backend import OK, answering

BACKENDS = 2000


def test_totals_cost_the_same_however_many_backends_there_are(balance, backend):
    """The control plane reads them every second, and wants one number of them."""
    running = balance(backend(answering(OK)))

    def measured():
        for number in range(BACKENDS):
            address = Address(host=f"127.1.{number >> 8}.{number & 255}", port=9)
            running.engine.add_backend(address, str(number))
        running.engine.ledger()
        tracemalloc.start()
        try:
            ledger = running.engine.ledger()
            totals_bytes = tracemalloc.get_traced_memory()[1]
            assert len(ledger.backends) == BACKENDS + 1
            return totals_bytes, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    totals_bytes, all_bytes = running._loop.call(measured)
    assert totals_bytes < 10_000 < 50 * BACKENDS < all_bytes


def test_counters_of_backends_are_read_when_they_are_looked_at_and_then_kept(balance, backend):
    """One ledger is one picture, also of what it has not shown yet when it is asked."""
    running = balance(backend(answering(OK)))
    client = running.connect()
    ledger = running.ledger()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.response().status == 200

    assert running._loop.call(lambda: [counts.picked for counts in ledger.backends]) == [1]
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.response().status == 200
    assert (ledger.backends[0].picked, running.picked()) == (1, 2)


def test_ledger_can_be_sent_to_another_process(balance, backend):
    """It is data, and the engine does not go with it."""
    running = balance(backend(answering(OK)))

    sent = running._loop.call(lambda: pickle.dumps(running.engine.ledger()))
    assert [counts.slot for counts in pickle.loads(sent).backends] == running.slots


def test_exchanges_on_one_backend_are_read_alone(balance, backend):
    """Nobody reads ten thousand to know of one; who is not known has none."""
    running = balance(backend(lambda link: link.request() and link.sock.recv(1)))
    client = running.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    running.wait_in_flight(1)

    def on(slot):
        return running._loop.call(lambda: running.engine.exchanges_on(slot))

    assert [on(slot) for slot in (running.slots[0], 9, -1)] == [1, 0, 0]
    client.close()
