"""Ten thousand backends: how long a start takes, and who is picked meanwhile."""

import contextlib
import json
import socket
import threading
import time

from support.serving import free_port

BACKENDS = 10_000
CLIENTS = 50


@contextlib.contextmanager
def greeting_everywhere():
    """A server on all of 127.0.0.0/8 that says hi to whoever connects; its port."""
    with socket.create_server(("0.0.0.0", 0), backlog=4096) as listening:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    with client, contextlib.suppress(OSError):
                        client.sendall(b"hi")

        thread = threading.Thread(target=serve, name="greeting", daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def greeted(port: int) -> bytes:
    """What a client gets."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.settimeout(10)
        return client.recv(10)


def test_ten_thousand_backends_start_at_once_and_only_living_ones_are_picked(fastlb):
    """A start took half a minute, and who had not been asked by then was picked, dead or alive."""
    dead_port = free_port()
    with greeting_everywhere() as port:
        ports = [port if n % 2 else dead_port for n in range(BACKENDS)]
        began = time.monotonic()
        running = fastlb(
            *(f"127.1.{n // 250}.{n % 250 + 1}:{ports[n]}" for n in range(BACKENDS)),
            flags=("--access-log", "-"),
            mode="tcp",
        )
        first = greeted(running.port)
        took_s = time.monotonic() - began
        rest = [greeted(running.port) for _ in range(CLIENTS)]
        assert running.end() == 0
    lines = [json.loads(line) for line in running.said if '"tried"' in line]
    print(f"{running.engine}: {BACKENDS} backends, first answer {took_s:.2f} s after the start")  # noqa: T201 - a figure to read

    assert {first, *rest} == {b"hi"}
    assert {line["tries"] for line in lines} == {1}
    assert took_s < 15
