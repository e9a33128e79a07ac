"""The value of one --backend."""

import pytest

from fastlb.model.address import Address
from fastlb.model.errors import ConfigError
from fastlb.model.proxied import ProxyProtocol
from fastlb.surface.backend_text import parse_backend_text


def test_backend_takes_every_option():
    """All options of the help, in any order."""
    backend = parse_backend_text("127.0.0.1:9001,backup,name=blue,max_conns=7,weight=256,proxy_protocol=v2")

    assert backend.address == Address(host="127.0.0.1", port=9001)
    assert backend.proxy_protocol is ProxyProtocol.V2
    assert (backend.weight, backend.max_conns, backend.backup, backend.name) == (256, 7, True, "blue")


def test_backend_without_options_has_the_defaults():
    """Weight 1, no limit, not a backup, named by its address."""
    backend = parse_backend_text("[::1]:9001")

    assert (backend.weight, backend.max_conns, backend.backup, backend.label) == (1, 0, False, "[::1]:9001")
    assert backend.proxy_protocol is ProxyProtocol.OFF


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("weight=0", "from 1 to 256"),
        ("weight=257", "from 1 to 256"),
        ("weight=two", "whole number"),
        ("weight=", "whole number"),
        ("weight", "option of a backend"),
        ("wieght=2", "option of a backend"),
        ("max_conns=-1", "whole number"),
        ("max_conns=1000001", "from 0 to"),
        ("backup=yes", "option of a backend"),
        ("name=", "visible ASCII"),
        ("name=a b", "visible ASCII"),
        ("name=" + "x" * 65, "visible ASCII"),
        ("weight=2,weight=3", "twice"),
        ("proxy_protocol", "option of a backend"),
        ("proxy_protocol=", "v1 or v2"),
        ("proxy_protocol=off", "v1 or v2"),
        ("proxy_protocol=3", "v1 or v2"),
        ("", "option of a backend"),
    ],
)
def test_bad_option_is_named(options, why):
    """A pool of many backends is typed in one line; the message says which part is wrong."""
    text = f"127.0.0.1:9001,{options}"

    with pytest.raises(ConfigError, match=why) as refused:
        parse_backend_text(text)

    assert text in refused.value.path


def test_https_backend_is_refused_with_the_reason():
    """Sending plain HTTP to a TLS port would fail much later, and less clearly."""
    with pytest.raises(ConfigError, match="plain HTTP"):
        parse_backend_text("https://127.0.0.1:9001")


def test_path_with_a_space_needs_a_name():
    """A text log line is split at spaces, and an address without a name is its own label."""
    with pytest.raises(ConfigError, match="name="):
        parse_backend_text("unix:/run/my app.sock")

    assert parse_backend_text("unix:/run/my app.sock,name=app").label == "app"
