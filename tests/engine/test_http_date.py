"""Date: a response that has none gets one (RFC 9110 6.6.1), and so do our own."""

import time
from email.utils import parsedate_to_datetime

import pytest

from support.backend import OK, answering

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def is_now(date):
    """True for an IMF-fixdate (RFC 9110 5.6.7) of this minute."""
    assert len(date) == 29
    assert date.endswith(b" GMT")
    return abs(parsedate_to_datetime(date.decode()).timestamp() - time.time()) < 60


@pytest.mark.parametrize("status", [b"200 OK", b"204 None", b"304 Same", b"404 Gone", b"503 No", b"666 Odd"])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_final_response_without_date_gets_one(balance, backend, status, version):
    """Of every class: 5xx need none of their origin, but who receives one without knows no better."""
    client = balance(backend(answering(OK.replace(b"200 OK", status)))).connect()
    client.send(b"GET / HTTP/" + version + b"\r\nHost: a\r\n\r\n")
    answer = client.response()

    assert is_now(answer.value(b"Date"))


def test_date_of_a_response_is_left_alone(balance, backend):
    """Whatever it says, and also where Connection names it: the time is for every recipient."""
    for fields in (b"Date: now\r\n", b"dATE:\r\n", b"Connection: date\r\nDate: x\r\n"):
        client = balance(backend(answering(OK.replace(b"OK\r\n", b"OK\r\n" + fields)))).connect()
        client.send(GET)
        assert len(client.response().values(b"Date")) == 1


def test_interim_response_gets_no_date(balance, backend):
    """The final one says when."""
    client = balance(backend(answering(b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK))).connect()
    client.send(GET)

    assert client.response().head == b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"
    assert is_now(client.response().value(b"Date"))


def test_request_without_date_stays_without(balance, backend):
    """The rule is about responses."""
    heads = []

    def script(link):
        heads.append(link.request().head)
        link.send(OK)

    client = balance(backend(script)).connect()
    client.send(GET)
    client.response()

    assert b"date" not in heads[0].lower()


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (GET, 503),
        (b"NONSENSE\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", 200),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", 200),
    ],
)
def test_own_answer_has_a_date(balance, request_head, status):
    """A server with a clock must send it in 2xx, 3xx and 4xx, and may in the others."""
    client = balance().connect()
    client.send(request_head)
    answer = client.response()

    assert answer.status == status
    assert is_now(answer.value(b"Date"))


def test_date_goes_on_with_the_clock(balance, backend):
    """The text is made once a second: it is neither older than that, nor does it stand still."""
    client = balance(backend(answering(OK))).connect()
    seen = []
    until = time.monotonic() + 15
    while len(set(seen)) < 3 and time.monotonic() < until:
        before = int(time.time())
        client.send(GET)
        date = parsedate_to_datetime(client.response().value(b"Date").decode()).timestamp()
        assert before - 1 <= date <= time.time()
        seen.append(date)

    assert len(set(seen)) == 3
    assert seen == sorted(seen)
