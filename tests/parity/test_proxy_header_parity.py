"""Both engines read and write the same PROXY headers, whatever the bytes."""

import socket

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from fastlb.model.address import Address
from fastlb.model.proxied import Ends
from support.proxy_headers import BAD, GOOD, LOCAL, PROXY, SIGNATURE, TCP4, TCP6, V1_V4

MAPPED = bytes(10) + b"\xff\xff"
ports = st.integers(0, 65535)
v4 = st.binary(min_size=4, max_size=4).map(lambda raw: socket.inet_ntop(socket.AF_INET, raw))
octets = st.binary(min_size=16, max_size=16) | st.binary(min_size=4, max_size=4).map(MAPPED.__add__)
v6 = octets.map(lambda raw: socket.inet_ntop(socket.AF_INET6, raw))
words = (
    b"PROXY TCP4 TCP6 UNKNOWN 1.2.3.4 1.2.3 ::1 1::2:3 ::ffff:1.2.3.4 ::1.2.3.4 1:2:3:4:5:6:7:8 % 0 01 65536"
)
pieces = st.sampled_from(
    [*words.split(b" "), b"1:2:3:4:5:6:7::", b"::1::", b"12345::", b"00001::", b"", b"\x00"]
)


@st.composite
def all_ends(draw):
    hosts = draw(st.sampled_from([v4, v6]))
    return Ends(Address(draw(hosts), draw(ports)), Address(draw(hosts), draw(ports)))


@st.composite
def lines(draw):
    drawn = draw(st.lists(pieces, max_size=6))
    end = draw(st.sampled_from([b"\r\n"] * 6 + [b"\n", b"\r", b"\r\r\n", b""]))
    return (
        draw(st.sampled_from([b"PROXY "] * 6 + [b""])) + b" ".join(drawn) + end + draw(st.binary(max_size=4))
    )


@st.composite
def blocks(draw):
    command = draw(st.sampled_from([PROXY, PROXY, PROXY, LOCAL]) | st.integers(0, 255))
    kind = draw(st.sampled_from([TCP4, TCP6]) | st.integers(0, 255))
    body = draw(st.binary(max_size=48))
    length = draw(st.just(len(body)) | st.integers(0, 65535))
    return SIGNATURE + bytes((command, kind)) + length.to_bytes(2, "big") + body


def reading(rooms, raw):
    """What one engine makes of it."""
    try:
        return rooms.proxy_protocol.read_header(raw)
    except rooms.proxy_protocol.BadHeaderError:
        return "bad"


@settings(max_examples=400, deadline=None)
@given(raw=lines() | blocks() | st.binary(max_size=120))
@example(raw=V1_V4)
def test_headers_are_read_alike(both, raw):
    """One engine that believes what the other refuses would be a way in."""
    native, pure = (reading(rooms, raw) for rooms in both.values())

    assert native == pure


@pytest.mark.parametrize("raw", [*(raw for raw, _ in GOOD.values()), *BAD.values()])
def test_cuts_are_read_alike(both, raw):
    """Also the moment of a refusal is one that a client can see."""
    for cut in range(min(len(raw), 400) + 1):
        native, pure = (reading(rooms, raw[:cut]) for rooms in both.values())
        assert native == pure, raw[:cut]


@settings(max_examples=200, deadline=None)
@given(ends=all_ends(), version=st.sampled_from([1, 2]))
def test_what_one_engine_writes_the_other_reads(both, ends, version):
    """The round trip keeps both ends, and both write the same bytes."""
    native, pure = (rooms.proxy_protocol.write_header(version, ends) for rooms in both.values())

    assert native == pure
    assert reading(both["native"], pure) == reading(both["pure"], native) == (len(native), ends)
