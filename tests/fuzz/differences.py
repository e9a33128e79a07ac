"""Where llhttp or h11 read otherwise what fastlb accepts: each difference, when, and why it is right.

`raw` shows it: a message that fastlb accepts and the referee reads as `what` says.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fuzz.readings import Reading, Verdict


@dataclass(frozen=True)
class Difference:
    """`what`: refuses, start, fields, body, messages or keep_alive. `when`: true for what it is about."""

    referee: str
    what: str
    when: Callable[[Reading, Verdict], bool]
    why: str
    raw: bytes


def _values(reading: Reading, name: bytes) -> list[bytes]:
    return [value for found, value in reading.fields if found.lower() == name]


def _is_close_delimited(reading: Reading, _: Verdict) -> bool:
    return reading.framing == "close"


def _differ_in_trailing_space_only(reading: Reading, verdict: Verdict) -> bool:
    return tuple((name, value.rstrip(b" \t")) for name, value in verdict.fields) == reading.fields


def _differ_in_framing_fields_only(reading: Reading, verdict: Verdict) -> bool:
    framing = (b"content-length", b"transfer-encoding")

    def others(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        return [field for field in fields if field[0].lower() not in framing]

    return others(verdict.fields) == others(reading.fields)


def _refused_with(text: str) -> Callable[[Reading, Verdict], bool]:
    return lambda _, verdict: text in verdict.refused


def _length_is_repeated(reading: Reading, _: Verdict) -> bool:
    lengths = _values(reading, b"content-length")
    return len(lengths) > 1 or any(b"," in length for length in lengths)


def _method_is_unknown(reading: Reading, verdict: Verdict) -> bool:
    return verdict.refused.startswith("HttpParserInvalidMethodError")


def _is_response(reading: Reading) -> bool:
    return isinstance(reading.start[1], int)


def _is_response_with_space_before_a_colon(reading: Reading, verdict: Verdict) -> bool:
    return _is_response(reading) and any(
        text in verdict.refused for text in ("header token", "header field char", "illegal header line")
    )


def _differ_in_version_only(reading: Reading, verdict: Verdict) -> bool:
    place = 0 if _is_response(reading) else 2

    def others(start: tuple[object, ...]) -> tuple[object, ...]:
        return start[:place] + start[place + 1 :]

    return others(verdict.start) == others(reading.start)


def _is_chunked_1_0(reading: Reading, _: Verdict) -> bool:
    return reading.framing == "chunked" and reading.start[0] == 10


def _is_1_0_with_close(reading: Reading, _: Verdict) -> bool:
    connection = b",".join(_values(reading, b"connection")).lower()
    return 10 in (reading.start[0], reading.start[-1]) and b"close" in connection


def _is_101(reading: Reading, _: Verdict) -> bool:
    return reading.start[1] == 101


def _has_framing_trailer(reading: Reading, verdict: Verdict) -> bool:
    # A head with chunked framing has one Transfer-Encoding and no Content-Length to complain of.
    about_framing = "Content-Length" in verdict.refused or "Transfer-Encoding" in verdict.refused
    return reading.framing == "chunked" and about_framing


def _has_connection_trailer(reading: Reading, verdict: Verdict) -> bool:
    return reading.framing == "chunked" and b"connection" in verdict.trailers


def _has_coding_trailer(reading: Reading, verdict: Verdict) -> bool:
    return reading.framing == "chunked" and b"transfer-encoding" in verdict.trailers


_HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
_CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

DIFFERENCES = (
    Difference(
        "llhttp",
        "refuses",
        _method_is_unknown,
        "llhttp has a list of methods. A method is any token (RFC 9110 9.1); the backend judges it.",
        b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    Difference(
        "llhttp",
        "refuses",
        _length_is_repeated,
        "Equal lengths may become one (RFC 9112 6.3(5)), and one is what is passed on.",
        _HEAD + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    ),
    Difference(
        "llhttp",
        "refuses",
        _refused_with("chunk extensions"),
        "Extensions end at the CRLF like any line, are bounded and dropped; their grammar does not matter.",
        _CHUNKED + b"0; a\r\n\r\n",
    ),
    Difference(
        "llhttp",
        "refuses",
        _refused_with("chunk size"),
        "White space may stand before an extension (RFC 9112 7.1.1), and behind a size that a server pads.",
        _CHUNKED + b"0 ;a\r\n\r\n",
    ),
    Difference(
        "h11",
        "refuses",
        _refused_with("chunk header"),
        "White space may stand before an extension (RFC 9112 7.1.1); h11 knows it at the end of the line.",
        _CHUNKED + b"0 ;a\r\n\r\n",
    ),
    Difference(
        "llhttp",
        "refuses",
        _refused_with("Invalid HTTP version"),
        "A minor version above 1 is read as 1 (RFC 9110 2.5).",
        b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    ),
    Difference(
        "h11",
        "start",
        _differ_in_version_only,
        "A minor version above 1 is read as 1 (RFC 9110 2.5); h11 says which one it was.",
        b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    ),
    Difference(
        "llhttp",
        "keep_alive",
        _is_chunked_1_0,
        "Nothing is read behind chunks of HTTP/1.0, whose framing may be a mistake (RFC 9112 6.1).",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    Difference(
        "llhttp",
        "keep_alive",
        _is_1_0_with_close,
        "close is the stronger word, whatever else Connection says (RFC 9112 9.3).",
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: close, keep-alive\r\n\r\n",
    ),
    Difference(
        "llhttp",
        "refuses",
        _is_response_with_space_before_a_colon,
        "Space before the colon is removed from responses (RFC 9112 5.1), and only from responses.",
        b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    ),
    Difference(
        "llhttp",
        "refuses",
        _is_101,
        "llhttp stops at a 101; whether one was asked for is decided where the request is known.",
        b"HTTP/1.1 101 X\r\n\r\n",
    ),
    Difference(
        "llhttp",
        "fields",
        _differ_in_trailing_space_only,
        "llhttp leaves white space behind a value; it is no part of it (RFC 9112 5.1).",
        _HEAD + b"X: a \r\n\r\n",
    ),
    Difference(
        "llhttp",
        "messages",
        _is_close_delimited,
        "httptools cannot tell llhttp of the end of the connection, which ends this message.",
        b"HTTP/1.1 200 OK\r\n\r\nbody",
    ),
    Difference(
        "llhttp",
        "refuses",
        _has_framing_trailer,
        "llhttp reads trailers as if they framed the body; fastlb drops such ones (RFC 9112 7.1.2).",
        _CHUNKED + b"0\r\nContent-Length: 2\r\n\r\n",
    ),
    Difference(
        "llhttp",
        "keep_alive",
        _has_connection_trailer,
        "llhttp obeys a Connection in the trailers, where it has no meaning (RFC 9110 6.5.1).",
        _CHUNKED + b"0\r\nConnection: close\r\n\r\n",
    ),
    Difference(
        "llhttp",
        "keep_alive",
        _has_coding_trailer,
        "llhttp takes a coding in the trailers for the body's, which then ends with the connection.",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: x\r\n\r\n",
    ),
    Difference(
        "h11",
        "refuses",
        _has_framing_trailer,
        "h11 reads trailers as if they framed the body; fastlb drops such ones (RFC 9112 7.1.2).",
        _CHUNKED + b"0\r\nContent-Length: x\r\n\r\n",
    ),
    Difference(
        "h11",
        "refuses",
        _refused_with("no request line"),
        "One empty line before a request is ignored, as RFC 9112 2.2 asks; h11 0.16 refuses it.",
        b"\r\n" + _HEAD + b"\r\n",
    ),
    Difference(
        "h11",
        "refuses",
        _is_response_with_space_before_a_colon,
        "Space before the colon is removed from responses (RFC 9112 5.1), and only from responses.",
        b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    ),
    Difference(
        "h11",
        "fields",
        _differ_in_framing_fields_only,
        "h11 hands out one Content-Length, and chunked in lower case; the framing is compared by the body.",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
    ),
)


def explained(referee: str, what: str, reading: Reading, verdict: Verdict) -> bool:
    """True if the table knows of this difference."""
    return any(
        known.referee == referee and known.what == what and known.when(reading, verdict)
        for known in DIFFERENCES
    )
