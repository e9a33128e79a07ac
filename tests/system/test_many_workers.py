"""Several worker threads behind one address."""

import socket
from pathlib import Path

from support.backend import answering, recording
from support.waiting import wait_until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CLIENTS = 64
WORKERS = 2


def threads_run_ns(pid: int) -> dict[str, int]:
    """CPU time by thread, without the first thread."""
    tasks = [task for task in Path(f"/proc/{pid}/task").iterdir() if task.name != str(pid)]
    return {task.name: int((task / "schedstat").read_text().split()[0]) for task in tasks}


def test_every_worker_serves_its_share_of_the_clients(backend, fastlb, engine):
    """Keep-alive clients stay where they were accepted: one worker with all of them would leave
    the other cores idle."""
    running = fastlb(backend(answering(OK)).label, flags=("--workers", str(WORKERS)))
    # Who connects before anything is accepted waits in the first worker's queue.
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as first:
        first.sendall(GET)
        assert first.recv(4096).endswith(b"ok")
    clients = [socket.create_connection(("127.0.0.1", running.port), timeout=10) for _ in range(CLIENTS)]
    before = threads_run_ns(running.process.pid)
    for _ in range(10):
        for client in clients:
            client.sendall(GET)
        for client in clients:
            assert client.recv(4096).endswith(b"ok")
    for client in clients:
        client.close()

    if engine.name == "native":
        wait_until(lambda: len(threads_run_ns(running.process.pid)) >= WORKERS)
        spent = sorted(ns - before.get(tid, 0) for tid, ns in threads_run_ns(running.process.pid).items())
        assert spent[-WORKERS] > spent[-1] / 10


def test_one_prober_asks_for_all_workers(backend, fastlb):
    """A backend must not be asked more often because the balancer has more cores."""
    asked = []
    flags = ("--workers", "3", "--check-path", "/probe", "--check-interval", "60s")
    running = fastlb(backend(recording(asked)).label, flags=flags)
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as client:
        client.sendall(GET)
        assert client.recv(4096).endswith(b"ok")

    assert [head.split(b" ")[1] for head in asked] == [b"/probe", b"/"]
