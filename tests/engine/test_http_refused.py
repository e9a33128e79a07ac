"""Requests and responses that are refused on the wire, and what the peers see of it."""

import pytest

from fastlb.model.limits import LimitConfig
from support.backend import OK, answering
from support.balance import STREAMED
from support.heads import REFUSED, REFUSED_EITHER, REFUSED_RESPONSES
from support.wire import TruncatedError

pytestmark = pytest.mark.unbatched

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
REASONS = {
    400: b"Bad Request",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
    505: b"HTTP Version Not Supported",
}


@pytest.mark.parametrize("why", [*REFUSED, *REFUSED_EITHER])
def test_refused_request_is_answered_and_closed(balance, backend, why):
    """The connection cannot be trusted any more, and no byte of it reaches a backend."""
    status, raw = REFUSED.get(why) or (None, REFUSED_EITHER[why])
    started = backend(answering(OK))
    running = balance(started)
    client = running.connect()
    client.send(raw + GET)
    answer = client.response()

    assert answer.status == status or (status is None and answer.status in (400, 501, 505))
    reason = REASONS[answer.status]
    assert answer.start == b"HTTP/1.1 %d %s" % (answer.status, reason)
    assert answer.body == b"%d %s\n" % (answer.status, reason)
    assert answer.value(b"Content-Type").startswith(b"text/plain")
    assert answer.value(b"Connection") == b"close"
    assert client.ending() == "fin"
    assert not started.links
    line = running.line()
    assert (line["status"], line["code"], line["backend"]) == (answer.status, "PR", None)


def test_refused_request_does_not_harm_those_before_it(balance, backend):
    """What was asked properly is answered properly, in order."""
    client = balance(backend(answering(OK))).connect()
    client.send(GET, GET, b"NOT HTTP\r\n\r\n")

    assert [client.response().status for _ in range(3)] == [200, 200, 400]
    assert client.ending() == "fin"


def test_refusal_reaches_a_client_that_is_still_sending(balance, backend):
    """Closing with unread bytes would send RST and take the answer away (RFC 9112 9.6)."""
    client = balance(backend(answering(OK))).connect()
    client.send(b"BAD\r\n\r\n", b"x" * 300_000)

    assert client.response().status == 400
    assert client.ending() == "fin"


@pytest.mark.parametrize(
    ("limits", "request_head", "status"),
    [
        ({"line_bytes": 64}, b"GET /" + b"a" * 80 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        ({"header_bytes": 1024}, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 1100 + b"\r\n\r\n", 431),
        ({"fields": 3}, b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n", 431),
    ],
)
def test_limits_are_those_of_the_configuration(balance, backend, limits, request_head, status):
    """A limit that cannot be set is a guess."""
    running = balance(backend(answering(OK)), limits=LimitConfig(**limits))
    refused, fine = running.connect(), running.connect()
    refused.send(request_head)
    fine.send(GET)

    assert refused.response().status == status
    assert fine.response().status == 200


@pytest.mark.parametrize("why", REFUSED_RESPONSES)
def test_refused_response_is_a_502(balance, backend, why):
    """Nonsense costs its exchange, not the client's connection and not the next response."""
    raw = REFUSED_RESPONSES[why]

    def script(link):
        link.request()
        link.send(raw if link.number == 0 else OK)
        link.rest()

    started = backend(script)
    running = balance(started)
    client = running.connect()
    client.send(GET)
    answer = client.response()

    assert (answer.status, answer.body) == (502, b"502 Bad Gateway\n")
    client.send(GET)
    assert client.response().body == b"ok"
    assert len(started.links) == 2
    assert running.lines(2)[0]["code"] == "PH"


def test_silent_close_of_a_backend_is_not_the_client_s_end(balance, backend):
    """A 502 keeps the connection if the request was wholly read."""
    client = balance(backend(lambda link: link.request())).connect()
    for _ in range(2):
        client.send(GET)
        assert client.response().status == 502


def test_502_while_a_long_body_is_on_its_way_closes(balance, backend):
    """So much is left of it that reading it would cost more than a connection."""

    def script(link):
        link.until(b"\r\n\r\n")

    running = balance(backend(script), limits=STREAMED)
    client = running.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
    try:
        answer = client.response()
    except TruncatedError as cut:
        pytest.fail(f"no response: {cut}")

    assert (answer.status, answer.value(b"Connection")) == (502, b"close")
    assert client.ending() == "fin"
    running.wait_in_flight(0)
