"""Max-Forwards: TRACE and OPTIONS say how many proxies they may pass (RFC 9110 7.6.2)."""

import pytest

from support.backend import OK, answering, recording, silent

METHODS = (b"TRACE", b"OPTIONS")


def passed_on(balance, backend, method, *values):
    """The values that a backend gets."""
    seen = []
    client = balance(backend(recording(seen))).connect()
    fields = b"".join(b"Max-Forwards: %b\r\n" % value for value in values)
    client.send(method + b" / HTTP/1.1\r\nHost: a\r\n" + fields + b"X: y\r\n\r\n")
    assert client.response().status == 200
    (head,) = seen
    return [line[14:] for line in head.split(b"\r\n") if line.startswith(b"Max-Forwards: ")]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("value", "left"),
    [
        (b"1", b"0"),
        (b"10", b"9"),
        (b"0070", b"69"),
        (b"999999999", b"999999998"),
        (b"1000000000", b"999999999"),
        (b"9" * 400, b"999999999"),
        (b"0" * 5000 + b"2", b"1"),
    ],
)
def test_max_forwards_is_counted_down(balance, backend, method, value, left):
    """At most to what we can count to, which is the lesser of the two that the RFC allows."""
    assert passed_on(balance, backend, method, value) == [left]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "values",
    [(b"",), (b"x",), (b"-1",), (b"+1",), (b"1.5",), (b"1, 2",), (b"3", b"3"), (b"0", b"5"), (b"0x0",)],
)
def test_invalid_max_forwards_is_left_as_it_is(balance, backend, method, values):
    """What is no number of hops is not ours to judge."""
    assert passed_on(balance, backend, method, *values) == list(values)


@pytest.mark.parametrize("method", [b"GET", b"POST", b"DELETE", b"X-ANY"])
@pytest.mark.parametrize("value", [b"0", b"5"])
def test_max_forwards_of_other_methods_is_passed_on_untouched(balance, backend, method, value):
    """It means nothing there."""
    assert passed_on(balance, backend, method, value) == [value]


def test_options_with_no_forwards_left_is_answered_here(balance, backend):
    """200 without a body, code L-; the connection stays and no backend is asked."""
    started = backend(silent)
    running = balance(started)
    client = running.connect()
    for _ in range(2):
        client.send(b"OPTIONS /path HTTP/1.1\r\nHost: a\r\nmax-forwards: 00\r\n\r\n")
        answer = client.response()
        assert answer.undated == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    line = running.lines(2)[1]
    assert (line["status"], line["code"], line["backend"], line["tries"]) == (200, "L-", None, 0)
    assert (line["method"], line["target"]) == ("OPTIONS", "/path")
    assert running.picked() == 0
    assert started.links == []


def test_trace_with_no_forwards_left_gets_its_head_back_without_secrets(balance, backend):
    """What the last proxy received, but not what only the client may know (RFC 9110 9.3.8)."""
    running = balance(backend(silent))
    client = running.connect()
    client.send(
        b"TRACE /a?b HTTP/1.1\r\nHost: a\r\nauthorization: Basic x\r\nX-One:1\r\nX-One:\t 2 \r\n"
        b"Authorisation: kept\r\nProxy-Authorisation: kept\r\n"
        b"Proxy-Authorization: y\r\nMax-Forwards: 0\r\nCookie: z\r\nCookies: kept\r\nVia: 1.1 p\r\n\r\n"
    )
    answer = client.response()

    assert answer.status == 200
    assert answer.value(b"Content-Type") == b"message/http"
    assert answer.body == (
        b"TRACE /a?b HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nX-One: 2\r\n"
        b"Authorisation: kept\r\nProxy-Authorisation: kept\r\n"
        b"Max-Forwards: 0\r\nCookies: kept\r\nVia: 1.1 p\r\n\r\n"
    )
    assert running.line()["code"] == "L-"


def test_trace_of_1_0_gets_its_version_back(balance, backend):
    """The message as it was received."""
    client = balance(backend(silent)).connect()
    client.send(b"TRACE / HTTP/1.0\r\nMax-Forwards: 0\r\n\r\n")

    assert client.response().body == b"TRACE / HTTP/1.0\r\nMax-Forwards: 0\r\n\r\n"


def test_large_trace_is_answered_whole(balance, backend):
    """The answer is about as large as the largest head."""
    client = balance(backend(silent)).connect()
    fields = b"".join(b"X-%02d:%b\r\n" % (n, b"v" * 640) for n in range(98))
    client.send(b"TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n" + fields + b"\r\n")
    answer = client.response()

    assert answer.status == 200
    assert answer.body.count(b"v" * 640) == 98


def test_local_answer_serves_pipelined_requests_in_order(balance, backend):
    """The next request does not wait for more bytes."""
    client = balance(backend(answering(OK))).connect()
    end = b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"
    client.send(end + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + end)

    assert [client.response().body for _ in range(3)] == [b"", b"ok", b""]


@pytest.mark.parametrize(
    ("version", "field", "connection"),
    [
        (b"1.1", b"Connection: close\r\n", b"close"),
        (b"1.0", b"", b"close"),
        (b"1.0", b"Connection: keep-alive\r\n", b"keep-alive"),
        (b"1.1", b"Content-Length: 100000\r\n", b"close"),
        (b"1.1", b"Content-Length: 5\r\n", None),
    ],
)
def test_local_answer_says_whether_the_connection_stays(balance, backend, version, field, connection):
    """As any other answer; a long body that was not read ends it."""
    client = balance(backend(silent)).connect()
    client.send(b"OPTIONS / HTTP/" + version + b"\r\nHost: a\r\nMax-Forwards: 0\r\n" + field + b"\r\n")

    assert client.response().value(b"Connection") == connection
    if connection == b"close":
        assert client.ending() == "fin"
