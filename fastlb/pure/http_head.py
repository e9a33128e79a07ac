"""Heads as they are sent: always written anew from what was parsed (RFC 9110 7.6), or our own.

Fields keep their order, case and repetitions. What belongs to one connection only is removed, and
then what fastlb knows is added, so that no peer can name our own fields in its Connection.
"""

from fastlb.pure.field_names import (
    FORWARDED,
    FORWARDED_FOR,
    FORWARDED_PROTO,
    HOP_BY_HOP,
    KEPT_OF_RESPONSES,
    TRAILER,
    FieldNames,
)
from fastlb.pure.http1 import ParsedRequest, ParsedResponse, passes_trailers, takes_trailers
from fastlb.pure.http_date import date_field
from fastlb.pure.max_forwards import forwards_left
from fastlb.pure.peer import Peer

_SECURE = frozenset({b"https", b"wss"})

# RFC 9110 15 and RFC 6585 5; http.HTTPStatus has other phrases in other versions of Python.
_REASONS = {
    400: b"Bad Request",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    421: b"Misdirected Request",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}


def scheme_fits(request: ParsedRequest, peer: Peer) -> bool:
    """False for a target whose scheme the client's connection does not have (RFC 9110 7.4). Of TLS only
    trusted proxies can tell: the client's hop is the first of several."""
    if not request.scheme:
        return True
    said = b""
    if peer.trusted:
        said = next((value for lower, _, value in request.headers if lower == FORWARDED_PROTO), b"")
    secure = said.partition(b",")[0].strip(b" \t").lower() in _SECURE
    return secure is (request.scheme in _SECURE)


def request_head(
    request: ParsedRequest, peer: Peer, names: FieldNames, via: bytes, default_host: bytes
) -> bytes:
    """The head for the backend. `default_host` is for a 1.0 client that sent none."""
    lines = [b"%b %b HTTP/1.1\r\n" % (request.method, _origin_form(request))]
    host = request.host
    if host is None or (request.version == 10 and not _has_host(request)):
        lines.append(b"Host: %b\r\n" % (default_host if host is None else host))
    dropped = names.dropped(peer.trusted, request.named)
    if passes_trailers(request):
        dropped = dropped - TRAILER
    left = forwards_left(request)
    for lower, name, value in request.headers:
        if lower in dropped or (b"_" in lower and names.folds(lower)):
            continue
        if lower == b"host" and host is not None:
            value = host
        elif lower == b"max-forwards" and left is not None:
            value = b"%d" % (left - 1)
        lines.append(b"%b: %b\r\n" % (name, value))
    if request.framing == "chunked":
        lines.append(b"Transfer-Encoding: chunked\r\n")
    lines += _forwarded_lines(request, peer)
    if via:
        lines.append(b"Via: %b %b\r\n" % (b"1.1" if request.version == 11 else b"1.0", via))
    options = [b"Upgrade"] if request.upgrade else []
    if takes_trailers(request):
        lines.append(b"TE: trailers\r\n")
        options.insert(0, b"TE")  # RFC 9110 10.1.4
    if options:
        lines.append(b"Connection: %b\r\n" % b", ".join(options))
    if request.upgrade:
        lines.append(b"Upgrade: %b\r\n" % b", ".join(request.protocols))
    lines.append(b"\r\n")
    return b"".join(lines)


def _forwarded_lines(request: ParsedRequest, peer: Peer) -> list[bytes]:
    """What fastlb says about the client, and what a trusted one has not said itself; but the port that
    the client of a proxy has connected to is known to that proxy alone."""
    hops: list[bytes] = []
    said: set[bytes] = set()
    if peer.trusted:
        said = {lower for lower, _, _ in request.headers} & FORWARDED
        hops = [value for lower, _, value in request.headers if lower == FORWARDED_FOR and value]
    if peer.ip:  # none for a UNIX socket
        hops.append(peer.ip.encode())
    lines = []
    if hops:
        lines.append(b"X-Forwarded-For: %b\r\n" % b", ".join(hops))
    if FORWARDED_PROTO not in said:
        lines.append(b"X-Forwarded-Proto: http\r\n")
    if request.host and b"x-forwarded-host" not in said:
        lines.append(b"X-Forwarded-Host: %b\r\n" % request.host)
    if peer.own_port and not said:
        lines.append(b"X-Forwarded-Port: %d\r\n" % peer.own_port)
    return lines


def response_head(response: ParsedResponse, *, chunked: bool = False, connection: bytes = b"") -> bytes:
    """The head for the client. `connection` is what its Connection field says, if it says something.

    A final one may carry Upgrade, as 426 must (RFC 9110 7.8, 15.5.22).
    """
    status = response.status
    upgrade = _upgrade_lines(response) if status == 101 or status >= 200 else []
    named = b"Upgrade" if upgrade or status == 101 else b""
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, response.reason)]
    dropped = HOP_BY_HOP
    if response.named:
        dropped = dropped | (response.named - KEPT_OF_RESPONSES)
    if chunked and passes_trailers(response):
        dropped = dropped - TRAILER
    if status < 200 or status == 204:
        dropped = dropped | {b"content-length"}  # RFC 9110 8.6
    for lower, name, value in response.headers:
        if lower not in dropped:
            lines.append(b"%b: %b\r\n" % (name, value))
    if status >= 200 and not any(lower == b"date" for lower, _, _ in response.headers):
        lines.append(date_field())
    if chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    if connection or named:
        lines.append(b"Connection: %b\r\n" % b", ".join(filter(None, (connection, named))))
    lines += upgrade
    lines.append(b"\r\n")
    return b"".join(lines)


def answer(status: int, *, connection: bytes = b"", retry_after_s: int = 0, bodyless: bool = False) -> bytes:
    """A whole response of our own, when no backend answers.

    `bodyless`: the answer to HEAD, which says how long the body would be.
    """
    reason = _REASONS[status]
    body = b"%d %b\n" % (status, reason)
    lines = [
        b"HTTP/1.1 %d %b\r\n" % (status, reason),
        date_field(),
        b"Content-Type: text/plain\r\n",
        b"Content-Length: %d\r\n" % len(body),
    ]
    if retry_after_s:
        lines.append(b"Retry-After: %d\r\n" % retry_after_s)
    if connection:
        lines.append(b"Connection: %b\r\n" % connection)
    lines.append(b"\r\n")
    if not bodyless:
        lines.append(body)
    return b"".join(lines)


def _origin_form(request: ParsedRequest) -> bytes:
    """RFC 9112 3.2.1; an absolute-form target may lack its path."""
    target = request.target
    if target.startswith(b"/") or target == b"*":
        return target
    if not target and request.method == b"OPTIONS":
        return b"*"  # RFC 9112 3.2.4
    return b"/" + target


def _has_host(request: ParsedRequest) -> bool:
    return any(lower == b"host" for lower, _, _ in request.headers)


def _upgrade_lines(response: ParsedResponse) -> list[bytes]:
    return [b"Upgrade: %b\r\n" % value for lower, _, value in response.headers if lower == b"upgrade"]
