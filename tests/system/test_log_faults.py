"""Logs that cannot be written: traffic goes on, what is lost is counted, memory stays bounded."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from support.backend import OK, Backend, answering
from support.serving import Fastlb
from support.waiting import wait_until
from support.wire import Wire

# A line of the access log has some 500 bytes with it, so that few requests fill what holds them.
LONG_GET = b"GET /" + b"x" * 250 + b" HTTP/1.1\r\nHost: a\r\n\r\n"
BACKLOG_BYTES = 4 * 1024 * 1024
PIPE_BYTES = 65_536


@pytest.fixture
def page() -> Iterator[Backend]:
    """A backend that answers at once."""
    backend = Backend(answering(OK))
    yield backend
    backend.close()


def ask(port: int, count: int) -> None:
    """So many requests on one connection, each answered."""
    wire = Wire(socket.create_connection(("127.0.0.1", port)))
    for _ in range(count // 50):
        wire.send(LONG_GET * 50)
        for _ in range(50):
            assert wire.response().body == b"ok"
    wire.close()


def flags(path: object) -> tuple[str, ...]:
    """An access log there, and no checks that would be counted too."""
    return ("--no-check", "--access-log", str(path))


def access_reports(running: Fastlb) -> str:
    """What was said about the access log."""
    return "\n".join(str(line["report"]) for line in running.logged("access log"))


def memory_bytes(pid: int) -> int:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_full_disk_stops_no_traffic(fastlb, page):
    """ENOSPC on every write."""
    running = fastlb(page.address.port, flags=flags("/dev/full"))
    ask(running.port, 500)
    running.wait_logged("access log")
    ask(running.port, 500)
    assert running.end() == 0

    said = access_reports(running)
    assert said.count("lines are dropped, /dev/full cannot be written: No space left on device") == 1
    assert "1000 lines were lost before the end" in said


def test_reader_that_stops_stops_no_traffic_and_costs_bounded_memory(fastlb, page, tmp_path):
    """A pipe whose reader hangs: more is written than all buffers hold. Then it reads on."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    running = fastlb(page.address.port, flags=flags(fifo))
    ask(running.port, 500)
    before = memory_bytes(running.pid)
    asked = 500
    while not running.logged("access log"):
        assert asked * len(LONG_GET) < 4 * BACKLOG_BYTES, "nothing was said"
        ask(running.port, 1000)
        asked += 1000
    grown = memory_bytes(running.pid) - before
    os.set_blocking(reader, True)
    lines: list[bytes] = []

    def read() -> None:
        with os.fdopen(reader, "rb") as pipe:
            lines.extend(pipe)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()

    def over() -> bool:
        ask(running.port, 50)
        return "is written again" in access_reports(running)

    wait_until(over, "the recovery", timeout_s=15)
    assert running.end() == 0
    thread.join(10)
    assert "it is not read fast enough" in access_reports(running)
    assert grown < 4 * BACKLOG_BYTES
    lost = re.search(r"is written again, (\d+) lines were lost", access_reports(running))
    assert lost is not None
    assert int(lost[1]) > 0
    assert all(json.loads(line)["status"] == 200 for line in lines), "a line was torn"


def test_reader_that_ends_stops_no_traffic_and_its_successor_goes_on(fastlb, page, tmp_path):
    """EPIPE, until somebody opens the FIFO again."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    running = fastlb(page.address.port, flags=flags(fifo))
    os.close(reader)
    ask(running.port, 100)
    running.wait_logged("access log")
    ask(running.port, 100)
    successor = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    ask(running.port, 50)

    def read() -> bytes:
        try:
            return os.read(successor, 100)
        except BlockingIOError:
            return b""

    assert wait_until(read, "a line for the new reader").lstrip().startswith(b'{"time"')
    os.close(successor)
    assert "Broken pipe" in access_reports(running)


def test_nobody_who_reads_is_said_at_the_start(engine, page, tmp_path):
    """Lines into the void are a mistake of the set-up, which a start can tell."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = [sys.executable, "-m", "fastlb", "--engine", engine.name, "--listen", "127.0.0.1:0"]
    done = subprocess.run(
        [*command, "--backend", page.label, *flags(fifo)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert done.returncode == 1
    assert "nobody reads this FIFO" in done.stderr


def test_standard_output_and_error_that_nobody_reads_stop_no_traffic(engine, page):
    """Both pipes of a container are full, and it still serves and stops."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "fastlb", "--engine", engine.name, "--listen", f"127.0.0.1:{port}"]
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    os.set_blocking(err_write, False)
    os.write(err_write, b"\n" * PIPE_BYTES)
    os.set_blocking(err_write, True)
    child = subprocess.Popen(
        [*command, "--backend", page.label, *flags("-")], stdout=out_write, stderr=err_write
    )
    os.close(out_write)
    os.close(err_write)
    try:
        wait_until(lambda: connects(port), "the listener", timeout_s=15)
        ask(port, 500)
        ask(port, 500)
        child.terminate()
        assert child.wait(15) == 0
    finally:
        child.kill()
        child.wait()
        os.close(out_read)
        os.close(err_read)


def connects(port: int) -> bool:
    """True if somebody listens."""
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0
