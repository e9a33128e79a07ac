"""The life of an engine: start, listeners, membership, drain, stop."""

import asyncio
import importlib
import os
import socket
import threading
import time
from contextlib import ExitStack

import pytest

from fastlb.control.listeners import bind, bound_address
from fastlb.model.address import Address
from fastlb.model.config import EngineConfig, Mode
from fastlb.model.errors import ConfigError, StartError
from fastlb.model.events import EventKind
from fastlb.model.ledger import Holdings
from fastlb.model.limits import LimitConfig
from fastlb.model.plan import Plan, PlanEntry
from support.backend import OK, answering, echo, gated, silent
from support.balance import listen_socket
from support.descriptors import NoMoreDescriptors
from support.leaks import open_fds, thread_count
from support.waiting import wait_until
from support.wire import Wire

pytestmark = pytest.mark.unbatched

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ANSWERED_HERE = b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"


def ipv6_is_here() -> bool:
    """True if an IPv6 socket can be bound."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_engine_that_was_never_started_can_be_stopped(engine, loop_thread, no_leaks):
    """Stop may come at any time, alone, and twice."""
    made = engine.Engine(EngineConfig())
    loop_thread.run(made.stop())
    loop_thread.run(made.stop())

    assert engine.name == made.name


def test_engine_stops_twice_and_leaves_nothing(engine, loop_thread, no_leaks):
    """After it no thread, descriptor or task is left."""
    for workers in (1, 3):
        made = engine.Engine(EngineConfig(workers=workers))
        loop_thread.run(made.start(lambda: None))
        loop_thread.run(made.stop())
        loop_thread.run(made.stop())


def test_stopped_engine_holds_no_descriptor_while_it_is_referred_to(engine, loop_thread, no_leaks):
    """Stop gives everything back by itself; nobody has to wait for the garbage collector."""
    before, threads = open_fds(), thread_count()
    made = engine.Engine(EngineConfig(workers=2))
    loop_thread.run(made.start(lambda: None))
    loop_thread.run(made.stop())
    left = {fd: what for fd, what in open_fds().items() if before.get(fd) != what}

    assert (left, thread_count()) == ({}, threads)
    assert made.name == engine.name


def test_one_process_runs_two_engines(balance, backend):
    """Nothing is global."""
    one, two = balance(backend(answering(OK))), balance(backend(answering(OK)))
    for running in (one, two):
        client = running.connect()
        client.send(GET)
        assert client.response().body == b"ok"

    wait_until(lambda: [running.ledger().exchanges for running in (one, two)] == [1, 1], "one each")


def test_listeners_of_both_modes_share_the_backends(balance, backend):
    """One pool behind several doors."""
    running = balance(backend(answering(OK)))
    for port in (running.port, running.open_listener(Mode.TCP), running.open_listener(Mode.HTTP)):
        client = running.connect(port)
        client.send(GET)
        assert client.response().body == b"ok"
        client.close()


def test_callers_listening_socket_may_be_closed(balance, backend):
    """The engine has a duplicate of its own."""
    running = balance(backend(answering(OK)))  # closes its own in open_listener
    client = running.connect()
    client.send(GET)

    assert client.response().status == 200


def test_unix_backend_is_used(balance, backend, tmp_path):
    """A UNIX socket is an address like any other."""
    running = balance(backend(answering(OK), path=str(tmp_path / "b.sock")))
    client = running.connect()
    client.send(GET)

    assert client.response().body == b"ok"
    assert running.line()["backend"] == f"unix:{tmp_path}/b.sock"


def test_unix_listener_is_served(balance, backend, loop_thread, tmp_path):
    """A client without an address is called unix."""
    heads = []

    def script(link):
        heads.append(link.request().head)
        link.send(OK)

    running = balance(backend(script))
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as sock:
        listening.bind(str(tmp_path / "l.sock"))
        listening.listen()
        listening.setblocking(False)
        loop_thread.call(lambda: running.engine.open_listener(listening, Mode.HTTP))
        sock.connect(str(tmp_path / "l.sock"))
        sock.settimeout(5)
        sock.sendall(GET)
        assert Wire(sock).response().body == b"ok"
    running.wait_idle()

    assert running.line()["client"] == "unix"


def test_ipv6_works_on_both_sides(balance, backend, loop_thread):
    """The address in X-Forwarded-For is the client's, written as such."""
    heads = []

    def script(link):
        heads.append(link.request().head)
        link.send(OK)

    running = balance(backend(script, host="::1"))
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        listening.setblocking(False)
        loop_thread.call(lambda: running.engine.open_listener(listening, Mode.HTTP))
        with socket.create_connection(listening.getsockname()[:2], timeout=5) as sock:
            sock.sendall(GET)
            assert Wire(sock).response().body == b"ok"
            port = sock.getsockname()[1]
    running.wait_idle()

    assert b"\r\nX-Forwarded-For: ::1\r\n" in heads[0]
    assert running.line()["client"] == f"[::1]:{port}"


def test_ipv4_client_of_an_ipv6_socket_is_called_by_its_ipv4_address(balance, backend, loop_thread):
    """The kernel says ::ffff:127.0.0.1 (ipv6(7)); nobody writes that in a list of addresses."""
    running = balance(backend(answering(OK)))
    with socket.socket(socket.AF_INET6) as listening:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(("::ffff:127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        loop_thread.call(lambda: running.engine.open_listener(listening, Mode.HTTP))
        client = running.connect(listening.getsockname()[1])
        client.send(GET)
        client.response()
        port = client.sock.getsockname()[1]

    assert running.line()["client"] == f"127.0.0.1:{port}"


def test_one_port_serves_both_families_in_every_worker(balance, backend, loop_thread):
    """`--listen :8080` with an accept queue for each worker: wherever a client lands, it is served."""
    running = balance(backend(answering(OK)), workers=2)
    with bind(Address(port=0)) as listening:
        port = bound_address(listening).port
        loop_thread.call(lambda: running.engine.open_listener(listening, Mode.HTTP))
    for host in ("127.0.0.1", "::1") * 16:
        client = running.adopt(socket.create_connection((host, port), timeout=5))
        client.send(GET)
        assert client.response().status == 200


@pytest.mark.skipif(not ipv6_is_here(), reason="no IPv6 on this machine")
def test_ipv6_listener_takes_no_ipv4_client_in_any_worker(balance, backend, loop_thread):
    """`--listen [::]:8080` leaves the port of IPv4 to others; every accept queue must."""
    running = balance(backend(answering(OK)), workers=2)
    with bind(Address(host="::", port=0)) as listening:
        port = bound_address(listening).port
        loop_thread.call(lambda: running.engine.open_listener(listening, Mode.HTTP))
    for _ in range(16):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        client = running.adopt(socket.create_connection(("::1", port), timeout=5))
        client.send(GET)
        assert client.response().status == 200


def test_same_address_has_the_same_slot(balance, backend):
    """Re-adding finds the same object and its counts."""
    started = backend(answering(OK))
    running = balance(started)

    assert running.add(started) == running.slots[0]
    assert running.add(backend(echo)) != running.slots[0]


def test_host_name_is_refused(balance, backend):
    """Engines never resolve; that is the control plane's work."""
    running = balance(backend(answering(OK)))
    with pytest.raises(ConfigError):
        running.add(Address(host="localhost", port=80))


def test_new_plan_touches_no_open_exchange(balance, backend):
    """Leaving the rotation is not leaving one's clients."""
    gate = threading.Event()
    running = balance(backend(gated(gate)), backend(answering(OK)))
    held = running.connect()
    held.send(GET)
    running.wait_in_flight(1, 0)
    running.keep_only(1)
    client = running.connect()
    for _ in range(5):
        client.send(GET)
        assert client.response().body == b"ok"
    assert (running.picked(0), running.in_flight(0)) == (1, 1)
    gate.set()

    assert held.response().body == b"ok"
    running.wait_in_flight(0, 0)


def test_idle_connections_of_a_backend_out_of_the_plan_close(balance, backend):
    """A drained backend is left in peace."""
    leaving = backend(answering(OK))
    running = balance(leaving, backend(answering(OK)))
    client = running.connect()
    client.send(GET)
    client.response()
    link = leaving.link()
    running.keep_only(1)

    wait_until(lambda: link.sock.fileno() == -1, "the backend's script ended by EOF")


def test_connection_of_a_backend_that_left_the_plan_is_not_kept(balance, backend):
    """It was in use when the plan changed; a pool that kept it would hold a drained backend's door."""
    gate = threading.Event()
    leaving = backend(gated(gate))
    running = balance(leaving, backend(answering(OK)))
    held = running.connect()
    held.send(GET)
    link = leaving.link()
    running.keep_only(1)
    gate.set()
    assert held.response().body == b"ok"

    wait_until(lambda: link.sock.fileno() == -1, "the backend's script ended by EOF", timeout_s=3)


def test_removed_backend_keeps_its_slot_while_in_use(balance, backend):
    """A backend lives until its last exchange has ended; re-added before, it has its counts."""
    gate = threading.Event()
    started = backend(gated(gate))
    running = balance(started, backend(answering(OK)))
    held = running.connect()
    held.send(GET)
    running.wait_in_flight(1, 0)
    running.keep_only(1)
    running.remove(running.slots[0])
    assert running.verify().exact
    assert running.add(started) == running.slots[0]
    running.publish(running.plan)

    assert running.in_flight(0) == 1
    gate.set()
    assert held.response().body == b"ok"
    running.wait_in_flight(0, 0)


def test_removed_backend_s_last_exchange_ends_well(balance, backend):
    """Removal is no abort, and what comes after is counted on nobody."""
    gate = threading.Event()
    running = balance(backend(gated(gate)))
    held = running.connect()
    held.send(GET)
    running.wait_in_flight(1)
    running.publish(Plan())
    running.remove(running.slots[0])
    gate.set()

    assert held.response().body == b"ok"
    running.wait_idle()
    assert running.verify().exact


def test_drain_lets_open_exchanges_finish(balance, backend, loop_thread):
    """Accept no more, say close, wait, and tell that all ended."""
    gate = threading.Event()
    running = balance(backend(gated(gate)))
    held = running.connect()
    held.send(GET)
    running.wait_in_flight(1)
    draining = asyncio.run_coroutine_threadsafe(running.engine.drain(5), loop_thread.loop)
    wait_until(lambda: refuses(running.port), "the listener closed")
    assert not draining.done()
    gate.set()
    answer = held.response()

    assert (answer.body, answer.value(b"Connection")) == (b"ok", b"close")
    assert held.ending() == "fin"
    held.close()
    assert draining.result(5) is True


def refuses(port):
    """True if nobody listens there any more."""
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) != 0


def test_drain_closes_idle_clients(balance, backend):
    """An idle connection has nothing to finish."""
    running = balance(backend(answering(OK)))
    asked, fresh = running.connect(), running.connect()
    asked.send(GET)
    asked.response()
    wait_until(lambda: running.ledger().accepted == 2, "both accepted")

    assert running.drain(5) is True
    assert [asked.ending(), fresh.ending()] == ["fin", "fin"]


def test_drain_serves_what_waits_in_the_accept_queue(balance, backend, loop_thread):
    """A client that was let into the queue was promised service."""
    running = balance(backend(answering(OK)))
    socks = [socket.socket() for _ in range(20)]

    async def crowd_and_drain():
        for sock in socks:
            sock.connect(("127.0.0.1", running.port))
            sock.sendall(GET)
        return await running.engine.drain(5)

    try:
        assert loop_thread.run(crowd_and_drain()) is True
        for sock in socks:
            sock.settimeout(5)
            assert sock.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
    finally:
        for sock in socks:
            sock.close()


def test_drain_gives_up_in_time_and_stop_resets_the_rest(balance, backend):
    """What is still open is reset, with code K and the phase."""
    running = balance(backend(silent))
    held = running.connect()
    held.send(GET)
    running.wait_in_flight(1)

    assert running.drain(0.1) is False
    assert running.in_flight() == 1
    running.stop()
    assert held.ending() == "rst"
    assert running.line()["code"] == "KH"


def test_stop_resets_a_response_under_way(balance, backend):
    """Truncated, and seen to be."""

    def script(link):
        link.request()
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        link.rest()

    running = balance(backend(script))
    held = running.connect()
    held.send(GET)
    held.response_head()
    held.exactly(3)
    running.stop()

    assert held.ending() == "rst"
    assert running.line()["code"] == "KD"


def test_stop_resets_sessions_and_tunnels(balance, backend):
    """The same in TCP mode."""
    running = balance(backend(echo), mode=Mode.TCP)
    client = running.connect()
    client.send(b"x")
    client.exactly(1)
    running.stop()

    assert client.ending() == "rst"
    assert running.line()["code"] == "KD"


def test_stop_closes_idle_connections_of_both_sides(balance, backend):
    """Nothing is under way, so nothing is written down."""
    ended = threading.Event()

    def script(link):
        while link.request() is not None:
            link.send(OK)
        ended.set()

    running = balance(backend(script))
    client = running.connect()
    client.send(GET)
    client.response()
    running.lines(1)
    running.stop()

    assert client.ending() in ("fin", "rst")
    assert ended.wait(5)
    assert running.engine.take_access() == b""


def test_pools_of_many_backends_are_used_again(balance, backend):
    """Each backend has a pool of its own, however many there are."""
    started = [backend(answering(OK)) for _ in range(20)]
    running = balance(*started, workers=1)
    client = running.connect()
    for _ in range(60):
        client.send(GET)
        client.response()

    assert [len(one.links) for one in started] == [1] * 20


def test_any_connection_may_leave_its_pool(balance, backend):
    """The backend closes the one in the middle; the others are still used."""
    gate = threading.Event()
    started = backend(gated(gate))
    running = balance(started, workers=1)
    clients = [running.connect() for _ in range(3)]
    for n, client in enumerate(clients, 1):
        client.send(GET)
        running.wait_in_flight(n)
    gate.set()
    for client in clients:
        client.response()
    running.wait_in_flight(0)
    started.link(1).shut()
    wait_until(lambda: running.verify().connections == 5, "one connection less")
    for client in clients:
        client.send(GET)
        client.response()

    assert len(started.links) == 3


def test_connection_limit_pauses_accepting(balance, backend):
    """At the limit the queue is the kernel's; below it, accepting goes on. Said once."""
    running = balance(backend(answering(OK)), limits=LimitConfig(connections=2))
    first, second, third = (running.connect() for _ in range(3))
    for client in (first, second):
        client.send(GET)
        assert client.response().body == b"ok"
    third.send(GET)
    running.wait_event(EventKind.ACCEPT_PAUSED)
    assert running.ledger().clients == 2
    first.close()

    assert third.response().body == b"ok"
    running.wait_event(EventKind.ACCEPT_RESUMED)


def test_accept_without_descriptors_backs_off_and_recovers(balance, backend):
    """EMFILE is ours: wait without spinning, each worker says it once, go on when there is room."""
    running = balance(backend(answering(OK)), workers=1)
    sock = socket.socket()
    with sock:
        with NoMoreDescriptors():
            sock.connect(("127.0.0.1", running.port))
            sock.sendall(GET)
            running.wait_event(EventKind.ACCEPT_PAUSED)
            spent_s = sum(os.times()[:2])
            assert not threading.Event().wait(0.5)
            assert sum(os.times()[:2]) - spent_s < 0.3
        sock.settimeout(5)
        assert Wire(sock).response().body == b"ok"
        running.wait_event(EventKind.ACCEPT_RESUMED)
        assert [event.kind for event in running.events()].count(EventKind.ACCEPT_PAUSED) == 1


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_listener_without_descriptors_is_refused(balance, backend, loop_thread, family, tmp_path):
    """One line for whoever starts it, and nothing is kept."""
    running = balance(backend(answering(OK)))
    with socket.socket(family) as sock:
        sock.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "fastlb.sock"))
        sock.listen()
        sock.setblocking(False)
        with NoMoreDescriptors(), pytest.raises(StartError, match=r"no accept queue for .*: Too many open"):
            loop_thread.call(lambda: running.engine.open_listener(sock, Mode.HTTP))


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_listener_that_gets_an_accept_queue_for_one_worker_only_is_refused(
    engine, balance, backend, loop_thread, family, tmp_path
):
    """Half a listener would lose the clients of the other half; the queue that there was is closed."""
    if engine.name == "pure":
        pytest.skip("the pure engine has one accept queue")
    running = balance(backend(answering(OK)), workers=2)
    with socket.socket(family) as sock:
        if family == socket.AF_INET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "fastlb.sock"))
        sock.listen()
        sock.setblocking(False)
        fds = open_fds()
        with NoMoreDescriptors(spare=1), pytest.raises(StartError, match=r"no accept queue for .*: Too many"):
            loop_thread.call(lambda: running.engine.open_listener(sock, Mode.HTTP))
        assert open_fds() == fds
    client = running.connect()
    client.send(GET)

    assert client.response().status == 200


def test_connect_without_descriptors_is_a_local_fault(balance, backend):
    """503, code RC, and nothing that would count against the backend."""
    running = balance(backend(answering(OK)))
    client = running.connect()
    wait_until(lambda: running.ledger().clients == 1)
    with NoMoreDescriptors():
        client.send(GET)
        assert client.response().status == 503
    client.send(GET)

    assert client.response().status == 200
    lines = running.lines(2)
    assert lines[0]["code"] == "RC"
    assert not [event for event in running.events() if event.kind is EventKind.CONNECT_FAILED]


@pytest.mark.parametrize("mode", [Mode.TCP, Mode.HTTP])
def test_transfers_go_on_without_descriptors(balance, backend, mode):
    """What would use a pipe does without one."""
    body, gate = bytes(range(256)) * 16_384, threading.Event()

    def script(link):
        link.until(b"\r\n\r\n")
        assert gate.wait(8)
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body)
        link.rest()

    running = balance(backend(script), mode=mode)
    client = running.connect()
    client.send(GET)
    running.wait_in_flight(1)
    wait_until(lambda: running.verify().connections == 2, "both connections")
    with NoMoreDescriptors():
        gate.set()
        assert client.response().body == body


def test_verify_counts_what_is_open(balance, backend):
    """Connections of both sides and exchanges, at one instant."""
    gate = threading.Event()
    running = balance(backend(gated(gate)), backend(answering(OK)))
    held, idle = running.connect(), running.connect()
    held.send(GET)
    running.wait_in_flight(1, 0)
    idle.send(GET)
    idle.response()
    running.wait_in_flight(0, 1)
    seen = running.verify()

    assert seen.exact
    assert seen.counted == {running.slots[0]: 1}
    assert (seen.exchanges, seen.connections) == (1, 4)
    gate.set()
    held.response()


def test_verify_agrees_while_much_is_under_way(balance, backend):
    """What the slabs and pools gave out is what the live objects own, at every moment."""
    size = 4 * 1024 * 1024
    running = balance(
        backend(answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)))
    )
    clients = [running.connect(receive_buffer_bytes=16_384) for _ in range(4)]
    for client in clients:
        client.send(GET)
    clients.append(running.connect())
    clients[-1].send(GET[:-2])
    for client in clients[:4]:
        client.response_head()
        seen = running.verify()
        assert seen.exact, seen
        assert seen.taken.exchanges == 4
    clients[-1].send(b"\r\n")
    for client in clients:
        while len(client.unread) < size:
            assert client.more()
        assert running.verify().exact


def test_everything_that_was_taken_is_given_back(balance, backend):
    """When all clients have left and no backend is in the plan, only the listener is open."""
    running = balance(backend(answering(OK)))
    listening = running.verify().taken
    for request in (GET, GET[:-5], b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"):
        client = running.connect()
        client.send(request)
        wait_until(lambda: running.verify().taken.connections > listening.connections)
        client.close()
    running.keep_only()
    wait_until(lambda: running.verify().taken == listening, "only the listener")
    running.drain(5)

    assert running.verify().taken == running.verify().found == Holdings()


def test_orders_that_come_quicker_than_they_are_obeyed_are_all_obeyed(balance, backend, loop_thread):
    """A worker's letter box is bounded: who finds it full waits, and nothing is dropped."""
    asked = []

    def script(link):
        asked.append(link.request())
        link.rest()

    running = balance(backend(script))
    held, other, gone = running.slots[0], running.add(backend(answering(OK))), running.add(backend(silent))
    busy, rounds = running.connect(), 5
    clients = [running.connect() for _ in range(20)]
    for client in clients:
        client.send(GET)
    wait_until(lambda: len(asked) == len(clients), "every request at the backend")

    def flood():
        busy.send(ANSWERED_HERE * 200)
        for _ in range(100):
            running.engine.remove_backend(gone)  # fills the box, and does not wait

    def give_orders(socks):
        seen = []
        for sock in socks:
            flood()
            running.engine.open_listener(sock, Mode.HTTP)
            flood()
            seen.append(running.engine.verify())
        running.engine.publish(Plan(entries=(PlanEntry(other),)))
        flood()
        running.engine.end_exchanges(held, "D")
        return seen

    async def drain_and_stop():
        for _ in range(3):
            flood()
        drained = await running.engine.drain(5)
        await running.engine.stop()
        return drained

    with ExitStack() as stack:
        socks = [stack.enter_context(listen_socket()) for _ in range(rounds)]
        seen = loop_thread.call(lambda: give_orders(socks))
        late = [running.connect(sock.getsockname()[1]) for sock in socks]
    assert all(one.exact for one in seen)
    assert [one.counted for one in seen] == [{held: len(clients)}] * len(socks)
    assert [client.response().status for client in clients] == [502] * len(clients)
    for client in late:
        client.send(GET)
        assert client.response().body == b"ok"
    assert {busy.response().status for _ in range(200 * (2 * rounds + 1))} == {200}
    for client in (*clients, *late):
        client.close()
    running.wait_idle()
    drained = asyncio.run_coroutine_threadsafe(drain_and_stop(), loop_thread.loop)
    assert busy.rest().startswith(b"HTTP/1.1 200 OK\r\n")
    busy.close()
    assert drained.result(8) is True
    running.stop()


def test_verify_answers_while_the_engine_stops(engine, loop_thread, no_leaks):
    """Workers that have ended already are not waited for."""
    before = thread_count()
    made = engine.Engine(EngineConfig(workers=2))
    loop_thread.run(made.start(lambda: None))

    async def verify_while_stopping():
        stopping = asyncio.ensure_future(made.stop())
        await asyncio.sleep(0)
        while thread_count() > before and not stopping.done():
            pass
        seen = [made.verify() for _ in range(100)]
        await stopping
        return seen

    assert all(seen.exact for seen in loop_thread.run(verify_while_stopping()))


def test_plan_weight_changes_at_once(balance, backend):
    """Every worker uses the new table on its next pick."""
    gate = threading.Event()
    running = balance(*[backend(gated(gate)) for _ in range(2)], workers=2)
    running.publish(Plan(entries=(PlanEntry(running.slots[0], 4), PlanEntry(running.slots[1], 1))))
    clients = [running.connect() for _ in range(20)]
    for client in clients:
        client.send(GET)
    wait_until(lambda: running.in_flight(0) + running.in_flight(1) == 20)

    assert (running.in_flight(0), running.in_flight(1)) == (16, 4)
    gate.set()
    for client in clients:
        client.response()


def test_engine_that_was_never_started_has_nothing_to_tell(engine, loop_thread, no_leaks):
    """Who watches an engine need not know when it was started."""
    made = engine.Engine(EngineConfig())
    seen = made.verify()

    assert seen.exact
    assert (seen.exchanges, seen.connections, seen.counted) == (0, 0, {})
    assert (made.ledger().exchanges, made.ledger().backends) == (0, ())
    assert (made.take_events(), made.take_access()) == ([], b"")
    loop_thread.run(made.stop())


def test_drain_gives_up_on_who_waits_for_room(balance, backend):
    """Above the connection limit nobody is accepted until somebody leaves, and nobody does here."""
    running = balance(backend(silent), limits=LimitConfig(connections=1))
    held = running.connect()
    held.send(GET)
    running.wait_in_flight(1)
    running.connect().send(GET)
    started = time.monotonic()

    assert not running.drain(0.6)
    assert 0.5 < time.monotonic() - started < 5
    running.stop()
    assert held.ending() == "rst"


def test_plan_with_a_slot_that_nobody_has_changes_nothing(balance, backend):
    """A pick of it would have nowhere to go."""
    running = balance(backend(answering(OK)))
    with pytest.raises(ConfigError, match=r"plan.slot: 1 is not that of a backend"):
        running.publish(Plan(entries=(PlanEntry(running.slots[0]), PlanEntry(1))))
    client = running.connect()
    client.send(GET)

    assert client.response().status == 200


def test_number_of_backends_has_a_limit(engine, balance, backend, monkeypatch):
    """A slot each; one that is known needs no other."""
    room = {"native": "fastlb.native.engine", "pure": "fastlb.pure.worker"}[engine.name]
    monkeypatch.setattr(importlib.import_module(room), "BACKENDS_MAX", 2)
    first, second, third = (backend(answering(OK)) for _ in range(3))
    running = balance(first, second)
    with pytest.raises(ConfigError, match="is not one of at most 2"):
        running.add(third)

    assert [running.add(first), running.add(second)] == running.slots
