"""Hypothesis strategies: messages by the grammar, with values that are known to hurt, then mutated."""

from typing import Any

import hypothesis.strategies as st

from support.chunks import BAD_CHUNKS, GOOD_CHUNKS

CRLF = b"\r\n"
SPACES = (b" ", b"", b"\t", b"  ", b" \t ")
LENGTHS = (
    b"0",
    b"1",
    b"2",
    b"5",
    b"05",
    b"2, 2",
    b"2, 3",
    b"+2",
    b"0x2",
    b"-1",
    b"2 2",
    b"",
    b"9" * 19,
    b"2,",
)
CODINGS = (
    b"chunked",
    b"CHUNKED",
    b"xchunked",
    b"chunked, identity",
    b"identity, chunked",
    b"gzip, chunked",
    b"chunked, chunked",
    b"\x0bchunked",
    b"chunked;a",
    b"chunked,",
    b"",
)
CONNECTIONS = (
    b"close",
    b"keep-alive",
    b"upgrade",
    b"Close, X-A",
    b"x, upgrade",
    b"Upgrade, HTTP2-Settings",
    b"keep-alive, close",
    b",",
    b"",
)
HOSTS = (
    b"a",
    b"a:80",
    b"",
    b"[::1]:8",
    b"a b",
    b"u@a",
    b":80",
    b"a%41",
    b"a/b",
    b"a,b",
    b"a:65535",
    b"a:65536",
)
OTHERS = (
    b"v",
    b"",
    b"a\tb",
    b"\xe9",
    b"a  b ",
    b"a\x00b",
    b"a\x7f",
    b'"q"',
    b"a, b",
    b"websocket",
    b"h2c, WebSocket/13",
    b"100-continue",
)
VALUES = {
    b"Content-Length": LENGTHS,
    b"content-length": LENGTHS,
    b"Transfer-Encoding": CODINGS,
    b"tRANSFER-eNCODING": CODINGS,
    b"Connection": CONNECTIONS,
    b"Host": HOSTS,
    b"Upgrade": OTHERS,
    b"Expect": OTHERS,
    b"Content_Length": LENGTHS,
    b"Transfer_Encoding": CODINGS,
    b"X_Forwarded_For": OTHERS,
    b"X-A": OTHERS,
    b"x!#$%&'*+-.^_`|~0": OTHERS,
    b"Content-Length ": LENGTHS,
    b"Transfer-Encoding\t": CODINGS,
    b"X A": OTHERS,
    b"": OTHERS,
}
# Those that a head may have several of come oftener.
NAMES = (
    [name for name in VALUES if name not in (b"X A", b"")]
    + [b"X-A", b"Connection", b"Upgrade"] * 6
    + [b"X A", b""]
)
METHODS = (b"GET", b"POST", b"HEAD", b"OPTIONS", b"PUT", b"BREW", b"get", b"CONNECT", b"M-SEARCH", b"a!~")
TARGETS = (
    b"/",
    b"/a?b=%20c",
    b"*",
    b"http://h/x",
    b"HTTP://h:80?q",
    b"https://h/",
    b"wss://[::1]:65535?q",
    b"Ws://h",
    b"ftp://h/",
    b"a",
    b"//x",
    b"/#f",
    b'/"<>\\^`{|}',
    b"/\xc3\xa9",
)
VERSIONS = (
    *[b"HTTP/1.1"] * 6,
    b"HTTP/1.0",
    b"HTTP/1.0",
    b"HTTP/1.2",
    b"HTTP/2.0",
    b"HTTP/1.10",
    b"http/1.1",
    b"",
)
STATUSES = (
    b"200",
    b"204",
    b"304",
    b"100",
    b"101",
    b"103",
    b"404",
    b"599",
    b"600",
    b"999",
    b"20",
    b"+20",
    b"",
)
REASONS = (b" OK", b" ", b"", b" a\tb\xe9", b" \x00", b"  two")
BODIES = (
    b"",
    b"hi",
    b"hello",
    b"0\r\n\r\n",
    b"2\r\nhi\r\n0\r\n\r\n",
    b"2;a=b\r\nhi\r\n0\r\nT: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
)
SPICE = (
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b"\t",
    b":",
    b"\x00",
    b"\x0b",
    b"\x7f",
    b"\xff",
    b",",
    b";",
    b"0",
    b"chunked",
)


def _mostly_first(values: Any) -> st.SearchStrategy[bytes]:
    """The first, which is valid, three times in four, or hardly any message would be accepted."""
    values = list(values)
    return st.sampled_from([values[0]] * (3 * len(values)) + values)


def _one(values: Any) -> st.SearchStrategy[bytes]:
    return st.sampled_from(list(values))


# Nearly all lines end as they should, or hardly any head would be accepted.
ends = st.integers(0, 79).map(lambda n: {0: b"\n", 1: b"\r", 2: b"\r\n "}.get(n, CRLF))


@st.composite
def field_lines(draw: Any) -> bytes:
    """Field lines, most of them well-formed."""
    return b"".join(
        name + b":" + draw(_one(SPACES)) + draw(_mostly_first(VALUES[name])) + draw(ends)
        for name in draw(st.lists(_one(NAMES), max_size=5))
    )


@st.composite
def mutated(draw: Any, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes of `whole` with up to two places cut out or spiced."""
    raw = draw(whole)
    for _ in range(draw(_one([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(_one(SPICE)) + raw[at + draw(st.integers(0, 2)) :]
    return raw


@st.composite
def request_texts(draw: Any) -> bytes:
    """A request with what may be its body."""
    line = b" ".join(
        [draw(_mostly_first(METHODS)), draw(_mostly_first(TARGETS)), draw(_mostly_first(VERSIONS))]
    )
    host = draw(_one([b"Host: a\r\n"] * 3 + [b""]))
    return line + draw(ends) + host + draw(field_lines()) + CRLF + draw(_one(BODIES))


@st.composite
def response_texts(draw: Any) -> bytes:
    """A response with what may be its body."""
    line = draw(_mostly_first(VERSIONS)) + b" " + draw(_mostly_first(STATUSES)) + draw(_one(REASONS))
    return line + draw(ends) + draw(field_lines()) + CRLF + draw(_one(BODIES))


@st.composite
def chunk_texts(draw: Any) -> bytes:
    """A chunked body of one to four chunks."""
    raw = b""
    for data in draw(st.lists(_one([b"a", b"hi", b"\r\n", b"0123456789abcdef"]), max_size=3)):
        size = draw(_one([b"%x", b"%X", b"0%x", b"%x;a", b'%x;a="b c"', b"%x ", b"%x\t ;a", b"+%x"])) % len(
            data
        )
        raw += size + draw(ends) + data + draw(ends)
    trailer = draw(_one([b"", b"", b"A: b\r\n", b"A:\r\nB: c\r\n", b"A : b\r\n", b" a\r\n"]))
    return (
        raw
        + draw(_one([b"0", b"000", b"0;x", b"0 ", b"0 ;x"]))
        + CRLF
        + trailer
        + CRLF
        + draw(_one([b"", b"", b"GET"]))
    )


requests = mutated(request_texts())
responses = mutated(response_texts())
chunked_bodies = mutated(
    chunk_texts() | _one(BAD_CHUNKS.values()) | _one(raw for raw, _, _ in GOOD_CHUNKS.values())
)
