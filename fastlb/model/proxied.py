"""What proxies in front say about a client: who of them is believed, and the words of the PROXY protocol."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from fastlb.model.address import Address
from fastlb.model.errors import ConfigError

UNIX = "unix"
TRUSTED_MAX = 1024
# The block behind the first 16 bytes of a version 2 header: addresses and TLVs.
PROXY_BLOCK_MAX_BYTES = 4096

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ProxyProtocol(str, Enum):
    """What stands before the first byte of a connection to a backend (proxy-protocol.txt of HAProxy)."""

    OFF = "off"
    V1 = "v1"
    V2 = "v2"

    @property
    def version(self) -> int:
        """1, 2, or 0 for none."""
        return {"off": 0, "v1": 1, "v2": 2}[self.value]


class Ends(NamedTuple):
    """The two ends of a client's connection: numeric addresses of one family."""

    source: Address
    target: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedProxies:
    """The peers that are believed when they speak about a client; nobody by default.

    `networks`: where they are, IPv4-mapped ones as IPv4. `unix`: every peer of a UNIX socket.
    """

    networks: tuple[Network, ...] = ()
    unix: bool = False

    def __post_init__(self) -> None:
        if len(self.networks) > TRUSTED_MAX:
            raise ConfigError("trusted_proxies", len(self.networks), f"at most {TRUSTED_MAX} networks")

    def __bool__(self) -> bool:
        return self.unix or bool(self.networks)

    def __contains__(self, ip: str) -> bool:
        """True if the numeric address is believed; an empty one is a UNIX socket's."""
        if not ip:
            return self.unix
        if not self.networks:
            return False
        address = ipaddress.ip_address(ip)
        return any(address in network for network in self.networks)


def parse_trusted_proxies(texts: Iterable[str], *, path: str = "trusted_proxies") -> TrustedProxies:
    """Read networks (`10.0.0.0/8`), addresses (`::1`) and `unix`. Raises: ConfigError naming `path`."""
    texts = tuple(texts)
    networks = tuple(_parse_network(text, path) for text in texts if text != UNIX)
    return TrustedProxies(networks=networks, unix=UNIX in texts)


def _parse_network(text: str, path: str) -> Network:
    address, slash, bits = text.partition("/")
    expected = "a network such as 10.0.0.0/8, an address, or unix"
    # Interfaces and netmasks, which ipaddress would take, are not meant.
    if "%" in address or (slash and not (bits.isascii() and bits.isdigit())):
        raise ConfigError(path, text, expected)
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ConfigError(path, text, expected) from None
    if slash and ipaddress.ip_address(address) != network.network_address:
        raise ConfigError(path, text, f"a network: its address has bits behind the prefix; {network} is one")
    return _without_mapping(network)


def _without_mapping(network: Network) -> Network:
    """IPv4 clients of a dual-stack socket are taken for IPv4, so `::ffff:10.0.0.0/104` is 10.0.0.0/8."""
    if isinstance(network, ipaddress.IPv4Network) or network.prefixlen < 96:
        return network
    mapped = network.network_address.ipv4_mapped
    return network if mapped is None else ipaddress.IPv4Network((mapped, network.prefixlen - 96))
