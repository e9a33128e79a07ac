"""Absolute-form targets: their scheme is that of the client's connection, or the request is misdirected."""

import pytest

from support.backend import OK, answering, recording
from support.wire import Message

HTTPS = b"X-Forwarded-Proto: https\r\n"
HTTP = b"X-Forwarded-Proto: http\r\n"
TRUSTED = ("127.0.0.1",)


def asked(balance, backend, scheme, fields=b"", trusted=()):
    """Ask for one target; return the status, and the head that the backend got."""
    heads = []
    client = balance(backend(recording(heads)), trusted=trusted).connect()
    client.send(b"GET " + scheme + b"://b:8/x HTTP/1.1\r\nHost: other\r\n" + fields + b"\r\n")
    return client.response().status, heads[0] if heads else None


@pytest.mark.parametrize("scheme", [b"https", b"wss", b"HTTPS", b"Wss"])
def test_secure_scheme_on_a_plain_connection_is_421(balance, backend, scheme):
    """The client means another server, or was led here (RFC 9110 7.4); nobody is asked."""
    started = backend(answering(OK))
    running = balance(started)
    client = running.connect()
    client.send(b"GET " + scheme + b"://a/x HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = client.response()

    assert answer.start == b"HTTP/1.1 421 Misdirected Request"
    assert answer.value(b"Connection") == b"close"
    assert client.ending() == "fin"
    assert not started.links
    line = running.line()
    assert (line["status"], line["code"], line["target"]) == (421, "PR", scheme.decode() + "://a/x")


@pytest.mark.parametrize("scheme", [b"http", b"ws", b"HTTP", b"Ws"])
def test_plain_scheme_on_a_plain_connection_passes(balance, backend, scheme):
    """In origin form, with the host of the target (RFC 9112 3.2.2)."""
    status, head = asked(balance, backend, scheme)

    assert status == 200
    assert head.startswith(b"GET /x HTTP/1.1\r\n")
    assert Message(head).values(b"Host") == [b"b:8"]


@pytest.mark.parametrize(
    ("said", "secure"),
    [
        (HTTPS, True),
        (b"x-forwarded-proto:\tHTTPS \r\n", True),
        (b"X-Forwarded-Proto: wss\r\n", True),
        (b"X-Forwarded-Proto: https, http\r\n", True),
        (HTTPS + HTTP, True),
        (HTTP, False),
        (HTTP + HTTPS, False),
        (b"X-Forwarded-Proto: http, https\r\n", False),
        (b"X-Forwarded-Proto: ws\r\n", False),
        (b"X-Forwarded-Proto: httpss\r\n", False),
        (b"X-Forwarded-Proto:\r\n", False),
        (b"X-Forwarded-Port: 443\r\nX-Forwarded-Host: https\r\n", False),
        (b"", False),
    ],
)
def test_scheme_fits_what_a_trusted_proxy_says_of_its_client(balance, backend, said, secure):
    """The first of several is the client's own hop. What does not fit is misdirected either way."""
    for scheme, is_secure in ((b"https", True), (b"wss", True), (b"http", False), (b"ws", False)):
        status, head = asked(balance, backend, scheme, said, TRUSTED)

        assert status == (200 if secure is is_secure else 421)
        assert head is None or head.startswith(b"GET /x HTTP/1.1\r\nHost: b:8\r\n")


def test_scheme_is_not_learned_from_a_client(balance, backend):
    """Nobody is trusted by default, and a twin of the field with an underscore never is."""
    assert asked(balance, backend, b"https", HTTPS) == (421, None)
    assert asked(balance, backend, b"https", b"X_Forwarded_Proto: https\r\n", TRUSTED) == (421, None)
    assert asked(balance, backend, b"http", HTTPS)[0] == 200


@pytest.mark.parametrize("target", [b"/x", b"//a/x", b"*"])
def test_other_targets_have_no_scheme(balance, backend, target):
    """They are what the connection is."""
    client = balance(backend(answering(OK)), trusted=TRUSTED).connect()
    client.send(b"OPTIONS " + target + b" HTTP/1.1\r\nHost: a\r\n" + HTTPS + b"\r\n")

    assert client.response().status == 200
