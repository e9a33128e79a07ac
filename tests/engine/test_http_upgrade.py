"""Which upgrades a client may ask for: what is no HTTP any more meets none of its rules."""

import pytest

from fastlb.model.fields import FieldConfig
from support.backend import OK, answering, recording
from support.wire import Message

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"


def asking(value):
    """A request with this Upgrade."""
    return GET + b"Connection: Upgrade\r\nUpgrade: " + value + b"\r\n\r\n"


@pytest.mark.parametrize(
    "value",
    [
        b"h2c",
        b"H2C",
        b"h2c, h2c",
        b"h2c/1",
        b"TLS/1.0, HTTP/1.1",
        b"HTTP/2.0",
        b"websockets",
        b"web socket",
        b"websocket;a",
        b'"websocket"',
        b"x/websocket",
        b"h2c websocket",
        b"",
        b",",
        b"/",
    ],
)
def test_upgrade_to_another_protocol_is_not_passed_on(balance, backend, value):
    """A server that speaks h2c would be asked for anything by anybody in the tunnel."""
    heads = []
    client = balance(backend(recording(heads))).connect()
    for _ in range(2):
        client.send(asking(value))
        assert client.response().undated == OK.partition(b"ok")[0]

    for head in map(Message, heads):
        assert not head.values(b"Upgrade")
        assert not head.values(b"Connection")


@pytest.mark.parametrize("body", ["length", "chunks"])
def test_h2c_goes_and_its_request_stays_as_it_is(balance, backend, body):
    """A server need not switch, so it is answered in HTTP/1.1 (RFC 9110 7.8), with its body."""
    seen = []

    def script(link):
        while (request := link.request()) is not None:
            seen.append(request)
            link.send(OK)

    framed = b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n4\r\n you\r\n0\r\n\r\n"
    if body == "length":
        framed = b"Content-Length: 9\r\n\r\nhello you"
    client = balance(backend(script)).connect()
    for _ in range(2):
        client.send(b"POST /admin HTTP/1.1\r\nHost: a\r\n" + H2C + framed)
        assert client.response().body == b"ok"

    for request in seen:
        assert request.body == b"hello you"
        assert (
            not request.values(b"Upgrade") + request.values(b"HTTP2-Settings") + request.values(b"Connection")
        )


@pytest.mark.parametrize("named", [b"Connection: HTTP2-Settings\r\n", b"Connection: close\r\n", b""])
def test_settings_of_h2c_never_pass(balance, backend, named):
    """Also without the name in Connection that they must have."""
    heads = []
    client = balance(backend(recording(heads))).connect()
    client.send(GET + named + b"http2-settings: x\r\n\r\n")
    client.response()

    assert b"ettings" not in heads[0]


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ((b"websocket",), b"websocket"),
        ((b"WebSocket",), b"WebSocket"),
        ((b"websocket/13",), b"websocket/13"),
        ((b"h2c, websocket",), b"websocket"),
        ((b"websocket\t,h2c",), b"websocket"),
        ((b",websocket,,",), b"websocket"),
        ((b"h2c", b"websocket"), b"websocket"),
        ((b"websocket", b"h2c, WEBSOCKET/13"), b"websocket, WEBSOCKET/13"),
    ],
)
def test_of_several_protocols_those_that_may_be_asked_for_are_passed_on(balance, backend, fields, sent):
    """Upgrade is a list, in order of preference, and its names have no case (RFC 9110 7.8)."""
    heads = []

    def script(link):
        heads.append(link.until(b"\r\n\r\n"))
        link.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi")
        link.rest()

    client = balance(backend(script)).connect()
    upgrades = b"".join(b"Upgrade: " + value + b"\r\n" for value in fields)
    client.send(GET + b"Connection: upgrade\r\n" + upgrades + b"\r\n")

    assert client.response_head().status == 101
    assert client.exactly(2) == b"hi"
    assert Message(heads[0]).values(b"Upgrade") == [sent]
    assert Message(heads[0]).values(b"Connection") == [b"Upgrade"]


def test_more_protocols_can_be_allowed(balance, backend):
    """Whoever serves another one says so."""
    config = FieldConfig(upgrades=("TCP", "irc"))
    heads = []
    client = balance(backend(recording(heads)), fields=config).connect()
    for value in (b"tcp", b"h2c, IRC/6.9, tcp", b"websocket", b"udp"):
        client.send(asking(value))
        client.response()

    assert [Message(head).values(b"Upgrade") for head in heads] == [
        [b"tcp"],
        [b"IRC/6.9, tcp"],
        [b"websocket"],
        [],
    ]


def test_101_to_an_upgrade_that_was_not_passed_on_is_a_502(balance, backend):
    """The backend was not asked."""
    running = balance(
        backend(answering(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"))
    )
    client = running.connect()
    client.send(asking(b"h2c"))

    assert client.response().status == 502
    assert running.line()["code"] == "PH"
