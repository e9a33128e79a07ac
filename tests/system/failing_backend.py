"""How many requests fail while one backend of three fails all of them and passes its check.

    python tests/system/failing_backend.py [--engine native|pure] [--seconds N] [--rates 5,40,400]

prints the share for each rate, for resets and for 503, for GET and POST. Nothing is set but ports: what
is measured are the defaults. Requests come at a steady rate, each over a connection of its own.
"""

import argparse
import asyncio
import contextlib
import itertools
import re
import socket
import struct
import sys
from collections.abc import AsyncIterator
from typing import NamedTuple

KINDS = ("reset", "503")
METHODS = ("GET", "POST")
# So many a second at once are enough for one process that plays clients and backends.
TOGETHER_PER_S = 200
_RESET = struct.pack("ii", 1, 0)


class Share(NamedTuple):
    """What came of the requests of one measurement."""

    asked: int
    failed: int

    @property
    def percent(self) -> float:
        """Failed ones of a hundred."""
        return 100 * self.failed / max(1, self.asked)


async def _serve(kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with 200; but if `kind` is not empty, only health checks."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            if head.startswith(b"POST"):
                await reader.readexactly(2)
            well = not kind or b"fastlb-probe" in head
            if not well and kind == "reset":
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                break
            status = b"200 OK" if well else b"503 No"
            writer.write(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nhi" % status)
    writer.transport.abort()


@contextlib.asynccontextmanager
async def _balancer(kind: str, engine: str, flags: tuple[str, ...]) -> AsyncIterator[int]:
    """Three backends, of which one fails, and fastlb before them: its port."""
    servers = []
    for each in (kind, "", ""):

        def serve(reader, writer, each=each):
            return _serve(each, reader, writer)

        servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    typed = [word for port in ports for word in ("--backend", f"127.0.0.1:{port}")]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "fastlb", "--listen", "127.0.0.1:0", "--engine", engine, *typed, *flags),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        said = ""
        while not (match := re.search(r"listen=127\.0\.0\.1:(\d+)", said)):
            line = await process.stderr.readline()
            assert line, said
            said += line.decode()
        reading = asyncio.ensure_future(process.stderr.read())
        await asyncio.sleep(0.5)
        yield int(match[1])
    finally:
        process.terminate()
        await process.wait()
        await reading
        for server in servers:
            server.close()


async def _ask(port: int, method: str) -> bool:
    """Whether one request was answered with 200."""
    body = b"Content-Length: 2\r\n\r\nhi" if method == "POST" else b"\r\n"
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(b"%b / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n%b" % (method.encode(), body))
        return (await reader.read()).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False
    finally:
        writer.transport.abort()


async def measure(
    kind: str, method: str, per_s: float, seconds: float, engine: str, flags: tuple[str, ...] = ()
) -> Share:
    """Ask `per_s` times a second for `seconds`, beginning with the first failure."""
    async with _balancer(kind, engine, flags) as port:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        asked = []
        for number in range(round(per_s * seconds)):
            await asyncio.sleep(began_s + number / per_s - loop.time())
            asked.append(asyncio.ensure_future(_ask(port, method)))
        answers = await asyncio.gather(*asked)
    return Share(len(answers), answers.count(False))


async def measure_all(engine: str, rates: list[float], seconds: float) -> None:
    """Print a line for each case at each rate."""
    print(f"{'a second':>8}  {'fails by':8}  method  {'asked':>6}  failed")
    for per_s in rates:
        cases = list(itertools.product(KINDS, METHODS))
        if per_s * len(cases) <= TOGETHER_PER_S:
            shares = await asyncio.gather(*(measure(*case, per_s, seconds, engine) for case in cases))
        else:
            shares = [await measure(*case, per_s, seconds, engine) for case in cases]
        for (kind, method), share in zip(cases, shares, strict=True):
            print(
                f"{per_s:8g}  {kind:8}  {method:6}  {share.asked:6}  {share.failed} ({share.percent:.1f} %)",
                flush=True,
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("native", "pure"), default="native")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rates", default="5,40,400")
    typed = parser.parse_args()
    asyncio.run(measure_all(typed.engine, [float(rate) for rate in typed.rates.split(",")], typed.seconds))


if __name__ == "__main__":
    main()
