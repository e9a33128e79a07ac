"""How the command ends: drained, at once, or killed; and that another one can take its place."""

import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.backend import OK, Backend, Script, answering, silent
from support.serving import Fastlb, free_port
from support.waiting import wait_until
from support.wire import Wire

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSING_GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.fixture
def backend() -> Iterator[Callable[[Script], Backend]]:
    """Make scripted backends."""
    made: list[Backend] = []

    def make(script: Script) -> Backend:
        made.append(Backend(script))
        return made[-1]

    yield make
    for each in made:
        each.close()


def connect(port: int) -> Wire:
    """A client."""
    return Wire(socket.create_connection(("127.0.0.1", port)))


def held(running: Fastlb, started: Backend) -> Wire:
    """A client whose request is with the backend, which will not answer."""
    client = connect(running.port)
    client.send(GET)
    wait_until(lambda: started.link().received_bytes, "the request")
    return client


def codes(log: Path) -> list[str]:
    """The termination codes in an access log."""
    return [json.loads(line)["code"] for line in log.read_text().splitlines()]


def test_second_signal_stops_at_once(fastlb, backend, tmp_path):
    """Whoever presses Ctrl-C twice does not want to wait; what was open is reset, with code K."""
    started = backend(silent)
    log = tmp_path / "access.log"
    running = fastlb(
        started.address.port, flags=("--no-check", "--drain-timeout", "1m", "--access-log", str(log))
    )
    client = held(running, started)
    running.process.send_signal(signal.SIGINT)
    running.wait_logged("stopping, open exchanges may finish")
    begun = time.monotonic()

    assert running.end(signal.SIGINT) == 0
    assert time.monotonic() - begun < 10
    assert client.ending() == "rst"
    client.close()
    assert codes(log) == ["KH"]


def test_what_outlasts_the_drain_is_reset(fastlb, backend, tmp_path):
    """The drain time-out is a promise to whoever waits for the process."""
    started = backend(silent)
    log = tmp_path / "access.log"
    running = fastlb(
        started.address.port, flags=("--no-check", "--drain-timeout", "300ms", "--access-log", str(log))
    )
    client = held(running, started)

    assert running.end() == 0
    assert client.ending() == "rst"
    client.close()
    assert codes(log) == ["KH"]
    assert running.logged("exchanges were still open at the end of the drain")


def ask_anew_until_refused(address: tuple[str, int] | str, seen: Counter[str]) -> None:
    """Ask again and again on a new connection, and note what becomes of each that was accepted."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    while True:
        with socket.socket(family) as sock:
            sock.settimeout(10)
            try:
                sock.connect(address)
            except (ConnectionRefusedError, FileNotFoundError):
                return
            except OSError as error:
                seen[f"connect: {type(error).__name__}"] += 1
                return
            try:
                sock.sendall(CLOSING_GET)
                answer = b""
                while piece := sock.recv(4096):
                    answer += piece
            except OSError as error:
                seen[type(error).__name__] += 1
            else:
                seen["answered" if answer.endswith(b"\r\n\r\nok") else repr(answer)] += 1


@pytest.mark.parametrize("where", ["tcp", "unix"])
def test_drain_under_a_load_of_new_connections_loses_none(fastlb, backend, tmp_path, where):
    """Who got in before the listener closed gets an answer: nobody sees a reset."""
    path = str(tmp_path / "socket")
    started = backend(answering(OK))
    running = fastlb(started.address.port, flags=("--no-check", "--workers", "2", "--listen", f"unix:{path}"))
    address = path if where == "unix" else ("127.0.0.1", running.port)
    seen: Counter[str] = Counter()
    crowd = [threading.Thread(target=ask_anew_until_refused, args=(address, seen)) for _ in range(16)]
    for member in crowd:
        member.start()
    wait_until(lambda: seen["answered"] > 300, "traffic")
    assert running.end() == 0
    for member in crowd:
        member.join(10)

    assert set(seen) == {"answered"}, seen


def test_killed_balancer_can_be_started_again_at_once(engine, backend, tmp_path):
    """kill -9 with connections open: the port and the UNIX path are free for the next one."""
    started = backend(answering(OK))
    port, path = free_port(), tmp_path / "socket"
    flags = ("--no-check", "--listen", f"127.0.0.1:{port}", "--listen", f"unix:{path}")
    first = Fastlb(engine.name, [started.address.port], *flags)
    clients = [connect(port) for _ in range(5)]
    for client in clients:
        client.send(GET)
        assert client.response().body == b"ok"
    clients[0].close()
    os.kill(first.pid, signal.SIGKILL)
    first.process.wait(10)
    second = Fastlb(engine.name, [started.address.port], *flags)
    try:
        client = connect(port)
        client.send(GET)
        assert client.response().body == b"ok"
    finally:
        for each in (*clients, client):
            each.close()
        assert second.end() == 0
        first.end()
    assert not path.exists()
