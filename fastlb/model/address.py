"""Addresses as people write them, and as the engines use them.

An address is a TCP host and port, or the path of a UNIX socket. IPv6 literals are written in
brackets (RFC 3986 3.2.2). Nothing here resolves a name or opens a socket.
"""

import ipaddress
from dataclasses import dataclass

from fastlb.model.errors import ConfigError

_PORT_MAX = 65535
# sun_path of unix(7) holds 108 bytes with the closing NUL.
_UNIX_PATH_MAX_BYTES = 107


@dataclass(frozen=True, slots=True)
class Address:
    """A place to listen or to connect to: `host` and `port`, or `path` for a UNIX socket.

    An empty host with a port means every local address, IPv6 and IPv4.
    """

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

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
        if not name or "\0" in name or len(name.encode()) > _UNIX_PATH_MAX_BYTES:
            raise ConfigError(path, text, f"unix:/path of 1 to {_UNIX_PATH_MAX_BYTES} bytes")
        return Address(path=name)
    host, colon, port_text = text.rpartition(":")
    if not colon or not (host or host_optional):
        raise ConfigError(path, text, forms)
    if not (port_text.isascii() and port_text.isdigit() and port_min <= int(port_text) <= _PORT_MAX):
        raise ConfigError(path, text, f"{forms} with a port from {port_min} to {_PORT_MAX}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ConfigError(path, text, "an IPv6 address in brackets") from None
    elif ":" in host or any(c.isspace() or c in "/@?#[]" for c in host):
        raise ConfigError(path, text, forms)
    return Address(host=host, port=int(port_text))
