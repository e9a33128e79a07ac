"""The PROXY protocol of HAProxy (doc/proxy-protocol.txt), versions 1 and 2: its headers, read and written.

- A header may come in any pieces. It is refused with the first byte that fits neither version, and
  its addresses are looked at when it is complete.
- Version 1 is a line of at most 107 bytes; version 2 is 16 bytes and a block whose length they say,
  of which the TLVs behind the addresses are skipped.
- UNKNOWN, LOCAL, and families that are valid but not TCP mean: the ends of the connection itself.
"""

import re
import socket

from fastlb.model.address import Address
from fastlb.model.proxied import PROXY_BLOCK_MAX_BYTES, Ends

_V1_START = b"PROXY "
_V1_MAX_BYTES = 107
_V1_LINE_END = re.compile(rb"[\r\n]")
_V1_FAMILIES = {b"TCP4": socket.AF_INET, b"TCP6": socket.AF_INET6}
_V1_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")
_V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_START_BYTES = 16
_V2_LOCAL = 0x20
_V2_PROXY = 0x21
# The byte for TCP of a family, and how long an address of it is.
_V2_TCP = {0x11: (socket.AF_INET, 4), 0x21: (socket.AF_INET6, 16)}
_V2_FAMILY_MAX = 3  # AF_UNIX
_V2_TRANSPORT_MAX = 2  # DGRAM

Header = tuple[int, Ends | None]


class BadHeaderError(ValueError):
    """The bytes are not the beginning of a PROXY header."""


def read_header(raw: bytes) -> Header | None:
    """Read a header at the start of `raw`.

    Returns: its length and the ends it announces, or None for the latter; None if it is not complete.
    Raises:  BadHeaderError.
    """
    if not raw:
        return None
    return _read_v1(raw) if raw.startswith(b"P") else _read_v2(raw)


def write_header(version: int, ends: Ends | None) -> bytes:
    """The header of version 1 or 2; `ends` are None if they cannot be told."""
    return _write_v1(ends) if version == 1 else _write_v2(ends)


# --- version 1 ------------------------------------------------------------------------------


def _read_v1(raw: bytes) -> Header | None:
    if not _starts_alike(raw, _V1_START):
        raise BadHeaderError(raw[:_V1_MAX_BYTES])
    end = _V1_LINE_END.search(raw, len(_V1_START), _V1_MAX_BYTES - 1)
    if end is None:
        if len(raw) < _V1_MAX_BYTES - 1:
            return None
    elif raw[end.start()] == ord("\r"):
        after = raw[end.end() : end.end() + 1]
        if not after:
            return None
        if after == b"\n":
            return end.end() + 1, _read_v1_words(raw[len(_V1_START) : end.start()])
    raise BadHeaderError(raw[:_V1_MAX_BYTES])


def _read_v1_words(line: bytes) -> Ends | None:
    """What stands between `PROXY ` and CRLF. Behind UNKNOWN anything may stand."""
    kind, *words = line.split(b" ")
    if kind == b"UNKNOWN":
        return None
    family = _V1_FAMILIES.get(kind)
    if family is None or len(words) != 4:
        raise BadHeaderError(line)
    source, target, source_port, target_port = words
    return Ends(
        Address(host=_host(family, source), port=_port(source_port)),
        Address(host=_host(family, target), port=_port(target_port)),
    )


def _host(family: int, word: bytes) -> str:
    """The address in its canonical form; inet_pton(3) is what the native engine asks too."""
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, word.decode("ascii")))
    except (OSError, ValueError):
        raise BadHeaderError(word) from None


def _port(word: bytes) -> int:
    if _V1_PORT.fullmatch(word) is None or int(word) > 65535:
        raise BadHeaderError(word)
    return int(word)


def _write_v1(ends: Ends | None) -> bytes:
    if ends is None:
        return b"PROXY UNKNOWN\r\n"
    source, target = ends
    family = "TCP6" if ":" in source.host else "TCP4"
    return f"PROXY {family} {source.host} {target.host} {source.port} {target.port}\r\n".encode()


# --- version 2 ------------------------------------------------------------------------------


def _read_v2(raw: bytes) -> Header | None:
    if not _starts_alike(raw, _V2_SIGNATURE):
        raise BadHeaderError(raw[:_V2_START_BYTES])
    if len(raw) > len(_V2_SIGNATURE) and raw[12] not in (_V2_LOCAL, _V2_PROXY):
        raise BadHeaderError(raw[:_V2_START_BYTES])
    if len(raw) < _V2_START_BYTES:
        return None
    is_local, kind = raw[12] == _V2_LOCAL, raw[13]
    block_bytes = int.from_bytes(raw[14:16], "big")
    if block_bytes > PROXY_BLOCK_MAX_BYTES or not (is_local or _family_fits(kind, block_bytes)):
        raise BadHeaderError(raw[:_V2_START_BYTES])
    end = _V2_START_BYTES + block_bytes
    if len(raw) < end:
        return None
    return end, None if is_local else _read_block(kind, raw[_V2_START_BYTES:end])


def _family_fits(kind: int, block_bytes: int) -> bool:
    if kind in _V2_TCP:
        return block_bytes >= 2 * _V2_TCP[kind][1] + 4
    return kind >> 4 <= _V2_FAMILY_MAX and kind & 15 <= _V2_TRANSPORT_MAX


def _read_block(kind: int, block: bytes) -> Ends | None:
    if kind not in _V2_TCP:
        return None
    family, size = _V2_TCP[kind]
    ports = block[2 * size :]
    return Ends(
        Address(host=socket.inet_ntop(family, block[:size]), port=int.from_bytes(ports[:2], "big")),
        Address(
            host=socket.inet_ntop(family, block[size : 2 * size]), port=int.from_bytes(ports[2:4], "big")
        ),
    )


def _write_v2(ends: Ends | None) -> bytes:
    if ends is None:
        return _V2_SIGNATURE + bytes((_V2_PROXY, 0, 0, 0))
    source, target = ends
    kind = 0x21 if ":" in source.host else 0x11
    family, _ = _V2_TCP[kind]
    block = b"".join(
        (
            socket.inet_pton(family, source.host),
            socket.inet_pton(family, target.host),
            source.port.to_bytes(2, "big"),
            target.port.to_bytes(2, "big"),
        )
    )
    return _V2_SIGNATURE + bytes((_V2_PROXY, kind)) + len(block).to_bytes(2, "big") + block


def _starts_alike(raw: bytes, start: bytes) -> bool:
    """True if what there is of `raw` is the beginning of `start` or begins with it."""
    return raw.startswith(start) or start.startswith(raw)
