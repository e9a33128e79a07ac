"""A trickle of traffic: a few clients that keep their connection and ask again and again."""

import asyncio
import random
from dataclasses import dataclass

_CLIENTS = 8
_PAUSE_S = (0.05, 0.35)
_RETRY_AFTER_S = 0.5
_ANSWER_TIMEOUT_S = 10.0


@dataclass(slots=True)
class Tally:
    """What the clients saw: answers with status 200, and everything else."""

    good: int = 0
    failed: int = 0


async def trickle(port: int, tally: Tally) -> None:
    """Ask 127.0.0.1:`port` from several clients until cancelled."""
    clients = [asyncio.create_task(_client(port, tally)) for _ in range(_CLIENTS)]
    try:
        await asyncio.gather(*clients)
    finally:
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


async def _client(port: int, tally: Tally) -> None:
    while True:
        try:
            await _visit(port, tally)
        except (OSError, asyncio.IncompleteReadError):
            tally.failed += 1
            await asyncio.sleep(_RETRY_AFTER_S)


async def _visit(port: int, tally: Tally) -> None:
    """Ask over one connection until it ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while True:
            writer.write(b"GET / HTTP/1.1\r\nHost: demo\r\n\r\n")
            head = await _answer(reader, writer)
            if head.startswith(b"HTTP/1.1 200 "):
                tally.good += 1
            else:
                tally.failed += 1
            await asyncio.sleep(random.uniform(*_PAUSE_S))
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The head of the next answer, whose body has been read as well.

    Raises: IncompleteReadError if the connection ends before, or has been ended for taking too long.
    """
    # Not asyncio.wait_for: up to Python 3.11 it loses a cancellation that comes in the same turn of
    # the loop as the answer (python/cpython#86296), and the demo would never end.
    late = asyncio.get_running_loop().call_later(_ANSWER_TIMEOUT_S, writer.transport.abort)
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(_content_length(head))
    finally:
        late.cancel()
    return head


def _content_length(head: bytes) -> int:
    """The length that the demo backends and fastlb's own answers always send."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
