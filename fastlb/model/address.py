"""Addresses as people write them, and as the engines use them.

An address is a TCP host and port, or the path of a UNIX socket. IPv6 literals are written in
brackets (RFC 3986 3.2.2). A link-local one has the interface that it is reached through behind a
percent sign (RFC 4007 11), by name or by number: every interface has such addresses. Nothing here
resolves a name or opens a socket.
"""

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from fastlb.model.errors import ConfigError

PORT_MAX = 65535
_PORT_DIGITS_MAX = 5
# Of one backend: a name may have more, and the rest is not used.
ADDRESSES_MAX = 16
# sun_path of unix(7) holds 108 bytes with the closing NUL.
_UNIX_PATH_MAX_BYTES = 107


@dataclass(frozen=True, slots=True)
class Address:
    """A place to listen or to connect to: `host` and `port`, or `path` for a UNIX socket.

    Raises: ConfigError for a port or a path that no socket address can hold.

    An empty host with a port means every local address, IPv6 and IPv4.
    """

    host: str = ""
    port: int = 0
    path: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= PORT_MAX:
            raise ConfigError("address.port", self.port, f"from 0 to {PORT_MAX}")
        if self.path and ("\0" in self.path or not _is_utf8(self.path, _UNIX_PATH_MAX_BYTES)):
            raise ConfigError("address.path", self.path, f"at most {_UNIX_PATH_MAX_BYTES} bytes of UTF-8")

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def authority(self) -> str:
        """What a Host field says of it: without the interface, which means nothing elsewhere (RFC 6874 4)."""
        if self.path:
            return "localhost"
        return f"[{self.host.partition('%')[0]}]:{self.port}" if ":" in self.host else str(self)

    @property
    def is_unix(self) -> bool:
        """True for a UNIX socket."""
        return bool(self.path)

    @property
    def is_numeric(self) -> bool:
        """True if no name has to be resolved before connecting."""
        if self.is_unix:
            return True
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True


SocketName = str | tuple[str, int] | tuple[str, int, int, int]
SocketAddress = tuple[int, SocketName]


def socket_address(address: Address) -> SocketAddress:
    """Family and address, as a socket takes them, of a numeric or UNIX address.

    Raises: OSError if there is no interface of that name or number; ValueError for a host name.
    """
    if address.is_unix:
        return socket.AF_UNIX, address.path
    if ":" not in address.host:
        ipaddress.IPv4Address(address.host)
        return socket.AF_INET, (address.host, address.port)
    ip = ipaddress.IPv6Address(address.host)
    zone = ip.scope_id
    return socket.AF_INET6, (str(ip).partition("%")[0], address.port, 0, _interface(zone) if zone else 0)


def check_addresses(address: Address, others: Sequence[Address]) -> tuple[Address, ...]:
    """All addresses of one backend, fit for an engine.

    Raises: ConfigError for a host name, for an interface that is not there, and for too many.
    """
    addresses = (address, *others)
    if len(addresses) > ADDRESSES_MAX:
        raise ConfigError("backend", str(address), f"one of at most {ADDRESSES_MAX} addresses")
    for each in addresses:
        try:
            socket_address(each)
        except ValueError:
            raise ConfigError("backend", str(each), "a numeric address or a UNIX socket") from None
        except OSError:
            raise ConfigError(
                "backend", str(each), "an address behind an interface of this machine"
            ) from None
    return addresses


def from_socket(name: SocketName) -> Address:
    """The address that getsockname() tells."""
    if isinstance(name, str):
        return Address(path=name)
    host, zone = name[0].partition("%")[0], name[3] if len(name) == 4 else 0
    return Address(host=f"{host}%{socket.if_indextoname(zone)}" if zone else host, port=name[1])


def _interface(zone: str) -> int:
    if not zone.isdigit():
        return socket.if_nametoindex(zone)
    socket.if_indextoname(int(zone))
    return int(zone)


def parse_listen(text: str, *, path: str = "listen") -> Address:
    """Read `:8080`, `host:8080`, `[::]:8080` or `unix:/path`. Port 0 lets the kernel choose.

    Raises: ConfigError naming `path`.
    """
    return _parse(text, path, port_min=0, host_optional=True)


def parse_backend(text: str, *, path: str = "backend") -> Address:
    """Read `host:port`, `[v6]:port`, `unix:/path` or `http://host[:port]`.

    Raises: ConfigError naming `path`.
    """
    if text.startswith("http://"):
        authority = text.removeprefix("http://").removesuffix("/")
        if ":" not in authority.rpartition("]")[2]:
            authority += ":80"
        return _parse(authority, path, port_min=1, host_optional=False)
    return _parse(text, path, port_min=1, host_optional=False)


def _parse(text: str, path: str, *, port_min: int, host_optional: bool) -> Address:
    forms = "host:port, [v6]:port or unix:/path"
    if host_optional:
        forms = f":port, {forms}"
    if text.startswith("unix:"):
        name = text.removeprefix("unix:")
        if not name or "\0" in name or not _is_utf8(name, _UNIX_PATH_MAX_BYTES):
            raise ConfigError(path, text, f"unix:/path of 1 to {_UNIX_PATH_MAX_BYTES} bytes of UTF-8")
        return Address(path=name)
    host, colon, port_text = text.rpartition(":")
    if not colon or not (host or host_optional):
        raise ConfigError(path, text, forms)
    port = _port(port_text)
    if not port_min <= port <= PORT_MAX:
        raise ConfigError(path, text, f"{forms} with a port from {port_min} to {PORT_MAX}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ip = ipaddress.IPv6Address(host)
        except ValueError:
            raise ConfigError(path, text, "an IPv6 address in brackets") from None
        if ip.is_link_local is not bool(ip.scope_id):
            raise ConfigError(
                path, text, "an IPv6 address with its interface if it is link-local: [fe80::1%eth0]:80"
            )
    elif ":" in host or any(c.isspace() or c in "/@?#[]" for c in host):
        raise ConfigError(path, text, forms)
    address = Address(host=host, port=port)
    if host and not address.is_numeric and not _is_host_name(host):
        raise ConfigError(
            path, text, "an address: each part of a host name between dots has 1 to 63 characters"
        )
    return address


def _port(text: str) -> int:
    """The number, or -1 if it is none; int() alone takes signs, spaces and underscores."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _PORT_DIGITS_MAX else -1


def _is_utf8(text: str, max_bytes: int) -> bool:
    """False for lone surrogates: a byte of the command line that is not UTF-8 becomes one (PEP 383)."""
    try:
        return len(text.encode()) <= max_bytes
    except UnicodeEncodeError:
        return False


def _is_host_name(host: str) -> bool:
    """False if a label is empty or above 63 bytes: getaddrinfo() would encode it so (RFC 3490)."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True
