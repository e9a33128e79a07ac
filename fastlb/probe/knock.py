"""A connect that the backend's application never sees.

A server that greets its clients counts one that leaves at once: MariaDB blocks the host after
max_connect_errors of them, sshd fills its log. The kernel of the backend takes part in a handshake of
three segments, and accept() returns after the third. So the third is held back (TCP_QUICKACK off before
connect(): the kernel delays it, up to 200 ms), and a reset goes instead of it: SO_LINGER of 0, close().
The port is known to be open, and nobody was disturbed. HAProxy does the same.
"""

import contextlib
import socket
import sys
from collections.abc import Sequence

from fastlb.model.address import Address
from fastlb.probe.connect import RESET, reach

# tcp(7): Linux only.
CAN_KNOCK = sys.platform == "linux"


async def knock(addresses: Sequence[Address], timeout_s: float) -> Address:
    """Connect to the first numeric address that takes it, and reset before the handshake is over. Returns
    that address. Raises: OSError."""
    sock, address = await reach(addresses, timeout_s, _hold_back)
    sock.close()
    return address


def _hold_back(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # a kernel that only looks like Linux: the server accepts, then
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
