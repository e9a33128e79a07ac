"""A probe that only connects, or speaks a word or two that the user knows."""

import asyncio
from collections.abc import Sequence

from fastlb.model.address import Address
from fastlb.model.proxied import ProxyProtocol
from fastlb.probe.connection import Answer, judged, probe, see_off
from fastlb.probe.knock import CAN_KNOCK, knock
from fastlb.probe.result import ProbeResult

# Of what a backend says, so much is looked at.
ANSWER_MAX_BYTES = 16_384
_CONNECTED = (True, "connected")


async def probe_tcp(
    address: Address,
    *,
    timeout_s: float,
    proxy_protocol: ProxyProtocol = ProxyProtocol.OFF,
    send: bytes = b"",
    expect: bytes = b"",
    others: Sequence[Address] = (),
) -> ProbeResult:
    """Pass if a TCP or UNIX connection is there within `timeout_s`; with `expect`, if the backend says
    that, after it was sent `send`.

    `others`: where to connect if `address` refuses, in order.
    Where nothing is to be said the backend's application never sees the connection, if it can be helped.
    """
    speaks = bool(send or expect) or proxy_protocol is not ProxyProtocol.OFF
    if not speaks and not address.is_unix and CAN_KNOCK:
        reached: list[Address] = []
        return await judged(_knock((address, *others), timeout_s, reached), timeout_s, reached)

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer:
        if send:
            await see_off(writer, send)
        return await _hear(reader, expect) if expect else _CONNECTED

    return await probe((address, *others), ask, timeout_s, proxy_protocol)


async def _knock(addresses: Sequence[Address], timeout_s: float, reached: list[Address]) -> Answer:
    reached.append(await knock(addresses, timeout_s))
    return _CONNECTED


async def _hear(reader: asyncio.StreamReader, expected: bytes) -> Answer:
    heard = b""
    while len(heard) < ANSWER_MAX_BYTES:
        data = await reader.read(ANSWER_MAX_BYTES - len(heard))
        if not data:
            return False, "closed without the expected answer" if heard else "closed without an answer"
        heard += data
        if expected in heard:
            return True, "expected answer"
    return False, f"expected answer not in the first {ANSWER_MAX_BYTES} bytes"
