"""The limit on open files, reached and left again, and ten thousand connects at once."""

import errno
import os
import random
import resource
import selectors
import socket
import sys
import time
from collections import Counter
from contextlib import closing

import pytest

from support.backend import OK, answering
from support.serving import descriptors, one_write_app
from support.waiting import wait_until
from support.wire import Wire

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLIENTS = 40
SPARE = 12
PAUSE_S = 1.0
# Of one core; a loop that asks again and again takes all of it.
BUSY_MAX = 0.15
BURST = 10_000
BURST_DESCRIPTORS = BURST + 500
BURST_S = 25
MANY_BACKENDS = 100
FEW_FILES = 300
REQUESTS = 1000
# At most so many descriptors are opened on first use and kept.
OPENED_ONCE = 20


def cpu_s(pid):
    """CPU time of a process, user and kernel (proc(5), fields 14 and 15)."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def leave_room_for(running, count):
    """From now on the process can open that many descriptors and no more."""
    highest = max(int(name) for name in os.listdir(f"/proc/{running.pid}/fd"))
    free = highest + 1 - descriptors(running.pid)
    limit = highest + 1 + count - free
    resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (limit, limit))


def connected(port):
    return Wire(socket.create_connection(("127.0.0.1", port)))


def ask(client):
    client.send(GET)
    return client.response().status


def test_accepting_pauses_without_descriptors_and_goes_on_with_them(backend, fastlb):
    """Waiting costs nothing, is said once, blames no backend, and loses nobody."""
    started = backend(answering(OK))
    flags = ("--workers", "1", "--check-interval", "200ms", "--fall", "1", "--upstream-idle-timeout", "1m")
    running = fastlb(started.label, flags=flags)
    served = connected(running.port)
    assert ask(served) == 200
    leave_room_for(running, SPARE)
    crowd = [connected(running.port) for _ in range(CLIENTS)]
    paused = running.wait_logged("accepting paused")

    spent_s, began_s = cpu_s(running.pid), time.monotonic()
    asked = 0
    while time.monotonic() - began_s < PAUSE_S:
        asked += 1
        assert ask(served) == 200
        served.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            served.more()
        served.sock.settimeout(8)
    busy = (cpu_s(running.pid) - spent_s) / (time.monotonic() - began_s)

    assert paused["reason"] == os.strerror(errno.EMFILE).lower()
    assert asked
    assert busy < BUSY_MAX
    for client in crowd[: CLIENTS - SPARE // 2]:
        client.close()
    assert [ask(client) for client in crowd[CLIENTS - SPARE // 2 :]] == [200] * (SPARE // 2)
    running.wait_logged("accepting resumed")
    assert len(running.logged("accepting paused")) == 1
    assert not running.logged("backend down")
    for client in (*crowd, served):
        client.close()


def test_idle_connections_leave_descriptors_to_requests(backend, fastlb):
    """Each of 4 workers keeps a connection to each of 100 backends, and all together may have 300 files."""
    started = [backend(answering(OK)) for _ in range(MANY_BACKENDS)]
    shell = ("bash", "-c", f'ulimit -n {FEW_FILES}; exec "$0" "$@"', sys.executable)
    flags = ("--workers", "4", "--no-check", "--policy", "round_robin", "--upstream-idle-timeout", "1m")
    running = fastlb(*(one.label for one in started), flags=flags, python=shell)
    with closing(connected(running.port)) as first:
        assert ask(first) == 200  # so every worker has its own accept queue by now
    clients = [connected(running.port) for _ in range(32)]
    draw = random.Random(1)
    statuses = Counter(ask(draw.choice(clients)) for _ in range(REQUESTS))
    for client in clients:
        client.close()
    print(f"{FEW_FILES} files, {MANY_BACKENDS} backends, {REQUESTS} requests: {dict(statuses)}")  # noqa: T201

    assert statuses == {200: REQUESTS}


class Burst:
    """Clients that all connect before the first one is answered, from one thread."""

    def __init__(self, port, count):
        self.whole = self.broken = 0
        self._waiting = selectors.EpollSelector()
        self._socks = [socket.socket() for _ in range(count)]
        for sock in self._socks:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            self._waiting.register(sock, selectors.EVENT_WRITE, b"")

    def run(self, timeout_s):
        """Ask with each as soon as it is connected; return when all have their answers or ends."""
        deadline_s = time.monotonic() + timeout_s
        while self._waiting.get_map() and time.monotonic() < deadline_s:
            for key, events in self._waiting.select(1):
                try:
                    self._turn(key, events)
                except OSError:
                    self._over(key.fileobj, whole=False)

    def _turn(self, key, events):
        sock = key.fileobj
        if events & selectors.EVENT_WRITE:
            sock.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            self._waiting.modify(sock, selectors.EVENT_READ, b"")
        elif got := sock.recv(4096):
            self._waiting.modify(sock, selectors.EVENT_READ, key.data + got)
        else:
            self._over(sock, whole=key.data.startswith(b"HTTP/1.1 200 OK\r\n") and key.data.endswith(b"}"))

    def _over(self, sock, *, whole):
        self.whole += whole
        self.broken += not whole
        self._waiting.unregister(sock)
        sock.close()

    def close(self):
        """Close what is left."""
        for sock in self._socks:
            sock.close()
        self._waiting.close()


@pytest.fixture
def many_files():
    """A limit on open files that the burst fits into."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < BURST_DESCRIPTORS:
        pytest.skip(f"needs {BURST_DESCRIPTORS} open files, and the hard limit is {limits[1]} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], BURST_DESCRIPTORS), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.fixture
def origin():
    """A server that can answer ten thousand in a few seconds."""
    server = one_write_app()
    yield server
    server.end()


@pytest.mark.timeout(60)
def test_ten_thousand_connects_in_a_burst_are_all_served(fastlb, origin, many_files):
    """More than the accept queue holds, and more than may be open at once: some wait, none is lost."""
    # No time-out may stand in for what this is about: neither of a check nor of a connect.
    flags = ("--workers", "2", "--no-check", "--connect-timeout", "20s", "--upstream-idle-timeout", "500ms")
    running = fastlb(origin, flags=flags)
    before = descriptors(running.pid)
    burst = Burst(running.port, BURST)
    burst.run(BURST_S)
    burst.close()

    assert (burst.whole, burst.broken) == (BURST, 0)
    # Kept connections to the backend stay for a while; pipes and the like stay for good.
    wait_until(
        lambda: descriptors(running.pid) < before + OPENED_ONCE, "every descriptor closed", timeout_s=10
    )
