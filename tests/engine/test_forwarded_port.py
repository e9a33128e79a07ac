"""X-Forwarded-Port: where the client connected to, as far as it is known."""

import socket

import pytest

from fastlb.model.config import Mode
from support.backend import OK
from support.proxy_headers import TCP6, V1_V4, V4_BLOCK, V6_BLOCK, v2
from support.wire import Message

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
TRUSTED = ("127.0.0.1",)


def keeping(heads):
    """Answer every request and keep its head as it is."""

    def script(link):
        while (request := link.request()) is not None:
            heads.append(Message(request.head))
            link.send(OK)

    return script


def port_seen(client, heads, said=b"", before=b""):
    """Send one request; return the X-Forwarded-Port that the backend got."""
    client.send(before, GET + said + b"\r\n")
    assert client.response().status == 200
    return heads.pop().value(b"X-Forwarded-Port")


def test_port_is_that_of_the_listener(balance, backend):
    """One for each listener, whatever Host says; again for each request."""
    heads = []
    running = balance(backend(keeping(heads)))
    other = running.open_listener(Mode.HTTP)
    sixth = running.open_listener(Mode.HTTP, family=socket.AF_INET6)
    for port in (running.port, other):
        client = running.connect(port)
        for _ in range(2):
            assert port_seen(client, heads) == b"%d" % port
    client = running.adopt(socket.create_connection(("::1", sixth)))

    assert port_seen(client, heads) == b"%d" % sixth


@pytest.mark.parametrize(
    ("header", "port"),
    [
        (V1_V4, b"443"),
        (v2(V4_BLOCK), b"443"),
        (v2(V6_BLOCK, kind=TCP6), b"65535"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 0\r\n", None),
        (b"PROXY UNKNOWN\r\n", b"of the listener"),
        (v2(V4_BLOCK, command=0x20), b"of the listener"),
    ],
)
def test_port_is_the_announced_one(balance, backend, header, port):
    """The proxy in front took the connection; one that announces nothing is the client itself."""
    heads = []
    running = balance(backend(keeping(heads)), proxied=True, trusted=TRUSTED)
    if port == b"of the listener":
        port = b"%d" % running.port

    assert port_seen(running.connect(), heads, before=header) == port


@pytest.mark.parametrize("trusted", [(), ("unix",)])
def test_client_of_a_unix_socket_has_no_port(balance, backend, tmp_path, trusted):
    """A path is none; a PROXY header may tell one all the same."""
    heads = []
    running = balance(backend(keeping(heads)), trusted=trusted)
    running.open_unix_listener(Mode.HTTP, str(tmp_path / "s"))
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(tmp_path / "s"))

    assert port_seen(running.adopt(client), heads) is None
    if trusted:
        running.open_unix_listener(Mode.HTTP, str(tmp_path / "p"), proxied=True)
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(tmp_path / "p"))
        assert port_seen(running.adopt(client), heads, before=V1_V4) == b"443"


def test_port_of_an_untrusted_client_is_replaced(balance, backend):
    """In every spelling."""
    heads = []
    running = balance(backend(keeping(heads)))
    said = b"X-Forwarded-Port: 443\r\nx_forwarded_port: 444\r\nX-FORWARDED-PORT: 445\r\n"

    assert port_seen(running.connect(), heads, said) == b"%d" % running.port


@pytest.mark.parametrize(
    ("said", "port"),
    [
        (b"X-Forwarded-Port: 443\r\n", b"443"),
        (b"X-Forwarded-Proto: https\r\n", None),
        (b"X-Forwarded-Host: b\r\n", None),
        (b"X-Forwarded-For: 192.0.2.1\r\n", None),
        (b"X-Forwarded-Proto: https\r\nX-Forwarded-Port: 8443\r\n", b"8443"),
        (b"X-Real-IP: 192.0.2.1\r\n", b"ours"),
        (b"", b"ours"),
    ],
)
def test_port_is_left_to_the_proxy_that_speaks_for_its_client(balance, backend, said, port):
    """Our own port beside its `https` would make addresses such as https://a:8080/."""
    heads = []
    running = balance(backend(keeping(heads)), trusted=TRUSTED)
    if port == b"ours":
        port = b"%d" % running.port

    assert port_seen(running.connect(), heads, said) == port
