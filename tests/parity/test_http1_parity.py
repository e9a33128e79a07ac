"""Both parsers read the same bytes in the same way, whatever the bytes."""

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from fastlb.model.limits import LimitConfig
from support.chunks import BAD_CHUNKS
from support.cuts import decode
from support.heads import REFUSED, REFUSED_EITHER, REFUSED_RESPONSES

LIMITS = LimitConfig(header_bytes=1024, line_bytes=128, fields=8)
space = st.sampled_from([b"", b" ", b"\t", b"  ", b"\x0b", b"\x00"])
end = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n", b"\r\n "])
word = st.sampled_from(
    [
        b"a",
        b"chunked",
        b"gzip",
        b"close",
        b"keep-alive",
        b"upgrade",
        b"websocket",
        b"h2c/1",
        b"5",
        b"6",
        b"+5",
        b"0x5",
        b"",
    ]
)
value = st.lists(word, max_size=3).map(b", ".join) | word | st.binary(max_size=6)
name = st.sampled_from(
    [
        b"Host",
        b"host",
        b"Content-Length",
        b"Transfer-Encoding",
        b"Connection",
        b"Upgrade",
        b"X-A",
        b"X A",
        b"",
    ]
) | st.binary(max_size=4)


@st.composite
def fields(draw):
    lines = draw(st.lists(st.tuples(name, st.just(b"") | space, space, value, space, end), max_size=10))
    return b"".join(n + before + b":" + after + v + tail + e for n, before, after, v, tail, e in lines)


@st.composite
def requests(draw):
    method = draw(st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"G(T", b""]))
    target = draw(
        st.sampled_from([b"/", b"*", b"http://h/x", b"http://h", b"https://h/", b"a"]) | st.binary(max_size=8)
    )
    version = draw(
        st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0"] * 2 + [b"HTTP/1.2", b"HTTP/2", b"http/1.1", b""])
    )
    lead = draw(st.sampled_from([b""] * 6 + [b"\r\n", b"\n", b"\r\n\r\n", b" "]))
    host = draw(st.sampled_from([b"Host: a\r\n"] * 4 + [b""]))
    return lead + b" ".join([method, target, version]) + draw(end) + host + draw(fields()) + draw(end)


@st.composite
def responses(draw):
    version = draw(st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/2.0", b"ICY"]))
    status = draw(st.sampled_from([b"200", b"204", b"304", b"100", b"101", b"99", b"600", b"20x", b""]))
    reason = draw(st.sampled_from([b" OK", b"", b" ", b" \x00"]))
    return version + b" " + status + reason + draw(end) + draw(fields()) + draw(end)


def reading(http1, parse):
    """What a parser makes of it, as plain values."""
    try:
        head = parse()
    except http1.Refused as refused:
        return refused.status
    if head is None:
        return None
    length = head.length if head.framing == "length" else None
    return (
        getattr(head, "method", None),
        getattr(head, "target", None),
        head.version,
        [(bytes(n), bytes(v)) for n, v in head.fields],
        head.framing,
        length,
        head.head_bytes,
        head.keep_alive,
        bool(head.upgrade) if hasattr(head, "method") else getattr(head, "status", None),
    )


@settings(max_examples=500, deadline=None)
@given(raw=requests())
@example(raw=b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
def test_requests_are_read_alike(both, raw):
    """One balancer that accepts what the other refuses is a way in."""
    native, pure = (reading(r.http1, lambda r=r: r.http1.parse_request(raw, LIMITS)) for r in both.values())

    assert native == pure


@settings(max_examples=400, deadline=None)
@given(raw=responses(), method=st.sampled_from([b"GET", b"HEAD", b"POST"]))
def test_responses_are_read_alike(both, raw, method):
    """The end of a response must be found at the same byte."""
    native, pure = (
        reading(r.http1, lambda r=r: r.http1.parse_response(raw, request_method=method))
        for r in both.values()
    )

    assert native == pure


@pytest.mark.parametrize("raw", [*(raw for _, raw in REFUSED.values()), *REFUSED_EITHER.values()])
def test_refusals_are_alike_at_every_cut(both, raw):
    """Also the moment of the refusal is one that a client can see."""
    for cut in range(max(0, len(raw) - 400), len(raw) + 1):
        native, pure = (
            reading(r.http1, lambda r=r, cut=cut: r.http1.parse_request(raw[:cut])) for r in both.values()
        )
        assert native == pure, raw[:cut]


@pytest.mark.parametrize("why", REFUSED_RESPONSES)
def test_refused_responses_are_alike_at_every_cut(both, why):
    """The same backend gets the same 502 from both, at the same byte."""
    raw = REFUSED_RESPONSES[why]
    for cut in range(max(0, len(raw) - 400), len(raw) + 1):
        native, pure = (
            reading(r.http1, lambda r=r, cut=cut: r.http1.parse_response(raw[:cut])) for r in both.values()
        )
        assert native == pure, raw[:cut]


@pytest.mark.parametrize("why", BAD_CHUNKS)
def test_bad_chunk_is_refused_at_its_first_wrong_byte(both, why):
    """Nobody waits for more bytes to say no, and both engines say it at the same byte."""
    raw = BAD_CHUNKS[why]
    for cut in range(len(raw) + 1):
        native, pure = (decode(rooms, [raw[:cut]]) for rooms in both.values())
        assert (native.refused, native.done) == (pure.refused, pure.done), raw[:cut]
