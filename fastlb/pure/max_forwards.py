"""Max-Forwards of TRACE and OPTIONS (RFC 9110 7.6.2): counted down, and answered here at zero.

A value that is no number, or a second one, is nobody's to judge: it is passed on as it is.
"""

from fastlb.pure.http1 import ParsedRequest
from fastlb.pure.http_date import date_field
from fastlb.pure.syntax import DIGITS

_METHODS = frozenset({b"OPTIONS", b"TRACE"})
# What is passed on at most.
_MOST = 999_999_999
_MOST_DIGITS = 9
# What is a secret of the client (RFC 9110 9.3.8).
_SECRET = frozenset({b"authorization", b"proxy-authorization", b"cookie"})


def forwards_left(request: ParsedRequest) -> int | None:
    """How often the request may still be passed on; None if nothing is said about that."""
    if request.method not in _METHODS:
        return None
    values = [value for lower, _, value in request.headers if lower == b"max-forwards"]
    if len(values) != 1 or DIGITS.fullmatch(values[0]) is None:
        return None
    digits = values[0].lstrip(b"0")
    return int(digits or b"0") if len(digits) <= _MOST_DIGITS else _MOST + 1


def final_answer(request: ParsedRequest, *, connection: bytes) -> bytes:
    """The whole answer where Max-Forwards ends the way of a request. TRACE gets its head back."""
    echo = _echo(request) if request.method == b"TRACE" else b""
    lines = [b"HTTP/1.1 200 OK\r\n", date_field()]
    if echo:
        lines.append(b"Content-Type: message/http\r\n")
    lines.append(b"Content-Length: %d\r\n" % len(echo))
    if connection:
        lines.append(b"Connection: %b\r\n" % connection)
    lines.append(b"\r\n")
    lines.append(echo)
    return b"".join(lines)


def _echo(request: ParsedRequest) -> bytes:
    version = b"1.1" if request.version == 11 else b"1.0"
    lines = [b"%b %b HTTP/%b\r\n" % (request.method, request.received_target, version)]
    for name, value in request.fields:
        if name.lower() not in _SECRET:
            lines.append(b"%b: %b\r\n" % (name, value))
    lines.append(b"\r\n")
    return b"".join(lines)
