"""A probe that only connects."""

import asyncio

from fastlb.model.address import Address
from fastlb.model.proxied import ProxyProtocol
from fastlb.probe.connection import probe
from fastlb.probe.result import ProbeResult


async def probe_tcp(
    address: Address, *, timeout_s: float, proxy_protocol: ProxyProtocol = ProxyProtocol.OFF
) -> ProbeResult:
    """Pass if a TCP or UNIX connection is there within `timeout_s`."""
    return await probe(address, _connected, timeout_s, proxy_protocol)


async def _connected(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> tuple[bool, str]:
    return True, "connected"
