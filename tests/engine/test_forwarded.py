"""X-Forwarded-* of trusted proxies, and who is trusted."""

import socket

import pytest

from fastlb.model.config import Mode
from support.backend import OK, recording

HOST = b"Host: h.example\r\n"
OWN = b"X-Forwarded-Proto: http\r\nX-Forwarded-Host: h.example\r\nVia: 1.1 fastlb\r\n\r\n"


def pass_on(balance, backend, fields, *, trusted=("127.0.0.1",)):
    """Send one request with these fields; return what follows the request line at the backend."""
    heads = []
    client = balance(backend(recording(heads)), trusted=trusted).connect()
    client.send(b"GET / HTTP/1.1\r\n" + fields + b"\r\n")
    assert client.response().status == 200
    return heads[0].partition(b"\r\n")[2]


def test_client_of_a_trusted_proxy_is_kept_and_the_proxy_appended(balance, backend):
    """One line, all that came in order: the last one is what fastlb has seen itself."""
    sent = pass_on(
        balance,
        backend,
        b"X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\n" + HOST + b"x-forwarded-for: 192.0.2.3\r\n",
    )

    assert sent == HOST + b"X-Forwarded-For: 192.0.2.1, 192.0.2.2, 192.0.2.3, 127.0.0.1\r\n" + OWN


def test_what_a_trusted_proxy_says_besides_is_kept(balance, backend):
    """Only the first proxy knows how the client came; fields keep their place and case."""
    said = b"x-forwarded-proto: https\r\nX-Forwarded-Host: public.example\r\nX-Forwarded-Port: 443\r\n"

    assert pass_on(balance, backend, said + HOST) == (
        said + HOST + b"X-Forwarded-For: 127.0.0.1\r\nVia: 1.1 fastlb\r\n\r\n"
    )


def test_what_a_trusted_proxy_does_not_say_is_added(balance, backend):
    """The backend sees the same fields from every client."""
    assert pass_on(balance, backend, HOST) == HOST + b"X-Forwarded-For: 127.0.0.1\r\n" + OWN
    assert pass_on(balance, backend, b"X-Forwarded-Port: 1\r\n" + HOST) == (
        b"X-Forwarded-Port: 1\r\n" + HOST + b"X-Forwarded-For: 127.0.0.1\r\n" + OWN
    )


def test_empty_x_forwarded_for_says_nothing(balance, backend):
    """A list has no empty members."""
    fields = b"X-Forwarded-For:\r\n" + HOST + b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: \t\r\n"

    assert pass_on(balance, backend, fields) == HOST + b"X-Forwarded-For: 192.0.2.1, 127.0.0.1\r\n" + OWN


def test_connection_cannot_take_out_forwarded_fields(balance, backend):
    """A proxy that passes a client's Connection on must not let it hide the client."""
    said = b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: p\r\nX-Forwarded-Port: 443\r\n"
    fields = (
        b"Connection: X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, X-Forwarded-Port\r\n"
        b"X-Forwarded-For: 192.0.2.1\r\n"
    )

    assert pass_on(balance, backend, fields + said + HOST) == (
        said + HOST + b"X-Forwarded-For: 192.0.2.1, 127.0.0.1\r\nVia: 1.1 fastlb\r\n\r\n"
    )


def test_forwarded_is_dropped_also_from_a_trusted_proxy(balance, backend):
    """It says the same in another way, and two that differ would let a backend believe either."""
    sent = pass_on(balance, backend, b"Forwarded: for=192.0.2.1\r\n" + HOST)

    assert sent == HOST + b"X-Forwarded-For: 127.0.0.1\r\n" + OWN


def test_longest_head_of_forwarded_fields_is_passed_on(balance, backend):
    """Joining must fit into what is set aside for a head."""
    values = [b"%d" % n + b"x" * 640 for n in range(98)]
    sent = pass_on(balance, backend, HOST + b"".join(b"X-Forwarded-For: %b\r\n" % v for v in values))

    assert sent == HOST + b"X-Forwarded-For: " + b", ".join([*values, b"127.0.0.1"]) + b"\r\n" + OWN


@pytest.mark.parametrize(
    ("trusted", "believed"),
    [
        (("127.0.0.1",), True),
        (("127.0.0.0/8",), True),
        (("127.0.0.0/31",), True),
        (("10.0.0.0/8", "127.0.0.1/32"), True),
        (("0.0.0.0/0",), True),
        (("::ffff:127.0.0.0/104",), True),
        ((), False),
        (("127.0.0.2",), False),
        (("127.0.0.2/31",), False),
        (("126.0.0.0/8",), False),
        (("128.0.0.0/1",), False),
        (("::1",), False),
        (("::/0",), False),
        (("unix",), False),
    ],
)
def test_proxies_are_trusted_by_network(balance, backend, trusted, believed):
    """A prefix may end inside a byte; an IPv6 network holds no IPv4 client."""
    sent = pass_on(balance, backend, HOST + b"X-Forwarded-For: 192.0.2.1\r\n", trusted=trusted)

    assert (b"X-Forwarded-For: 192.0.2.1, 127.0.0.1\r\n" in sent) is believed
    assert (b"X-Forwarded-For: 127.0.0.1\r\n" in sent) is not believed


@pytest.mark.parametrize(
    ("trusted", "believed"),
    [("::1", True), ("::/127", True), ("::/0", True), ("::2/127", False), ("0.0.0.0/0", False)],
)
def test_ipv6_proxies_are_trusted_by_network(balance, backend, trusted, believed):
    """The same for the other family."""
    heads = []
    running = balance(backend(recording(heads)), trusted=[trusted])
    port = running.open_listener(Mode.HTTP, family=socket.AF_INET6)
    client = running.adopt(socket.create_connection(("::1", port)))
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
    assert client.response().status == 200

    assert (b"X-Forwarded-For: 192.0.2.1, ::1\r\n" in heads[0]) is believed


def test_ipv4_client_of_a_dual_stack_listener_is_trusted_as_ipv4(balance, backend, loop_thread):
    """The kernel shows it as ::ffff:127.0.0.1."""
    heads = []
    running = balance(backend(recording(heads)), trusted=["127.0.0.1"])
    with socket.socket(socket.AF_INET6) as listening:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(("::ffff:127.0.0.1", 0))
        listening.listen(8)
        listening.setblocking(False)
        loop_thread.call(lambda: running.engine.open_listener(listening, Mode.HTTP))
        port = listening.getsockname()[1]
    client = running.connect(port)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
    assert client.response().status == 200

    assert b"X-Forwarded-For: 192.0.2.1, 127.0.0.1\r\n" in heads[0]


@pytest.mark.parametrize("trusted", [(), ("unix",)])
def test_client_of_a_unix_socket_adds_no_address(balance, backend, tmp_path, trusted):
    """X-Forwarded-For holds addresses, and a UNIX socket has none; `unix` trusts what it says."""
    heads = []
    running = balance(backend(recording(heads, OK)), trusted=trusted)
    path = str(tmp_path / "s")
    running.open_unix_listener(Mode.HTTP, path)
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    client = running.adopt(sock)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    client.response()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
    client.response()

    assert b"X-Forwarded-For" not in heads[0]
    assert (b"X-Forwarded-For: 192.0.2.1\r\n" in heads[1]) is bool(trusted)
    assert running.lines(2)[0]["client"] == "unix"
