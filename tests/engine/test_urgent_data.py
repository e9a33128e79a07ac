"""Urgent data of TCP: one byte out of band, and a mark at which reading stops once."""

import socket
import threading

import pytest

from fastlb.model.config import Mode
from support.backend import gated


def send_urgently(client, before, behind):
    """Bytes, an urgent one and more, which come as one piece if there is room."""
    client.sock.sendall(before, socket.MSG_MORE)
    client.sock.send(b"!", socket.MSG_OOB | socket.MSG_MORE)
    client.send(behind)


@pytest.mark.parametrize("size", [3, 100_000, 3_000_000], ids=["small", "copied", "spliced"])
def test_bytes_around_urgent_data_pass(balance, backend, size):
    """Reading stops at the mark as if there were no more; the byte itself is nobody's."""
    before, behind = b"a" * size, b"b" * size

    def script(link):
        assert link.exactly(2 * size) == before + behind
        link.send(b"more")
        assert link.exactly(size) == before
        link.send(b"done")

    running = balance(backend(script))
    client = running.connect(running.open_listener(Mode.TCP))
    send_urgently(client, before, behind)
    assert client.exactly(4) == b"more"
    client.send(before)

    assert client.exactly(4) == b"done"


def test_urgent_data_in_a_head_is_no_part_of_it(balance, backend):
    """Nobody is kept waiting for the rest of a request that has come. It came while the one before it
    was answered, so it is all there when it is read."""
    gate = threading.Event()
    running = balance(backend(gated(gate)))
    client = running.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    running.wait_in_flight(1)
    send_urgently(client, b"GET / HTTP/1.1\r\nHo", b"st: a\r\n\r\n")
    gate.set()

    assert client.response().body == b"ok"
    assert client.response().body == b"ok"
