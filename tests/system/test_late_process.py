"""A process that stood still reads what came meanwhile before it believes that time is over."""

import json
import os
import signal
import socket

import pytest

from support.backend import OK, Backend
from support.held_clock import HeldClock, compiler
from support.waiting import wait_until
from support.wire import Wire

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"
# Of all time-outs here; while the process stands still its clock goes on for longer.
TIMEOUT_S = 60
FLAGS = [
    word
    for name in ("response", "header", "idle", "keepalive", "tunnel")
    for word in (f"--{name}-timeout", f"{TIMEOUT_S}s")
]


@pytest.fixture
def clock(tmp_path, monkeypatch):
    """The clock of the fastlb that the test starts."""
    if not compiler():
        pytest.skip("needs a C compiler")
    held = HeldClock(tmp_path)
    for name, value in held.environment.items():
        monkeypatch.setenv(name, value)
    return held


def state(pid: int) -> str:
    """The letter of proc_pid_stat(5)."""
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0]


def all_read(client: Wire) -> bool:
    """True if the connection was accepted and all that the client sent was read; see proc_net(5)."""
    near, far = client.sock.getsockname()[1], client.sock.getpeername()[1]
    with open("/proc/net/tcp") as table:
        for line in table.readlines()[1:]:
            words = line.split()
            ports = tuple(int(end.partition(":")[2], 16) for end in words[1:3])
            if ports == (far, near):
                return words[9] != "0" and int(words[4].partition(":")[2], 16) == 0
    return False


def test_what_came_while_the_process_stood_still_is_read_before_time_is_over(fastlb, clock):
    """SIGSTOP and SIGCONT behind every time-out: an answer is no 504, the rest of a request no 408, and a
    connection whose next request is here is not closed."""
    waiting = []

    def answer_when_told(link):
        while (request := link.request()) is not None:
            if b"GET /waits " in request.head:
                waiting.append(link)
            else:
                link.send(OK)

    backend = Backend(answer_when_told)
    running = fastlb(backend.address.port, flags=("--no-check", *FLAGS))
    clients = [Wire(socket.create_connection(("127.0.0.1", running.port))) for _ in range(5)]
    waits, head, body, first, further = clients
    try:
        further.send(GET)
        assert further.response().status == 200
        waits.send(GET.replace(b"/ ", b"/waits "))
        head.send(GET[:8])
        body.send(POST)
        wait_until(lambda: waiting and all(map(all_read, clients)), "all is read")

        os.kill(running.pid, signal.SIGSTOP)
        wait_until(lambda: state(running.pid) == "T", "it stands still")
        waiting[0].send(OK)
        head.send(GET[8:])
        body.send(b"cde")
        first.send(GET)
        further.send(GET)
        clock.put_forward(2 * TIMEOUT_S)
        os.kill(running.pid, signal.SIGCONT)

        assert [client.response().status for client in clients] == [200] * 5
    finally:
        for client in clients:
            client.close()
        backend.close()


def test_phases_longer_than_half_an_hour_are_logged(fastlb, clock, tmp_path):
    """A model may think for 40 minutes, which is more microseconds than 31 bits hold."""
    backend = Backend(lambda link: (link.request(), link.more()))
    log = tmp_path / "access.log"
    running = fastlb(backend.address.port, flags=("--no-check", "--access-log", str(log)))
    client = Wire(socket.create_connection(("127.0.0.1", running.port)))
    try:
        client.send(GET)
        wait_until(lambda: backend.links and backend.links[0].received_bytes, "the request")
        clock.put_forward(2400)
        backend.link().send(OK)
        assert client.response().status == 200
    finally:
        client.close()
        backend.close()
    line = json.loads(wait_until(log.read_text, "the access line"))

    assert 2_400_000_000 <= line["first_byte_us"] <= line["total_us"] < 2_500_000_000
