"""The retry table: what may be sent again, where, and how often."""

import threading
import time
from dataclasses import replace
from random import Random

import pytest

from fastlb.model.events import EventKind
from fastlb.model.plan import Plan
from support.backend import OK, answering
from support.balance import PATIENT, STREAMED
from support.waiting import wait_until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
IDEMPOTENT = (b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE")
OTHER = (b"POST", b"PATCH", b"LOCK", b"X-ANY")


def ask(client, method=b"GET", body=b""):
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    client.send(method + b" / HTTP/1.1\r\nHost: a\r\n" + length + b"\r\n" + body)
    return client.response(method.decode())


def stale_after_one(seen, end="close", last_words=b""):
    """The first connection serves one request and breaks on the second; later ones are healthy."""

    def script(link):
        while (request := link.request()) is not None:
            seen.append((link.number, request.start.split(b" ")[0], request.body))
            if link.number == 0 and len(seen) == 2:
                link.send(last_words)
                getattr(link, end)()
                return
            link.send(OK if not request.start.startswith(b"HEAD") else OK[:-2])

    return script


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("method", IDEMPOTENT)
def test_idempotent_request_on_a_stale_connection_is_sent_again_on_a_fresh_one(balance, backend, method, end):
    """A backend may close a kept connection at any instant (RFC 9112 9.3.1)."""
    seen = []
    running = balance(backend(stale_after_one(seen, end)))
    client = running.connect()
    ask(client)

    assert ask(client, method).status == 200
    assert [(number, verb) for number, verb, _ in seen] == [(0, b"GET"), (0, method), (1, method)]
    running.wait_in_flight(0)
    assert running.lines(2)[1]["tries"] == 2
    assert running.ledger().retries == 1


@pytest.mark.parametrize("body", [b"x" * 10, b"x" * 60_000])
def test_idempotent_request_with_a_small_body_is_sent_again_whole(balance, backend, body):
    """A body that is still in memory can be replayed."""
    seen = []
    client = balance(backend(stale_after_one(seen))).connect()
    ask(client)

    assert ask(client, b"PUT", body).status == 200
    assert [sent for _, _, sent in seen[1:]] == [body, body]


def test_body_that_came_in_pieces_is_sent_again_whole(balance, backend):
    """How the client's segments fell must not decide whether its request succeeds."""
    seen = []
    running = balance(backend(stale_after_one(seen)), limits=STREAMED)
    client = running.connect()
    ask(client)
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n" + b"x" * 10)
    running.wait_in_flight(1)
    client.send(b"y" * 19_990)

    assert client.response("PUT").status == 200
    assert [sent for _, _, sent in seen[1:]] == [b"x" * 10 + b"y" * 19_990] * 2


@pytest.mark.parametrize("method", OTHER)
@pytest.mark.parametrize("body", [b"", b"body"])
def test_other_request_is_never_sent_twice(balance, backend, method, body):
    """A proxy must not repeat what may not be repeated (RFC 9110 9.2.2)."""
    seen = []
    running = balance(backend(stale_after_one(seen)))
    client = running.connect()
    ask(client)
    answer = ask(client, method, body)

    assert answer.status == 502
    assert [verb for _, verb, _ in seen] == [b"GET", method]
    assert running.lines(2)[1]["code"] == "SH"


def test_request_whose_response_had_begun_is_never_sent_again(balance, backend):
    """One byte of a response means that the request was worked on."""
    seen = []
    client = balance(backend(stale_after_one(seen, "close", b"HTTP/1.1 2"))).connect()
    ask(client)

    assert ask(client).status == 502
    assert len(seen) == 2


def breaking(seen, end="close", last_words=b""):
    """Every connection breaks in answer to its first request."""

    def script(link):
        request = link.request()
        seen.append((request.start.split(b" ")[0], request.body))
        link.send(last_words)
        getattr(link, end)()

    return script


def healthy(seen):
    """Every request is answered."""

    def script(link):
        while (request := link.request()) is not None:
            seen.append((request.start.split(b" ")[0], request.body))
            link.send(OK if not request.start.startswith(b"HEAD") else OK[:-2])

    return script


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("method", IDEMPOTENT)
def test_idempotent_request_that_breaks_a_fresh_connection_goes_to_another_backend(
    balance, backend, method, end
):
    """A backend that dies may accept one more connection and then reset it."""
    first, second = [], []
    other = backend(healthy(second))
    running = balance(backend(breaking(first, end)), other)

    assert ask(running.connect(), method, b"body").status == 200
    assert first == second == [(method, b"body")]
    line = running.line()
    assert (line["tries"], line["status"], line["code"], line["backend"]) == (2, 200, "--", other.label)
    assert running.ledger().retries == 1
    (event,) = running.wait_event(EventKind.BACKEND_FAILED)
    assert (event.slot, event.in_a_row) == (running.slots[0], 1)


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("method", OTHER)
def test_other_request_that_breaks_a_fresh_connection_goes_nowhere_else(balance, backend, method, end):
    """The backend may have done its work before it broke (RFC 9110 9.2.2)."""
    first, second = [], []
    running = balance(backend(breaking(first, end)), backend(healthy(second)))

    assert ask(running.connect(), method).status == 502
    line = running.line()
    assert (line["tries"], line["code"]) == (1, "SH")
    assert (first, second) == ([(method, b"")], [])
    assert running.picked(1) == 0


def test_request_whose_body_is_too_long_to_keep_goes_nowhere_else(balance, backend):
    """What was not kept cannot be sent again, and half a body is worse than none."""
    first, second = [], []
    running = balance(backend(breaking(first)), backend(healthy(second)))

    assert ask(running.connect(), b"PUT", b"x" * 200_000).status == 502
    assert [len(body) for _, body in first] == [200_000]
    assert (running.line()["tries"], second) == (1, [])


def test_request_whose_response_had_begun_goes_nowhere_else(balance, backend):
    """One byte of a response is enough, also on a fresh connection."""
    first, second = [], []
    running = balance(backend(breaking(first, "close", b"H")), backend(healthy(second)))

    assert ask(running.connect()).status == 502
    assert (running.line()["tries"], second) == (1, [])


def test_request_that_breaks_three_backends_is_not_sent_to_a_fourth(balance, backend):
    """A request that kills backends must not meet them all."""
    seen, fourth = [], []
    running = balance(*(backend(breaking(seen)) for _ in range(3)), backend(healthy(fourth)))

    assert ask(running.connect()).status == 502
    line = running.line()
    assert (line["tries"], line["code"]) == (3, "SH")
    assert (len(seen), fourth) == (3, [])
    failed = {event.slot for event in running.wait_event(EventKind.BACKEND_FAILED, 3)}
    assert failed == set(running.slots[:3])


def test_stale_connection_and_then_a_broken_one_lead_to_another_backend(balance, backend):
    """A dying backend first ends its pooled connections and then breaks the fresh one."""
    first, second = [], []

    def dying(link):
        while (request := link.request()) is not None:
            first.append((link.number, request.start.split(b" ")[0]))
            if len(first) > 1:
                return
            link.send(OK)

    other = backend(healthy(second))
    running = balance(backend(dying), other)
    client = running.connect()
    for _ in range(2):  # one each
        assert ask(client).status == 200
        running.wait_idle()

    assert ask(client).status == 200
    assert first == [(0, b"GET"), (0, b"GET"), (1, b"GET")]
    assert len(second) == 2
    line = running.lines(3)[2]
    assert (line["tries"], line["code"], line["backend"]) == (3, "--", other.label)
    (event,) = running.wait_event(EventKind.BACKEND_FAILED)
    assert event.slot == running.slots[0]


@pytest.mark.parametrize("end", ["close", "reset"])
def test_request_that_breaks_a_fresh_connection_is_not_sent_again_to_the_same_backend(balance, backend, end):
    """Only a kept connection has the excuse of being stale, and there is nobody else."""
    seen = []
    running = balance(backend(breaking(seen, end)))

    assert ask(running.connect()).status == 502
    assert len(seen) == 1
    line = running.line()
    assert (line["code"], line["tries"]) == ("SH", 1)
    (event,) = running.wait_event(EventKind.BACKEND_FAILED)
    assert (event.slot, event.in_a_row) == (running.slots[0], 1)


def test_retry_that_fails_is_not_retried(balance, backend):
    """One automatic retry, or a failing backend gets a storm."""
    seen = []

    def script(link):
        while link.request() is not None:
            seen.append(link.number)
            if len(seen) > 1:
                return
            link.send(OK)

    running = balance(backend(script))
    client = running.connect()
    ask(client)

    assert ask(client).status == 502
    assert seen == [0, 0, 1]


def leaving(started):
    """Serve one request on each connection; at the second stop listening, and break."""

    def script(link):
        link.request()
        link.send(OK)
        link.request()
        started[0].refuse()

    return script


def gone_after_one(backend, path):
    """A backend whose kept connection breaks at the second request, when it does not listen any more."""
    started = []
    started.append(backend(leaving(started), path=path))
    return started[0]


@pytest.mark.parametrize("unix", [False, True])
def test_stale_connection_to_a_backend_that_has_gone_leads_to_another(balance, backend, tmp_path, unix):
    """There is no fresh connection to it; a UNIX socket says so at once, TCP a little later."""
    gate = threading.Event()

    def script(link):
        while request := link.request():
            assert b"/hold" not in request.start or gate.wait(8)
            link.send(OK)

    other = backend(script)
    gone = gone_after_one(backend, str(tmp_path / "backend") if unix else "")
    running = balance(gone, other, workers=1)
    running.keep_only(1)
    busy = running.connect()
    busy.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
    running.wait_in_flight(1, 1)
    running.keep_only(0, 1)  # the first one has less to do
    client = running.connect()

    assert [ask(client).status for _ in range(2)] == [200, 200]
    line = running.lines(2)[1]
    assert (line["tries"], line["backend"], line["code"]) == (3, other.label, "--")
    gate.set()
    assert busy.response().status == 200


@pytest.mark.parametrize("unix", [False, True])
def test_stale_connection_to_the_only_backend_that_has_gone_is_502(balance, backend, tmp_path, unix):
    """Its connect is refused: code SC, and the client's connection stays."""
    running = balance(gone_after_one(backend, str(tmp_path / "backend") if unix else ""), workers=1)
    client = running.connect()

    assert [ask(client).status for _ in range(2)] == [200, 502]
    line = running.lines(2)[1]
    assert (line["tries"], line["code"]) == (2, "SC")
    running.wait_event(EventKind.CONNECT_FAILED)
    assert ask(client).status == 502


def test_connection_closed_by_the_backend_while_idle_is_not_used(balance, backend):
    """What is seen in time costs no retry, and POST is safe too."""

    close = threading.Semaphore(0)

    def script(link):
        link.request()
        link.send(OK)
        assert close.acquire(timeout=5)

    started = backend(script)
    running = balance(started)
    client = running.connect()
    for n in range(3):
        assert ask(client, b"POST", b"body").status == 200
        running.wait_in_flight(0)
        assert running.verify().connections == 2  # it is in the pool when the backend closes it
        close.release()
        wait_until(lambda: running.verify().connections == 1, "the pooled connection closed")
        assert len(started.links) == n + 1
    assert running.ledger().retries == 0


def test_no_502_while_a_backend_closes_kept_connections_at_will(balance, backend):
    """The keep-alive race met often: idempotent requests never see it."""

    def script(link):
        for _ in range(3):
            if link.request() is None:
                return
            link.send(OK)

    running = balance(backend(script))
    client = running.connect()

    assert {ask(client).status for _ in range(200)} == {200}


def test_no_502_under_load_while_a_backend_closes_idle_connections_after_a_short_time(balance, backend):
    """The keep-alive race as servers have it, 20 ms instead of a second: with pauses about as long as
    that, requests meet connections that are closing. No flag is needed for it."""

    def script(link):
        link.sock.settimeout(0.02)
        while link.request() is not None:
            link.send(OK)

    running = balance(backend(script))
    statuses, pause = [], threading.Event()

    def load(seed):
        client, random = running.connect(), Random(seed)
        for _ in range(200):
            statuses.append(ask(client).status)
            pause.wait(random.choice((0, 0, 0.015, 0.019, 0.02, 0.021)))

    threads = [threading.Thread(target=load, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == [200] * 800
    assert running.ledger().retries_denied == 0


@pytest.mark.parametrize(("method", "body"), [(b"GET", b""), (b"POST", b""), (b"POST", b"x" * 30_000)])
def test_refused_connect_tries_another_backend(balance, backend, refused, method, body):
    """Nothing was sent, so any method may go elsewhere."""
    running = balance(refused, backend(answering(OK)))

    assert ask(running.connect(), method, body).status == 200
    line = running.line()
    assert (line["tries"], line["code"], line["backend"]) == (
        2,
        "--",
        f"127.0.0.1:{line['backend'].split(':')[1]}",
    )
    (event,) = running.wait_event(EventKind.CONNECT_FAILED)
    assert event.slot == running.slots[0]
    assert event.errno != 0


def test_refused_connect_does_not_repeat_what_the_client_streams(balance, backend, refused):
    """The body goes to the backend that is there, once and whole, also while it is still coming."""
    got = []

    def script(link):
        request = link.request()
        got.append(request.body)
        link.send(OK)

    running = balance(refused, backend(script))
    client = running.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n")
    for _ in range(20):
        client.send(b"x" * 10_000)

    assert client.response().status == 200
    assert got == [b"x" * 200_000]


def test_refused_everywhere_is_502(balance, refused):
    """Backends are there and none lets us in: code SC, and the client's connection stays."""
    running = balance(refused)
    client = running.connect()
    for _ in range(2):
        answer = ask(client)
        assert (answer.status, answer.body) == (502, b"502 Bad Gateway\n")
    lines = running.lines(2)

    assert [line["code"] for line in lines] == ["SC", "SC"]
    events = running.wait_event(EventKind.CONNECT_FAILED, 2)
    assert [event.in_a_row for event in events] == [1, 2]


def test_tries_are_limited(balance, backend, refused):
    """The first backend and two others; the fourth stays untouched."""
    from support.backend import refused_address

    with refused_address() as second, refused_address() as third:
        running = balance(refused, second, third, backend(answering(OK)))
        assert ask(running.connect()).status == 502
        assert running.line()["tries"] == 3
        assert running.picked(3) == 0


def test_unanswered_connect_tries_another_backend(balance, backend, unanswered):
    """A dropped SYN is as good as a refusal, only later."""
    running = balance(unanswered, backend(answering(OK)), timeouts=replace(PATIENT, connect_s=0.2))

    assert ask(running.connect(), b"POST", b"body").status == 200
    assert running.line()["tries"] == 2
    running.wait_event(EventKind.CONNECT_FAILED)


def test_unanswered_connect_is_504(balance, unanswered):
    """The backend's host may be gone: code sC."""
    running = balance(unanswered, timeouts=replace(PATIENT, connect_s=0.2))

    assert ask(running.connect()).status == 504
    assert running.line()["code"] == "sC"


def test_success_resets_the_count_of_failures(balance, backend):
    """in_a_row means in a row."""
    broken = threading.Event()
    broken.set()

    def script(link):
        if link.request() is not None and not broken.is_set():
            link.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")

    running = balance(backend(script))
    client = running.connect()
    statuses = []
    for failing in (True, True, False, True):
        broken.set() if failing else broken.clear()
        statuses.append(ask(client).status)

    assert statuses == [502, 502, 200, 502]
    assert [e.in_a_row for e in running.wait_event(EventKind.BACKEND_FAILED, 3)] == [1, 2, 1]


def test_control_plane_hears_of_failures_at_once(balance, refused):
    """Until it has ejected the backend each exchange costs a retry, so news of it are not batched."""
    running = balance(refused)
    client, pause = running.connect(), threading.Event()
    started_s = time.monotonic()
    for _ in range(20):
        wakes = running.wakes
        assert ask(client).status == 502
        wait_until(lambda wakes=wakes: running.wakes > wakes, "a wake-up")
        running.events()
        pause.wait(0.003)

    assert time.monotonic() - started_s < 0.5  # in batches: a second


def test_news_of_failures_that_nobody_takes_are_no_burden(balance, refused):
    """There is room for some; the count of failures in a row goes on, and the next news tells it."""
    running = balance(refused)
    client = running.connect()
    for _ in range(15):
        client.send(GET * 100)
        assert [client.response().status for _ in range(100)] == [502] * 100
    seen = running.wait_event(EventKind.CONNECT_FAILED, 1000)
    assert [event.in_a_row for event in seen] == list(range(1, len(seen) + 1))

    assert ask(client).status == 502
    assert running.wait_event(EventKind.CONNECT_FAILED, len(seen) + 1)[-1].in_a_row == 1501


def test_no_backend_is_503_and_says_when_to_come_back(balance, backend):
    """All down: the client is told, and the connection stays."""
    running = balance(backend(answering(OK)))
    running.publish(Plan(retry_after_s=7))
    client = running.connect()
    answer = ask(client)

    assert (answer.status, answer.value(b"Retry-After")) == (503, b"7")
    assert answer.body == b"503 Service Unavailable\n"
    running.publish(running.plan)
    assert ask(client).status == 200
    assert (running.lines(2)[0]["code"], running.lines(2)[0]["backend"]) == ("SC", None)


def test_retry_waits_for_a_backend_that_is_full(balance, backend, refused):
    """Refused by one and no room at the other is no reason to fail: the queue is for that."""
    gate = threading.Event()

    def script(link):
        while link.request() is not None:
            assert gate.wait(10)
            link.send(OK)

    busy = backend(script)
    running = balance(busy, refused, max_conns=[1, 0])
    running.keep_only(0)
    first = running.connect()
    first.send(GET)
    running.wait_in_flight(1)
    running.keep_only(0, 1)
    second = running.connect()
    second.send(GET)
    wait_until(lambda: running.ledger().queued == 1, "the retry queued")
    gate.set()

    assert first.response().status == 200
    assert second.response().status == 200
    line = max(running.lines(2), key=lambda line: line["tries"])
    assert (line["tries"], line["backend"], line["code"]) == (2, busy.label, "--")


@pytest.mark.parametrize("unix", [False, True])
def test_grant_of_a_backend_that_refuses_leads_to_another(balance, backend, tmp_path, unix):
    """Room at a backend that has gone meanwhile is none; the request goes on to wait for the other."""
    gates = [threading.Event(), threading.Event()]

    def script(number):
        def held(link):
            while link.request() is not None:
                assert gates[number].wait(8)
                link.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")

        return held

    first = backend(script(0), path=str(tmp_path / "backend") if unix else "")
    other = backend(script(1))
    running = balance(first, other, max_conns=[1, 1])
    clients = [running.connect() for _ in range(3)]
    for number in range(2):
        clients[number].send(GET)
        running.wait_in_flight(1, number)
    clients[2].send(GET)
    wait_until(lambda: running.ledger().queued == 1, "one in the queue")
    first.refuse()
    gates[0].set()
    assert clients[0].response().status == 200
    running.wait_event(EventKind.CONNECT_FAILED)
    gates[1].set()

    assert [client.response().status for client in clients[1:]] == [200, 200]
    line = max(running.lines(3), key=lambda line: line["tries"])
    assert (line["tries"], line["backend"], line["code"]) == (2, other.label, "--")
