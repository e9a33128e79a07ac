"""NTLM and Negotiate authenticate a connection, not a request (RFC 4559 6): no second client may get it."""

import pytest

from support.backend import OK, answering
from support.waiting import wait_until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
NTLM = [b"WWW-Authenticate: NTLM"]
CHALLENGES = [
    (401, NTLM),
    (401, [b"WWW-Authenticate: Negotiate"]),
    (401, [b'WWW-Authenticate: Basic realm="x", negotiate']),
    (401, [b'WWW-Authenticate: Basic realm="x"', b"www-authenticate:NTLM TlRMTVNTUAACAAAA"]),
    (407, [b"Proxy-Authenticate: NTLM"]),
]
UNAUTHORIZED = b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="NTLM"\r\nContent-Length: 2\r\n\r\nno'


def authenticating(status=401, challenge=NTLM):
    """Knows the user of a connection from the first credentials that came on it."""
    fields = b"\r\n".join(challenge)
    refusal = b"HTTP/1.1 %d No\r\n%s\r\nContent-Length: 2\r\n\r\nno" % (status, fields)

    def script(link):
        user = b""
        while (request := link.request()) is not None:
            sent = request.value(b"Authorization") or request.value(b"Proxy-Authorization")
            user = sent.split()[1] if sent else user
            welcome = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(user), user)
            link.send(welcome if user else refusal)

    return script


def ask(client, *fields):
    client.send(GET[:-2], *(field + b"\r\n" for field in fields), b"\r\n")
    return client.response()


def ended(link):
    return link.sock.fileno() == -1


@pytest.mark.parametrize("scheme", [b"NTLM", b"Negotiate", b"negotiate"])
@pytest.mark.parametrize("name", [b"Authorization", b"Proxy-Authorization"])
def test_second_client_never_gets_the_identity_of_the_first(balance, backend, name, scheme):
    """The answer that completes the authentication has no challenge; the request says what it is."""
    running = balance(backend(authenticating()))
    first, second = running.connect(), running.connect()

    assert ask(first, name + b": " + scheme + b" alice").body == b"alice"
    assert ask(second).status == 401
    assert ask(second, b"Authorization: NTLM bob").body == b"bob"
    assert [ask(first).body, ask(second).body, ask(first).body] == [b"alice", b"bob", b"alice"]


@pytest.mark.parametrize(("status", "challenge"), CHALLENGES)
def test_connection_of_a_challenge_is_kept_for_its_client(balance, backend, status, challenge):
    """The handshake takes several requests on one connection."""
    started = backend(authenticating(status, challenge))
    running = balance(started)
    first, second = running.connect(), running.connect()
    for _ in range(2):
        assert [ask(first).status, ask(second).status] == [status, status]

    assert len(started.links) == 2
    assert running.ledger().backends[0].connects == 2


def test_other_schemes_leave_the_connection_to_everybody(balance, backend):
    """They authenticate each request, and their connections stay in the pool."""
    started = backend(answering(UNAUTHORIZED))
    running = balance(started)
    for _ in range(3):
        client = running.connect()
        assert ask(client, b"Authorization: Basic TlRMTQ==").status == 401
        running.wait_idle()

    assert len(started.links) == 1


def test_private_connection_ends_with_its_client(balance, backend):
    """Nobody else may have it."""
    started = backend(authenticating())
    running = balance(started)
    client = running.connect()
    ask(client, b"Authorization: NTLM alice")
    running.wait_idle()
    client.close()

    wait_until(lambda: ended(started.link(0)), "the end of the private connection")
    assert ask(running.connect()).status == 401


def test_client_of_a_private_connection_that_is_gone_goes_on_with_another(balance, backend):
    """It has to authenticate again, and is told so."""
    started = backend(authenticating())
    running = balance(started)
    client = running.connect()
    ask(client, b"Authorization: NTLM alice")
    running.wait_idle()
    started.link(0).sock.shutdown(2)
    wait_until(lambda: running.verify().connections == 1, "the end of the private connection")

    assert ask(client).status == 401


def test_private_connection_to_a_backend_that_is_out_is_closed(balance, backend):
    """The next request of its client picks anew."""
    started = backend(authenticating())
    running = balance(started, backend(answering(OK)))
    running.keep_only(0)
    client = running.connect()
    ask(client, b"Authorization: NTLM alice")
    running.wait_idle()
    running.keep_only(1)
    wait_until(lambda: ended(started.link(0)), "the end of the private connection")

    assert ask(client).body == b"ok"
    assert running.picked(1) == 1


def test_idle_private_connection_holds_no_unit_and_makes_way_for_others(balance, backend):
    """With `max_conns` its place is worth more to a request than to an idle client."""
    started = backend(authenticating())
    running = balance(started, max_conns=[1])
    first, second = running.connect(), running.connect()
    ask(first, b"Authorization: NTLM alice")
    running.wait_idle()

    assert ask(second).status == 401
    assert ask(first).status == 401
    wait_until(lambda: ended(started.link(0)), "the end of the first connection")


def test_private_connection_is_not_kept_for_a_client_that_leaves(balance, backend):
    """Its last request says close."""
    started = backend(authenticating())
    running = balance(started)
    client = running.connect()
    assert ask(client, b"Authorization: NTLM alice", b"Connection: close").body == b"alice"

    wait_until(lambda: ended(started.link(0)), "the end of the private connection")
