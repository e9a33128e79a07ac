"""A limit on the address space (`ulimit -v`): clients wait or are refused, and the process lives on.

An interpreter that gets no memory at the wrong place does not survive it, so it has to stay clear of that.
"""

import socket
import sys
import time
from contextlib import ExitStack, suppress

import pytest

from support.backend import answering
from support.wire import Wire

SPACE_KIB = 80 * 1024
CLIENTS_OF_A_KIND = 500
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LONG_HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"X: " + b"y" * 7990 + b"\r\n") * 7
UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"z" * 60_000
BODY = b"x" * 8_000_000  # more than the kernel holds for a connection
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
# For what the crowd wants to be read and held.
HELD_S = 2.0


def crowd(stack, port, request):
    """Clients that ask, or begin to, and then neither read nor send on."""
    for _ in range(CLIENTS_OF_A_KIND):
        sock = stack.enter_context(socket.socket())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(5)
        sock.connect(("127.0.0.1", port))
        sock.setblocking(False)
        with suppress(BlockingIOError):
            sock.send(request)


@pytest.mark.timeout(120)
def test_process_survives_more_clients_than_its_address_space_holds(backend, fastlb):
    """Once they have gone, everything is as before."""
    started = backend(answering(LONG))
    shell = ("bash", "-c", f'ulimit -v {SPACE_KIB}; exec "$0" "$@"', sys.executable)
    running = fastlb(started.label, flags=("--workers", "1", "--no-check"), python=shell)
    with ExitStack() as stack:
        for request in (LONG_HEAD, GET, UPLOAD):
            crowd(stack, running.port, request)
        time.sleep(HELD_S)
    with socket.create_connection(("127.0.0.1", running.port)) as sock:
        client = Wire(sock)
        client.send(GET)
        assert client.response().body == BODY

    assert running.process.poll() is None
