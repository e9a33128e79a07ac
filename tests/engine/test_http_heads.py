"""Heads as they pass: exact bytes upstream and downstream, and what is taken out or put in."""

import pytest

from support.backend import OK, answering, recording
from support.wire import Message


def pass_on(balance, backend, request, response=OK):
    """Send one request; return the head that the backend got and the bytes that the client got."""
    heads = []
    running = balance(backend(recording(heads, response)))
    client = running.connect()
    client.send(request)
    answer = client.response()
    return heads[0], answer.undated + answer.body


def forwarded(host=b"h.example", via=b"1.1 fastlb"):
    """The fields that the balancer adds, in order."""
    return (
        b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"
        b"X-Forwarded-Host: " + host + b"\r\nVia: " + via + b"\r\n\r\n"
    )


def test_request_head_is_rewritten_byte_for_byte(balance, backend):
    """Order, case, duplicates and values of fields are kept; only outer space is trimmed."""
    upstream, _ = pass_on(
        balance,
        backend,
        b"GET /a?b=c%20d HTTP/1.1\r\nHost: h.example\r\nuser-AGENT:   t  \r\n"
        b"Cookie: a=1\r\nX: 1\r\nCookie: b=2\r\nEmpty:\r\n\r\n",
    )

    assert upstream == (
        b"GET /a?b=c%20d HTTP/1.1\r\nHost: h.example\r\nuser-AGENT: t\r\n"
        b"Cookie: a=1\r\nX: 1\r\nCookie: b=2\r\nEmpty: \r\n" + forwarded()
    )


def test_response_head_is_rewritten_byte_for_byte(balance, backend):
    """Set-Cookie is never joined (RFC 9110 5.3), and nothing is added where there is a Date."""
    response = (
        b"HTTP/1.1 299 Quite Fine\r\nserver: x\r\nSet-Cookie: a=1\r\nContent-Length: 2\r\n"
        b"Set-Cookie: b=2\r\nDate: now\r\n\r\nok"
    )
    _, downstream = pass_on(balance, backend, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", response)

    assert downstream == response


def test_content_length_stays_in_its_place(balance, backend):
    """The framing of a body of known length is the client's own field."""
    upstream, _ = pass_on(
        balance, backend, b"POST / HTTP/1.1\r\nHost: h.example\r\nContent-Length: 2\r\nX: 1\r\n\r\nhi"
    )

    assert upstream == b"POST / HTTP/1.1\r\nHost: h.example\r\nContent-Length: 2\r\nX: 1\r\n" + forwarded()


def test_chunked_request_is_framed_by_us(balance, backend):
    """Transfer-Encoding is hop-by-hop: taken out and set again."""
    upstream, _ = pass_on(
        balance,
        backend,
        b"POST / HTTP/1.1\r\nHost: h.example\r\ntransfer-encoding: Chunked\r\nX: 1\r\n\r\n"
        b"2;ext=1\r\nhi\r\n0\r\n\r\n",
    )

    assert upstream == (
        b"POST / HTTP/1.1\r\nHost: h.example\r\nX: 1\r\nTransfer-Encoding: chunked\r\n" + forwarded()
    )


@pytest.mark.parametrize(
    "fields", [b"Content-Length: 2, 2\r\n", b"Content-Length: 2\r\nContent-Length: 2\r\n"]
)
def test_repeated_content_length_is_sent_once(balance, backend, fields):
    """Identical values may collapse to one (RFC 9112 6.3(5)), and then there is one."""
    upstream, _ = pass_on(balance, backend, b"POST / HTTP/1.1\r\nHost: h.example\r\n" + fields + b"\r\nhi")

    assert upstream == b"POST / HTTP/1.1\r\nHost: h.example\r\nContent-Length: 2\r\n" + forwarded()


def test_hop_by_hop_fields_are_taken_out(balance, backend):
    """RFC 9110 7.6.1: Connection, what it names, and those known to be meant for one hop."""
    upstream, downstream = pass_on(
        balance,
        backend,
        b"GET / HTTP/1.1\r\nHost: h.example\r\nConnection: X-Mine, keep-alive\r\nx-mine: 1\r\n"
        b"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nTrailer: X\r\n"
        b"Upgrade: h2c\r\nAccept: */*\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Its\r\nX-Its: 1\r\nKeep-Alive: timeout=5\r\n"
        b"Proxy-Connection: keep-alive\r\nTrailer: X\r\nTE: trailers\r\nContent-Length: 2\r\nX: 1\r\n\r\nok",
    )

    assert upstream == b"GET / HTTP/1.1\r\nHost: h.example\r\nAccept: */*\r\n" + forwarded()
    assert downstream == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: 1\r\n\r\nok"


def test_connection_cannot_take_out_what_matters(balance, backend):
    """A client that names Host, framing or our fields in Connection does not get rid of them."""
    upstream, _ = pass_on(
        balance,
        backend,
        b"POST / HTTP/1.1\r\nHost: h.example\r\nContent-Length: 2\r\n"
        b"Connection: Host, Content-Length, X-Forwarded-For, Via, X-Forwarded-Host\r\n\r\nhi",
    )

    assert upstream == b"POST / HTTP/1.1\r\nHost: h.example\r\nContent-Length: 2\r\n" + forwarded()


def test_response_cannot_take_out_its_length(balance, backend):
    """Connection: Content-Length in a response would leave the client without an end."""
    _, downstream = pass_on(
        balance,
        backend,
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: Content-Length\r\nContent-Length: 2\r\n\r\nok",
    )

    assert downstream == OK


@pytest.mark.parametrize("length", [b"0", b"5"])
def test_response_that_never_has_a_body_loses_its_length(balance, backend, length):
    """1xx and 204 must not have one (RFC 9110 8.6), and a client may be confused by it."""
    lie = b"Content-Length: " + length + b"\r\n"
    early = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n"
    _, interim = pass_on(
        balance,
        backend,
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        early + lie + b"\r\nHTTP/1.1 204 No Content\r\n\r\n",
    )
    _, final = pass_on(
        balance,
        backend,
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n" + lie + b"X: 1\r\n\r\n",
    )

    assert interim == early + b"\r\n"
    assert final == b"HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n"


def test_forwarded_fields_of_the_client_are_replaced(balance, backend):
    """Nobody is trusted by default: a client cannot choose its own address."""
    upstream, _ = pass_on(
        balance,
        backend,
        b"GET / HTTP/1.1\r\nX-Forwarded-For: 1.2.3.4\r\nHost: h.example\r\nx-forwarded-for: 5.6.7.8\r\n"
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n"
        b"Forwarded: for=1\r\n\r\n",
    )

    assert upstream == b"GET / HTTP/1.1\r\nHost: h.example\r\n" + forwarded()


def test_via_is_added_after_the_client_s(balance, backend):
    """Via lists the hops in order (RFC 9110 7.6.3)."""
    upstream, _ = pass_on(
        balance, backend, b"GET / HTTP/1.1\r\nHost: h.example\r\nVia: 1.1 other\r\nX: 1\r\n\r\n"
    )

    assert upstream == b"GET / HTTP/1.1\r\nHost: h.example\r\nVia: 1.1 other\r\nX: 1\r\n" + forwarded()


def test_via_can_be_turned_off(balance, backend):
    """Some backends change what they send when they see a proxy."""
    heads = []
    client = balance(backend(recording(heads)), via="").connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    client.response()

    assert heads[0] == b"GET / HTTP/1.1\r\nHost: a\r\n" + forwarded(b"a").replace(b"Via: 1.1 fastlb\r\n", b"")


@pytest.mark.parametrize(
    ("target", "sent"),
    [(b"http://b.example/x?y", b"/x?y"), (b"http://b.example", b"/"), (b"http://b.example:81?q", b"/?q")],
)
def test_absolute_form_overrides_host(balance, backend, target, sent):
    """The target's authority is the one that counts (RFC 9112 3.2.2)."""
    upstream, _ = pass_on(balance, backend, b"GET " + target + b" HTTP/1.1\r\nHost: other\r\nX: 1\r\n\r\n")
    host = b"b.example:81" if b":81" in target else b"b.example"

    assert upstream == b"GET " + sent + b" HTTP/1.1\r\nHost: " + host + b"\r\nX: 1\r\n" + forwarded(host)


def test_asterisk_form_is_passed_on(balance, backend):
    """OPTIONS * asks the server itself (RFC 9112 3.2.4)."""
    upstream, _ = pass_on(balance, backend, b"OPTIONS * HTTP/1.1\r\nHost: h.example\r\n\r\n")

    assert upstream == b"OPTIONS * HTTP/1.1\r\nHost: h.example\r\n" + forwarded()


def test_1_0_client_is_spoken_for_in_1_1(balance, backend):
    """Backends always see HTTP/1.1, and Via says what the client spoke."""
    upstream, downstream = pass_on(balance, backend, b"GET / HTTP/1.0\r\nHost: h.example\r\n\r\n")

    assert upstream == b"GET / HTTP/1.1\r\nHost: h.example\r\n" + forwarded(via=b"1.0 fastlb")
    assert downstream == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def test_1_0_client_without_host_gets_the_backend_s(balance, backend):
    """HTTP/1.1 to the backend needs a Host (RFC 9112 3.2)."""
    heads = []
    started = backend(recording(heads))
    client = balance(started).connect()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    client.response()

    assert heads[0].count(b"\r\nHost: " + started.label.encode() + b"\r\n") == 1


def test_1_0_client_that_asks_is_kept_alive_and_told(balance, backend):
    """A 1.0 client knows that the connection stays only if it is told (RFC 9112 C.2.2)."""
    client = balance(backend(answering(OK))).connect()
    for _ in range(2):
        client.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        answer = client.response()

        assert answer.undated == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n"


def test_client_that_asks_to_close_is_told_and_closed(balance, backend):
    """RFC 9112 9.6: the one that closes says so in its last message."""
    client = balance(backend(answering(OK))).connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    assert client.response().undated == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
    assert client.ending() == "fin"


def test_response_of_1_0_is_passed_on_as_1_1(balance, backend):
    """The version is one of the hop (RFC 9112 2.3)."""
    _, downstream = pass_on(
        balance,
        backend,
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HTTP/1.0 200 Fine\r\nContent-Length: 2\r\n\r\nok",
    )

    assert downstream == b"HTTP/1.1 200 Fine\r\nContent-Length: 2\r\n\r\nok"


def test_head_of_sixty_kibibytes_passes(balance, backend):
    """Big cookies are real; the limit is 64 KiB in both directions."""
    big = b"".join(b"X-%d: %s\r\n" % (n, b"v" * 1000) for n in range(60))
    upstream, downstream = pass_on(
        balance,
        backend,
        b"GET / HTTP/1.1\r\nHost: h.example\r\n" + big + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + big + b"\r\nok",
    )

    assert upstream == b"GET / HTTP/1.1\r\nHost: h.example\r\n" + big + forwarded()
    assert downstream == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + big + b"\r\nok"


def test_head_sent_byte_by_byte_is_read(balance, backend):
    """Where a packet ends means nothing."""
    heads = []
    client = balance(backend(recording(heads))).connect()
    for byte in b"GET /slow HTTP/1.1\r\nHost: h.example\r\nX: 1\r\n\r\n":
        client.send(bytes([byte]))

    assert client.response().body == b"ok"
    assert heads[0] == b"GET /slow HTTP/1.1\r\nHost: h.example\r\nX: 1\r\n" + forwarded()


def test_response_sent_byte_by_byte_is_read(balance, backend):
    """Backends cut where they like too."""
    response = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: 1\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )

    def script(link):
        while link.request() is not None:
            for byte in response:
                link.send(bytes([byte]))

    client = balance(backend(script)).connect()
    for _ in range(2):
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = client.response()
        assert (answer.body, answer.value(b"X")) == (b"abcde", b"1")


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_absolute_form_names_the_host(balance, backend, version):
    """Also for a 1.0 client that sends no Host (RFC 9112 3.2.2, 3.3)."""
    heads = []
    running = balance(backend(recording(heads)))
    client = running.connect()
    host = b"Host: other\r\n" if version == b"1.1" else b""
    client.send(b"GET http://h.example:81/x HTTP/" + version + b"\r\n" + host + b"\r\n")
    client.response()
    (head,) = heads

    assert head.startswith(b"GET /x HTTP/1.1\r\n")
    assert Message(head).values(b"Host") == [b"h.example:81"]
