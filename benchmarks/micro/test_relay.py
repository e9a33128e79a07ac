"""What it costs to carry bytes through a TCP listener and back, over the loopback device."""

import contextlib
import socket
import threading
from typing import Any

import pytest

from benchmarks.micro.loop_thread import tcp_relay

_PIECE_BYTES = 1 << 18


@pytest.mark.parametrize("size_bytes", [64, 16 << 10, 8 << 20])
def test_echo(engine: Any, benchmark: Any, size_bytes: int) -> None:
    """One message there and back on an open session: latency when small, throughput when large.

    Client and echo server are Python threads of this process, so the figure is an upper bound.
    """
    benchmark.group = f"relay: {size_bytes} bytes there and back"
    message = b"x" * size_bytes
    with (
        tcp_relay(engine.Engine) as port,
        socket.create_connection(("127.0.0.1", port), timeout=10) as client,
    ):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        benchmark(_exchange, client, message)


def _exchange(client: socket.socket, message: bytes) -> None:
    """Send from a second thread when the message is larger than what sockets hold on the way."""
    if len(message) <= _PIECE_BYTES:
        client.sendall(message)
        _read(client, len(message))
        return
    sender = threading.Thread(target=_send, args=(client, message))
    sender.start()
    try:
        _read(client, len(message))
    finally:
        sender.join()


def _send(client: socket.socket, message: bytes) -> None:
    """What breaks a session shows where it is read."""
    with contextlib.suppress(OSError):
        client.sendall(message)


def _read(client: socket.socket, expected_bytes: int) -> None:
    piece = bytearray(_PIECE_BYTES)
    got_bytes = 0
    while got_bytes < expected_bytes:
        count = client.recv_into(piece)
        if not count:
            raise ConnectionError("the session ended early")
        got_bytes += count
