"""Shares of errors that clients see while some backends fail and others are well.

    python -m benchmarks.failing [--engine native|pure] [--seconds N] [SCENE...]

Each scene starts fastlb without flags of its own beside backends that live in this process. The
health checks of all of them pass, but for the flapping ones while they do not listen.
"""

import argparse
import asyncio
import contextlib
import random
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable

CLIENTS = 24
SERVICE_S = 0.02
FLAP_S = 0.1
FLAPPING = 20
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno"
_CHECK = b"GET / "
_REQUEST = b"GET /work HTTP/1.1\r\nHost: a\r\n\r\n"

Verdict = Callable[[], bool]


class Backend(asyncio.Protocol):
    """Answers checks at once with 200, requests with 200 after a while or with 500 at once."""

    def __init__(self, fails: Verdict, seen: set[asyncio.BaseTransport]) -> None:
        self._fails = fails
        self._seen = seen

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._seen.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._seen.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        if data.startswith(_CHECK):
            self._transport.write(_OK)
        elif self._fails():
            self._transport.write(_ERROR)
        else:
            asyncio.get_running_loop().call_later(SERVICE_S, self._transport.write, _OK)


async def serve(fails: Verdict, *, flaps: bool = False) -> tuple[int, asyncio.Task[None]]:
    """A backend on a port of its own. One that flaps resets what it has and stops listening in turns."""
    loop = asyncio.get_running_loop()
    seen: set[asyncio.BaseTransport] = set()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
    server = await loop.create_server(lambda: Backend(fails, seen), "127.0.0.1", port, reuse_address=True)

    async def live() -> None:
        nonlocal server
        try:
            await asyncio.sleep(random.random() * FLAP_S if flaps else 3600)
            while True:
                server.close()
                for transport in tuple(seen):
                    transport.abort()  # type: ignore[attr-defined]
                await asyncio.sleep(FLAP_S)
                server = await loop.create_server(
                    lambda: Backend(fails, seen), "127.0.0.1", port, reuse_address=True
                )
                await asyncio.sleep(FLAP_S)
        finally:
            server.close()
            for transport in tuple(seen):
                transport.abort()  # type: ignore[attr-defined]

    return port, loop.create_task(live())


async def fastlb(engine: str, ports: list[int], *flags: str) -> tuple[asyncio.subprocess.Process, int]:
    """Start it, and give the process and the port it listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
    backends = [word for backend in ports for word in ("--backend", f"127.0.0.1:{backend}")]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fastlb", "--engine", engine, "--listen", f"127.0.0.1:{port}"),
        *("--log-level", "error", *backends, *flags),
    )
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return process, port
        if process.returncode is not None:
            raise SystemExit(f"fastlb ended with {process.returncode}")
        await asyncio.sleep(0.05)


async def ask(port: int, until_s: float, found: Counter[str]) -> None:
    """One client: a request after the other, on one connection while that lasts."""
    loop = asyncio.get_running_loop()
    writer: asyncio.StreamWriter | None = None
    while loop.time() < until_s:
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(_REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            found[head[9:12].decode()] += 1
        except (OSError, asyncio.IncompleteReadError):
            found["cut"] += 1
            if writer is not None:
                writer.close()
            writer = None
    if writer is not None:
        writer.close()


async def scene(
    engine: str, seconds: float, verdicts: list[Verdict], *flags: str, flapping: int = 0
) -> Counter[str]:
    """How many answers of each status the clients got."""
    served = [await serve(verdict) for verdict in verdicts]
    served += [await serve(lambda: False, flaps=True) for _ in range(flapping)]
    process, port = await fastlb(engine, [port for port, _ in served], *flags)
    found: Counter[str] = Counter()
    try:
        until_s = asyncio.get_running_loop().time() + seconds
        await asyncio.gather(*(ask(port, until_s, found) for _ in range(CLIENTS)))
    finally:
        process.terminate()
        await process.wait()
        for _, task in served:
            task.cancel()
        await asyncio.gather(*(task for _, task in served), return_exceptions=True)
    return found


def well() -> bool:
    """Never fails."""
    return False


def broken() -> bool:
    """Always fails."""
    return True


def now_and_then() -> bool:
    """Fails 30 % of its requests."""
    return random.random() < 0.3


SCENES: dict[str, Callable[[str, float], Awaitable[Counter[str]]]] = {
    "one of four fails everything": lambda e, s: scene(e, s, [broken, well, well, well]),
    "one of four fails 30 %": lambda e, s: scene(e, s, [now_and_then, well, well, well]),
    "all four fail 30 %": lambda e, s: scene(e, s, [now_and_then] * 4),
    "20 of 21 flap": lambda e, s: scene(e, s, [well], flapping=FLAPPING),
    "20 of 21 flap, ten tries": lambda e, s: scene(
        e, s, [well], "--tries", "10", "--retry-budget", "off", flapping=FLAPPING
    ),
}


def share(found: Counter[str]) -> float:
    """The share of errors."""
    return 1 - found["200"] / max(1, found.total())


def main() -> None:
    """Print one line for each scene and engine."""
    parser = argparse.ArgumentParser(prog="benchmarks.failing", description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=("native", "pure", "both"), default="both")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help="a part of its name; default: all")
    asked = parser.parse_args()
    print(f"{'scene':30} {'engine':8} {'answers':>8} {'errors':>8}  statuses")
    for name, play in SCENES.items():
        if asked.scenes and not any(part in name for part in asked.scenes):
            continue
        for engine in ("native", "pure") if asked.engine == "both" else (asked.engine,):
            found = asyncio.run(play(engine, asked.seconds))
            print(
                f"{name:30} {engine:8} {found.total():8} {share(found):8.2%}  {dict(sorted(found.items()))}",
                flush=True,
            )


if __name__ == "__main__":
    main()
