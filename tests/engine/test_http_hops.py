"""What belongs to one hop stays on it, in every message of both directions (RFC 9110 7.6.1)."""

import pytest

from support.backend import OK, answering, recording, without_port

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OURS = (
    b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\nVia: 1.1 fastlb\r\n\r\n"
)
# Fields of Connection, each with the same meaning: X-Hop and X-Skip are for this hop only.
NAMING = {
    "in one field": (b"Connection: X-Hop, X-Skip",),
    "in two fields": (b"Connection: X-Hop", b"Connection: X-Skip"),
    "in another case": (b"connection: x-hOP,X-SKIP",),
    "with holes and spaces": (b"Connection: , X-Hop\t ,, \tX-Skip , ",),
    "with keep-alive": (b"Connection: keep-alive, X-Hop", b"CONNECTION: X-Skip"),
    "twice": (b"Connection: X-Hop, x-hop, X-Skip, X-Hop",),
}
HOP = (b"X-Hop: 1", b"x-HOP: 2", b"X-Skip: 3")
KEPT = (b"X-Hope: 4", b"X-Ho: 5")


def message(start, *fields, body=b""):
    return b"\r\n".join([start, *fields, b"", b""]) + body


@pytest.mark.parametrize("how", NAMING)
def test_fields_named_in_connection_do_not_reach_the_backend(balance, backend, how):
    """However they are named; those that only look alike stay."""
    heads = []
    client = balance(backend(recording(heads))).connect()
    client.send(message(b"GET / HTTP/1.1", b"Host: a", *HOP[:2], *NAMING[how], *KEPT, HOP[2]))
    client.response()

    assert heads == [message(b"GET / HTTP/1.1", b"Host: a", *KEPT)[:-2] + OURS]


def test_fields_whose_names_resemble_those_of_a_hop_are_passed_on(balance, backend):
    """A name of the same length is another name."""
    heads = []
    names = (b"TF", b"Trailed", b"Upgraded", b"Upgrads", b"Expecs", b"Keep-Alivf", b"Proxy-Connectiom")
    names += (b"Forwardee", b"X-Forwarded-Fos", b"X-Forwarded-Poru", b"X-Forwarded-Prota", b"Max-Forwardt")
    names += (b"Connectiom", b"Content-Lengti", b"Transfer-Encodinh", b"Hosu")
    fields = [name + b": 1" for name in names]
    client = balance(backend(recording(heads))).connect()
    client.send(message(b"GET / HTTP/1.1", b"Host: a", *fields))
    assert client.response().body == b"ok"

    assert heads == [message(b"GET / HTTP/1.1", b"Host: a", *fields)[:-2] + OURS]


def test_only_letters_have_two_cases_in_connection(balance, backend):
    """`^` and `~`, `@` and a backquote differ by the same bit as `A` and `a`."""
    heads, fields = [], (b"X-Hop~: 1", b"X-Hop`: 2")
    client = balance(backend(recording(heads))).connect()
    naming = b"Connection: X-Hop^, X-Hop@, x-hopz"
    client.send(message(b"GET / HTTP/1.1", b"Host: a", naming, *fields, b"X-HOPZ: 3"))
    assert client.response().body == b"ok"

    assert heads == [message(b"GET / HTTP/1.1", b"Host: a", *fields)[:-2] + OURS]


@pytest.mark.parametrize("how", NAMING)
def test_fields_named_in_connection_do_not_reach_the_client(balance, backend, how):
    """The same for responses."""
    response = message(
        b"HTTP/1.1 200 OK", *HOP[:2], *NAMING[how], *KEPT, HOP[2], b"Content-Length: 2", body=b"ok"
    )
    client = balance(backend(answering(response))).connect()
    client.send(GET)

    assert client.response().undated == message(b"HTTP/1.1 200 OK", *KEPT, b"Content-Length: 2")


@pytest.mark.parametrize("named", [b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"Host2"])
def test_connection_of_a_response_takes_out_whatever_it_names(balance, backend, named):
    """X-Forwarded-* are ours in requests alone."""
    response = message(
        b"HTTP/1.1 200 OK", b"Connection: " + named, named + b": 1", b"Content-Length: 2", body=b"ok"
    )
    client = balance(backend(answering(response))).connect()
    client.send(GET)

    assert client.response().values(named) == []


def test_interim_response_loses_what_its_connection_names(balance, backend):
    """A 103 is a response like any other in this."""
    hints = message(b"HTTP/1.1 103 Early Hints", b"Connection: X-Hop", *HOP[:2], b"Link: </a>", b"Link: </b>")
    client = balance(backend(answering(hints + OK))).connect()
    client.send(GET)

    assert client.response().head == message(b"HTTP/1.1 103 Early Hints", b"Link: </a>", b"Link: </b>")
    assert client.response().body == b"ok"


def test_upgrade_passes_and_what_else_connection_names_does_not(balance, backend):
    """Connection: Upgrade is said anew on each hop, and nothing with it."""
    heads = []

    def script(link):
        heads.append(without_port(link.until(b"\r\n\r\n")))
        link.send(
            message(
                b"HTTP/1.1 101 Switching Protocols",
                *(b"Connection: X-Hop, Upgrade", b"Upgrade: websocket", *HOP[:2], b"X: 2"),
            )
        )
        link.rest()

    client = balance(backend(script)).connect()
    client.send(
        message(
            b"GET / HTTP/1.1",
            *(b"Host: a", b"Connection: upgrade, X-Hop", b"Upgrade: websocket", *HOP[:2], b"X: 1"),
        )
    )
    answer = client.response_head().head

    assert answer == message(
        b"HTTP/1.1 101 Switching Protocols", b"X: 2", b"Connection: Upgrade", b"Upgrade: websocket"
    )
    assert heads == [
        message(b"GET / HTTP/1.1", b"Host: a", b"X: 1")[:-2]
        + OURS[:-2]
        + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    ]


@pytest.mark.parametrize("named", [b"Host", b"host", b"Content-Length", b"CONTENT-length"])
def test_connection_takes_neither_host_nor_length_from_a_message(balance, backend, named):
    """A message without them would be another one, or would have no end."""
    heads = []
    response = message(
        b"HTTP/1.1 200 OK", b"Connection: " + named, b"Host: b", b"Content-Length: 2", body=b"ok"
    )
    client = balance(backend(recording(heads, response))).connect()
    client.send(
        message(b"PUT / HTTP/1.1", b"Host: a", b"Connection: " + named, b"Content-Length: 2", body=b"hi")
    )

    assert client.response().undated == message(b"HTTP/1.1 200 OK", b"Host: b", b"Content-Length: 2")
    assert heads == [message(b"PUT / HTTP/1.1", b"Host: a", b"Content-Length: 2")[:-2] + OURS]


@pytest.mark.parametrize(
    "named", [b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"Via", b"Forwarded"]
)
def test_connection_takes_none_of_our_own_fields_from_a_request(balance, backend, named):
    """What the client names is taken out first, and what we know is added after."""
    heads = []
    client = balance(backend(recording(heads))).connect()
    client.send(message(b"GET / HTTP/1.1", b"Host: a", b"Connection: " + named, named + b": evil"))
    client.response()

    assert heads == [message(b"GET / HTTP/1.1", b"Host: a")[:-2] + OURS]


def test_order_case_and_repetitions_pass_both_ways(balance, backend):
    """Set-Cookie cannot be joined (RFC 9110 5.3), and what can be is left as it came."""
    fields = (
        *(b"B: 1", b"a: 2", b"Set-Cookie: a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT", b"b: 3", b"A: 4"),
        *(b"SET-COOKIE: b=2", b"Set-Cookie: a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT", b"B: 1"),
    )
    heads = []
    response = message(b"HTTP/1.1 200 OK", *fields, b"Content-Length: 2", body=b"ok")
    client = balance(backend(recording(heads, response))).connect()
    client.send(message(b"GET / HTTP/1.1", b"Host: a", *fields))

    assert client.response().undated == message(b"HTTP/1.1 200 OK", *fields, b"Content-Length: 2")
    assert heads == [message(b"GET / HTTP/1.1", b"Host: a", *fields)[:-2] + OURS]


def test_via_of_a_response_is_passed_on_and_none_is_added(balance, backend):
    """A gateway may add it there (RFC 9110 7.6.3) and need not."""
    response = message(b"HTTP/1.1 200 OK", b"Via: 1.1 inner", b"Content-Length: 2", body=b"ok")
    client = balance(backend(answering(response))).connect()
    client.send(GET)

    assert client.response().values(b"Via") == [b"1.1 inner"]


def test_connect_is_refused_and_reaches_nobody(balance, backend):
    """This is no forward proxy: the target of CONNECT would be of the client's choice."""
    started = backend(answering(OK))
    running = balance(started)
    client = running.connect()
    client.send(b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\nSSH-2.0-x\r\n")

    assert client.response().status == 400
    assert client.ending() == "fin"
    assert not started.links
    assert running.line()["code"] == "PR"
