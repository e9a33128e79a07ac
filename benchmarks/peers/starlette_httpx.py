"""The reverse proxy that Python teams write today: Starlette on uvicorn, forwarding with httpx.

Run as a module it is that program: `python -m benchmarks.peers.starlette_httpx PORT BACKEND...`.
It streams the response, as the usual recipe does, takes the backend with the least requests in
flight, keeps connections, adds X-Forwarded-For, and runs on uvloop and httptools.

Tuned: one httpx client per backend, because the cost of httpx's pool grows with its connections (a
third less CPU was seen here than with one client for all). httpcore tries to import sniffio several
times a request; where it is not installed that search of the disk is cut short.
"""

import importlib.util
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.launch import Command
from benchmarks.machine import ROOT
from benchmarks.work import Work

_PARTS = ("starlette", "uvicorn", "httpx", "uvloop", "httptools")
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "proxy-connection"}


class StarletteHttpx:
    """Starlette, uvicorn and httpx with one process."""

    name = "Starlette + httpx"

    def missing(self) -> str | None:
        """Which of its parts are not installed."""
        absent = [part for part in _PARTS if importlib.util.find_spec(part) is None]
        return f"not installed (pip install {' '.join(absent)})" if absent else None

    def version(self) -> str:
        """Of its parts, in the order of the name."""
        return " ".join(f"{part} {version(part)}" for part in _PARTS)

    def command(self, work: Work, run_dir: Path) -> Command:
        """One process, no access log, no health checks: the usual recipe has none."""
        args = (
            sys.executable,
            "-m",
            "benchmarks.peers.starlette_httpx",
            *map(str, (work.port, *work.backends)),
        )
        return Command(args=args, env={"PYTHONPATH": str(ROOT)})


def _application(backends: list[str]) -> Any:
    import httpx
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=60)
    clients = {one: httpx.AsyncClient(limits=limits, timeout=30, trust_env=False) for one in backends}
    in_flight = dict.fromkeys(backends, 0)
    picked = dict.fromkeys(backends, 0)

    async def forward(request: Request) -> StreamingResponse:
        backend = min(backends, key=lambda one: (in_flight[one], picked[one]))
        in_flight[backend] += 1
        picked[backend] += 1
        headers = [(k, v) for k, v in request.headers.items() if k not in _HOP_BY_HOP]
        headers.append(("x-forwarded-for", request.client.host if request.client else "unknown"))
        client = clients[backend]
        upstream = client.build_request(request.method, backend + request.url.path, headers=headers)
        try:
            answer = await client.send(upstream, stream=True)
        except BaseException:
            in_flight[backend] -= 1
            raise

        async def close() -> None:
            in_flight[backend] -= 1
            await answer.aclose()

        kept = {k: v for k, v in answer.headers.items() if k not in _HOP_BY_HOP}
        return StreamingResponse(
            answer.aiter_raw(), answer.status_code, kept, background=BackgroundTask(close)
        )

    return Starlette(routes=[Route("/{path:path}", forward)])


def main() -> None:
    """Serve until SIGTERM."""
    import uvicorn

    if importlib.util.find_spec("sniffio") is None:
        sys.modules["sniffio"] = None  # type: ignore[assignment]  # httpcore's import fails at once
    port, *backends = sys.argv[1:]
    application = _application([f"http://127.0.0.1:{backend}" for backend in backends])
    uvicorn.run(
        application,
        host="127.0.0.1",
        port=int(port),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="error",
    )
    os._exit(0)  # connections that httpx keeps open would only delay the end


if __name__ == "__main__":
    main()
