"""Connects that may meet themselves.

A connecting socket gets a free local port. If that is the one it connects to, at the same address, and
nobody listens there, TCP connects it to itself (simultaneous open, RFC 9293 3.5): whatever is sent comes
back. So a backend on this machine that has ended, at a port out of the range of such ports, would seem to
be there now and then. Only where that can happen are connections asked for both their ends.
"""

import socket
from pathlib import Path

_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")  # of IPv6, too (ip(7))


def may_meet_itself(host: str, port: int) -> bool:
    """True if `host` is an address of this machine, and connects are made from ports like `port`."""
    return _gives_out(port) and _is_own(host)


def _gives_out(port: int) -> bool:
    try:
        first, last = _PORTS.read_text().split()
    except (OSError, ValueError):
        return True  # another system, whose range is not known
    return int(first) <= port <= int(last)


def _is_own(host: str) -> bool:
    """Nobody can bind an address of another machine."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True
