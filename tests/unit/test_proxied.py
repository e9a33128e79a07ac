"""Who is trusted to speak for others, and what the header of a health check is."""

import pytest

from fastlb.model.address import Address
from fastlb.model.config import BackendConfig, Config, ListenerConfig
from fastlb.model.errors import ConfigError
from fastlb.model.proxied import TRUSTED_MAX, ProxyProtocol, TrustedProxies, parse_trusted_proxies
from fastlb.probe.preface import preface


def test_nobody_is_trusted_by_default():
    """A client must not be able to choose its address."""
    assert not TrustedProxies()
    assert "127.0.0.1" not in TrustedProxies()
    assert "" not in TrustedProxies()


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
        ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
        ("10.0.0.0/31", "10.0.0.1", "10.0.0.2"),
        ("::1", "::1", "::2"),
        ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
        ("::ffff:10.0.0.0/104", "10.1.1.1", "11.1.1.1"),
        ("::/0", "fe80::1", "10.0.0.1"),
        ("0.0.0.0/0", "10.0.0.1", "::1"),
        ("unix", "", "127.0.0.1"),
    ],
)
def test_trusted_proxies_are_networks_addresses_and_unix(text, inside, outside):
    """One family holds nobody of the other; an empty address is a UNIX socket."""
    trusted = parse_trusted_proxies([text])

    assert trusted
    assert inside in trusted
    assert outside not in trusted


NO_NETWORKS = (
    *(
        "",
        "localhost",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0.0/255.0.0.0",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "10.0.0",
    ),
    *("::1/129", "fe80::1%lo", "010.0.0.1", "10.0.0.0/8,::1", "unix:/path", "[::1]", "10.0.0.0/8 ", "²"),
)


@pytest.mark.parametrize("text", NO_NETWORKS)
def test_what_is_no_network_is_refused(text):
    """A netmask, an interface, a name or bits behind the prefix: more or less would be trusted than meant."""
    with pytest.raises(ConfigError) as refused:
        parse_trusted_proxies(["::1", text], path="--trusted-proxy")

    assert (refused.value.path, refused.value.value) == ("--trusted-proxy", text)


def test_number_of_trusted_networks_has_a_limit():
    """Each one is compared with each accepted client."""
    with pytest.raises(ConfigError):
        parse_trusted_proxies([f"10.0.{n // 256}.{n % 256}" for n in range(TRUSTED_MAX + 1)])


def test_listener_with_headers_needs_someone_to_trust():
    """Everything would be refused; the message says what to give."""
    listeners = (ListenerConfig(address=Address(port=0), proxy_protocol=True),)
    backends = (BackendConfig(address=Address(host="::1", port=1)),)
    with pytest.raises(ConfigError, match="such as") as refused:
        Config(listeners=listeners, backends=backends)

    assert refused.value.path == "trusted_proxies"
    assert Config(
        listeners=listeners, backends=backends, trusted_proxies=TrustedProxies(unix=True)
    ).trusted_proxies.unix


def test_health_check_names_itself_in_version_1():
    """Backends may refuse UNKNOWN, and the connection is really between these two (2.1)."""
    v4 = preface(ProxyProtocol.V1, ("127.0.0.1", 4711), ("127.0.0.2", 80))
    v6 = preface(ProxyProtocol.V1, ("fe80::1%lo", 4711, 0, 1), ("fe80::2%lo", 80, 0, 1))

    assert v4 == b"PROXY TCP4 127.0.0.1 127.0.0.2 4711 80\r\n"
    assert v6 == b"PROXY TCP6 fe80::1 fe80::2 4711 80\r\n"
    assert preface(ProxyProtocol.V1, "", "/run/app.sock") == b"PROXY UNKNOWN\r\n"


def test_health_check_is_local_in_version_2():
    """The command for a connection that is nobody's but the proxy's (2.2)."""
    header = preface(ProxyProtocol.V2, ("127.0.0.1", 4711), ("127.0.0.2", 80))

    assert header == b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
