"""Backends that fail fast look busy for a while, so that least connections does not prefer them."""

import heapq
import socket
from random import Random

import pytest

from fastlb.model.config import EjectErrors, Mode
from fastlb.model.errors import NoBackendError
from fastlb.model.limits import LimitConfig
from fastlb.model.plan import Pick, Plan, PlanEntry
from support.backend import OK, answering, echo

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLIENTS = 24
STEP_S = 0.2


# --- the balancer alone ---------------------------------------------------------------------------


def take(heap, count):
    return [heap.acquire() for _ in range(count)]


def test_backend_that_failed_is_not_idle(engine):
    """Or it would be picked before every backend that works."""
    heap = engine.LeastLoaded(weights=[1, 1, 1])
    heap.blame(0)

    assert take(heap, 2) == [1, 2]
    assert heap.in_flight(0) == 0


def test_failure_weighs_as_much_as_an_exchange(engine):
    """One failure, one unit: with two exchanges on the others, a backend that failed once has its turn."""
    heap = engine.LeastLoaded(weights=[1, 1, 1])
    heap.blame(0)

    assert take(heap, 6) == [1, 2, 0, 1, 2, 0]


def test_failures_fade(engine):
    """To nothing in the end: then the backend is idle again."""
    heap = engine.LeastLoaded(weights=[1, 1])
    heap.blame(0)
    steps = 1
    while heap.fade(0.5):
        steps += 1
        heap.verify()

    assert steps == 11  # 1024ths of an exchange
    assert heap.acquire() == 0
    assert not heap.fade(0.5)


def test_last_backend_is_picked_whatever_it_has_done(engine):
    """A phantom keeps nobody out, and fills nobody's `max_conns`."""
    heap = engine.LeastLoaded(weights=[1], max_conns=[2])
    for _ in range(100):
        heap.blame(0)

    assert take(heap, 2) == [0, 0]
    with pytest.raises(NoBackendError):
        heap.acquire()
    assert heap.in_flight(0) == 2
    heap.verify()


def test_load_of_many_failures_compares_exactly_at_the_greatest_weight(engine):
    """No product overflows: 65,536 failures, times a weight of 65,535."""
    heap = engine.LeastLoaded(weights=[1, 1])
    heap.set_weight(1, 65_535)
    for _ in range(70_000):
        heap.blame(1)
    heap.blame(0)

    assert take(heap, 3) == [1, 1, 1]  # about 1 for each unit of weight, where slot 0 has 2
    heap.verify()


@pytest.mark.parametrize("pick", [Pick.CYCLE, Pick.RANDOM])
def test_tables_know_no_phantom(engine, pick):
    """Round robin goes on in turn, and random by chance."""
    balancer = engine.Balancer()
    plan = Plan(pick=pick, entries=(PlanEntry(0), PlanEntry(1)), table=(0, 1))
    balancer.publish(plan)
    balancer.blame(0)

    assert set(take(balancer, 40)) == {0, 1}
    assert not balancer.fade(1.0)


def test_strangers_are_blamed_for_nothing(engine):
    """Whoever is not known has no load."""
    heap = engine.LeastLoaded(weights=[1])
    for slot in (-1, 1_000_000):
        heap.blame(slot)

    assert not heap.fade(1.0)


def test_many_failures_fade_in_steps_that_lose_nobody(engine):
    """The native engine gives its lock back between them."""
    heap = engine.LeastLoaded(weights=[1] * 1000)
    for slot in range(1000):
        for _ in range(slot % 3):
            heap.blame(slot)
    assert heap.fade(0.0005)  # one failure is gone, of two some is left
    heap.verify()

    assert take(heap, 667) == [slot for slot in range(1000) if slot % 3 < 2]
    assert not heap.fade(0.1)
    heap.verify()


def simulate(engine, failing, seconds=20.0, *, blame=True):
    """Play clients that ask without a pause, in a time of its own. `failing`: for each backend the share
    of its requests that fail at once; the others take 20 ms. Returns: answers and errors by backend."""
    random = Random(1)
    heap = engine.LeastLoaded(weights=[1] * len(failing))
    answers, errors = [0] * len(failing), [0] * len(failing)
    agenda = [(n * 1e-4, n, "ask", 0) for n in range(CLIENTS)] + [(STEP_S, CLIENTS, "fade", 0)]
    heapq.heapify(agenda)
    number = len(agenda)
    while agenda[0][0] < seconds:
        now_s, _, what, slot = heapq.heappop(agenda)
        number += 1
        if what == "fade":
            heap.fade(0.5**STEP_S)
            heapq.heappush(agenda, (now_s + STEP_S, number, "fade", 0))
            continue
        if what != "ask":
            answers[slot] += 1
            if what == "error":
                errors[slot] += 1
                if blame:
                    heap.blame(slot)
            heap.release(slot)
        slot = heap.acquire()
        if random.random() < failing[slot]:
            heapq.heappush(agenda, (now_s + 0.001, number, "error", slot))
        else:
            heapq.heappush(agenda, (now_s + 0.02 * random.uniform(0.9, 1.1), number, "answer", slot))
    heap.verify()
    return answers, errors


@pytest.mark.parametrize(("failing", "most"), [(1.0, 0.02), (0.3, 0.03)])
def test_backend_that_fails_fast_does_not_draw_the_traffic(engine, failing, most):
    """One of four: without the phantom it has most of all answers, because it is always the least loaded."""
    answers, errors = simulate(engine, [failing, 0, 0, 0])
    without, before = simulate(engine, [failing, 0, 0, 0], blame=False)

    assert sum(errors) / sum(answers) < most < sum(before) / sum(without)


def test_nothing_changes_where_all_fail_alike(engine):
    """It is no fault of a backend then, and all of them go on sharing the load."""
    answers, errors = simulate(engine, [0.3] * 4)

    assert abs(sum(errors) / sum(answers) - 0.3) < 0.02
    assert all(abs(count / sum(answers) - 0.25) < 0.02 for count in answers)


# --- what an engine blames a backend for ----------------------------------------------------------


def blamed(running):
    """True if a failure weighs on some backend now."""
    return running.fade(1.0)


def ask(client, request=GET):
    client.send(request)
    return client.response(request.split(b" ")[0].decode())


def with_status(status):
    return answering(b"HTTP/1.1 %d Whatever\r\nContent-Length: 2\r\n\r\nno" % status)


@pytest.mark.parametrize("rule", EjectErrors)
@pytest.mark.parametrize("status", [500, 502, 503, 599])
def test_server_error_is_a_failure(balance, backend, status, rule):
    """Whether it may lead to an ejection or not."""
    running = balance(backend(with_status(status)), eject_errors=rule)
    assert ask(running.connect()).status == status

    assert blamed(running)


@pytest.mark.parametrize("rule", EjectErrors)
@pytest.mark.parametrize("status", [200, 302, 404, 429, 499, 501, 505])
def test_answer_that_is_no_server_error_is_no_failure(balance, backend, status, rule):
    """501 and 505 speak of the request, as 4xx do."""
    running = balance(backend(with_status(status)), eject_errors=rule)
    assert ask(running.connect()).status == status

    assert not blamed(running)


def test_failed_connect_is_a_failure(balance, backend, refused):
    """A refusal is the fastest failure of all: the next requests meet the other backend."""
    other = backend(answering(OK))
    running = balance(refused, other)
    client = running.connect()
    for _ in range(6):
        assert ask(client).status == 200
        running.wait_idle()

    assert (running.picked(0), running.ledger().retries) == (1, 1)


@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 2", b"nonsense\r\n\r\n"])
def test_exchange_that_breaks_before_its_response_is_a_failure(balance, backend, words):
    """The connection ends, in the head or before it; or what comes is none."""

    def script(link):
        link.request()
        link.send(words)

    running = balance(backend(script))
    assert ask(running.connect()).status == 502

    assert blamed(running)


def test_fault_of_this_machine_and_client_that_leaves_are_no_failures(balance, backend):
    """A backend is blamed for what it did."""

    def script(link):
        link.request()
        link.sock.recv(1)

    running = balance(backend(script))
    client = running.connect()
    client.send(GET)
    running.wait_in_flight(1)
    client.reset()
    running.wait_in_flight(0)

    assert not blamed(running)


def test_stale_connection_is_no_failure(balance, backend):
    """A kept connection may end at any time."""

    def script(link):
        if link.request():
            link.send(OK)
            if link.number or link.request():
                return

    running = balance(backend(script))
    client = running.connect()
    assert [ask(client).status for _ in range(2)] == [200, 200]

    assert not blamed(running)


@pytest.mark.parametrize("end", ["close", "reset"])
def test_session_that_its_backend_ends_without_a_word_is_a_failure(balance, backend, end):
    """Least connections would send every next client to it, too."""

    def script(link):
        link.exactly(5)
        getattr(link, end)()

    running = balance(backend(script), mode=Mode.TCP)
    client = running.connect()
    client.send(b"hello")
    client.ending()
    client.close()
    running.wait_idle()

    assert blamed(running)


def test_session_that_ends_in_any_other_way_is_no_failure(balance, backend):
    """The client ends it, or the backend after it has said something."""

    def script(link):
        said = link.exactly(5)
        if said == b"speak":
            link.send(b"word")
        elif said == b"await":
            link.ending()

    running = balance(backend(script), mode=Mode.TCP)
    for said in (b"speak", b"await"):
        client = running.connect()
        client.send(said)
        if said == b"await":
            client.sock.shutdown(socket.SHUT_WR)
        client.rest()
        client.close()
        running.wait_idle()

    assert not blamed(running)


def test_counts_and_limits_know_no_phantom(balance, backend):
    """`in_flight`, `max_conns` and verify() count exchanges and nothing else."""
    running = balance(backend(with_status(500)), max_conns=[1], limits=LimitConfig(queue_depth=0))
    client = running.connect()
    for _ in range(5):
        assert ask(client).status == 500
        running.wait_idle()

    assert running.in_flight() == 0
    seen = running.verify()
    assert seen.exact
    assert seen.counted == {}


def test_failing_backend_is_left_to_itself_while_others_are_idle(balance, backend):
    """One client at a time: after its first error it meets the others only, until that has faded."""
    running = balance(backend(with_status(500)), backend(answering(OK)))
    client = running.connect()
    statuses = []
    for _ in range(8):
        statuses.append(ask(client).status)
        running.wait_idle()
    assert statuses == [500] + [200] * 7

    while running.fade(0.5):
        pass
    assert ask(client).status == 500


def test_session_of_many_clients_avoids_a_dead_backend(balance, backend, refused):
    """In TCP mode, too: one refusal for each session that the other has, and not one for each client."""
    running = balance(refused, backend(echo), mode=Mode.TCP)
    for _ in range(10):
        client = running.connect()
        client.send(b"x")
        assert client.exactly(1) == b"x"
        client.close()
        running.wait_idle()

    assert running.picked(0) == 1
