"""Trailers pass in both directions, held until all of them were checked (RFC 9110 6.5, RFC 9112 7.1.2)."""

import pytest

from fastlb.model.fields import CLIENT_FIELDS, HEAD_FIELDS, OWN_FIELDS
from support.backend import OK, answering, recording
from support.waiting import wait_until
from support.wire import TruncatedError

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LINES = b"Grpc-Status: 0\r\nx-digest:\ta=:b:  \r\nEmpty:\r\ngrpc_message: \xe9\r\n"
BODY = b"2\r\nhi\r\n0\r\n"


def keeping(into, response=OK):
    """Answer every request and keep all of it."""

    def script(link):
        while (request := link.request()) is not None:
            into.append(request)
            link.send(response)

    return script


@pytest.mark.parametrize(
    "data", [b"", b"2\r\nhi\r\n", b"2\r\nhi\r\n" * 3 + b"ffff\r\n" + b"x" * 65_535 + b"\r\n"]
)
def test_trailers_pass_in_both_directions(balance, backend, data):
    """As they came, behind the last chunk; no TE is needed for it."""
    seen = []
    client = balance(backend(keeping(seen, CHUNKED + data + b"0\r\n" + LINES + b"\r\n"))).connect()
    for _ in range(2):
        client.send(UPLOAD + data + b"0\r\n" + LINES + b"\r\n")
        answer = client.response()
        assert answer.trailers == LINES
        assert answer.body == seen[-1].body
        assert seen[-1].trailers == LINES


@pytest.mark.parametrize("cut", range(len(BODY) - 5, len(BODY + LINES) + 3, 3))
def test_trailers_may_be_cut_anywhere(balance, backend, cut):
    """Each piece alone, in either direction; the interim response tells when the first was taken."""
    raw = BODY + LINES + b"\r\n"
    seen = []

    def script(link):
        link.send(b"HTTP/1.1 103 Hints\r\n\r\n")
        seen.append(link.request())
        link.send(CHUNKED + raw[:cut])
        link.until(b"go on")
        link.send(raw[cut:])

    client = balance(backend(script)).connect()
    client.send(UPLOAD + raw[:cut])
    assert client.response_head().status == 103
    client.send(raw[cut:])
    assert client.response_head().status == 200
    assert client.until(b"hi\r\n") == b"2\r\nhi\r\n"
    assert seen[0].trailers == LINES


def test_no_part_of_trailers_is_sent_before_their_end(balance, backend):
    """What turns out to be bad, or never ends, must not have been begun."""

    def script(link):
        link.request()
        link.send(CHUNKED + BODY + LINES)

    running = balance(backend(script))
    client = running.connect()
    client.send(GET)
    with pytest.raises(TruncatedError) as cut:
        client.response()
    assert b"Grpc-Status" not in cut.value.got
    assert b"0\r\n" not in cut.value.got
    assert running.line()["code"] == "SD"


@pytest.mark.parametrize(
    "bad", [b"X : 1\r\n\r\n", b"X: 1\n\r\n", b"X: \x00\r\n\r\n", b"X: " + b"a" * 9000 + b"\r\n\r\n"]
)
def test_bad_trailers_reach_nobody(balance, backend, bad):
    """400 for a request whatever came before, and nothing of them is passed on."""
    started = backend(lambda link: link.rest())
    running = balance(started)
    client = running.connect()
    client.send(UPLOAD + b"2\r\nhi\r\n")
    wait_until(lambda: started.link().unread.endswith(b"hi\r\n"), "the data at the backend")
    client.send(b"0\r\n" + LINES + bad)

    assert client.response().status == 400
    running.wait_in_flight(0)
    assert b"Grpc" not in started.link().unread


@pytest.mark.parametrize("name", [*OWN_FIELDS, *CLIENT_FIELDS, *HEAD_FIELDS])
def test_field_of_a_head_does_not_pass_as_a_trailer(balance, backend, name):
    """RFC 9110 6.5.1: framing, routing, who a client is, authentication, modifiers, controls, format. Also
    under the name that CGI would read in the same way."""
    names = {name, name.upper(), name.replace("-", "_"), name.lower()}
    lines = b"".join(b"%b: 1\r\nA%b: 2\r\n" % (each.encode(), each.encode()) for each in sorted(names))
    kept = b"".join(line + b"\r\n" for line in lines.split(b"\r\n") if line.endswith(b"2"))
    seen = []
    client = balance(backend(keeping(seen, CHUNKED + BODY + lines + b"\r\n"))).connect()
    client.send(UPLOAD + BODY + lines + b"\r\n")

    assert client.response().trailers == kept
    assert seen[0].trailers == kept


def test_trailers_of_which_none_passes_leave_the_empty_line(balance, backend):
    """The message ends as if there had been none."""
    seen = []
    client = balance(backend(keeping(seen, CHUNKED + BODY + b"Age: 1\r\n\r\n"))).connect()
    for _ in range(2):
        client.send(UPLOAD + BODY + b"Host: evil\r\nContent-Length: 5\r\n\r\n")
        answer = client.response()
        assert (answer.body, answer.trailers) == (b"hi", b"")
        assert (seen[-1].body, seen[-1].trailers) == (b"hi", b"")


def test_trailers_of_a_message_whose_connection_names_fields_are_dropped(balance, backend):
    """Connection may name trailers (RFC 9110 7.6.1), and is gone when they come. TE is known."""
    seen = []
    naming = b"Connection: X-Digest\r\nTrailer: X-Digest\r\nTransfer"
    script = keeping(seen, CHUNKED.replace(b"Transfer", naming) + BODY + LINES + b"\r\n")
    client = balance(backend(script)).connect()
    client.send(UPLOAD.replace(b"Transfer", naming) + BODY + LINES + b"\r\n")
    answer = client.response()

    assert (answer.trailers, answer.value(b"Trailer")) == (b"", None)
    assert (seen[0].trailers, seen[0].value(b"Trailer")) == (b"", None)
    client.send(
        UPLOAD.replace(b"Transfer", b"Connection: keep-alive, TE\r\nTransfer") + BODY + LINES + b"\r\n"
    )
    client.response()
    assert seen[1].trailers == LINES


def test_trailer_field_passes_where_trailers_do(balance, backend):
    """It says which ones will come (RFC 9110 6.6.2), and promises none where none can."""
    seen = []
    named = b"Trailer: Grpc-Status, x-digest\r\n"
    response = CHUNKED.replace(b"Transfer", named + b"Transfer") + BODY + LINES + b"\r\n"
    client = balance(backend(keeping(seen, response))).connect()
    client.send(UPLOAD.replace(b"Transfer", named + b"Transfer") + BODY + LINES + b"\r\n")
    assert client.response().value(b"Trailer") == b"Grpc-Status, x-digest"
    client.send(GET.replace(b"Host", named + b"Host"))
    assert client.response().value(b"Trailer") == b"Grpc-Status, x-digest"
    client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")

    assert client.response().value(b"Trailer") is None
    assert [request.value(b"Trailer") for request in seen] == [b"Grpc-Status, x-digest", None, None]


def test_1_0_client_gets_no_trailers(balance, backend):
    """It gets no chunks to put them behind."""
    client = balance(backend(answering(CHUNKED + BODY + LINES + b"\r\n"))).connect()
    client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")

    assert client.response().body == b"hi"


def test_request_with_trailers_is_sent_again_whole(balance, backend):
    """They are a part of what is kept for a retry."""
    seen = []

    def script(link):
        request = link.request()
        if request is None:
            return
        seen.append(request)
        if link.number:
            link.send(OK)

    client = balance(backend(script), backend(script)).connect()
    for data in (b"", b"2\r\nhi\r\n"):
        client.send(UPLOAD.replace(b"POST", b"PUT") + data + b"0\r\n" + LINES + b"\r\n")
        client.response()
    assert seen
    assert {request.trailers for request in seen} == {LINES}


@pytest.mark.parametrize(
    ("fields", "connection"),
    [
        (b"TE: trailers\r\nConnection: TE\r\n", b"TE"),
        (b"TE: trailers\r\n", b"TE"),
        (b"te: gzip;q=0.5 ,\tTrailers\r\nConnection: keep-alive, te\r\n", b"TE"),
        (b"TE: deflate\r\nTE: trailers\r\n", b"TE"),
        (b"TE: trailers\r\nConnection: TE, Upgrade\r\nUpgrade: websocket\r\n", b"TE, Upgrade"),
    ],
)
def test_te_trailers_is_issued_anew(balance, backend, fields, connection):
    """We pass them, so a backend may know that the client takes them (RFC 9110 10.1.4). Codings that TE
    offers are of the hop before."""
    heads = []
    client = balance(backend(recording(heads))).connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n")
    client.response()

    assert b"\r\nTE: trailers\r\nConnection: " + connection + b"\r\n" in heads[0]
    assert heads[0].lower().count(b"\r\nte:") == heads[0].lower().count(b"\r\nconnection:") == 1


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: TE\r\nTE: gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTE: xtrailers, trailer\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: TE\r\nTE: trailers\r\n\r\n",
    ],
)
def test_te_that_says_nothing_of_trailers_is_dropped(balance, backend, request_head):
    """And that of a 1.0 client, who cannot be given any."""
    heads = []
    client = balance(backend(recording(heads))).connect()
    client.send(request_head)
    client.response()

    assert b"\r\nte:" not in heads[0].lower()
    assert b"\r\nconnection:" not in heads[0].lower()
