"""The part that every probe shares: connect, ask within the time, and never leave a socket open."""

import asyncio
from collections.abc import Awaitable, Callable

from fastlb.model.address import Address
from fastlb.probe.result import ProbeResult, failed_connection

Ask = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[tuple[bool, str]]]


async def probe(address: Address, ask: Ask, timeout_s: float) -> ProbeResult:
    """Connect to a numeric or UNIX address and let `ask` say pass or fail and why.

    `timeout_s` covers everything from the connect on. Never raises for what a backend does.
    """
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    try:
        passed, reason = await asyncio.wait_for(_connect_and_ask(address, ask), timeout_s)
    except asyncio.TimeoutError:
        return ProbeResult(passed=False, reason=f"no answer in {timeout_s:g}s", took_s=timeout_s)
    except OSError as error:
        return failed_connection(error, loop.time() - started_s)
    return ProbeResult(passed=passed, reason=reason, took_s=loop.time() - started_s)


async def _connect_and_ask(address: Address, ask: Ask) -> tuple[bool, str]:
    if address.is_unix:
        reader, writer = await asyncio.open_unix_connection(address.path)
    else:
        reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        return await ask(reader, writer)
    finally:
        # Nothing more is of interest, and waiting for a clean end would be out of the time-out.
        writer.transport.abort()
