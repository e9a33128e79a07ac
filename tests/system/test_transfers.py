"""Much data, with checksums and bounded memory, through the fastlb command."""

import hashlib
import socket
import threading

import pytest

from support.backend import Backend
from support.leaks import resident_bytes
from support.waiting import wait_until
from support.wire import Wire

MIB = 1 << 20
SIZE_BYTES = 64 * MIB
PIECE = hashlib.sha512(b"fastlb").digest() * 16_384  # 1 MiB


def pour(wire, into, size=SIZE_BYTES):
    """Send `size` bytes, no two MiB of them alike."""
    for n in range(size // MIB):
        piece = n.to_bytes(8, "big") + PIECE[8:]
        into.update(piece)
        wire.send(piece)


def swallow(wire, into, size=SIZE_BYTES):
    """Read `size` bytes without keeping them."""
    view = memoryview(bytearray(MIB))
    if wire.unread:
        head = wire.exactly(min(len(wire.unread), size))
        into.update(head)
        size -= len(head)
    while size:
        got = wire.sock.recv_into(view, min(size, MIB))
        assert got, f"ended {size} bytes too early"
        into.update(view[:got])
        size -= got


class Mirror:
    """A backend that swallows an upload while it pours a download, and knows both checksums."""

    def __init__(self, mode):
        self.took, self.gave = hashlib.sha256(), hashlib.sha256()
        self._mode = mode
        self.backend = Backend(self.script)

    def script(self, link):
        """One request or one session."""
        if self._mode == "http":
            link.until(b"\r\n\r\n")
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE_BYTES)
        reader = threading.Thread(target=swallow, args=(link, self.took))
        reader.start()
        pour(link, self.gave, SIZE_BYTES - MIB)
        # A response that ends before its request would free the balancer of the rest of it.
        reader.join()
        pour(link, self.gave, MIB)
        link.rest()


@pytest.fixture(params=["http", "tcp"])
def mirror(request):
    """A mirror in each mode."""
    made = Mirror(request.param)
    yield made, request.param
    made.backend.close()


def connected(port, **options):
    """A client connection."""
    sock = socket.socket()
    for name, value in options.items():
        sock.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
    sock.connect(("127.0.0.1", port))
    return Wire(sock)


def test_64_mib_up_and_down_at_once(fastlb, mirror):
    """Both directions at full speed, in both modes; every byte arrives, and memory stays."""
    made, mode = mirror
    running = fastlb(made.backend.address.port, flags=("--no-check",), mode=mode)
    before = resident_bytes(running.pid)
    client = connected(running.port)
    sent, got = hashlib.sha256(), hashlib.sha256()
    if mode == "http":
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE_BYTES)
    sender = threading.Thread(target=pour, args=(client, sent))
    sender.start()
    if mode == "http":
        client.response_head()
    swallow(client, got)
    sender.join()
    wait_until(lambda: made.took.digest() == sent.digest(), "the whole upload")

    assert got.digest() == made.gave.digest()
    assert resident_bytes(running.pid) - before < 16 * MIB
    client.close()


def test_slow_readers_cost_bounded_memory(fastlb):
    """Twenty clients that read a byte now and then of 64 MiB: what they leave stays with the sender."""

    def script(link):
        link.request()
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE_BYTES)
        pour(link, hashlib.sha256())

    backend = Backend(script)
    running = fastlb(backend.address.port, flags=("--no-check",))
    before = resident_bytes(running.pid)
    clients = [connected(running.port, SO_RCVBUF=4096) for _ in range(20)]
    for client in clients:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    pause, most = threading.Event(), 0
    for _ in range(60):
        for client in clients:
            assert client.sock.recv(1)
        pause.wait(0.02)
        most = max(most, resident_bytes(running.pid) - before)

    assert most < 16 * MIB
    for client in clients:
        client.reset()
    backend.close()
