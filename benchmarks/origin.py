"""The origin of every run: nginx with one worker on three ports, beside the load."""

import re
from pathlib import Path

from benchmarks.launch import Command, free_port
from benchmarks.peers import nginx

BACKENDS = 3
SMALL_PATH = "/"
BULK_PATH = "/bulk"
SEEN_PATH = "/seen"
SEEN_BODY = re.compile(r"seen:(?P<port>[0-9]+):(?P<forwarded_for>[^;]*);")
BULK_BYTES = 1 << 20

# Files go out with sendfile(2). /seen tells what arrived, so that equal work can be verified.
_CONFIG = """\
http {{
    access_log off;
    sendfile on;
    tcp_nodelay on;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    open_file_cache max=16 inactive=1h;
    client_body_temp_path {run_dir}/body;
    proxy_temp_path {run_dir}/proxy;
    fastcgi_temp_path {run_dir}/fastcgi;
    uwsgi_temp_path {run_dir}/uwsgi;
    scgi_temp_path {run_dir}/scgi;
    server {{
{listens}
        default_type text/plain;
        location = / {{ return 200 "hello, world\\n"; }}
        location = /seen {{ return 200 "seen:$server_port:$http_x_forwarded_for;"; }}
        location = /bulk {{ root {run_dir}; }}
    }}
}}
"""


def origin(run_dir: Path) -> tuple[Command, tuple[int, ...]]:
    """Write the origin's files to `run_dir`; how to start it, and its ports."""
    ports = tuple(free_port() for _ in range(BACKENDS))
    (run_dir / "bulk").write_bytes(b"x" * BULK_BYTES)
    listens = "\n".join(f"        listen 127.0.0.1:{port} backlog=4096;" for port in ports)
    text = nginx.frame(ports[0], run_dir) + _CONFIG.format(run_dir=run_dir, listens=listens)
    return nginx.command(text, run_dir, ports[0]), ports
