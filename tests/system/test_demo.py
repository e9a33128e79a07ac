"""`fastlb demo` as a process."""

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.waiting import PATIENCE_S, wait_until

_URL = re.compile(r"http://127\.0\.0\.1:\d+/")
_SECOND = re.compile(
    r"^\d\d:\d\d:\d\d +(\d+) requests +quick +(\d+) .*middling +(\d+) .*slow +(\d+) .*failed (\d+)$", re.M
)


@pytest.fixture
def demo(engine, tmp_path) -> Iterator[tuple[subprocess.Popen, Path]]:
    """A running demo and the file that it prints to."""
    printed = tmp_path / "demo.log"
    with printed.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "fastlb", "demo", "--port", "0", "--engine", engine.name],
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    yield child, printed
    if child.poll() is None:
        child.kill()
    child.wait(PATIENCE_S)


def test_demo_serves_reports_and_ends(demo, engine):
    """What the README promises: a URL, a line per second, requests to all three, and a clean end."""
    child, printed = demo
    url = wait_until(lambda: _URL.search(printed.read_text()), "the URL")[0]
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        assert answer.read().startswith(b"Hello from ")
    lines = wait_until(lambda: _SECOND.findall(printed.read_text())[1:], "a whole second")
    child.send_signal(signal.SIGINT)

    assert child.wait(PATIENCE_S) == 0
    text = printed.read_text()
    assert f"{engine.name} engine" in text
    assert "Traceback" not in text
    total, quick, middling, slow, failed = map(int, lines[0])
    assert total == quick + middling + slow
    assert min(quick, middling, slow) >= 1
    assert failed == 0


def test_taken_port_is_said_with_another_one_to_try(engine):
    """The default port is a popular one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "fastlb", "demo", "--port", str(port), "--engine", engine.name],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f":{port}" in done.stderr
    assert f"fastlb demo --port {port + 1}" in done.stderr or port == 65_535
