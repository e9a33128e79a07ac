"""What fastlb itself answers, when no backend does."""

# RFC 9110 15 and RFC 6585 5; http.HTTPStatus has other phrases in other versions of Python.
_REASONS = {
    400: b"Bad Request",
    408: b"Request Timeout",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}


def answer(status: int, *, connection: bytes = b"", retry_after_s: int = 0, bodyless: bool = False) -> bytes:
    """A whole response. `bodyless`: the answer to HEAD, which says how long the body would be."""
    reason = _REASONS[status]
    body = b"%d %b\n" % (status, reason)
    lines = [
        b"HTTP/1.1 %d %b\r\n" % (status, reason),
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
