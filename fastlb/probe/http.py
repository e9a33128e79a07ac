"""A probe that asks with GET and looks at the status."""

import asyncio
from collections.abc import Collection

from fastlb import __version__
from fastlb.model.address import Address
from fastlb.model.config import StatusRange
from fastlb.model.proxied import ProxyProtocol
from fastlb.probe.connection import probe
from fastlb.probe.result import ProbeResult
from fastlb.probe.status_reader import HEAD_MAX_BYTES, NotHTTPError, new_status_reader

_READ_BYTES = 16_384


async def probe_http(
    address: Address,
    *,
    host: str,
    path: str,
    expect: Collection[StatusRange],
    timeout_s: float,
    proxy_protocol: ProxyProtocol = ProxyProtocol.OFF,
) -> ProbeResult:
    """Pass if GET `path` is answered with a status in `expect` within `timeout_s`.

    `host` is the Host field. Reads no further than the response head.
    """
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: fastlb-probe/{__version__}\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n"
    ).encode()

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[bool, str]:
        writer.write(request)
        return await _judge(reader, expect)

    return await probe(address, ask, timeout_s, proxy_protocol)


async def _judge(reader: asyncio.StreamReader, expect: Collection[StatusRange]) -> tuple[bool, str]:
    status_reader = new_status_reader()
    received_bytes = 0
    while received_bytes <= HEAD_MAX_BYTES:
        data = await reader.read(_READ_BYTES)
        if not data:
            return False, "closed without an answer" if not received_bytes else "answer cut short"
        received_bytes += len(data)
        try:
            status = status_reader.feed(data)
        except NotHTTPError:
            return False, "not HTTP"
        if status is not None:
            return any(status in allowed for allowed in expect), f"status {status}"
    return False, f"response head above {HEAD_MAX_BYTES} bytes"
