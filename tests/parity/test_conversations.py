"""The same conversation, byte for byte, through both engines."""

import random

import pytest

from support.backend import OK, Backend, without_port
from support.balance import Balance
from support.chunks import BAD_CHUNKS
from support.heads import REFUSED_EITHER, REFUSED_RESPONSES
from support.wire import TruncatedError, undated

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_10 = b"GET / HTTP/1.0\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
# What may differ between two runs of one engine.
OF_THE_RUN = ("time", "client", "backend", "tried", "queue_us", "connect_us", "first_byte_us", "total_us")

REQUESTS = {
    "plain": GET + LAST,
    "pipelined": GET * 5 + LAST,
    "head": b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + LAST,
    "1.0": GET_10,
    "1.0 kept": b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + GET_10,
    "absolute": b"GET http://h:1/x HTTP/1.1\r\nHost: other\r\nVia: 1.1 x\r\n\r\n" + LAST,
    "absolute https": b"GET https://h:1/x HTTP/1.1\r\nHost: other\r\n\r\n" + LAST,
    "hop-by-hop": (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x-a, Host, TE\r\nX-A: 1\r\nTE: trailers\r\n"
        b"Keep-Alive: 5\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=x\r\nX-B: 2\r\n\r\n" + LAST
    ),
    "upgrade": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n" + LAST,
    "body": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" + LAST,
    "body collapsed": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\nX: 1\r\n\r\nhi" + LAST,
    "leading zeros": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 002\r\n\r\nhi" + LAST,
    "chunks": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;x=y\r\nabc\r\n0\r\nT: 1\r\nHost: x\r\nX_Real_IP: y\r\nu_v:2 \r\n\r\n" + LAST
    ),
    "tabs": b"GET / HTTP/1.1\r\nHost:\ta \r\nX:\t a\tb \t\r\n\r\n" + LAST,
    "nonsense": GET + b"NONSENSE\r\n\r\n",
    **REFUSED_EITHER,
}
RESPONSES = {
    "length": OK,
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: x\r\n\r\n",
    "interim": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
    "hop-by-hop": b"HTTP/1.1 200 OK\r\nConnection: a\r\nA: 1\r\nKeep-Alive: 1\r\nContent-Length: 2\r\n\r\nok",
    "no reason": b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok",
    "cookies": b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nContent-Length: 2\r\nset-cookie: b\r\n\r\nok",
}
ENDING_RESPONSES = {
    "close-delimited": b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\nto the end",
    "1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "says close": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    "chunks": CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
    "trailers": CHUNKED + b"2\r\nok\r\n0\r\nA: 1\r\nSet_Cookie: x\r\nB:2\r\n\r\n",
    "date": b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 2\r\nTE: trailers\r\n\r\nok",
    "truncated length": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
    "truncated chunks": CHUNKED + b"2\r\nok\r\n",
    "bad chunk": CHUNKED + b"2\r\nok\r\nxx\r\n",
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 O",
    "extra": OK + b"extra",
    **REFUSED_RESPONSES,
}


def outcome(client):
    """Everything that the client got but the time of day, and how it ended."""
    try:
        return undated(client.rest()), "fin"
    except TruncatedError as end:
        return undated(end.got), end.how


def conversation(rooms, loop, said, response, *, ends):
    """What the backend got, what the client got, and the access lines."""
    heard = []

    def script(link):
        while (request := link.request()) is not None:
            heard.append((without_port(request.head), request.body, request.trailers))
            head_only = request.start.startswith(b"HEAD ")
            link.send(response.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if head_only else response)
            if ends:
                return

    backend = Backend(script)
    running = Balance(rooms, loop, [backend])
    try:
        client = running.connect()
        for piece in said:
            client.send(piece)
        got = outcome(client)
        running.wait_idle()
        count = running.ledger().exchanges
        lines = [
            {key: value for key, value in line.items() if key not in OF_THE_RUN}
            for line in running.lines(count)
        ]
        port = b":%d" % backend.address.port
        return (
            [(head.replace(port, b":port"), *rest) for head, *rest in heard],
            got,
            lines,
            running.ledger().statuses,
        )
    finally:
        running.finish()
        backend.close()


def compare(both, loop, said, response, *, ends):
    """Hold both conversations and compare."""
    native, pure = (conversation(rooms, loop, said, response, ends=ends) for rooms in both.values())
    for of_native, of_pure in zip(native, pure, strict=True):
        assert of_native == of_pure


@pytest.mark.parametrize("request_name", REQUESTS)
def test_requests_are_carried_alike(both, loop_thread, no_leaks, request_name):
    """What a backend and a client see does not depend on the engine."""
    compare(both, loop_thread, [REQUESTS[request_name]], OK, ends=False)


@pytest.mark.parametrize("why", BAD_CHUNKS)
def test_bad_chunks_are_refused_alike(both, loop_thread, no_leaks, why):
    """At the same byte: the access lines have the same count."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    compare(both, loop_thread, [head + BAD_CHUNKS[why]], OK, ends=False)


@pytest.mark.parametrize("request_bytes", [GET + LAST, GET_10], ids=["1.1", "1.0"])
@pytest.mark.parametrize("name", RESPONSES)
def test_responses_are_carried_alike(both, loop_thread, no_leaks, name, request_bytes):
    """Framing, fields and ends."""
    compare(both, loop_thread, [request_bytes], RESPONSES[name], ends=False)


@pytest.mark.parametrize("request_bytes", [LAST, GET_10], ids=["1.1", "1.0"])
@pytest.mark.parametrize("name", ENDING_RESPONSES)
def test_ending_responses_are_carried_alike(both, loop_thread, no_leaks, name, request_bytes):
    """A backend that closes, breaks off or babbles."""
    compare(both, loop_thread, [request_bytes], ENDING_RESPONSES[name], ends=True)


@pytest.mark.parametrize("seed", range(8))
def test_cuts_change_nothing(both, loop_thread, no_leaks, seed):
    """Requests cut at random places, with a response that is cut by the kernel."""
    rng = random.Random(seed)
    said = (
        b"".join(rng.choices([GET, REQUESTS["body"][: -len(LAST)], REQUESTS["chunks"][: -len(LAST)]], k=6))
        + LAST
    )
    cuts = sorted(rng.sample(range(1, len(said)), 12))
    pieces = [said[a:b] for a, b in zip([0, *cuts], [*cuts, len(said)], strict=True)]

    compare(both, loop_thread, pieces, CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", ends=False)
