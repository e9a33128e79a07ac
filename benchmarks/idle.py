"""Memory of a balancer per idle client: open many, let each ask once, and look again."""

import contextlib
import socket
import time

from benchmarks.measure import private_bytes

_REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_WARM_CLIENTS = 20
_SETTLE_STEP_S = 0.4
_SETTLE_TIMEOUT_S = 4.0


def bytes_per_client(port: int, pid: int, clients: int) -> float:
    """Growth of the private memory of `pid`'s tree, divided by `clients` idle connections.

    One after the other, so that HTTP mode needs one upstream connection and what is counted is
    the client's side; in TCP mode each session holds its upstream connection too.
    Raises: OSError if the balancer refuses or closes one.
    """
    with contextlib.ExitStack() as warm:
        for _ in range(_WARM_CLIENTS):
            warm.enter_context(_idle_client(port))
    before = _settled_bytes(pid)
    with contextlib.ExitStack() as opened:
        for _ in range(clients):
            opened.enter_context(_idle_client(port))
        return (_settled_bytes(pid) - before) / clients


def _idle_client(port: int) -> socket.socket:
    """A connection that has had one answer and asks nothing more."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=5)
    sock.sendall(_REQUEST)
    answer = b""
    while not answer.endswith(b"hello, world\n"):
        piece = sock.recv(4096)
        if not piece:
            sock.close()
            raise ConnectionError("the balancer closed a client that should stay open")
        answer += piece
    return sock


def _settled_bytes(pid: int) -> int:
    """Private memory once it has stopped changing: allocators give back late."""
    deadline_s = time.monotonic() + _SETTLE_TIMEOUT_S
    last = private_bytes(pid)
    while time.monotonic() < deadline_s:
        time.sleep(_SETTLE_STEP_S)
        now = private_bytes(pid)
        if now == last:
            break
        last = now
    return last
