"""PROXY headers that are right, with what they announce, and headers that must be refused.

Sources: HAProxy's proxy-protocol.txt, 2.1 (version 1) and 2.2 (version 2). One table for the readers of
both engines and for the listeners.
"""

import socket

from fastlb.model.address import Address
from fastlb.model.proxied import PROXY_BLOCK_MAX_BYTES, Ends

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
UNSPEC, TCP4, UDP4, TCP6, UDP6, UNIX = 0x00, 0x11, 0x12, 0x21, 0x22, 0x31


def v2(block: bytes = b"", *, command: int = PROXY, kind: int = TCP4, length: int | None = None) -> bytes:
    """A version 2 header around a block."""
    length = len(block) if length is None else length
    return SIGNATURE + bytes((command, kind)) + length.to_bytes(2, "big") + block


def block(family: int, source: str, target: str, source_port: int, target_port: int) -> bytes:
    """The addresses of a version 2 header."""
    addresses = b"".join(socket.inet_pton(family, host) for host in (source, target))
    return addresses + source_port.to_bytes(2, "big") + target_port.to_bytes(2, "big")


def ends(source: str, target: str, source_port: int, target_port: int) -> Ends:
    """What a header announces."""
    return Ends(Address(source, source_port), Address(target, target_port))


V4 = ends("192.0.2.7", "198.51.100.9", 56324, 443)
V4_BLOCK = block(socket.AF_INET, "192.0.2.7", "198.51.100.9", 56324, 443)
V6 = ends("2001:db8::7", "2001:db8::9", 1, 65535)
V6_BLOCK = block(socket.AF_INET6, "2001:db8::7", "2001:db8::9", 1, 65535)
LONG_V6 = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
V1_V4 = b"PROXY TCP4 192.0.2.7 198.51.100.9 56324 443\r\n"

GOOD: dict[str, tuple[bytes, Ends | None]] = {
    "v1 TCP4": (V1_V4, V4),
    "v1 TCP6": (b"PROXY TCP6 2001:db8::7 2001:db8::9 1 65535\r\n", V6),
    "v1 TCP6 in capitals": (b"PROXY TCP6 2001:DB8:0:0:0:0:0:7 2001:db8::9 1 65535\r\n", V6),
    "v1 longest TCP6": (
        f"PROXY TCP6 {LONG_V6} {LONG_V6} 65535 65535\r\n".encode(),
        ends(LONG_V6, LONG_V6, 65535, 65535),
    ),
    "v1 port 0": (b"PROXY TCP4 1.2.3.4 5.6.7.8 0 0\r\n", ends("1.2.3.4", "5.6.7.8", 0, 0)),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", None),
    "v1 UNKNOWN with something": (b"PROXY UNKNOWN whatever \x00 this is\r\n", None),
    "v1 UNKNOWN of 107 bytes": (b"PROXY UNKNOWN ".ljust(105, b"f") + b"\r\n", None),
    "v2 TCP4": (v2(V4_BLOCK), V4),
    "v2 TCP6": (v2(V6_BLOCK, kind=TCP6), V6),
    "v2 TCP4 with TLVs": (v2(V4_BLOCK + b"\x04\x00\x03abc"), V4),
    "v2 TCP6 with TLVs": (v2(V6_BLOCK + b"\x05\x00\x01a", kind=TCP6), V6),
    "v2 block of the limit": (v2(V4_BLOCK.ljust(PROXY_BLOCK_MAX_BYTES, b"\x00")), V4),
    "v2 LOCAL": (v2(command=LOCAL, kind=UNSPEC), None),
    "v2 LOCAL with addresses": (v2(V4_BLOCK, command=LOCAL), None),
    "v2 LOCAL of any family": (v2(b"abc", command=LOCAL, kind=0xFF), None),
    "v2 UNSPEC": (v2(kind=UNSPEC), None),
    "v2 UNSPEC with TLVs": (v2(b"\x04\x00\x03abc", kind=UNSPEC), None),
    "v2 UDP over IPv4": (v2(V4_BLOCK, kind=UDP4), None),
    "v2 UDP over IPv6": (v2(V6_BLOCK, kind=UDP6), None),
    "v2 UNIX": (v2(bytes(216), kind=UNIX), None),
}

BAD: dict[str, bytes] = {
    "no header": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST": b"POST / HTTP/1.1\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "lower case": b"proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    "space before": b" PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    "PROXY alone": b"PROXY\r\n",
    "v1 no family": b"PROXY \r\n",
    "v1 two spaces": b"PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    "v1 two spaces later": b"PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n",
    "v1 tab": b"PROXY TCP4\t1.2.3.4 5.6.7.8 1 2\r\n",
    "v1 space at the end": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
    "v1 one word more": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
    "v1 one word less": b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
    "v1 UDP4": b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
    "v1 TCP5": b"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
    "v1 tcp4": b"PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n",
    "v1 TCP": b"PROXY TCP 1.2.3.4 5.6.7.8 1 2\r\n",
    "v1 UNKNOWN glued": b"PROXY UNKNOWNX\r\n",
    "v1 bare LF": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
    "v1 bare LF in UNKNOWN": b"PROXY UNKNOWN\n\r\n",
    "v1 bare CR": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rX\r\n",
    "v1 CR CR LF": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\r\n",
    "v1 108 bytes": b"PROXY UNKNOWN ".ljust(106, b"f") + b"\r\n",
    "v1 no end": b"PROXY UNKNOWN ".ljust(4000, b"f"),
    "v1 IPv6 in TCP4": b"PROXY TCP4 ::1 ::2 1 2\r\n",
    "v1 IPv4 in TCP6": b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
    "v1 mixed families": b"PROXY TCP4 1.2.3.4 ::2 1 2\r\n",
    "v1 leading zero": b"PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
    "v1 octet of 256": b"PROXY TCP4 256.2.3.4 5.6.7.8 1 2\r\n",
    "v1 three octets": b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
    "v1 hexadecimal": b"PROXY TCP4 0x1.2.3.4 5.6.7.8 1 2\r\n",
    "v1 NUL in an address": b"PROXY TCP4 1.2.3.4\x00 5.6.7.8 1 2\r\n",
    "v1 high byte in an address": b"PROXY TCP4 1.2.3.4 5.6.7.\xb2 1 2\r\n",
    "v1 brackets": b"PROXY TCP6 [::1] ::2 1 2\r\n",
    "v1 interface": b"PROXY TCP6 fe80::1%lo ::2 1 2\r\n",
    "v1 name": b"PROXY TCP4 localhost 5.6.7.8 1 2\r\n",
    "v1 port 65536": b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n",
    "v1 port of six digits": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 100000\r\n",
    "v1 port with a zero": b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
    "v1 port with a sign": b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
    "v1 no port": b"PROXY TCP4 1.2.3.4 5.6.7.8  2\r\n",
    "v1 long address": b"PROXY TCP6 " + b"0" * 50 + b"::1 ::2 1 2\r\n",
    "v2 another signature": b"\r\n\r\n\x00\r\nQUIT\r" + bytes(4),
    "v2 version 1": v2(V4_BLOCK, command=0x11),
    "v2 version 3": v2(V4_BLOCK, command=0x31),
    "v2 unknown command": v2(V4_BLOCK, command=0x22),
    "v2 unknown family": v2(V4_BLOCK, kind=0x41),
    "v2 unknown transport": v2(V4_BLOCK, kind=0x13),
    "v2 block too short for TCP4": v2(V4_BLOCK[:-1]),
    "v2 no block for TCP4": v2(),
    "v2 block too short for TCP6": v2(V6_BLOCK[:-1], kind=TCP6),
    "v2 block above the limit": v2(V4_BLOCK, length=PROXY_BLOCK_MAX_BYTES + 1),
    "v2 LOCAL above the limit": v2(command=LOCAL, kind=UNSPEC, length=65535),
}
