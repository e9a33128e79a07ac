"""Pipelines that do not go smoothly: each request has its own answer, in order, or none at all."""

import threading
from dataclasses import replace

import pytest

from fastlb.model.plan import Plan
from support.backend import OK, answering, recording
from support.balance import PATIENT, STREAMED
from support.wire import TruncatedError

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def by_target(seen, answers):
    """Answer each target as the table says; None closes the connection without a word."""

    def script(link):
        while (request := link.request()) is not None:
            target = request.start.split(b" ")[1]
            seen.append(target)
            if answers.get(target, OK) is None:
                return
            link.send(answers.get(target, OK))

    return script


def asking_for(*targets, method=b"GET"):
    return b"".join(b"%b %b HTTP/1.1\r\nHost: a\r\n\r\n" % (method, target) for target in targets)


def test_502_in_a_pipeline_is_one_answer_of_many(balance, backend):
    """A request that was read to its end costs its neighbours nothing."""
    seen = []
    running = balance(backend(by_target(seen, {b"/bad": None})))
    client = running.connect()
    client.send(asking_for(b"/1") + asking_for(b"/bad", method=b"POST") + asking_for(b"/3"))

    assert [client.response().status for _ in range(3)] == [200, 502, 200]
    assert seen == [b"/1", b"/bad", b"/3"]
    running.wait_idle()
    assert [line["code"] for line in running.lines(3)] == ["--", "SH", "--"]


def test_503_in_a_pipeline_is_one_answer_of_many(balance, backend):
    """Nobody is up for a moment, and each is told so."""
    running = balance(backend(answering(OK)))
    running.publish(Plan(retry_after_s=1))
    client = running.connect()
    client.send(GET * 3)

    assert [client.response().status for _ in range(3)] == [503] * 3
    running.publish(running.plan)
    client.send(GET)
    assert client.response().status == 200


def test_own_answer_to_head_has_no_body(balance, backend):
    """RFC 9110 9.3.2: the next response begins right behind the blank line."""
    running = balance(backend(answering(OK)))
    running.publish(Plan(retry_after_s=1))
    client = running.connect()
    client.send(asking_for(b"/", method=b"HEAD") + GET)
    first = client.response("HEAD")

    assert (first.status, first.value(b"Content-Length")) == (503, b"24")
    assert client.response().body == b"503 Service Unavailable\n"


def test_refusal_in_a_pipeline_is_its_end(balance, backend):
    """What follows a request that was not understood is not looked at."""
    seen = []
    running = balance(backend(by_target(seen, {})))
    client = running.connect()
    client.send(asking_for(b"/1") + b"GET /2 HTTP/1.1\r\nHost : a\r\n\r\n" + asking_for(b"/3"))

    assert [client.response().status for _ in range(2)] == [200, 400]
    assert client.ending() == "fin"
    assert seen == [b"/1"]


def test_bad_chunk_in_a_pipeline_is_its_end(balance, backend):
    """Nobody can tell where the next request begins."""
    heads = []

    def script(link):
        while True:
            heads.append(link.until(b"\r\n\r\n").split(b" ")[1])
            if heads[-1] == b"/1":
                link.send(OK)

    running = balance(backend(script))
    client = running.connect()
    client.send(
        asking_for(b"/1"),
        b"POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
        asking_for(b"/3"),
    )

    assert [client.response().status for _ in range(2)] == [200, 400]
    assert client.ending() == "fin"
    assert b"/3" not in heads


def test_response_that_breaks_off_in_a_pipeline_is_its_end(balance, backend):
    """The next response would be read as the rest of the body."""
    seen = []
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nabc"

    def script(link):
        while (request := link.request()) is not None:
            seen.append(request.start.split(b" ")[1])
            link.send(cut if seen[-1] == b"/2" else OK)
            if seen[-1] == b"/2":
                return

    running = balance(backend(script))
    client = running.connect()
    client.send(asking_for(b"/1", b"/2", b"/3"))
    assert client.response().status == 200
    with pytest.raises(TruncatedError) as end:
        client.response()

    assert end.value.how == "fin"
    running.wait_idle()
    assert seen == [b"/1", b"/2"]


@pytest.mark.parametrize("field", [b"", b"Connection: close\r\n"])
def test_backend_that_closes_in_the_middle_of_a_pipeline_is_not_noticed(balance, backend, field):
    """Its connection is its own affair, and the client's is not that of the backend."""
    seen = []

    def script(link):
        request = link.request()
        seen.append(request.start.split(b" ")[1])
        link.send(b"HTTP/1.1 200 OK\r\n" + field + b"Content-Length: 2\r\n\r\nok")

    client = balance(backend(script)).connect()
    client.send(asking_for(*[b"/%d" % n for n in range(10)]))

    assert [client.response().status for _ in range(10)] == [200] * 10
    assert seen == [b"/%d" % n for n in range(10)]


def test_early_answer_to_an_upload_in_a_pipeline_is_its_end(balance, backend):
    """The rest of the body, and what follows it, is read and dropped until the client has seen the end."""
    heads = []

    def script(link):
        heads.append(link.until(b"\r\n\r\n").split(b" ")[1])
        link.send(OK)
        if heads[-1] == b"/1":
            heads.append(link.until(b"\r\n\r\n").split(b" ")[1])
            link.send(b"HTTP/1.1 413 Too Big\r\nContent-Length: 3\r\n\r\nbig")
        link.rest()

    client = balance(backend(script), limits=STREAMED).connect()
    client.send(asking_for(b"/1") + b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
    assert client.response().status == 200
    answer = client.response()
    client.send(bytes(999_997) + asking_for(b"/3"))

    assert (answer.status, answer.body, answer.value(b"Connection")) == (413, b"big", b"close")
    assert client.ending() == "fin"
    assert heads == [b"/1", b"/2"]


def test_time_out_in_a_pipeline_is_one_answer_of_many(balance, backend):
    """504 names the request that was slow."""
    slow = threading.Event()

    def script(link):
        while (request := link.request()) is not None:
            if b"/slow" in request.start:
                slow.wait(5)
                return
            link.send(OK)

    running = balance(backend(script), timeouts=replace(PATIENT, response_s=0.3))
    client = running.connect()
    client.send(asking_for(b"/1", b"/slow", b"/3"))
    statuses = [client.response().status for _ in range(3)]
    slow.set()

    assert statuses == [200, 504, 200]


def test_request_whose_pieces_come_with_the_ones_before_is_read_whole(balance, backend):
    """The second leaves room behind and before the half of the third that came with it: what comes
    later fits only if that is moved. The answers tell when a piece has been taken."""
    seen = []
    client = balance(backend(recording(seen))).connect()
    requests = []
    for number in range(4):
        padding = b"".join(b"%d.%03d " % (number, at) for at in range(150))
        requests.append(b"GET /%d HTTP/1.1\r\nHost: a\r\nX-Padding: %b\r\n\r\n" % (number, padding[:899]))
    stream = b"".join(requests)
    ends = [len(b"".join(requests[:count])) for count in range(1, 5)]
    sent = 0
    for upto in (ends[0] + 450, ends[1] + 450, ends[2] + 100, ends[3]):
        client.send(stream[sent:upto])
        sent = upto
        assert client.response().body == b"ok"

    assert [head.split(b" ")[1] for head in seen] == [b"/0", b"/1", b"/2", b"/3"]
    for head, request in zip(seen, requests, strict=True):
        assert request.split(b"X-Padding: ")[1].split(b"\r\n")[0] in head
