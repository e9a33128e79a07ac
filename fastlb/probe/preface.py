"""The PROXY header of a health check, whose connection is nobody's but ours (proxy-protocol.txt 2.1, 2.2).

Version 2 has the command LOCAL for it. Version 1 has no such word, and backends may refuse UNKNOWN, so
it names the two ends of the check's own connection.
"""

from fastlb.model.proxied import ProxyProtocol

_V2_LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
_V1_UNKNOWN = b"PROXY UNKNOWN\r\n"


def preface(proxy_protocol: ProxyProtocol, own: object, other: object) -> bytes:
    """The header. `own` and `other` are the ends as getsockname() and getpeername() tell them."""
    if proxy_protocol is ProxyProtocol.V2:
        return _V2_LOCAL
    if not (isinstance(own, tuple) and isinstance(other, tuple)):
        return _V1_UNKNOWN  # a UNIX socket
    source, target = (end[0].partition("%")[0] for end in (own, other))
    family = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {family} {source} {target} {own[1]} {other[1]}\r\n".encode()
