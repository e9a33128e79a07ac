"""Limits on one request: what each is answered with, and what a backend sees of it."""

from dataclasses import replace

import pytest

from fastlb.model.limits import LimitConfig
from support.backend import OK, answering, recording, silent
from support.balance import PATIENT
from support.waiting import wait_until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    ("limits", "request_head", "status"),
    [
        ({"line_bytes": 64}, b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 60), 414),
        ({"header_bytes": 1024}, b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"x" * 1024), 431),
        ({"fields": 3}, b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n", 431),
    ],
    ids=["line", "section", "fields"],
)
def test_head_beyond_a_limit_is_refused_with_its_own_status(balance, backend, limits, request_head, status):
    """A client that is told what was too long can do something about it (RFC 9112 3, RFC 6585 5)."""
    started = backend(silent)
    running = balance(started, limits=LimitConfig(**limits))
    client = running.connect()
    client.send(request_head)
    answer = client.response()

    assert (answer.status, answer.value(b"Connection")) == (status, b"close")
    line = running.line()
    assert (line["status"], line["code"], line["backend"]) == (status, "PR", None)
    assert started.links == []


@pytest.mark.parametrize(
    ("limits", "request_head"),
    [
        ({"line_bytes": 64}, b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 50)),
        ({"header_bytes": 1024}, b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"x" * 1008)),
        ({"fields": 3}, b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\n\r\n"),
    ],
    ids=["line", "section", "fields"],
)
def test_head_at_a_limit_is_served(balance, backend, limits, request_head):
    """A limit is the largest that is allowed."""
    client = balance(backend(answering(OK)), limits=LimitConfig(**limits)).connect()
    client.send(request_head)

    assert client.response().status == 200


def test_longest_head_there_may_be_is_served_with_what_comes_behind_it(balance, backend):
    """All of it stands in one buffer at some time."""
    seen = []
    limits = LimitConfig(line_bytes=65_536, header_bytes=65_536)
    client = balance(backend(recording(seen)), limits=limits).connect()
    fields = b"Host: a\r\nContent-Length: 65000\r\nX: %b\r\n\r\n" % (b"x" * 65_480)
    target = b"/" + b"t" * 65_500
    client.send(b"PUT " + target + b" HTTP/1.1\r\n" + fields[:30_000])
    client.send(fields[30_000:] + b"b" * 65_000)

    assert client.response().status == 200
    assert seen[0].startswith(b"PUT " + target)


BODY_LIMIT = LimitConfig(body_bytes=1000)


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
def test_length_above_the_limit_is_413_before_a_backend_is_picked(balance, backend, expect):
    """Code PR. What was announced need not be read (RFC 9110 15.5.14), but a short body is, for the next
    request, unless it may not come."""
    started = backend(silent)
    running = balance(started, limits=BODY_LIMIT)
    client = running.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + expect + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001)
    answer = client.response()

    assert (answer.status, answer.value(b"Connection")) == (413, b"close" if expect else None)
    assert answer.body == b"413 Content Too Large\n"
    line = running.line()
    assert (line["code"], line["backend"], line["method"]) == ("PR", None, "POST")
    assert running.picked() == 0
    assert started.links == []


@pytest.mark.parametrize("body", [b"Content-Length: 1000\r\n\r\n" + b"x" * 1000, b"", b"chunked"])
def test_body_at_the_limit_is_served(balance, backend, body):
    """Chunk framing does not count, nor does a request without a body."""
    if body == b"chunked":
        chunks = b"".join(b"1\r\ny\r\n" for _ in range(1000))
        body = b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    client = balance(backend(answering(OK)), limits=BODY_LIMIT).connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + (body or b"\r\n"))

    assert client.response().status == 200


@pytest.mark.parametrize("at_once", [True, False])
def test_chunked_body_that_passes_the_limit_is_413_and_never_complete(balance, backend, at_once):
    """Nobody knew before. The backend must not take what it got for the whole: code PD. Counted is
    what was read up to the size of the chunk that there is no room for, however it is cut."""
    got = []

    def script(link):
        link.until(b"\r\n\r\n")
        while link.more():
            pass
        got.append(bytes(link.unread))

    running = balance(backend(script), limits=BODY_LIMIT)
    client = running.connect()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"1f4\r\n" + b"x" * 500 + b"\r\n"
    if at_once:
        client.send(head + chunk * 2 + b"1\r\ny\r\n0\r\n\r\n")
    else:
        client.send(head + chunk)
        running.wait_in_flight(1)
        client.send(chunk)
        client.send(b"1\r\ny\r\n0\r\n\r\n")
    answer = client.response()

    assert (answer.status, answer.value(b"Connection")) == (413, b"close")
    running.wait_idle()
    line = running.line()
    assert (line["status"], line["code"]) == (413, "PD")
    assert line["bytes_in"] == running.ledger().bytes_in == len(head + chunk * 2 + b"1\r\n")
    assert not any(b"0\r\n\r\n" in seen for seen in got)


def test_chunked_body_that_passes_the_limit_behind_a_response_is_cut_off(balance, backend):
    """An answer is under way; a second one cannot be given."""

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        link.rest()

    running = balance(backend(script), limits=BODY_LIMIT)
    client = running.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    assert client.response_head().status == 200
    assert client.exactly(4) == b"half"
    client.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")

    assert client.ending() == "rst"
    assert running.line()["code"] == "PD"


def test_limit_on_a_body_counts_for_each_request(balance, backend):
    """A kept connection may carry any number of them."""
    client = balance(backend(answering(OK)), limits=BODY_LIMIT).connect()
    for _ in range(5):
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n" + b"x" * 900)
        assert client.response().status == 200
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"384\r\n" + b"x" * 900 + b"\r\n0\r\n\r\n")
        assert client.response().status == 200


def test_full_backend_is_503_with_a_code_for_each_reason(balance, backend):
    """max_conns: the queue holds as many as it may (PQ), each for as long as it may (sQ)."""
    running = balance(
        backend(silent),
        max_conns=[1],
        limits=LimitConfig(queue_depth=1),
        timeouts=replace(PATIENT, queue_s=0.3),
    )
    first = running.connect()
    first.send(GET)
    running.wait_in_flight(1)
    waiting, refused = running.connect(), running.connect()
    waiting.send(GET)
    wait_until(lambda: running.ledger().queued == 1, "one in the queue")
    refused.send(GET)

    assert refused.response().status == 503
    assert waiting.response().status == 503
    assert [line["code"] for line in running.lines(2)] == ["PQ", "sQ"]
