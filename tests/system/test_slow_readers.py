"""Clients that take nothing, or never end their heads, beside others that do as they should.

Figures are printed: run with -s.
"""

import socket
from contextlib import suppress
from pathlib import Path

import pytest

from support.backend import Backend
from support.waiting import wait_until
from support.wire import TruncatedError, Wire

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
MIB = 1 << 20
BODY = bytes(4 * MIB)
FRAMINGS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY,
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    % (len(BODY), BODY),
}
STALLED = 100
DOWNLOADS = 20
HEADS = 600


def resident_bytes(pid: int) -> int:
    """What of its memory is in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def connected(port: int, receive_buffer_bytes: int = 0) -> Wire:
    sock = socket.socket()
    if receive_buffer_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    sock.connect(("127.0.0.1", port))
    return Wire(sock)


def downloads(port: int) -> int:
    """How many of DOWNLOADS come whole."""
    whole = 0
    for _ in range(DOWNLOADS):
        client = connected(port)
        with suppress(TruncatedError, ConnectionError):
            client.send(GET)
            whole += client.response().body == BODY
        client.close()
    return whole


@pytest.mark.parametrize("framing", FRAMINGS)
def test_stalled_readers_cost_no_download(fastlb, framing):
    """They filled the memory for buffers, and then 18 of 20 honest downloads were cut."""

    def script(link):
        while link.request() is not None:
            link.send(FRAMINGS[framing])

    backend = Backend(script)
    running = fastlb(backend.address.port, flags=("--no-check", "--buffer-memory", "4m", "--workers", "1"))
    stalled = [connected(running.port, 4096) for _ in range(STALLED)]
    for client in stalled:
        client.send(GET)
    wait_until(lambda: len(backend.links) == STALLED, "every request at the backend")
    whole = downloads(running.port)
    lost = 0
    for client in stalled:  # whoever was cut off has been told so
        client.sock.setblocking(False)
        try:
            while client.sock.recv(MIB):
                pass
        except BlockingIOError:
            pass
        except ConnectionError:
            lost += 1
        client.reset()
    backend.close()

    print(f"{STALLED} stalled ({framing}): {whole} of {DOWNLOADS} downloads whole, {lost} stalled ones cut")  # noqa: T201
    assert whole == DOWNLOADS
    assert lost == 0


def test_heads_that_never_end_cost_bounded_memory(fastlb):
    """600 clients with 60 KiB of a head each, and 8 MiB for all of them: a container is not killed."""

    def script(link):
        while link.request() is not None:
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    backend = Backend(script)
    running = fastlb(backend.address.port, flags=("--no-check", "--buffer-memory", "8m", "--workers", "1"))
    before = resident_bytes(running.pid)
    clients = [connected(running.port) for _ in range(HEADS)]
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: %b\r\n" % (n, b"x" * 990) for n in range(60))
    for client in clients:
        with suppress(ConnectionError):
            client.send(head)
    last = connected(running.port)
    last.send(GET)
    assert last.response().body == b"ok"
    grown = resident_bytes(running.pid) - before
    refused = 0
    for client in clients:
        client.sock.setblocking(False)
        with suppress(BlockingIOError, ConnectionError):
            refused += b" 503 " in client.sock.recv(100)
        client.close()
    last.close()
    backend.close()

    print(f"{HEADS} heads of {len(head) // 1024} KiB: {grown / MIB:.1f} MiB more, {refused} refused")  # noqa: T201
    assert refused
    assert grown < 24 * MIB
