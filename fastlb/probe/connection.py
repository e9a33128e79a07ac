"""The part that every probe shares: connect, ask within the time, and never leave a socket open."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence

from fastlb.model.address import Address
from fastlb.model.proxied import ProxyProtocol
from fastlb.probe.connect import reach
from fastlb.probe.preface import preface
from fastlb.probe.result import ProbeResult, failed_connection

Answer = tuple[bool, str]  # passed, and why
Ask = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Answer]]
# A time-out that was noticed later than this, or than a quarter of its time, came while this process stood
# still or was overloaded: an answer may have been there in time.
_LATE_S = 0.1


async def probe(
    addresses: Sequence[Address],
    ask: Ask,
    timeout_s: float,
    proxy_protocol: ProxyProtocol = ProxyProtocol.OFF,
) -> ProbeResult:
    """Connect to a backend at the first of its numeric or UNIX addresses that takes it, and let `ask` say
    pass or fail and why.

    `timeout_s` covers everything from the connect on. Never raises for what a backend does.
    `proxy_protocol`: begin with such a header, that of a connection of our own.
    """
    reached: list[Address] = []
    work = _connect_and_ask(addresses, ask, proxy_protocol, timeout_s, reached)
    return await judged(work, timeout_s, reached)


async def judged(
    work: Coroutine[None, None, Answer], timeout_s: float, reached: Sequence[Address]
) -> ProbeResult:
    """The result of `work`, which connects and asks. Never raises for what a backend does. `reached`: the
    address that took the connection is in it then."""
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    try:
        passed, reason = await _within(timeout_s, work)
        took_s = loop.time() - started_s
    except asyncio.TimeoutError:
        late_s = loop.time() - started_s - timeout_s
        late = late_s > max(_LATE_S, timeout_s / 4)
        reason = f"this process was {late_s:.1f}s late" if late else f"no answer in {timeout_s:g}s"
        return ProbeResult(
            passed=False, reason=reason, took_s=timeout_s, local=late, address=next(iter(reached), None)
        )
    except OSError as error:
        return failed_connection(error, loop.time() - started_s)
    return ProbeResult(passed=passed, reason=reason, took_s=took_s, address=next(iter(reached), None))


async def _within(timeout_s: float, work: Coroutine[None, None, Answer]) -> Answer:
    """The answer of `work`, which has ended when this returns. Raises: asyncio.TimeoutError.

    Not asyncio.wait_for: up to Python 3.11 it loses a cancellation that comes in the same turn of
    the loop as the result (python/cpython#86296), and the task that probes would never end.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
    finally:
        # Also if it has ended: whoever cancels us in the turn in which it failed takes the place of its
        # error, and asyncio would complain that nobody looked at that. cancel() tells it not to.
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
    if not done:
        raise asyncio.TimeoutError
    return task.result()


async def _connect_and_ask(
    addresses: Sequence[Address],
    ask: Ask,
    proxy_protocol: ProxyProtocol,
    timeout_s: float,
    reached: list[Address],
) -> Answer:
    """`reached` is told the address that took the connection."""
    sock, address = await reach(addresses, timeout_s)
    reached.append(address)
    if address.is_unix:
        reader, writer = await asyncio.open_unix_connection(sock=sock)
    else:
        reader, writer = await asyncio.open_connection(sock=sock)
    try:
        await _begin(writer, proxy_protocol)
        return await ask(reader, writer)
    finally:
        # Nothing more is of interest, and waiting for a clean end would be out of the time-out.
        writer.transport.abort()


async def _begin(writer: asyncio.StreamWriter, proxy_protocol: ProxyProtocol) -> None:
    """Send the header, if there is one."""
    if proxy_protocol is not ProxyProtocol.OFF:
        own, other = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
        await see_off(writer, preface(proxy_protocol, own, other))


async def see_off(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send `data` and wait until the kernel has it: a probe that has nothing to wait for aborts right
    behind it, which may drop what the transport has buffered."""
    writer.write(data)
    while writer.transport.get_write_buffer_size():  # noqa: ASYNC110 - a turn of the loop is the event
        await asyncio.sleep(0)
