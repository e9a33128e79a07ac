"""A backend killed under load, and brought back."""

import signal
import threading

import httpx
import pytest

from support.serving import one_write_app
from support.waiting import wait_until


@pytest.fixture
def three():
    """Three servers of this test's own. Their responses are one write each: of a response whose
    head has gone out nothing can be retried, and the test is about what can."""
    servers = [one_write_app() for _ in range(3)]
    yield servers
    for server in servers:
        server.end(signal.SIGKILL)


class Load:
    """Clients with keep-alive that ask without a pause and remember who answered."""

    def __init__(self, url, clients=4):
        self.failures, self.pids = [], []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url,)) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, url):
        with httpx.Client(base_url=url, timeout=10) as client:
            while not self._stop.is_set():
                try:
                    answer = client.get("/")
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
    flags = ("--check-interval", "100ms", "--check-timeout", "500ms", "--fall", "2", "--rise", "2")
    running = fastlb(*three, flags=flags)
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
