"""A probe that only connects, or speaks a word or two that the user knows."""

import asyncio

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
) -> ProbeResult:
    """Pass if a TCP or UNIX connection is there within `timeout_s`; with `expect`, if the backend says
    that, after it was sent `send`.

    Where nothing is to be said the backend's application never sees the connection, if it can be helped.
    """
    speaks = bool(send or expect) or proxy_protocol is not ProxyProtocol.OFF
    if not speaks and not address.is_unix and CAN_KNOCK:
        return await judged(_knock(address), timeout_s)

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer:
        if send:
            await see_off(writer, send)
        return await _hear(reader, expect) if expect else _CONNECTED

    return await probe(address, ask, timeout_s, proxy_protocol)


async def _knock(address: Address) -> Answer:
    await knock(address)
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
