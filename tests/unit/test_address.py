"""Addresses as people write them."""

import pytest

from fastlb.model.address import Address, from_socket, parse_backend, parse_listen, socket_address
from fastlb.model.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":8080", Address(port=8080)),
        (":0", Address(port=0)),
        ("0.0.0.0:8080", Address(host="0.0.0.0", port=8080)),
        ("[::]:8080", Address(host="::", port=8080)),
        ("localhost:80", Address(host="localhost", port=80)),
        ("unix:/tmp/a.sock", Address(path="/tmp/a.sock")),
    ],
)
def test_listen_address_forms(text, address):
    """The forms that the help names are all understood."""
    assert parse_listen(text) == address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9001", Address(host="127.0.0.1", port=9001)),
        ("[::1]:9001", Address(host="::1", port=9001)),
        ("app.internal:9001", Address(host="app.internal", port=9001)),
        ("http://127.0.0.1:9001", Address(host="127.0.0.1", port=9001)),
        ("http://127.0.0.1:9001/", Address(host="127.0.0.1", port=9001)),
        ("http://app", Address(host="app", port=80)),
        ("http://[::1]", Address(host="::1", port=80)),
        ("http://[::1]:81", Address(host="::1", port=81)),
        ("unix:/run/app.sock", Address(path="/run/app.sock")),
    ],
)
def test_backend_address_forms(text, address):
    """People paste URLs as often as they type host and port."""
    assert parse_backend(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "8080", ":", ":x", ":-1", ":+1", ":65536", ":٨٠", "::1:80", "[::1:80", "[zz]:80", "a b:80",
     "user@host:80", "host/path:80", "unix:", "unix:" + "x" * 108, "unix:/a\0b"],
)  # fmt: skip
def test_listen_refuses_what_is_no_address(text):
    """A typing error must not become an address that nobody meant."""
    with pytest.raises(ConfigError) as refused:
        parse_listen(text, path="--listen")

    assert refused.value.path == "--listen"
    assert refused.value.value == text


@pytest.mark.parametrize("parse", [parse_listen, parse_backend])
@pytest.mark.parametrize(
    "text",
    ["a:" + "1" * 5000, "a:000080", "unix:/\udcff", "\udcff:80", "a..b:80", ".a:80", "x" * 64 + ":80"],
    ids=["digits", "zeros", "path", "host", "empty label", "empty first label", "long label"],
)
def test_what_python_cannot_convert_is_refused_as_an_address(parse, text):
    """int(), encode() and the resolver raise errors of their own for these: ValueError, UnicodeError."""
    with pytest.raises(ConfigError) as refused:
        parse(text, path="--flag")

    assert refused.value.path == "--flag"


@pytest.mark.parametrize("text", ["host:0", ":80", "host", "http://", "http://host:80/path", "ftp://host:21"])
def test_backend_refuses_what_cannot_be_connected_to(text):
    """Port 0 and an empty host are for listeners only, and a path is no part of an address."""
    with pytest.raises(ConfigError):
        parse_backend(text)


@pytest.mark.parametrize("text", ["127.0.0.1:80", "[::1]:80", "unix:/a.sock", "host:1"])
def test_address_prints_as_it_is_written(text):
    """Log lines name an address in the form that the command line takes."""
    assert str(parse_backend(text)) == text


@pytest.mark.parametrize(
    ("text", "numeric"), [("127.0.0.1:80", True), ("[::1]:80", True), ("unix:/a", True), ("host:80", False)]
)
def test_only_a_name_needs_resolving(text, numeric):
    """Engines take numeric addresses only; this is how the control plane tells them apart."""
    assert parse_backend(text).is_numeric is numeric


@pytest.mark.parametrize(
    "made", [{"path": "/" + "x" * 107}, {"path": "/a\0b"}, {"host": "::1", "port": 65_536}]
)
def test_what_no_socket_address_holds_is_refused_however_it_is_made(made):
    """An engine copies it into a struct of fixed size."""
    with pytest.raises(ConfigError):
        Address(**made)


@pytest.mark.parametrize("parse", [parse_listen, parse_backend])
@pytest.mark.parametrize("host", ["fe80::1%eth0", "fe80::1%3"])
def test_link_local_address_names_its_interface(parse, host):
    """By name or by number (RFC 4007 11.2); each interface has addresses of that kind."""
    address = parse(f"[{host}]:80")

    assert (address.host, address.is_numeric, str(address)) == (host, True, f"[{host}]:80")
    assert address.authority == "[fe80::1]:80"


@pytest.mark.parametrize("parse", [parse_listen, parse_backend])
@pytest.mark.parametrize("text", ["[fe80::1]:80", "[fe80::1%]:80", "[::1%lo]:80", "[2001:db8::1%eth0]:80"])
def test_interface_that_is_missing_or_means_nothing_is_refused(parse, text):
    """The kernel refuses to connect and to bind without it, and ignores it where it means nothing."""
    with pytest.raises(ConfigError):
        parse(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%lo"])
def test_socket_address_and_back(host):
    """Python drops the interface from a tuple of two, and getsockname() tells its number only."""
    address = Address(host=host, port=80)

    assert from_socket(socket_address(address)[1]) == address


@pytest.mark.parametrize("host", ["fe80::1%nothing", "fe80::1%999999"])
def test_socket_address_needs_an_interface_that_is_there(host):
    """Otherwise connect() or bind() would fail for a reason that nobody understands."""
    with pytest.raises(OSError, match=r"nterface|device"):
        socket_address(Address(host=host, port=80))
