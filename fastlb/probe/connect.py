"""Connects to a backend: to the first of its addresses that takes a connection, and not to ourselves."""

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Callable, Sequence

from fastlb.model.address import Address, socket_address
from fastlb.probe.result import LOCAL_ERRNOS

RESET = struct.pack("ii", 1, 0)


async def reach(
    addresses: Sequence[Address], timeout_s: float, prepare: Callable[[socket.socket], None] | None = None
) -> tuple[socket.socket, Address]:
    """A connection to the first address that takes one (RFC 1123 2.3), and that address.

    Each has its share of the time, the last one all that is left. Raises: OSError.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + timeout_s
    refused: OSError | None = None
    for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
        share_s = (until_s - loop.time()) / left if left > 1 else None
        try:
            return await connect(address, prepare, share_s), address
        except OSError as error:
            # EADDRNOTAVAIL: cannot be reached from here, as ::1 without IPv6. Another says more.
            if error.errno != errno.EADDRNOTAVAIL:
                refused = error
            if left == 1 or error.errno in LOCAL_ERRNOS - {errno.EADDRNOTAVAIL}:
                raise (refused or error) from None
    raise AssertionError("a backend has an address")


async def connect(
    address: Address,
    prepare: Callable[[socket.socket], None] | None = None,
    timeout_s: float | None = None,
) -> socket.socket:
    """A connected, non-blocking socket. Raises: OSError; refused if it is connected with itself.

    connect(2) by hand: the loop's own looks the address up, in a thread. A UNIX socket connects at once,
    or fails with EAGAIN if the backlog is full (unix(7)). `prepare` is given the socket before.
    """
    family, name = socket_address(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if prepare is not None:
            prepare(sock)
        error = sock.connect_ex(name)
        if error == errno.EINPROGRESS:
            error = errno.ETIMEDOUT
            if await _writable(sock, timeout_s):
                error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not error and family != socket.AF_UNIX and is_own_peer(sock):
            # RST: in TIME_WAIT the port could not be bound by the backend when it comes back.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            error = errno.ECONNREFUSED
        if error:
            raise OSError(error, os.strerror(error))
    except BaseException:
        sock.close()
        raise
    return sock


def is_own_peer(sock: socket.socket) -> bool:
    """True if both ends of a connection are this socket. Where a port of the local range has no listener,
    the kernel may choose that very port as the source, and TCP connects the two (RFC 9293 3.5, simultaneous
    open)."""
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:
        return False  # it has ended meanwhile


async def _writable(sock: socket.socket, timeout_s: float | None) -> bool:
    """False if it was not within the time."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(sock, _settle, ready)
    try:
        await asyncio.wait({ready}, timeout=timeout_s)
        return ready.done()
    finally:
        loop.remove_writer(sock)


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
