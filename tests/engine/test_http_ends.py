"""Where a response ends, whatever its backend does: nothing is completed that was cut, and no byte
of one response is ever part of another."""

import threading

import pytest

from support.backend import OK, answering
from support.wire import TruncatedError

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


def ask(client, request=GET):
    client.send(request)
    return client.response("HEAD" if request.startswith(b"HEAD") else "GET")


def first_connection(first, then=OK):
    """The first connection says `first` to its first request and closes; others answer `then`."""

    def script(link):
        while link.request() is not None:
            link.send(first if link.number == 0 else then)
            if link.number == 0:
                return

    return script


def trap(first):
    """The first connection says `first` and stays open; asked once more, it gives itself away."""

    def script(link):
        if link.number == 0 and link.request() is not None:
            link.send(first)
        while link.request() is not None:
            link.send(OK if link.number else EVIL)

    return script


# ---- truncation ---------------------------------------------------------------------------------

CUT = {
    "length, no byte of it": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", b""),
    "length, one byte short": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123456789", b"123456789"),
    "length, far short": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b"x" * 300_000,
        b"x" * 300_000,
    ),
    "length, absurd": (b"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\nabc", b"abc"),
    "chunked, no chunk": (CHUNKED, b""),
    "chunked, in a size": (CHUNKED + b"3\r\nabc\r\n1", b"abc"),
    "chunked, behind a size": (CHUNKED + b"3\r\nabc\r\n4\r\n", b"abc"),
    "chunked, in a chunk": (CHUNKED + b"9\r\nabc", b"abc"),
    "chunked, before the CRLF of a chunk": (CHUNKED + b"3\r\nabc", b"abc"),
    "chunked, before the last chunk": (CHUNKED + b"3\r\nabc\r\n", b"abc"),
    "chunked, behind 0": (CHUNKED + b"3\r\nabc\r\n0", b"abc"),
    "chunked, in the last chunk": (CHUNKED + b"3\r\nabc\r\n0\r\n", b"abc"),
    "chunked, in the trailers": (CHUNKED + b"3\r\nabc\r\n0\r\nX: 1\r\n", b"abc"),
}


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("why", CUT)
def test_cut_response_ends_visibly_for_its_client_alone(balance, backend, why, version):
    """With FIN where the length or the missing last chunk tells that it is not the end (RFC 9112 8). A
    1.0 client gets no chunks: for it only a reset tells."""
    response, _ = CUT[why]
    running = balance(backend(first_connection(response)))
    client = running.connect()
    client.send(b"GET / HTTP/" + version + b"\r\nHost: a\r\n\r\n")
    with pytest.raises(TruncatedError) as cut:
        client.response()
        client.rest()

    assert cut.value.how == ("rst" if version == b"1.0" and why.startswith("chunked") else "fin")
    assert not cut.value.got.endswith(b"0\r\n\r\n")
    running.wait_in_flight(0)
    assert running.line()["code"] == "SD"
    assert ask(running.connect()).body == b"ok"


@pytest.mark.parametrize("why", CUT)
def test_what_came_before_the_cut_is_passed_on(balance, backend, why):
    """Half a log file is better than none; it must be seen to be half."""
    response, body = CUT[why]
    gate = threading.Event()

    def script(link):
        link.request()
        link.send(response)
        assert gate.wait(10)

    client = balance(backend(script)).connect()
    client.send(GET)
    head = client.response_head()
    got = b""
    while len(got) < len(body):
        got += client.chunk() if head.values(b"Transfer-Encoding") else client.exactly(len(body))
    gate.set()

    assert got == body
    assert client.ending() == "fin"


# ---- responses without a body -------------------------------------------------------------------

LIES = {
    "length": b"Content-Length: 5\r\n",
    "chunked": b"Transfer-Encoding: chunked\r\n",
    "neither": b"",
}
BODYLESS = {
    "HEAD": (HEAD, b"HTTP/1.1 200 OK\r\n"),
    "204": (GET, b"HTTP/1.1 204 No Content\r\n"),
    "304": (GET, b"HTTP/1.1 304 Not Modified\r\n"),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("kind", BODYLESS)
def test_response_without_a_body_leaves_both_connections_usable(balance, backend, kind, lie):
    """It ends at the blank line whatever its fields promise (RFC 9112 6.3(1)); nobody waits."""
    request, start = BODYLESS[kind]
    started = backend(answering(start + LIES[lie] + b"\r\n", OK))
    client = balance(started).connect()
    answer = ask(client, request)

    assert answer.values(b"Connection") == []
    assert not (kind == "204" and answer.values(b"Transfer-Encoding"))
    assert ask(client).body == b"ok"
    assert len(started.links) == 1


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("kind", BODYLESS)
def test_body_behind_a_response_without_one_is_nobodys(balance, backend, kind, lie):
    """A backend that sends a body all the same must not have it read as the next response."""
    request, start = BODYLESS[kind]
    started = backend(trap(start + LIES[lie] + b"\r\n" + EVIL))
    running = balance(started, workers=1)  # the second connection is used again, whoever asks
    client = running.connect()
    ask(client, request)

    assert ask(client).body == b"ok"
    assert ask(running.connect()).body == b"ok"
    assert len(started.links) == 2


@pytest.mark.parametrize("lie", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_interim_response_has_no_body_whatever_it_says(balance, backend, lie):
    """1xx ends at the blank line too, and what follows is the final response."""
    early = b"HTTP/1.1 103 Early Hints\r\n" + lie + b"\r\n"
    client = balance(backend(answering(early + OK))).connect()
    interim = ask(client)

    assert (interim.status, interim.values(b"Transfer-Encoding")) == (103, [])
    assert client.response().body == b"ok"
    assert ask(client).status == 103


# ---- the version of the client ------------------------------------------------------------------

RESPONSES = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "chunked": CHUNKED + b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nX-Trailer: 1\r\n\r\n",
    "close": b"HTTP/1.1 200 OK\r\n\r\nhello",
    "close of 1.0": b"HTTP/1.0 200 OK\r\n\r\nhello",
}


@pytest.mark.parametrize("keep", [b"", b"Connection: keep-alive\r\n"])
@pytest.mark.parametrize("framing", RESPONSES)
def test_1_0_client_gets_every_body_whole_and_without_chunks(balance, backend, framing, keep):
    """What a 1.0 client cannot frame ends with its connection (RFC 9112 6.1, 6.3)."""
    client = balance(backend(first_connection(RESPONSES[framing]))).connect()
    client.send(b"GET / HTTP/1.0\r\nHost: a\r\n" + keep + b"\r\n")
    head = client.response_head()
    kept = bool(keep) and framing == "length"

    assert head.values(b"Transfer-Encoding") == []
    assert head.value(b"Connection") == (b"keep-alive" if kept else b"close")
    assert client.exactly(5) == b"hello"
    if kept:
        client.send(GET_1_0)
        assert client.response().body == b"ok"
    assert client.ending() == "fin"


@pytest.mark.parametrize("framing", RESPONSES)
def test_1_1_client_keeps_its_connection_whatever_the_framing(balance, backend, framing):
    """The end of the backend's connection is not that of the client's; trailers stay behind the body."""
    client = balance(backend(first_connection(RESPONSES[framing]))).connect()
    answer = ask(client)

    assert answer.body == b"hello"
    assert b"Trailer" not in answer.head
    assert answer.trailers == (b"X-Trailer: 1\r\n" if framing == "chunked" else b"")
    assert ask(client).body == b"ok"


def test_1_0_client_of_a_head_request_is_told_how_it_ends(balance, backend):
    """HEAD has no body to end, so the connection may stay if there is no chunking to hide."""
    client = balance(backend(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"))).connect()
    for _ in range(2):
        client.send(b"HEAD / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        answer = client.response("HEAD")
        assert (answer.value(b"Content-Length"), answer.value(b"Connection")) == (b"5", b"keep-alive")


# ---- what comes behind a response ---------------------------------------------------------------

EXTRA = {
    "length": OK + EVIL,
    "length zero": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + EVIL,
    "chunked": CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + EVIL,
    "one byte": OK + b"\n",
    "half a head": OK + b"HTTP/1.1 200",
    "much of it": OK + EVIL * 5000,
}


@pytest.mark.parametrize("why", EXTRA)
def test_bytes_behind_a_response_reach_no_client(balance, backend, why):
    """Not the one that asked, and not the next one that would get the connection."""
    started = backend(trap(EXTRA[why]))
    running = balance(started)
    client, other = running.connect(), running.connect()
    first = ask(client)

    assert first.body in (b"ok", b"")
    assert [ask(other).body, ask(client).body] == [b"ok", b"ok"]
    assert not client.unread
    running.wait_in_flight(0)
    assert {line["code"] for line in running.lines(3)} == {"--"}


def test_bytes_that_come_later_reach_no_client(balance, backend):
    """The connection is back in the pool when its backend speaks unasked, over and over."""
    go, said = threading.Semaphore(0), threading.Semaphore(0)

    def script(link):
        link.request()
        link.send(OK)
        assert go.acquire(timeout=10)
        link.send(EVIL)
        said.release()
        link.rest()

    running = balance(backend(script))
    clients = [running.connect(), running.connect()]
    for n in range(10):
        assert ask(clients[n % 2]).body == b"ok"
        go.release()
        assert said.acquire(timeout=10)


# ---- nonsense -----------------------------------------------------------------------------------

NONSENSE = {
    "empty lines": b"\r\n\r\n\r\n\r\n",
    "zero bytes": b"\x00" * 500,
    "no status line": b"hello\r\n\r\n",
    "TLS alert": b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9 body": b"<html>\r\n\r\n</html>",
    "version 2": b"HTTP/2 200\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "status 99": b"HTTP/1.1 099 No\r\n\r\n",
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
    "field without a colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
    "folded field": b"HTTP/1.1 200 OK\r\nA: 1\r\n b\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "NUL in a field": b"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n",
    "101 that nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "nonsense behind an interim response": b"HTTP/1.1 100 Continue\r\n\r\nnonsense\r\n\r\n",
    "field over the limit": b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000 + b"\r\n\r\n",
    "too many fields": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    "bytes without end": b"x" * 200_000,
}


def final(client):
    """The first response that is not interim."""
    answer = client.response()
    while answer.status < 200:
        answer = client.response()
    return answer


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("why", NONSENSE)
def test_nonsense_costs_one_exchange_a_502_and_nobody_else(balance, backend, why, method):
    """The client did nothing wrong: its connection and its next request are as good as ever."""
    started = backend(first_connection(NONSENSE[why]))
    running = balance(started)
    client = running.connect()
    client.send(method + b" / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    answer = final(client)

    assert (answer.status, answer.body) == (502, b"502 Bad Gateway\n")
    assert answer.values(b"Connection") == []
    assert [ask(client).body, ask(running.connect()).body] == [b"ok", b"ok"]
    running.wait_in_flight(0)
    assert sorted(line["code"] for line in running.lines(3)) == ["--", "--", "PH"]


def test_nonsense_is_not_repeated_to_another_backend(balance, backend):
    """The request was worked on; only silence may be retried."""
    running = balance(backend(answering(b"nonsense\r\n\r\n")), backend(answering(OK)))

    assert ask(running.connect()).status == 502
    assert running.picked(1) == 0


def test_nonsense_before_pipelined_requests_hurts_only_its_own(balance, backend):
    """In a pipeline each request has its own fate, and its own place."""
    running = balance(backend(answering(OK, b"nonsense\r\n\r\n")))
    client = running.connect()
    client.send(GET * 5)

    assert [client.response().status for _ in range(5)] == [200, 502, 200, 502, 200]
