"""Listening sockets: binds them, and says in plain words why that failed.

SO_REUSEADDR lets a restart bind while old connections are in TIME_WAIT (tcp(7)). TCP_NODELAY is
inherited by accepted sockets, which saves a system call for each. `:port` is one IPv6 socket that
takes IPv4 too; an address written out takes its own family only, so that 0.0.0.0 and [::] can be
given side by side.
"""

import contextlib
import errno
import os
import socket
import stat

from fastlb.model.address import Address, from_socket, socket_address
from fastlb.model.errors import StartError

BACKLOG = 4096
_FLAG = "--listen"


def bind(address: Address, socket_mode: int | None = None) -> socket.socket:
    """A listening, non-blocking socket on a numeric or UNIX address; `socket_mode` is that of the path.

    Raises: StartError.
    """
    try:
        if address.is_unix:
            return _bind_unix(address.path, socket_mode)
        if address.host:
            return _bind_tcp(address, dual_stack=False)
        return _bind_everywhere(address.port)
    except OSError as error:
        if isinstance(error, StartError):
            raise
        raise StartError(f"{_FLAG} {address}: {_refusal(address, error)}") from error


def bound_address(sock: socket.socket) -> Address:
    """Where `sock` listens, with the port that the kernel chose for port 0."""
    return from_socket(sock.getsockname())


PathIdentity = tuple[int, int, int]


def path_identity(path: str) -> PathIdentity:
    """Which socket is at `path` now; zeros if there is none.

    The time tells two sockets apart when the second was given the inode of the first.
    """
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0, 0
    return status.st_dev, status.st_ino, status.st_mtime_ns


def unlink_own(path: str, identity: PathIdentity) -> None:
    """Remove the path of a closed UNIX listener, unless a successor has bound it anew."""
    if path_identity(path) == identity:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _bind_everywhere(port: int) -> socket.socket:
    try:
        return _bind_tcp(Address(host="::", port=port), dual_stack=True)
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT):
            raise
    return _bind_tcp(Address(host="0.0.0.0", port=port), dual_stack=False)  # noqa: S104 - what `:port` asks for


def _bind_tcp(address: Address, *, dual_stack: bool) -> socket.socket:
    family, name = socket_address(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual_stack)
        sock.bind(name)
        # Only now, so that an address in use has been refused; it lets the engine open one accept
        # queue for each worker, also when clients wait in this one already.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return _listening(sock)
    except BaseException:
        sock.close()
        raise


def _bind_unix(path: str, socket_mode: int | None) -> socket.socket:
    _unlink_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        if socket_mode is not None:
            os.chmod(path, socket_mode)  # before anybody can connect
        return _listening(sock)
    except BaseException:
        sock.close()
        raise


def _listening(sock: socket.socket) -> socket.socket:
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def _unlink_stale(path: str) -> None:
    """Remove a socket that nobody listens on any more; unix(7) leaves it behind."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if os.path.islink(path):
            raise StartError(f"{_FLAG} unix:{path}: a symbolic link that leads nowhere; remove it") from None
        return
    if not stat.S_ISSOCK(mode):
        raise StartError(f"{_FLAG} unix:{path}: there is something else than a socket at this path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
        asker.setblocking(False)
        try:
            asker.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # a full backlog: somebody listens
    raise StartError(f"{_FLAG} unix:{path}: another process listens there; stop it or use another path")


def _refusal(address: Address, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE and address.is_unix:
        return "something was put at this path just now; start again"
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; stop the other process or use another port"
    if error.errno in (errno.EACCES, errno.EPERM):
        if address.is_unix:
            return "permission denied; use a directory that can be written"
        return "permission denied; use a port from 1024 on, or run with CAP_NET_BIND_SERVICE"
    if error.errno == errno.EADDRNOTAVAIL:
        return "no such address on this machine; use one of its own, or :port for all"
    if error.errno == errno.ENOENT:
        return "no such directory; use one that exists"
    return os.strerror(error.errno or 0).lower()
