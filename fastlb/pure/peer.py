"""Who a client is: its address for the log and for X-Forwarded-For, and whether it is trusted.

An IPv4 client of a dual-stack socket (`::ffff:a.b.c.d`, RFC 4291 2.5.5.2) is taken for IPv4.
"""

import socket
from typing import NamedTuple

from fastlb.model.address import Address
from fastlb.model.proxied import Ends, TrustedProxies

_MAPPED = "::ffff:"


class Peer(NamedTuple):
    """A client. `ip`: empty for a UNIX socket. `announced`: by a PROXY header that named the client.
    `own_port`: that it connected to; 0 for a UNIX socket."""

    ip: str
    port: int
    trusted: bool
    announced: Ends | None = None
    own_port: int = 0

    @property
    def label(self) -> str:
        """How the access log names it."""
        if not self.ip:
            return "unix"
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"{host}:{self.port}" if self.port else host


def counted_as(peer: Peer) -> bytes:
    """What counts as one client where its connections are limited: of IPv6 the first half, because the other
    one is the client's to choose. Nothing for those that are not limited: trusted ones and UNIX sockets."""
    if peer.trusted or not peer.ip:
        return b""
    if ":" in peer.ip:
        return socket.inet_pton(socket.AF_INET6, peer.ip)[:8]
    return socket.inet_pton(socket.AF_INET, peer.ip)


def own_port(sock: socket.socket) -> int:
    """The port that a socket is bound to; 0 for a UNIX socket."""
    name = sock.getsockname()
    return int(name[1]) if isinstance(name, tuple) else 0


def accepted_peer(name: object, trusted: TrustedProxies, own_port: int = 0) -> Peer:
    """The client is who the kernel says it is: `name` is that of accept()."""
    if not isinstance(name, tuple):
        return Peer("", 0, "" in trusted)
    ip = _plain(str(name[0]))
    return Peer(ip, name[1], ip in trusted, None, own_port)


def announced_peer(ends: Ends, trusted: TrustedProxies) -> Peer:
    """The client is who a trusted proxy says it is."""
    ip = _plain(ends.source.host)
    return Peer(ip, ends.source.port, ip in trusted, ends, ends.target.port)


def client_ends(sock: socket.socket, peer: Peer) -> Ends | None:
    """Both ends of the client's connection, as announced or as they are; None if they cannot be told:
    UNIX sockets, or two families."""
    if peer.announced is not None:
        return _without_mapping(peer.announced)
    if not peer.ip:
        return None
    try:
        name = sock.getsockname()
    except OSError:
        return None
    ends = Ends(Address(host=peer.ip, port=peer.port), Address(host=_plain(name[0]), port=name[1]))
    return ends if (":" in ends.source.host) is (":" in ends.target.host) else None


def _without_mapping(ends: Ends) -> Ends:
    plain = [_plain(end.host) for end in ends]
    if any(":" in host for host in plain):
        return ends
    return Ends(*(Address(host=host, port=end.port) for host, end in zip(plain, ends, strict=True)))


def _plain(ip: str) -> str:
    """Without the mapping, and without the interface of a link-local address (RFC 4007 11)."""
    ip = ip.partition("%")[0]
    return ip.removeprefix(_MAPPED) if "." in ip else ip
