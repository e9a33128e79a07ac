"""Memory or descriptors may lack at any step of an engine's life, not only for traffic."""

import errno
import socket
import threading

import pytest

from fastlb.model.address import Address
from fastlb.model.config import EngineConfig, LogFormat, Mode
from fastlb.model.errors import StartError
from fastlb.model.limits import LimitConfig
from fastlb.model.plan import Pick, Plan, PlanEntry
from fastlb.model.proxied import parse_trusted_proxies
from support.backend import OK, answering
from support.balance import listen_socket
from support.failing import describe, numbers
from support.waiting import wait_until
from support.wire import Wire

pytestmark = pytest.mark.unbatched

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CONFIG = EngineConfig(
    workers=2,
    limits=LimitConfig(connections=0),
    access_format=LogFormat.JSON,
    trusted_proxies=parse_trusted_proxies(["10.0.0.0/8"]),
    seed=1,
)
# More than one block of the tables that grow with the number of backends.
OTHERS = [Address(host="127.1.0.1", port=port) for port in range(1, 1100)]
START_FAULTS = [
    ("memory", errno.ENOMEM),
    ("eventfd", errno.EMFILE),
    ("epoll_create1", errno.EMFILE),
    ("epoll_ctl", errno.ENOSPC),
]
START_HARMLESS = [("io_uring_setup", errno.EPERM), ("mmap", errno.ENOMEM)]


def name_fault(value):
    """memory-ENOMEM"""
    return f"{value[0]}-{describe(value[1])}"


def answered(port):
    """Have one exchange."""
    client = Wire(socket.create_connection(("127.0.0.1", port)))
    client.send(GET)
    status = client.response().status
    client.close()
    return status


def made(engine, loop_thread):
    """A started engine."""
    running = engine.Engine(CONFIG)
    try:
        loop_thread.run(running.start(lambda: None))
    except BaseException:
        loop_thread.run(running.stop())
        raise
    return running


@pytest.mark.parametrize("fault", START_FAULTS, ids=name_fault)
def test_engine_that_cannot_start_says_so_and_leaves_nothing(engine, loop_thread, no_leaks, failing, fault):
    """No descriptor, no thread; the next one starts."""
    for number in numbers():
        with failing.of(*fault, first=number):
            try:
                running = made(engine, loop_thread)
            except (MemoryError, StartError):
                assert failing.failed()
                continue
            assert not failing.failed()
        loop_thread.run(running.stop())
        return


def test_engine_that_gets_no_thread_says_so_and_leaves_nothing(engine, loop_thread, no_leaks, monkeypatch):
    """Those that it had are ended."""
    if engine.name == "pure":
        pytest.skip("the pure engine has no worker threads")
    start = threading.Thread.start

    def refuse(thread):
        if thread.name == "fastlb-worker-1":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(StartError, match="workers: can't start new thread"):
        made(engine, loop_thread)


@pytest.mark.parametrize("fault", START_HARMLESS, ids=name_fault)
def test_engine_starts_without_io_uring(engine, loop_thread, no_leaks, failing, fault):
    """Each send is a call of its own then. A ring that is half made is taken apart."""
    for number in numbers():
        with failing.of(*fault, first=number):
            running = made(engine, loop_thread)
            failed = failing.failed()
        loop_thread.run(running.stop())
        if not failed:
            return


def test_step_that_lacks_memory_can_be_done_again(engine, loop_thread, backend, failing):
    """It has changed nothing that would be in the way, and what is counted stays right."""
    started = backend(answering(OK))
    for number in numbers():
        running = made(engine, loop_thread)
        failed = 0

        def step(do, *arguments, number=number, running=running):
            nonlocal failed
            with failing.of("memory", errno.ENOMEM, first=max(number - failed, 0)):
                try:
                    return loop_thread.call(lambda: do(*arguments))
                except (MemoryError, StartError):
                    failed += failing.failed()
            return loop_thread.call(lambda: do(*arguments))

        slots = [step(running.add_backend, address, str(address)) for address in (*OTHERS, started.address)]
        entries = tuple(PlanEntry(slot) for slot in slots)
        step(running.publish, Plan(entries=entries, pick=Pick.CYCLE, table=tuple(slots)))
        step(running.publish, Plan(entries=entries[-1:]))
        with listen_socket() as sock:
            step(running.open_listener, sock, Mode.HTTP)
            assert answered(sock.getsockname()[1]) == 200
        wait_until(lambda running=running: loop_thread.call(running.ledger).exchanges == 1)
        lines = [step(running.take_access)]

        def logged(running=running, lines=lines):
            lines.append(loop_thread.call(running.take_access))
            return any(lines)

        wait_until(logged, "a line")
        counted = step(running.ledger)
        assert step(running.verify).exact
        loop_thread.run(running.stop())

        assert slots == list(range(len(slots)))
        assert b"".join(lines).count(b"\n") == counted.exchanges == counted.backends[-1].picked == 1
        if not failed:
            return


@pytest.mark.parametrize("fault", [("memory", errno.ENOMEM), ("epoll_ctl", errno.ENOSPC)], ids=name_fault)
def test_listener_that_cannot_be_opened_is_an_error(engine, loop_thread, no_leaks, failing, fault):
    """Not a port that connects and is silent."""
    for number in numbers():
        running = made(engine, loop_thread)
        with listen_socket() as sock, failing.of(*fault, first=number):
            try:
                loop_thread.call(lambda e=running: e.open_listener(sock, Mode.HTTP))
            except StartError as error:
                assert str(sock.getsockname()) in str(error)
            failed = failing.failed()
        loop_thread.run(running.stop())
        if not failed:
            return


def test_listener_that_cannot_go_on_tries_again(balance, backend, failing):
    """Descriptors and the kernel's memory lack together; a pause must not become an end."""
    running = balance(backend(answering(OK)), limits=LimitConfig(connections=1))
    first, second = running.connect(), running.connect()
    first.send(GET)
    second.send(GET)
    assert first.response().status == 200
    with failing.of("epoll_ctl", errno.ENOMEM, times=2):
        first.close()
        wait_until(lambda: failing.failed() == 2, "two tries")
    assert second.response().status == 200


def test_connection_without_its_header_is_reset_also_without_memory(balance, backend, failing):
    """There may be no line of it in the log; there is never a request of it at a backend."""
    started = backend(answering(OK))
    for number in numbers():
        running = balance(started, proxied=True, trusted=["127.0.0.1"])
        client = running.connect()
        wait_until(lambda running=running: running.ledger().clients == 1, "accepted")
        with failing.of("memory", errno.ENOMEM, first=number):
            client.send(GET)
            assert client.ending() == "rst"
            failed = failing.failed()
        client.close()
        wait_until(lambda running=running: running.ledger().clients == 0, "gone")
        assert started.links == []
        if not failed:
            assert running.line()["code"] == "PR"
            return


def test_balancer_without_memory_keeps_its_plan_and_its_counts(engine, failing):
    """Also while it grows: a plan counts as a whole or not at all."""
    first = Plan(entries=(PlanEntry(0), PlanEntry(1)))
    second = Plan(entries=tuple(PlanEntry(slot) for slot in range(1, 60)), pick=Pick.RANDOM, table=(1, 2, 3))
    for number in numbers():
        balancer = engine.Balancer(1)
        balancer.publish(first)
        taken = [balancer.acquire(), balancer.acquire()]
        with failing.of("memory", errno.ENOMEM, first=number):
            try:
                balancer.publish(second)
            except MemoryError:
                assert failing.failed()
            else:
                assert not failing.failed()
                return
        assert sorted(taken) == [0, 1]
        assert [balancer.in_flight(slot) for slot in (0, 1, 2)] == [1, 1, 0]
        assert balancer.acquire() in (0, 1)
        balancer.verify()
        balancer.publish(second)
        balancer.verify()


def test_balancer_of_its_own_needs_memory_to_be_made(engine, failing):
    """And then needs none for backends that it has room for."""
    for number in numbers():
        with failing.of("memory", errno.ENOMEM, first=number):
            try:
                heap = engine.LeastLoaded([1] * 100)
            except MemoryError:
                continue
            assert not failing.failed()
        heap.verify()
        with failing.of("memory", errno.ENOMEM):
            heap.drain(1)
            heap.set_weight(2, 5)
            heap.restore(1)
            heap.acquire()
        return
