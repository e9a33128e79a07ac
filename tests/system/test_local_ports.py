"""Local ports are few: 28,000 towards one address by default, and each in TIME_WAIT for a minute."""

import socket
from collections import Counter
from pathlib import Path

from support import own_network
from support.backend import OK
from support.wire import Wire

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
FIRST_PORT = 20_000
PORTS = 500
REQUESTS = 2_000
CLIENTS = 4


def say(figures):
    print(figures)  # noqa: T201 - for whoever runs it with -s


def ours_in_time_wait(port):
    """Connections to that port whose end with the other port is in TIME_WAIT (state 06)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(fields[3] == "06" and int(fields[2].rpartition(":")[2], 16) == port for fields in lines)


def test_backend_that_closes_after_each_response_costs_no_local_ports(request, engine, backend, fastlb):
    """Four times as many connections as there are ports, within a few seconds."""
    if not own_network.is_own():
        say(own_network.run_again(request.node.nodeid, engine.name))
        return

    def answered_and_waiting(link):
        if link.request() is not None:
            link.send(CLOSE)
            link.ending()

    started = backend(answered_and_waiting)
    running = fastlb(started.label, flags=("--no-check",))
    own_network.keep_ports(FIRST_PORT, PORTS)
    clients = [Wire(socket.create_connection(("127.0.0.1", running.port))) for _ in range(CLIENTS)]
    statuses = Counter()
    for _ in range(REQUESTS // CLIENTS):
        for client in clients:
            client.send(GET)
        statuses.update(client.response().status for client in clients)
    left = ours_in_time_wait(started.address.port)
    for client in clients:
        client.close()
    say(f"{PORTS} local ports, {REQUESTS} requests: {dict(statuses)}, {left} ports in TIME_WAIT")

    assert statuses == {200: REQUESTS}
    assert left < PORTS // 10
