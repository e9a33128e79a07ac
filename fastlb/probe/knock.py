"""A connect that the backend's application never sees.

A server that greets its clients counts one that leaves at once: MariaDB blocks the host after
max_connect_errors of them, sshd fills its log. The kernel of the backend takes part in a handshake of
three segments, and accept() returns after the third. So the third is held back (TCP_QUICKACK off before
connect(): the kernel delays it, up to 200 ms), and a reset goes instead of it: SO_LINGER of 0, close().
The port is known to be open, and nobody was disturbed. HAProxy does the same.
"""

import asyncio
import contextlib
import errno
import os
import socket
import struct
import sys

from fastlb.model.address import Address

# tcp(7): Linux only.
CAN_KNOCK = sys.platform == "linux"
_RESET = struct.pack("ii", 1, 0)


async def knock(address: Address) -> None:
    """Connect to a numeric address and reset before the handshake is over. Raises: OSError."""
    ((family, _, _, _, where),) = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        with contextlib.suppress(OSError):  # a kernel that only looks like Linux: the server accepts, then
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        await asyncio.get_running_loop().sock_connect(sock, where)
        if sock.getsockname() == sock.getpeername():  # nobody listens, and the port chosen for us is the same
            raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
