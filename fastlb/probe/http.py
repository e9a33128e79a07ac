"""A probe that asks with GET and looks at the status."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace

from fastlb import __version__
from fastlb.model.address import Address
from fastlb.model.config import StatusRange
from fastlb.model.limits import LimitConfig
from fastlb.model.proxied import ProxyProtocol
from fastlb.probe.answer import AnswerReader, RefusedError
from fastlb.probe.connection import Answer, probe
from fastlb.probe.result import ProbeResult

# A body is read to its end up to so many bytes: whoever is cut off while it sends logs a traceback.
BODY_MAX_BYTES = 65_536
_READ_BYTES = 16_384
_DEFAULT_LIMITS = LimitConfig()


async def probe_http(
    address: Address,
    *,
    host: str,
    path: str,
    expect: Collection[StatusRange],
    timeout_s: float,
    proxy_protocol: ProxyProtocol = ProxyProtocol.OFF,
    limits: LimitConfig = _DEFAULT_LIMITS,
    others: Sequence[Address] = (),
) -> ProbeResult:
    """Pass if GET `path` is answered with a status in `expect` within `timeout_s`, in a way that traffic
    would accept.

    `others`: where to connect if `address` refuses, in order.
    `host` is the Host field. Of the body BODY_MAX_BYTES are read, in what is left of the time.
    """
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: fastlb-probe/{__version__}\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n"
    ).encode()
    verdicts: list[Answer] = []

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer:
        writer.write(request)
        answer = AnswerReader(limits)
        verdicts.append(await _judge_head(reader, answer, expect))
        if answer.status is not None and (fault := await _read_body(reader, answer)):
            verdicts.append((False, fault))
        return verdicts[-1]

    result = await probe((address, *others), ask, timeout_s, proxy_protocol)
    if not verdicts:
        return result
    # The head decides. A body that stalls or breaks off is the client's affair, as in traffic.
    passed, reason = verdicts[-1]
    return replace(result, passed=passed, reason=reason, local=False)


async def _judge_head(
    reader: asyncio.StreamReader, answer: AnswerReader, expect: Collection[StatusRange]
) -> Answer:
    heard = False
    while answer.status is None:
        data = await reader.read(_READ_BYTES)
        if not data:
            return False, "answer cut short" if heard else "closed without an answer"
        heard = True
        try:
            answer.feed(data)
        except RefusedError as refused:
            return False, f"invalid answer: {refused}"
    return any(answer.status in allowed for allowed in expect), f"status {answer.status}"


async def _read_body(reader: asyncio.StreamReader, answer: AnswerReader) -> str:
    """Read to the end, or as far as that goes. What is wrong with it, or nothing."""
    left_bytes = BODY_MAX_BYTES
    while not answer.done and left_bytes > 0:
        data = await reader.read(_READ_BYTES)
        if not data:
            break
        left_bytes -= len(data)
        try:
            answer.feed(data)
        except RefusedError as refused:
            return f"invalid answer: {refused}"
    return ""
