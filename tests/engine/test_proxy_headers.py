"""PROXY headers alone: what is read, what is refused, what is written. No socket."""

import pytest

from fastlb.model.address import Address
from fastlb.model.proxied import Ends
from support.proxy_headers import BAD, GOOD, TCP6, V1_V4, V4, V4_BLOCK, V6, V6_BLOCK, v2

pytestmark = pytest.mark.unbatched


@pytest.mark.parametrize("name", GOOD)
def test_header_is_read_to_its_last_byte(engine, name):
    """What stands behind it is the client's and is not looked at."""
    raw, announced = GOOD[name]

    assert engine.proxy_protocol.read_header(raw) == (len(raw), announced)
    assert engine.proxy_protocol.read_header(raw + b"PROXY \r\n\x00") == (len(raw), announced)


@pytest.mark.parametrize("name", GOOD)
def test_header_is_incomplete_at_every_cut(engine, name):
    """TCP may deliver it in any pieces; nothing is decided before the last byte."""
    raw, _ = GOOD[name]

    assert [cut for cut in range(len(raw)) if engine.proxy_protocol.read_header(raw[:cut]) is not None] == []


@pytest.mark.parametrize("name", BAD)
def test_bad_header_is_refused(engine, name):
    """Any sequence that does not match the protocol must abort the connection (2.1)."""
    with pytest.raises(engine.proxy_protocol.BadHeaderError):
        engine.proxy_protocol.read_header(BAD[name])


@pytest.mark.parametrize("name", BAD)
def test_bad_header_is_never_accepted_when_cut(engine, name):
    """Cut at any byte it is incomplete or refused."""
    for cut in range(min(len(BAD[name]), 300)):
        try:
            assert engine.proxy_protocol.read_header(BAD[name][:cut]) is None
        except engine.proxy_protocol.BadHeaderError:
            continue


@pytest.mark.parametrize("raw", [b"G", b"p", b"\x16", b"PA", b"PROXZ", b"\r\n\r\n\x01", b"\n"])
def test_other_protocols_are_refused_at_once(engine, raw):
    """A client that forgot the header is told so now, not when the time is over."""
    with pytest.raises(engine.proxy_protocol.BadHeaderError):
        engine.proxy_protocol.read_header(raw)


def test_headers_are_written_as_specified(engine):
    """Byte for byte, in both versions and families."""
    write = engine.proxy_protocol.write_header

    assert write(1, V4) == V1_V4
    assert write(1, V6) == b"PROXY TCP6 2001:db8::7 2001:db8::9 1 65535\r\n"
    assert write(2, V4) == v2(V4_BLOCK)
    assert write(2, V6) == v2(V6_BLOCK, kind=TCP6)


def test_ends_that_cannot_be_told_are_written_as_unknown(engine):
    """UNIX sockets and two families: UNKNOWN in version 1, AF_UNSPEC in version 2."""
    assert engine.proxy_protocol.write_header(1, None) == b"PROXY UNKNOWN\r\n"
    assert engine.proxy_protocol.write_header(2, None) == v2(kind=0)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("source", "target"),
    [("localhost", "5.6.7.8"), ("1.2.3.4", "localhost"), ("1.2.3.4", "::1"), ("::1", "1.2.3.4")],
)
def test_ends_that_are_no_addresses_of_one_family_are_not_written(engine, version, source, target):
    """A header cannot say it; a wrong one would be believed."""
    if engine.name == "pure":
        pytest.skip("the pure engine relies on its callers, who have numeric ends of one family")
    ends = Ends(Address(source, 1), Address(target, 2))
    with pytest.raises(ValueError, match="numeric addresses of one family"):
        engine.proxy_protocol.write_header(version, ends)


@pytest.mark.parametrize("port", [0, 1, 9, 10, 99, 100, 999, 1000, 9999, 10000, 65535])
def test_ports_are_written_without_zeroes(engine, port):
    """Heading zeroes are not permitted (2.1)."""
    ends = Ends(Address("1.2.3.4", port), Address("5.6.7.8", port))

    assert engine.proxy_protocol.write_header(1, ends) == b"PROXY TCP4 1.2.3.4 5.6.7.8 %d %d\r\n" % (
        port,
        port,
    )
