"""The command as a process: what it serves, what it says, and how it ends."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.waiting import PATIENCE_S, wait_until

COMMAND = [sys.executable, "-m", "fastlb"]
_LISTENS = re.compile(r"listen\W+127\.0\.0\.1:(\d+)")


class Process:
    """A running fastlb whose standard error goes to a file."""

    def __init__(self, arguments: list[str], room: Path) -> None:
        self.log = room / "stderr.log"
        self.out = room / "stdout.log"
        with self.log.open("wb") as err, self.out.open("wb") as out:
            self.child = subprocess.Popen([*COMMAND, *arguments], stdout=out, stderr=err)

    def said(self) -> str:
        """Standard error so far."""
        return self.log.read_text()

    def port(self) -> int:
        """The port of the first listener, from the start-up line."""
        wait_until(lambda: _LISTENS.search(self.said()) or self.child.poll() is not None, "the start-up line")
        match = _LISTENS.search(self.said())
        assert match, self.said()
        return int(match[1])

    def ask(self, path: str = "/", timeout_s: float = PATIENCE_S) -> tuple[int, str]:
        """GET through the balancer."""
        return get(f"http://127.0.0.1:{self.port()}{path}", timeout_s)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit status."""
        self.child.send_signal(number)
        return self.child.wait(PATIENCE_S)


def get(url: str, timeout_s: float = PATIENCE_S) -> tuple[int, str]:
    """Status and body, whatever the status."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.fixture
def fastlb(tmp_path, engine) -> Iterator:
    """Start fastlb processes on the engine under test; none is left behind."""
    started: list[Process] = []

    def start(*arguments: str) -> Process:
        room = tmp_path / f"run{len(started)}"
        room.mkdir()
        process = Process(["--engine", engine.name, *arguments], room)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.child.poll() is None:
            process.child.kill()
        process.child.wait(PATIENCE_S)


@contextlib.contextmanager
def http_server(folder: Path) -> Iterator[int]:
    """Python's own HTTP server over `folder`."""
    code = (
        "import http.server, sys\n"
        "class Quiet(http.server.SimpleHTTPRequestHandler):\n"
        "    protocol_version = 'HTTP/1.1'\n"
        "    def log_message(self, *_): pass\n"
        "server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Quiet)\n"
        "print(server.server_port, flush=True)\n"
        "server.serve_forever()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        yield int(child.stdout.readline())
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


@pytest.fixture
def page(tmp_path) -> Iterator[int]:
    """A server whose /page.txt says hello. Its port."""
    folder = tmp_path / "www"
    folder.mkdir()
    (folder / "page.txt").write_text("hello\n")
    with http_server(folder) as port:
        yield port


def test_http_is_served_from_the_first_connection(fastlb, page):
    """The first promise of the README, and no 503 while the first check is under way."""
    process = fastlb("--listen", "127.0.0.1:0", "--backend", f"127.0.0.1:{page}")

    assert process.ask("/page.txt") == (200, "hello\n")


def test_tcp_is_served(fastlb, page):
    """The same in tcp mode, where checks only connect."""
    process = fastlb("--mode", "tcp", "--listen", "127.0.0.1:0", "--backend", f"127.0.0.1:{page}")

    assert process.ask("/page.txt") == (200, "hello\n")


def test_host_name_is_resolved(fastlb, page):
    """Backends in containers have names, not addresses."""
    process = fastlb("--listen", "127.0.0.1:0", "--backend", f"http://localhost:{page}/")

    assert process.ask("/page.txt") == (200, "hello\n")


def test_unix_listener_is_served_and_removed(fastlb, page, tmp_path):
    """A socket file that outlives its process would be in the way of the next one."""
    path = tmp_path / "lb.sock"
    process = fastlb("--listen", f"unix:{path}", "--backend", f"127.0.0.1:{page}")
    wait_until(lambda: " started " in process.said(), "the start-up line")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_S)
        client.connect(os.fspath(path))
        client.sendall(b"GET /page.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(4096), b""))

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert process.end() == 0
    assert not path.exists()


def test_start_up_line_says_what_runs(fastlb, page, engine):
    """One line that answers the first questions of a support request."""
    process = fastlb("--listen", "127.0.0.1:0", "--backend", f"127.0.0.1:{page},name=blue")
    process.port()

    line = next(line for line in process.said().splitlines() if "started" in line)
    for part in (f"engine={engine.name}", "why=", "workers=", "listen=", "pool=blue", "connection_limit="):
        assert part in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_signal_ends_with_status_0(fastlb, page, number):
    """A service manager takes anything else for a crash."""
    process = fastlb("--listen", "127.0.0.1:0", "--backend", f"127.0.0.1:{page}")
    process.ask("/page.txt")

    assert process.end(number) == 0
    assert "Traceback" not in process.said()


def test_access_log_is_json_and_reopened(fastlb, page, tmp_path):
    """Log rotation: rename, SIGUSR1, and the next line is in the new file."""
    log, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
    process = fastlb(
        "--listen", "127.0.0.1:0", "--backend", f"127.0.0.1:{page}",
        "--access-log", str(log), "--log-format", "json",
    )  # fmt: skip
    port = process.port()
    get(f"http://127.0.0.1:{port}/page.txt")
    first = json.loads(wait_until(lambda: log.read_text(), "the first line"))
    log.rename(rotated)
    process.child.send_signal(signal.SIGUSR1)
    wait_until(log.exists, "the new file")
    get(f"http://127.0.0.1:{port}/other")
    second = json.loads(wait_until(lambda: log.read_text(), "the second line"))

    assert (first["target"], first["status"], first["code"]) == ("/page.txt", 200, "--")
    assert (second["target"], second["status"]) == ("/other", 404)


def test_access_log_can_be_standard_output(fastlb, page):
    """Containers collect standard output; what fastlb says about itself stays on standard error."""
    process = fastlb("--listen", "127.0.0.1:0", "--backend", f"127.0.0.1:{page}", "--access-log", "-")
    process.ask("/page.txt")

    wait_until(lambda: " /page.txt 200 " in process.out.read_text(), "the access line")


def test_expected_status_codes_decide_who_is_up(fastlb, page):
    """A path that answers 404 is a failed check, unless 404 is expected."""
    down = fastlb("--listen", "127.0.0.1:0", "--backend", f"127.0.0.1:{page}", "--check-path", "/gone")
    up = fastlb(
        "--listen", "127.0.0.1:0", "--backend", f"127.0.0.1:{page}",
        "--check-path", "/gone", "--check-expect", "404",
    )  # fmt: skip

    assert down.ask("/page.txt")[0] == 503
    assert up.ask("/page.txt")[0] == 200


def test_no_check_asks_nobody(fastlb, page):
    """Without checks a backend is up until connects to it fail."""
    process = fastlb(
        "--listen", "127.0.0.1:0", "--backend", f"127.0.0.1:{page}", "--no-check", "--log-level", "info"
    )

    assert process.ask("/page.txt")[0] == 200


def test_closed_standard_files_do_no_harm(engine, page, tmp_path):
    """A listening socket must not become descriptor 1, where log lines go."""
    log = tmp_path / "access.log"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = [
        "--engine", engine.name,
        "--listen", f"127.0.0.1:{port}", "--backend", f"127.0.0.1:{page}", "--access-log", str(log),
    ]  # fmt: skip
    code = (
        "import os, sys; from fastlb.surface.cli import main\n"
        "os.closerange(0, 3)\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    child = subprocess.Popen([sys.executable, "-c", code, *arguments])
    try:
        wait_until(lambda: connects(port), "the listener")
        status, _ = get(f"http://127.0.0.1:{port}/page.txt")
        child.terminate()
        ended = child.wait(PATIENCE_S)
    finally:
        child.kill()
        child.wait()

    assert (status, ended) == (200, 0)


def connects(port: int) -> bool:
    """True if somebody listens."""
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def run_to_end(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A fastlb that is expected to end by itself."""
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def assert_refused(done: subprocess.CompletedProcess[str], flag: str) -> None:
    """Status 1 and one line that names the flag."""
    assert done.returncode == 1, done
    assert done.stderr.count("\n") == 1, done.stderr
    assert flag in done.stderr


def test_port_in_use_is_said(engine):
    """The commonest start error of all."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run_to_end("--engine", engine.name, "--listen", address, "--backend", "127.0.0.1:9001")

    assert_refused(done, "--listen")
    assert address in done.stderr
    assert "in use" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["--listen", "203.0.113.7:8080", "--backend", "127.0.0.1:9001"], "--listen"),
        (["--listen", "no-such-host.invalid:80", "--backend", "127.0.0.1:9001"], "--listen"),
        (["--listen", "127.0.0.1:0", "--backend", "no-such-host.invalid:9001"], "--backend"),
        (["--listen", "127.0.0.1:0", "--backend", f"{'x.' * 200}invalid:9001"], "--backend"),
        (["--listen", "unix:/no/such/directory/s", "--backend", "127.0.0.1:9001"], "--listen"),
        (
            [
                "--listen",
                "127.0.0.1:0",
                "--backend",
                "127.0.0.1:9001",
                "--access-log",
                "/no/such/dir/a",
            ],
            "--access-log",
        ),
        (["--listen", "127.0.0.1:0", "--backend", "127.0.0.1:9001", "--access-log", "/"], "--access-log"),
    ],
)
def test_what_the_machine_refuses_is_one_line(arguments, flag, engine):
    """No traceback: the reader is at a shell, or reads the journal of a service manager."""
    assert_refused(run_to_end("--engine", engine.name, *arguments), flag)


def test_bad_flag_is_one_line_of_a_process_too():
    """`python -m fastlb` is the command and gives its exit status."""
    done = run_to_end("--listen", "8080", "--backend", "127.0.0.1:9001")

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["doctor"], ["demo", "--port", "0"]])
def test_a_full_standard_output_is_one_line(arguments):
    """A disk without room is a fault of the machine: no traceback, here and at the exit."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=20, check=False
        )

    assert done.returncode == 1
    assert done.stderr == "fastlb: standard output cannot be written: no space left on device\n"


def test_help_into_a_closed_pipe_is_quiet():
    """`fastlb --help | head -1` is what people type."""
    with subprocess.Popen([*COMMAND, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        child.stdout.close()
        complaint = child.stderr.read()

    assert complaint == b""
