"""The part that every probe shares: connect, ask within the time, and never leave a socket open."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

from fastlb.model.address import Address
from fastlb.probe.result import ProbeResult, failed_connection

Answer = tuple[bool, str]  # passed, and why
Ask = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Answer]]


async def probe(address: Address, ask: Ask, timeout_s: float) -> ProbeResult:
    """Connect to a numeric or UNIX address and let `ask` say pass or fail and why.

    `timeout_s` covers everything from the connect on. Never raises for what a backend does.
    """
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    try:
        passed, reason = await _within(timeout_s, _connect_and_ask(address, ask))
    except asyncio.TimeoutError:
        return ProbeResult(passed=False, reason=f"no answer in {timeout_s:g}s", took_s=timeout_s)
    except OSError as error:
        return failed_connection(error, loop.time() - started_s)
    return ProbeResult(passed=passed, reason=reason, took_s=loop.time() - started_s)


async def _within(timeout_s: float, work: Coroutine[None, None, Answer]) -> Answer:
    """The answer of `work`, which has ended when this returns. Raises: asyncio.TimeoutError.

    Not asyncio.wait_for: up to Python 3.11 it loses a cancellation that comes in the same turn of
    the loop as the result (python/cpython#86296), and the task that probes would never end.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # looked at, or asyncio would complain that nobody did
    if not done:
        raise asyncio.TimeoutError
    return task.result()


async def _connect_and_ask(address: Address, ask: Ask) -> Answer:
    if address.is_unix:
        reader, writer = await asyncio.open_unix_connection(address.path)
    else:
        reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        return await ask(reader, writer)
    finally:
        # Nothing more is of interest, and waiting for a clean end would be out of the time-out.
        writer.transport.abort()
