"""Listening sockets, and what is said when there can be none."""

import contextlib
import errno
import os
import socket
import subprocess

import pytest

from fastlb.control.listeners import bind, bound_address, path_identity, unlink_own
from fastlb.model.address import Address
from fastlb.model.errors import StartError
from support import own_network


def connect(host: str, port: int) -> None:
    """Connect and close."""
    socket.create_connection((host, port), timeout=5).close()


def test_port_alone_takes_ipv6_and_ipv4():
    """`--listen :8080` is for everybody."""
    with bind(Address(port=0)) as sock:
        port = bound_address(sock).port
        connect("127.0.0.1", port)
        connect("::1", port)


def test_port_alone_takes_ipv4_where_there_is_no_ipv6(monkeypatch):
    """Containers often have none."""
    real = socket.socket

    def without_ipv6(family=socket.AF_INET, *rest, **more):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *rest, **more)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    with bind(Address(port=0)) as sock:
        assert bound_address(sock).host == "0.0.0.0"


def test_an_ipv6_address_written_out_takes_ipv6_only():
    """So that 0.0.0.0 and [::] can be given side by side with one port."""
    with bind(Address(host="::", port=0)) as sock:
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def test_accepted_connections_do_not_wait_for_more_to_send():
    """TCP_NODELAY is inherited from the listening socket."""
    with bind(Address(host="127.0.0.1", port=0)) as sock:
        sock.setblocking(True)
        with socket.create_connection(sock.getsockname()), sock.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_restart_can_bind_at_once():
    """Connections of the old process may be in TIME_WAIT for a minute."""
    sock = bind(Address(host="127.0.0.1", port=0))
    address = bound_address(sock)
    sock.setblocking(True)
    client = socket.create_connection(sock.getsockname())
    sock.accept()[0].close()
    client.close()
    sock.close()

    bind(address).close()


def refusal(address: Address) -> str:
    """What the user is told."""
    with pytest.raises(StartError) as caught:
        bind(address)
    return str(caught.value)


def test_a_port_in_use_is_named():
    """With its flag and what to do."""
    with bind(Address(host="127.0.0.1", port=0)) as sock:
        address = bound_address(sock)
        assert (
            refusal(address)
            == f"--listen {address}: the port is in use; stop the other process or use another port"
        )


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_port_without_permission_is_named(monkeypatch, number):
    """Tests may run as root, so the refusal is faked."""

    def refuse(self, address):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket.socket, "bind", refuse)
    assert refusal(Address(host="127.0.0.1", port=80)).startswith(
        "--listen 127.0.0.1:80: permission denied; use a port from 1024"
    )


def test_an_address_of_another_machine_is_named():
    """192.0.2.0/24 is nobody's (RFC 5737)."""
    assert "--listen 192.0.2.1:8080: no such address on this machine" in refusal(
        Address(host="192.0.2.1", port=8080)
    )


def test_a_refused_bind_leaves_no_socket_open():
    """Nor does a refused start."""
    with bind(Address(host="127.0.0.1", port=0)) as sock:
        before = len(os.listdir("/proc/self/fd"))
        refusal(bound_address(sock))
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_unix_socket_that_a_dead_process_left_is_replaced(tmp_path):
    """unix(7) keeps the path after the listener has gone."""
    path = str(tmp_path / "s")
    bind(Address(path=path)).close()

    with bind(Address(path=path)) as sock, socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        assert bound_address(sock) == Address(path=path)


def test_a_unix_socket_in_use_is_never_taken_away(tmp_path):
    """The other process would go on listening where nobody can reach it."""
    address = Address(path=str(tmp_path / "s"))
    with bind(address), socket.socket(socket.AF_UNIX) as client:
        assert "another process listens there" in refusal(address)
        client.connect(address.path)


def test_a_file_in_the_way_is_never_removed(tmp_path):
    """It may be somebody's work."""
    path = tmp_path / "s"
    path.write_text("precious")

    assert "something else than a socket" in refusal(Address(path=str(path)))
    assert path.read_text() == "precious"


def test_a_symbolic_link_that_leads_nowhere_is_named(tmp_path):
    """bind(2) calls it an address in use, and nobody finds who uses it."""
    path = tmp_path / "s"
    path.symlink_to(tmp_path / "gone")

    assert "a symbolic link that leads nowhere; remove it" in refusal(Address(path=str(path)))
    assert path.is_symlink()


def test_a_path_that_is_taken_between_the_look_and_the_bind_is_no_port(tmp_path, monkeypatch):
    """Two of us start at once; there is no port that anybody could look for."""

    def refuse(self, address):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

    monkeypatch.setattr(socket.socket, "bind", refuse)

    assert "something was put at this path just now" in refusal(Address(path=str(tmp_path / "s")))


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_a_unix_socket_has_the_mode_that_was_asked_for(tmp_path, umask):
    """nginx of another user must be able to connect, whatever the service manager's umask."""
    path = tmp_path / "s"
    before = os.umask(umask)
    try:
        with bind(Address(path=str(path)), 0o660):
            assert path.stat().st_mode & 0o777 == 0o660
    finally:
        os.umask(before)


def test_a_missing_directory_is_named(tmp_path):
    """unix:/run/fastlb/s before anybody has made /run/fastlb."""
    assert "no such directory" in refusal(Address(path=str(tmp_path / "no" / "s")))


def test_a_closed_unix_listener_removes_its_own_path_only(tmp_path):
    """A successor may have bound it anew while the old process drained."""
    path = str(tmp_path / "s")
    with bind(Address(path=path)):
        old = path_identity(path)
    with bind(Address(path=path)):
        os.utime(path, ns=(1, 1))  # made at another time, for certain
        unlink_own(path, old)
        assert os.path.exists(path)
        unlink_own(path, path_identity(path))
        assert not os.path.exists(path)


def test_a_closed_listener_whose_path_is_gone_is_no_trouble(tmp_path):
    """Somebody has cleaned up before us."""
    path = str(tmp_path / "s")
    with bind(Address(path=path)):
        identity = path_identity(path)
        os.unlink(path)
        unlink_own(path, identity)

    assert path_identity(path) == (0, 0, 0)


def test_a_port_alone_that_ipv6_has_in_use_is_not_opened_for_ipv4_only():
    """That is no lack of IPv6: half of the clients would reach another process."""
    with bind(Address(host="::", port=0)) as sock:
        assert "the port is in use" in refusal(Address(port=bound_address(sock).port))


def test_a_unix_socket_whose_queue_is_full_is_in_use(tmp_path):
    """unix(7): such a connect is EAGAIN; somebody slow listens, and keeps the path."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening, contextlib.ExitStack() as clients:
        listening.bind(path)
        listening.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                client = clients.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(path)
        assert "another process listens there" in refusal(Address(path=path))
        assert os.path.exists(path)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "permission denied; use a directory that can be written"),
        (errno.EIO, "input/output error"),
    ],
)
def test_a_path_that_is_refused_is_named(monkeypatch, tmp_path, number, said):
    """Tests may run as root, so the refusal is faked."""

    def refuse(self, address):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket.socket, "bind", refuse)
    assert refusal(Address(path=str(tmp_path / "s"))).endswith(said)


def test_link_local_address_is_bound_on_its_interface(request):
    """`bind()` of Python forgets the interface unless it gets four values; the port is said with it."""
    if not own_network.is_own():
        own_network.run_again(request.node.nodeid, "pure")
        return
    subprocess.run(["ip", "-6", "addr", "add", "fe80::1/64", "dev", "lo", "nodad"], check=True)
    with bind(Address(host="fe80::1%lo")) as sock:
        assert bound_address(sock).host == "fe80::1%lo"
