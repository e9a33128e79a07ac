"""Counts of exchanges: exact at every moment, given back on every way out, and limited."""

import threading
from dataclasses import replace

import pytest

from fastlb.model.limits import LimitConfig
from fastlb.model.plan import Pick, Plan, PlanEntry
from support.backend import OK, answering, gated, silent
from support.balance import PATIENT
from support.waiting import wait_until

UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ANSWERED_HERE = b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"


def counts(running):
    return [running.in_flight(index) for index in range(len(running.slots))]


def asking(running, count):
    """That many clients, each with a request sent, one after the other."""
    clients = []
    for _ in range(count):
        client = running.connect()
        client.send(GET)
        clients.append(client)
    return clients


def held_and_queued(running, queued):
    """One client whose request the backend has, and as many behind it in the queue, in order."""
    (held,) = asking(running, 1)
    running.wait_in_flight(1)
    clients = [held]
    for count in range(1, queued + 1):
        clients += asking(running, 1)
        wait_until(lambda count=count: running.ledger().queued == count, "its place in the queue")
    return clients


@pytest.mark.parametrize("workers", [1, 2])
def test_open_exchanges_are_spread_evenly(balance, backend, workers):
    """Least connections is exact over all workers."""
    gate = threading.Event()
    running = balance(*[backend(gated(gate)) for _ in range(3)], workers=workers)
    clients = asking(running, 30)
    wait_until(lambda: sum(counts(running)) == 30, "30 in flight")

    assert counts(running) == [10, 10, 10]
    seen = running.verify()
    assert seen.exact
    assert seen.exchanges == 30
    gate.set()
    assert all(client.response().body == b"ok" for client in clients)


def test_open_exchanges_follow_weights(balance, backend):
    """Weight 3 carries three times as much."""
    gate = threading.Event()
    running = balance(*[backend(gated(gate)) for _ in range(2)], weights=[3, 1])
    clients = asking(running, 40)
    wait_until(lambda: sum(counts(running)) == 40, "40 in flight")

    assert counts(running) == [30, 10]
    gate.set()
    assert all(client.response().body == b"ok" for client in clients)


def test_slow_backend_gets_less(balance, backend):
    """The reason for least connections: who is slow is busy."""
    gate = threading.Event()
    running = balance(backend(gated(gate)), backend(answering(OK)))
    (held,) = asking(running, 1)
    running.wait_in_flight(1, 0)
    client = running.connect()
    for _ in range(20):
        client.send(GET)
        assert client.response().body == b"ok"
        running.wait_in_flight(0, 1)
    gate.set()
    held.response()

    assert (running.picked(0), running.picked(1)) == (1, 20)


@pytest.mark.parametrize("workers", [1, 3])
def test_lone_requests_take_turns(balance, backend, workers):
    """Ties go to the backend picked longest ago, whichever worker picked it."""
    running = balance(*[backend(answering(OK)) for _ in range(3)], workers=workers)
    clients = [running.connect() for _ in range(10)]
    for n in range(30):
        client = clients[n % 10]
        client.send(GET)
        client.response()
        wait_until(lambda: sum(counts(running)) == 0)

    assert [running.picked(index) for index in range(3)] == [10, 10, 10]


@pytest.mark.parametrize("pick", [Pick.CYCLE, Pick.RANDOM])
def test_tables_are_followed(balance, backend, pick):
    """Round robin and random are tables; counts are kept all the same."""
    running = balance(*[backend(answering(OK)) for _ in range(2)], pick=pick)
    client = running.connect()
    for _ in range(40):
        client.send(GET)
        client.response()
    running.wait_idle()

    picked = [running.picked(index) for index in range(2)]
    assert sum(picked) == 40
    if pick is Pick.CYCLE:
        assert picked == [20, 20]
    else:
        assert min(picked) > 0


def leave_while_waiting(client, backend_link):
    client.close()


def reset_while_waiting(client, backend_link):
    client.reset()


def backend_closes(client, backend_link):
    backend_link.sock.shutdown(2)


def backend_resets(client, backend_link):
    backend_link.reset()


@pytest.mark.parametrize("way_out", [leave_while_waiting, reset_while_waiting, backend_closes])
@pytest.mark.parametrize("phase", ["head", "body", "upload"])
def test_unit_is_given_back_on_every_way_out(balance, backend, way_out, phase):
    """A unit that is not given back sends a backend's share elsewhere for ever."""

    def script(link):
        link.until(b"\r\n\r\n")
        if phase == "body":
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        link.rest()

    started = backend(script)
    running = balance(started)
    client = running.connect()
    client.send(GET if phase != "upload" else UPLOAD)
    running.wait_in_flight(1)
    if phase == "body":
        client.response_head()
    way_out(client, started.link())

    running.wait_in_flight(0)
    running.wait_idle()
    running.lines(1)


def test_client_that_leaves_cancels_the_backend_s_work(balance, backend):
    """Nobody will read the answer: code CH, 499 in the log, and the backend sees the end."""
    asked, ended = threading.Event(), threading.Event()

    def script(link):
        link.request()
        asked.set()
        try:
            link.rest()
        finally:
            ended.set()

    running = balance(backend(script))
    client = running.connect()
    client.send(GET)
    assert asked.wait(5)
    client.close()

    assert ended.wait(5)
    running.wait_in_flight(0)
    assert (running.line()["status"], running.line()["code"]) == (499, "CH")


def test_client_that_leaves_in_a_response_is_logged_so(balance, backend):
    """Code CD: the client's choice, not the backend's fault."""

    def script(link):
        link.request()
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            link.send(bytes(65_536))

    running = balance(backend(script))
    client = running.connect()
    client.send(GET)
    client.response_head()
    client.reset()
    running.wait_in_flight(0)

    assert running.line()["code"] == "CD"
    assert not [event for event in running.events() if event.kind.value == "backend_failed"]


@pytest.mark.parametrize("workers", [1, 3])
def test_full_backends_queue_in_order(balance, backend, workers):
    """max_conns holds exactly, and who waited longest is next, whichever worker serves him."""
    order, step = [], threading.Semaphore(0)

    def script(link):
        while (request := link.request()) is not None:
            order.append(request.start.split(b" ")[1])
            assert step.acquire(timeout=5)
            link.send(OK)

    running = balance(backend(script), max_conns=[1], workers=workers)
    clients = []
    for n in range(5):
        client = running.connect()
        client.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n)
        clients.append(client)
        wait_until(lambda n=n: (running.in_flight(), running.ledger().queued) == (1, n), f"{n} queued")
    for client in clients:
        step.release()
        assert client.response().body == b"ok"

    assert order == [b"/%d" % n for n in range(5)]
    lines = sorted(running.lines(5), key=lambda line: line["queue_us"])
    assert lines[0]["queue_us"] in (0, -1)
    assert all(line["queue_us"] > 0 for line in lines[1:])
    assert all(line["in_flight"] == 1 for line in lines)


@pytest.mark.parametrize("workers", [1, 2])
def test_max_conns_is_never_exceeded(balance, backend, workers):
    """A promise to the backend, over all workers and all moments."""
    now, most, lock = [0], [0], threading.Lock()

    def script(link):
        while link.request() is not None:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            with lock:
                now[0] -= 1
            link.send(OK)

    running = balance(backend(script), max_conns=[3], workers=workers)

    def client_run():
        client = running.connect()
        for _ in range(20):
            client.send(GET)
            assert client.response().body == b"ok"

    threads = [threading.Thread(target=client_run) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most[0] <= 3
    assert running.ledger().exchanges == 240
    assert running.ledger().queued == 0


def test_waiting_in_the_queue_ends_after_its_time(balance, backend):
    """503, code sQ; the client's connection stays."""
    running = balance(backend(silent), max_conns=[1], timeouts=replace(PATIENT, queue_s=0.2))
    (held,) = asking(running, 1)
    running.wait_in_flight(1)
    (waiting,) = asking(running, 1)
    answer = waiting.response()

    assert (answer.status, answer.value(b"Retry-After")) == (503, b"2")
    assert answer.value(b"Connection") is None
    line = running.line()
    assert (line["code"], line["backend"], line["status"]) == ("sQ", None, 503)
    assert line["queue_us"] >= 190_000
    held.close()


def test_full_queue_is_503_at_once(balance, backend):
    """A bounded queue: code PQ."""
    gate = threading.Event()
    running = balance(backend(gated(gate)), max_conns=[1], limits=LimitConfig(queue_depth=1))
    held = held_and_queued(running, 1)
    (refused,) = asking(running, 1)

    assert refused.response().status == 503
    assert running.line()["code"] == "PQ"
    gate.set()
    assert [client.response().status for client in held] == [200, 200]


def test_client_that_leaves_the_queue_never_reaches_a_backend(balance, backend):
    """Work for nobody: code CQ."""
    gate = threading.Event()
    started = backend(gated(gate))
    running = balance(started, max_conns=[1])
    held, leaving, staying = held_and_queued(running, 2)
    leaving.close()
    wait_until(lambda: running.ledger().queued == 1)
    gate.set()
    assert [held.response().body, staying.response().body] == [b"ok", b"ok"]
    running.wait_in_flight(0)

    assert running.picked() == 2
    left = [line for line in running.lines(3) if line["code"] == "CQ"]
    assert [(line["status"], line["backend"]) for line in left] == [(499, None)]


def test_new_plan_that_makes_room_wakes_the_queue(balance, backend):
    """Room may come from the control plane too."""
    gate = threading.Event()
    running = balance(backend(gated(gate)), max_conns=[1])
    clients = held_and_queued(running, 2)
    running.publish(Plan(entries=(PlanEntry(running.slots[0], 1, 0),)))
    running.wait_in_flight(3)
    gate.set()

    assert [client.response().body for client in clients] == [b"ok"] * 3


def test_room_that_was_given_and_is_not_in_use_yet_is_counted(balance, backend, loop_thread):
    """A plan gives units to who waits; their workers, busy with others, hear of it later."""
    gate = threading.Event()
    running = balance(backend(gated(gate)), max_conns=[1])
    (slot,), busy = running.slots, running.connect()
    clients = held_and_queued(running, 20)

    def make_room():
        busy.send(ANSWERED_HERE * 200)
        running.engine.publish(Plan(entries=(PlanEntry(slot, 1, 11),)))
        return running.engine.verify()

    seen = loop_thread.call(make_room)
    assert seen.exact, seen
    assert (seen.counted, running.ledger().queued) == ({slot: 11}, 10)
    assert {busy.response().status for _ in range(200)} == {200}
    gate.set()
    assert [client.response().body for client in clients] == [b"ok"] * 21


def test_unit_of_who_leaves_the_queue_as_it_is_given_comes_back(balance, backend, loop_thread):
    """Their worker is busy as they leave and as the control plane gives them room, behind others who
    stay; then it sees both. Which comes first is for the threads to say, so there are some rounds."""
    gate = threading.Event()
    running = balance(backend(gated(gate)), max_conns=[1])
    busy = running.connect()
    roomy = Plan(entries=(PlanEntry(running.slots[0]),))
    for _ in range(5):
        staying = held_and_queued(running, 2)
        leaving = asking(running, 40)
        wait_until(lambda: running.ledger().queued == 42, "all in the queue")

        def leave_and_make_room(leaving=leaving):
            busy.send(ANSWERED_HERE * 200)
            for client in leaving:
                client.close()
            running.engine.publish(roomy)

        loop_thread.call(leave_and_make_room)
        assert running.verify().exact
        assert {busy.response().status for _ in range(200)} == {200}
        running.wait_in_flight(3)
        gate.set()
        assert [client.response().body for client in staying] == [b"ok"] * 3
        running.wait_idle()
        gate.clear()
        running.publish(running.plan)
        for client in staying:
            client.close()


def test_backend_that_joins_serves_the_queue(balance, backend):
    """A new backend is room."""
    gate = threading.Event()
    running = balance(backend(gated(gate)), max_conns=[1])
    held = held_and_queued(running, 1)
    slot = running.add(backend(answering(OK)))
    running.publish(Plan(entries=(*running.plan.entries, PlanEntry(slot))))

    assert held[1].response().body == b"ok"
    gate.set()
    assert held[0].response().body == b"ok"


def test_queue_ends_when_the_last_backend_goes(balance, backend):
    """With nobody left to wait for, waiting ends: by 503 at the latest after the queue's time."""
    gate = threading.Event()
    running = balance(backend(gated(gate)), max_conns=[1], timeouts=replace(PATIENT, queue_s=0.5))
    held, waiting = held_and_queued(running, 1)
    running.publish(Plan())

    assert waiting.response().status == 503
    gate.set()
    assert held.response().body == b"ok"


def test_many_exchanges_at_once_are_counted_exactly(balance, backend):
    """Counts and objects agree in the middle of everything, not only at rest."""
    running = balance(*[backend(answering(OK)) for _ in range(3)], workers=2)
    stop, wrong = threading.Event(), []

    def load():
        client = running.connect()
        while not stop.is_set():
            client.send(GET, GET)
            client.response()
            client.response()

    threads = [threading.Thread(target=load) for _ in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        seen = running.verify()
        if not seen.exact:
            wrong.append(seen)
    stop.set()
    for thread in threads:
        thread.join()

    assert not wrong
