"""Starting programs on a CPU of their own, waiting until they serve, and stopping them for certain."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

STOP_TIMEOUT_S = 5.0
READY_TIMEOUT_S = 20.0
# Below net.ipv4.ip_local_port_range, so that no outgoing connection can sit on a port chosen here.
_PORTS = range(20_000, 30_000)
_next_port = iter(_PORTS)


class LaunchError(Exception):
    """A program ended, or never served, where it should have run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How to start one program. `stdout`: a file for its standard output, None = dropped."""

    args: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stdout: Path | None = None


def free_port() -> int:
    """A port on 127.0.0.1 that nothing listens on now, never given twice by one run."""
    for port in _next_port:
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise LaunchError("no free port left")


@contextlib.contextmanager
def running(command: Command, *, cpu: int, run_dir: Path, name: str) -> Iterator[int]:
    """Run a program on `cpu` for the time of the block; gives its pid. Its errors go to a file.

    Its own session keeps Ctrl-C from it, so that it is stopped here, in order, by pid.
    """
    errors = run_dir / f"{name}.stderr"
    with contextlib.ExitStack() as files:
        stderr = files.enter_context(errors.open("ab"))
        stdout = files.enter_context(command.stdout.open("ab")) if command.stdout else subprocess.DEVNULL
        process = subprocess.Popen(
            ["taskset", "-c", str(cpu), *command.args],
            env={**os.environ, **command.env},
            cwd=run_dir,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        yield process.pid
        if process.poll() is not None:
            raise LaunchError(f"{name} ended with status {process.returncode}: {last_line(errors)}")
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a program started by `running`: SIGTERM, then SIGKILL to what is left of its session."""
    try:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)
    finally:  # a second Ctrl-C ends the patience above, not what follows
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # session leader: the pid is the group's number
        process.wait()


def wait_until_serving(port: int, pid: int, *, errors: Path) -> None:
    """Return once a request to `port` is answered with 200.

    Raises: LaunchError if the program ended or the time is over.
    """
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    answer = "nothing"
    while time.monotonic() < deadline_s:
        try:
            answer = ask(port, "/").partition("\r\n")[0]
            if answer.startswith("HTTP/1.1 200"):
                return
        except OSError as error:
            answer = str(error)
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            raise LaunchError(f"ended at the start: {last_line(errors)}")
        time.sleep(0.02)
    raise LaunchError(f"no 200 within {READY_TIMEOUT_S:g} s; last answer: {answer}; {last_line(errors)}")


def ask(port: int, path: str) -> str:
    """The whole answer to one GET on a connection of its own."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=2) as sock:
        sock.sendall(request.encode())
        return b"".join(iter(lambda: sock.recv(65536), b"")).decode()


def last_line(path: Path) -> str:
    """The last that a program wrote to its error file."""
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1] if lines else "it wrote no error"
