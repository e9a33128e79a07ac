"""A backend killed or stopped under load, and brought back."""

import collections
import contextlib
import json
import signal
import socket
import threading

import httpx
import pytest

from support.serving import one_write_app
from support.waiting import wait_until
from support.wire import TruncatedError, Wire


@pytest.fixture
def three(tmp_path):
    """Three servers of this test's own. Their responses are one write each: of a response whose
    head has gone out nothing can be retried, and the test is about what can."""
    servers = [one_write_app(tmp_path / f"seen-{n}") for n in range(3)]
    yield servers
    for server in servers:
        server.end(signal.SIGKILL)


CHECKS = ("--check-interval", "100ms", "--check-timeout", "500ms", "--fall", "2", "--rise", "2")


class Load:
    """Clients with keep-alive that ask without a pause and remember who answered. Each request has
    a target of its own."""

    def __init__(self, url, clients=4, method="GET"):
        self.failures, self.pids = [], []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url, method, n)) for n in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, url, method, number):
        asked = 0
        with httpx.Client(base_url=url, timeout=10) as client:
            while not self._stop.is_set():
                asked += 1
                try:
                    answer = client.request(method, f"/{method}-{number}-{asked}")
                    answer.raise_for_status()
                    self.pids.append(answer.json()["pid"])
                except httpx.HTTPError as error:
                    self.failures.append(error)

    def since(self, mark):
        """Who answered after the `mark`-th answer."""
        return set(self.pids[mark:])

    def end(self):
        """Stop asking."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


def came_back(running, server):
    """True once the log says up more often than at the start."""
    return len(running.backend_logged("backend up", server.port)) > 1


def test_backend_killed_under_load_costs_no_idempotent_request(fastlb, three):
    """SIGKILL of one of three: nobody notices, the log says so, and it comes back by itself."""
    running = fastlb(*three, flags=(*CHECKS, "--workers", "1"))
    load = Load(running.url)
    try:
        everyone = {server.pid for server in three}
        wait_until(lambda: set(load.pids) == everyone, "all three in use")
        # Retries are a share of the requests of the last seconds; there has to have been a load.
        wait_until(lambda: len(load.pids) > 1000, "a load")
        victim = three[0]
        victim.end(signal.SIGKILL)
        wait_until(lambda: running.backend_logged("backend down", victim.port), "the log says down")
        mark = len(load.pids)
        wait_until(lambda: len(load.pids) > mark + 50, "more answers")
        assert victim.pid not in load.since(mark + 10)

        victim.start()
        victim.wait_ready()
        wait_until(lambda: came_back(running, victim), "the log says up")
        wait_until(lambda: victim.pid in load.pids, "traffic is back", timeout_s=15)
    finally:
        load.end()

    assert not load.failures


def kill_and_restart(running, victim, load):
    """SIGKILL, until the log says down; then the same port again, until it is used again."""
    ups = len(running.backend_logged("backend up", victim.port))
    victim.end(signal.SIGKILL)
    wait_until(lambda: running.backend_logged("backend down", victim.port), "the log says down")
    victim.start()
    victim.wait_ready()
    wait_until(lambda: len(running.backend_logged("backend up", victim.port)) > ups, "the log says up")
    wait_until(lambda: victim.pid in load.pids, "traffic is back", timeout_s=15)


def test_backend_killed_under_load_gets_no_post_twice(fastlb, three, tmp_path):
    """What may not be repeated reaches one backend or none, whoever dies; what may be fails nowhere."""
    running = fastlb(*three, flags=(*CHECKS, "--workers", "2"))
    posts, gets = Load(running.url, clients=4, method="POST"), Load(running.url, clients=2)
    try:
        for victim in three[:2]:
            wait_until(lambda: len(set(posts.pids)) > 1, "several in use")
            kill_and_restart(running, victim, posts)
    finally:
        posts.end()
        gets.end()
    lines = [line for n in range(3) for line in (tmp_path / f"seen-{n}").read_text().splitlines()]
    seen = collections.Counter(line for line in lines if line.startswith("POST "))

    assert len(seen) >= len(posts.pids) > 0
    assert not [line for line, count in seen.items() if count > 1]
    assert {error.response.status_code for error in posts.failures} <= {502}
    assert not gets.failures


def test_backend_that_is_stopped_costs_only_what_it_had(fastlb, three):
    """SIGSTOP: connects still succeed and nothing answers. The checks see it, and see it come back."""
    running = fastlb(*three, flags=(*CHECKS, "--response-timeout", "300ms"))
    load = Load(running.url)
    victim = three[0]
    try:
        wait_until(lambda: victim.pid in load.pids, "it is in use")
        victim.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: running.backend_logged("backend down", victim.port), "the log says down")
        failures, mark = len(load.failures), len(load.pids)
        wait_until(lambda: len(load.pids) > mark + 200, "more answers")
        late = load.failures[failures:]
        victim.process.send_signal(signal.SIGCONT)
        wait_until(lambda: came_back(running, victim), "the log says up")
        mark = len(load.pids)
        wait_until(lambda: victim.pid in load.since(mark), "traffic is back", timeout_s=15)
    finally:
        victim.process.send_signal(signal.SIGCONT)
        load.end()

    assert {error.response.status_code for error in load.failures} <= {504}
    # Those that waited for it when it was found out; every client has at most one.
    assert len(late) <= 4


def test_backend_that_vanishes_in_a_body_leaves_a_cut_that_is_seen(fastlb, tmp_path):
    """What the client has is half of it, and the framing says so."""
    log = tmp_path / "access"
    servers = [one_write_app() for _ in range(2)]
    running = fastlb(*servers, flags=("--access-log", str(log)))
    with contextlib.closing(Wire(socket.create_connection(("127.0.0.1", running.port)))) as client:
        client.send(b"GET /half HTTP/1.1\r\nHost: a\r\n\r\n")
        client.response_head()
        assert client.exactly(4) == b"half"
        for server in servers:
            server.end(signal.SIGKILL)
        with pytest.raises(TruncatedError) as cut:
            client.exactly(1)
    line = json.loads(wait_until(lambda: log.read_text(), "the access line"))

    assert cut.value.how == "fin"
    assert (line["status"], line["code"]) == (200, "SD")
