"""A request whose body is short is awaited before a backend is picked: a client that sends slowly must not
hold a place there, and what is here whole can be sent again."""

import json
import threading
from dataclasses import replace

import pytest

from fastlb.model.limits import LimitConfig
from support.backend import OK, answering, recording, refused_address, silent
from support.balance import PATIENT
from support.waiting import PATIENCE_S, wait_until
from support.wire import TruncatedError

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
# More than a socket takes in one piece, and more than is awaited.
LONG_BYTES = 300_000
AWAITED_BYTES = 65_536


def post(length: int, *fields: bytes, method: bytes = b"POST", version: bytes = b"1.1") -> bytes:
    lines = [
        b"%b / HTTP/%b" % (method, version),
        b"Host: a",
        b"Content-Length: %d" % length,
        *fields,
        b"",
        b"",
    ]
    return b"\r\n".join(lines)


def begun(running, *parts: bytes):
    """A client that has sent so much of a request, all of which the engine has read."""
    before = running.ledger().bytes_in
    client = running.connect()
    client.send(*parts)
    wait_until(lambda: running.ledger().bytes_in >= before + sum(map(len, parts)), "the engine has read it")
    return client


def bodies(into: list[bytes]):
    """Answer every request and keep its body."""

    def script(link):
        while (request := link.request()) is not None:
            into.append(request.body)
            link.send(OK)

    return script


def limited(**limits) -> LimitConfig:
    return LimitConfig(connections=0, **limits)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_slow_sender_holds_no_place_at_a_backend(balance, backend, version):
    """Two such clients kept a GET waiting for 5 s where two backends serve one at a time."""
    got: list[bytes] = []
    server = backend(bodies(got))
    running = balance(server, max_conns=[1])
    sender = begun(running, post(6, version=version), b"abc")
    other = running.connect()
    other.send(GET)

    assert other.response().body == b"ok"
    assert running.picked() == 1
    sender.send(b"def")
    assert sender.response().status == 200
    assert got == [b"", b"abcdef"]


def test_body_in_many_pieces_arrives_as_it_was_sent(balance, backend):
    """Through every size of memory that it is kept in."""
    got: list[bytes] = []
    running = balance(backend(bodies(got)))
    client = running.connect()
    for length in (1, 1500, 2048, 16_384, 16_385, 60_000, 65_535, 65_536):
        body = bytes(n * 7 % 251 for n in range(length))
        client.send(post(length))
        for at in range(0, length, 9000):
            client.send(body[at : at + 9000])
        assert client.response().status == 200
        assert got.pop() == body


def test_long_body_is_awaited_up_to_64_kib(balance, backend):
    """Then it is streamed: nobody holds a long upload in memory."""
    server = backend(silent)
    running = balance(server)
    client = begun(running, post(LONG_BYTES), bytes(AWAITED_BYTES - 1))
    assert running.picked() == 0
    client.send(b"x")
    link = server.link()
    wait_until(lambda: link.received_bytes > AWAITED_BYTES, "what was awaited")
    client.send(bytes(1000))

    wait_until(lambda: len(link.unread) > AWAITED_BYTES + 1000, "the next piece")


def test_long_body_arrives_as_it_was_sent(balance, backend):
    """The part that was awaited, and the part that was not."""
    got: list[bytes] = []
    running = balance(backend(bodies(got)))
    client = running.connect()
    body = bytes(n * 7 % 251 for n in range(LONG_BYTES))
    for _ in range(2):
        client.send(post(LONG_BYTES), body)
        assert client.response().status == 200
        assert got.pop() == body


@pytest.mark.parametrize("size", [0, 1000])
def test_how_much_is_awaited_can_be_set(balance, backend, size):
    """Off, the head goes to a backend at once; else once so much is there."""
    server = backend(silent)
    running = balance(server, limits=limited(request_buffer_bytes=size))
    client = running.connect()
    client.send(post(2000), bytes(size))

    wait_until(lambda: server.link().received_bytes > size, "the request")


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", id="chunked"),
        pytest.param(post(10, b"Expect: 100-continue"), id="expect"),
    ],
)
def test_chunked_body_and_one_that_waits_for_an_answer_are_streamed(balance, backend, head):
    """Nobody knows how long the one will be, and the other does not come before the backend says so."""
    server = backend(silent)
    running = balance(server)
    running.connect().send(head)

    wait_until(lambda: server.link().received_bytes, "the request")
    assert running.in_flight() == 1


def test_body_that_stalls_is_408_and_meets_no_backend(balance, backend):
    """It is the request that is waited for: code cR."""
    running = balance(backend(silent), timeouts=replace(PATIENT, idle_s=0.3))
    client = running.connect()
    client.send(post(10), b"abc")
    answer = client.response()

    assert (answer.status, answer.value(b"Connection")) == (408, b"close")
    line = running.line()
    assert (line["code"], line["status"], line["tries"], line["bytes_in"]) == (
        "cR",
        408,
        0,
        len(post(10)) + 3,
    )
    assert running.picked() == 0


def test_each_byte_starts_the_time_of_a_body_again(balance, backend):
    """Slow is not silent."""
    running = balance(backend(answering(OK)), timeouts=replace(PATIENT, idle_s=0.6))
    client = running.connect()
    client.send(post(8))
    pause = threading.Event()
    for _ in range(8):
        pause.wait(0.15)
        client.send(b"x")

    assert client.response().status == 200


def test_time_of_the_body_ends_with_it(balance, backend):
    """What it waited for must not strike while the backend works."""
    gate = threading.Event()

    def script(link):
        link.request()
        gate.wait(PATIENCE_S)
        link.send(OK)

    running = balance(backend(script), timeouts=replace(PATIENT, idle_s=0.3))
    client = begun(running, post(6), b"abc")
    client.send(b"def")
    running.wait_in_flight(1)
    assert not gate.wait(0.6)  # longer than the time-out, which must not strike now
    gate.set()

    assert client.response().status == 200


@pytest.mark.parametrize("leave", ["shut", "reset", "close"])
def test_client_that_leaves_in_its_body_meets_no_backend(balance, backend, leave):
    """499, code CR: nobody has begun to work for it."""
    running = balance(backend(silent))
    client = begun(running, post(10), b"abc")
    getattr(client, leave)()

    line = running.line()
    assert (line["code"], line["status"], line["tries"]) == ("CR", 499, 0)
    assert running.picked() == 0


def test_fin_behind_the_whole_body_is_a_client_that_left(balance, backend):
    """As behind a request without a body. (The pure engine may have sent the request by then.)"""
    running = balance(backend(silent))
    client = begun(running, post(6), b"abc")
    client.send(b"def")
    client.shut()

    assert running.line()["code"] in ("CR", "CC", "CH")


def test_request_behind_an_awaited_body_is_answered_next(balance, backend):
    """Pipelining: the end of the body and the next request may come in one piece."""
    got: list[bytes] = []
    running = balance(backend(bodies(got)))
    client = begun(running, GET, post(6), b"ab")
    client.send(b"c")
    client.send(b"def", GET, post(4), b"w")
    client.send(b"xyz", GET)

    assert [client.response().status for _ in range(5)] == [200] * 5
    assert got == [b"", b"abcdef", b"", b"wxyz", b""]


def test_connection_that_ends_with_its_answer_ends(balance, backend):
    """Connection: close of the client is obeyed behind an awaited body, too."""
    running = balance(backend(answering(OK)))
    client = begun(running, post(6, b"Connection: close"), b"abc")
    client.send(b"def")

    assert client.response().value(b"Connection") == b"close"
    assert client.ending() == "fin"


def test_length_above_the_limit_is_413_at_once(balance, backend):
    """It need not be awaited to be refused."""
    running = balance(backend(silent), limits=limited(body_bytes=1000))
    client = running.connect()
    client.send(post(1001), b"a")

    assert client.response().status == 413
    assert running.picked() == 0


def test_request_that_goes_no_further_is_answered_at_once(balance, backend):
    """Max-Forwards of 0: no backend is waited for."""
    running = balance(backend(silent))
    client = running.connect()
    client.send(post(10, b"Max-Forwards: 0", method=b"OPTIONS"), b"abc")

    assert client.response().status == 200


def test_drain_lets_an_awaited_body_come(balance, backend):
    """The request was begun before it, and is served like any other: its answer is the last."""
    running = balance(backend(answering(OK)))
    client = begun(running, post(6), b"abc")
    done: list[bool] = []
    draining = threading.Thread(target=lambda: done.append(running.drain(PATIENCE_S)))
    draining.start()
    client.send(b"def")
    answer = client.response()
    assert client.ending() == "fin"
    client.close()
    draining.join()

    assert answer.status == 200
    assert done == [True]


def test_stop_resets_a_client_whose_body_is_awaited(balance, backend):
    """Code KR: its request was not complete."""
    running = balance(backend(silent))
    client = begun(running, post(10), b"abc")
    running.stop()

    assert client.ending() == "rst"
    line = running.line()
    assert (line["code"], line["status"], line["tries"]) == ("KR", None, 0)


def test_body_that_is_here_whole_goes_to_another_backend(balance, backend):
    """Refused, and broken on a new connection: the retry rules apply, as to a request without a body."""
    got: list[bytes] = []

    def breaking(link):
        link.request()

    broken = backend(breaking)
    running = balance(broken, backend(bodies(got)))
    for client in [running.connect() for _ in range(3)]:
        client.send(post(6, method=b"PUT"))
        client.send(b"abc")
        client.send(b"def")
        assert client.response().status == 200

    assert set(got) == {b"abcdef"}
    assert broken.links


def test_unit_is_taken_when_the_body_is_here(balance, backend):
    """All backends full: it is then that the request waits in the queue."""
    gate = threading.Event()

    def script(link):
        while link.request() is not None:
            gate.wait(PATIENCE_S)
            link.send(OK)

    running = balance(backend(script), max_conns=[1])
    first = running.connect()
    first.send(GET)
    running.wait_in_flight(1)
    second = begun(running, post(6), b"abc")
    assert running.ledger().queued == 0
    second.send(b"def")
    wait_until(lambda: running.ledger().queued == 1, "it waits in the queue")
    gate.set()

    assert first.response().status == 200
    assert second.response().status == 200


def test_nobody_up_is_said_when_the_body_is_here(balance, backend):
    """503, and the client's connection stays: its request was read to its end."""
    running = balance(backend(silent))
    running.keep_only()
    client = begun(running, post(6), b"abc")
    client.send(b"def")
    assert client.response().status == 503
    client.send(GET)
    assert client.response().status == 503


def test_backend_that_goes_down_ends_no_request_that_it_does_not_have(balance, backend):
    """What is awaited belongs to nobody yet."""
    running = balance(backend(answering(OK)))
    client = begun(running, post(6), b"abc")
    running.end_exchanges(running.slots[0])
    client.send(b"def")

    assert client.response().status == 200


def test_all_places_refused_is_502_with_the_body_read(balance, backend):
    """The connection goes on."""
    with refused_address() as address:
        running = balance(address)
        client = begun(running, post(6), b"abc")
        client.send(b"def")
        assert client.response().status == 502
        client.send(GET)
        assert client.response().status == 502


def test_memory_of_awaited_bodies_is_counted_and_comes_back(balance, backend):
    """Whatever their clients do with them."""
    heads: list[bytes] = []
    running = balance(backend(recording(heads)), limits=limited(buffer_bytes=16 * 1024 * 1024))
    clients = [begun(running, post(40_000), bytes(30_000)) for _ in range(20)]
    assert running.ledger().buffer_bytes >= 20 * 30_000
    for client in clients[:10]:
        client.close()
    for client in clients[10:]:
        client.send(bytes(10_000))
        assert client.response().status == 200
        client.close()
    running.wait_idle()

    assert len(heads) == 10
    assert len(running.lines(20)) == 20


def test_without_memory_a_body_is_streamed(balance, backend):
    """Nobody is refused because others send slowly: the head goes to a backend as it came."""
    server = backend(silent)
    running = balance(server, limits=limited(buffer_bytes=1_048_576))
    for client in [begun(running, post(60_000)) for _ in range(60)]:
        client.send(bytes(30_000))
    wait_until(lambda: running.in_flight() >= 20, "those for whom there was no memory")

    assert running.ledger().buffer_bytes <= 1_048_576
    assert running.ledger().exchanges == 0


def test_without_memory_a_body_arrives_as_it_was_sent(balance, backend):
    """What was kept before memory became short goes first."""
    got: list[bytes] = []
    running = balance(backend(bodies(got)), limits=limited(buffer_bytes=1_048_576))
    body = bytes(n * 7 % 251 for n in range(60_000))
    clients = [begun(running, post(len(body)), body[:20]) for _ in range(60)]
    for client in clients:
        client.send(body[20:30_000])
    for client in clients:
        client.send(body[30_000:])
    for client in clients:
        assert client.response().status == 200

    assert got == [body] * 60


def test_answer_before_the_end_of_a_long_body_is_passed_on(balance, backend):
    """Of a body that is streamed, behind its first part."""

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(OK)
        link.rest()

    running = balance(backend(script))
    client = running.connect()
    client.send(post(LONG_BYTES), bytes(AWAITED_BYTES))
    try:
        assert client.response().status == 200
    except TruncatedError:
        pytest.fail("the answer was lost")
    assert json.loads(running.raw_lines(1)[0])["status"] == 200
