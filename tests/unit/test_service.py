"""The supervisor: starts in order, tells what happens, and ends cleanly. The engine is faked."""

import asyncio
import errno
import os
import socket
import threading
from dataclasses import replace

import pytest
from fakes import FakeClock, FakeEngine, Lines, settle, until

import fastlb.control.service as service
from fastlb.control.service import Supervisor
from fastlb.engine import LoadedEngine
from fastlb.model.address import Address
from fastlb.model.config import (
    BackendConfig,
    Config,
    ListenerConfig,
    LogConfig,
    LogFormat,
    Mode,
    ProbeConfig,
    TimeoutConfig,
)
from fastlb.model.errors import StartError
from fastlb.model.events import Event, EventKind
from fastlb.model.limits import LimitConfig
from fastlb.model.proxied import TrustedProxies
from fastlb.probe import ProbeResult

LOCAL = Address(host="127.0.0.1", port=0)


@pytest.fixture(autouse=True)
def fake_engine(monkeypatch):
    """Every supervisor here runs the fake engine."""
    monkeypatch.setattr(service, "load", lambda choice: LoadedEngine(FakeEngine, "fake", "for a test"))
    monkeypatch.setattr(service, "_TICK_S", 0.01)


def config(*ports: int, **changes) -> Config:
    """A pool of TCP backends on these ports, one listener, and quick probes."""
    return replace(
        Config(
            listeners=(ListenerConfig(address=LOCAL, mode=Mode.TCP),),
            backends=tuple(
                BackendConfig(address=Address(host="127.0.0.1", port=port), name=f"b{number}")
                for number, port in enumerate(ports or (1,))
            ),
            probe=ProbeConfig(interval_s=0.05, timeout_s=0.5, rise=1, fall=1),
            timeouts=TimeoutConfig(drain_s=5),
        ),
        **changes,
    )


def open_things() -> tuple[int, int]:
    """Descriptors and threads of this process."""
    return len(os.listdir("/proc/self/fd")), threading.active_count()


def run(work, settings: Config | None = None) -> Lines:
    """Start a supervisor, let `work` look at it, stop it; nothing may be left. Returns the log."""
    said = Lines()

    async def main():
        before = open_things()
        supervisor = Supervisor(settings or config(), log=said.log)
        try:
            await supervisor.start()
            await work(supervisor)
        finally:
            await supervisor.stop()
            await supervisor.stop()
            descriptors, threads = open_things()
            assert descriptors <= before[0]
            assert threads <= before[1]
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    return said


async def nothing(supervisor: Supervisor) -> None:
    """A supervisor that is only started and stopped."""


@pytest.fixture
def listening():
    """Sockets that accept connects, as backends."""
    socks: list[socket.socket] = []

    def listen() -> int:
        sock = socket.create_server(("127.0.0.1", 0))
        socks.append(sock)
        return sock.getsockname()[1]

    yield listen
    for sock in socks:
        sock.close()


def test_accepting_begins_after_the_first_round_of_probes(listening):
    """A client that connects at start must not be told that there is no backend."""

    async def look(supervisor):
        engine = supervisor.engine
        assert len(engine.listeners) == 1
        assert len(engine.plans[-1].entries) == 2

    run(look, config(listening(), listening()))


def test_the_wait_for_the_first_probes_is_bounded_and_then_open_to_all(monkeypatch):
    """More backends that hang than may be asked at once: clients are not refused for that."""

    async def hang(member):
        await asyncio.sleep(60)

    async def look(supervisor):
        assert len(supervisor.engine.plans[-1].entries) == 1

    monkeypatch.setattr(service, "ask_by", lambda mode, probe, limits: hang)
    monkeypatch.setattr(service, "_FIRST_ROUND_SLACK_S", 0.0)
    run(look, config(probe=ProbeConfig(timeout_s=0.05)))


def test_the_port_is_bound_while_the_first_probes_are_under_way(monkeypatch):
    """Clients wait in the accept queue instead of being refused."""

    async def connect_while_probing(member):
        (supervisor,) = made
        _, writer = await asyncio.open_connection("127.0.0.1", supervisor.listeners[0].port)
        assert supervisor.engine.listeners == []
        writer.transport.abort()
        connected.append(member.label)
        return ProbeResult(passed=True, reason="connected", took_s=0)

    made: list[Supervisor] = []
    connected: list[str] = []
    real_init = Supervisor.__init__

    def init(self, *args, **kwargs):
        made.append(self)
        real_init(self, *args, **kwargs)

    monkeypatch.setattr(Supervisor, "__init__", init)
    monkeypatch.setattr(service, "ask_by", lambda mode, probe, limits: connect_while_probing)
    run(nothing)

    assert connected == ["b0"]


def test_the_start_line_says_engine_why_workers_listeners_and_pool():
    """One line tells a reader what runs here."""
    said = run(nothing)
    (line,) = said.about(" started ")

    for part in (
        "engine=fake",
        'why="for a test"',
        "loop=asyncio",
        "workers=1",
        "/tcp",
        "pool=b0",
        "policy=least_conn",
    ):
        assert part in line


def test_the_start_line_of_a_large_pool_stays_short():
    """A thousand names would hide the rest."""
    said = run(nothing, config(*range(1, 31), probe=ProbeConfig(enabled=False)))

    assert "b9,and 20 more" in said.about(" started ")[0]


def test_the_callers_sockets_are_closed_once_the_engine_has_them():
    """A second descriptor would keep the port open after a drain."""

    async def look(supervisor):
        for sock, _ in supervisor.engine.listeners:
            sock.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", supervisor.listeners[0].port)

    run(look)


def test_plans_that_take_long_are_made_with_pauses_between_them(monkeypatch):
    """With ten thousand backends that come up one by one, nothing else would be done."""
    clock, said = FakeClock(), Lines()
    real = FakeEngine.publish

    def publish(self, plan):
        real(self, plan)
        clock.time_s += 1.0

    async def main():
        supervisor = Supervisor(config(1, 2, 3, probe=ProbeConfig(enabled=False)), log=said.log, clock=clock)
        await supervisor.start()
        counts = []
        for label in ("b0", "b1", "b2"):
            supervisor.membership.drain(label)
            await settle()
            counts.append(len(supervisor.engine.plans))
        await supervisor.stop()
        return counts

    monkeypatch.setattr(FakeEngine, "publish", publish)
    monkeypatch.setattr(service, "_TICK_S", 60)

    assert asyncio.run(main()) == [2, 2, 2]


def test_a_backend_that_goes_down_leaves_the_plan_without_being_told(listening):
    """The probes run on, all the time."""
    sock = socket.create_server(("127.0.0.1", 0))

    async def look(supervisor):
        await until(lambda: len(supervisor.engine.picked) == 2)
        sock.close()
        await until(lambda: len(supervisor.engine.picked) == 1)

    said = run(look, config(listening(), sock.getsockname()[1]))
    assert said.about("backend down", "backend=b1", 'reason="probe failed: refused"')


def test_events_of_the_engine_reach_health():
    """Failed connects eject, also without probes."""

    async def look(supervisor):
        supervisor.engine.events = [Event(EventKind.CONNECT_FAILED, 1, errno.ECONNREFUSED, 5)]
        supervisor.engine.wake()
        await until(lambda: set(supervisor.engine.picked) == {0})

    run(look, config(1, 2, probe=ProbeConfig(enabled=False)))


def test_pauses_in_accepting_are_said_once():
    """At the limit they happen thousands of times a second."""

    async def look(supervisor):
        pause = Event(EventKind.ACCEPT_PAUSED, errno=errno.EMFILE)
        supervisor.engine.events = [pause, Event(EventKind.ACCEPT_RESUMED)] * 1000
        supervisor.engine.wake()
        await until(lambda: not supervisor.engine.events)

    said = run(look)
    assert len(said.about("accepting paused", "too many open files")) == 1
    assert len(said.about("accepting resumed")) == 1


def test_memory_that_is_used_up_is_said_once():
    """Every exchange that finds none would say so otherwise."""

    async def look(supervisor):
        supervisor.engine.events = [Event(EventKind.BUFFERS_FULL)] * 1000
        supervisor.engine.wake()
        await until(lambda: not supervisor.engine.events)

    (line,) = run(look, config(1, limits=LimitConfig(buffer_bytes=67_108_864))).about(
        "memory for buffers used up"
    )
    assert "limit_bytes=67108864" in line


def test_want_of_local_ports_is_said_once():
    """Every request to that backend finds none, for a minute."""

    async def look(supervisor):
        supervisor.engine.events = [Event(EventKind.NO_PORTS, 0, errno.EADDRNOTAVAIL)] * 1000
        supervisor.engine.wake()
        await until(lambda: not supervisor.engine.events)

    (line,) = run(look).about("no local port left to connect from")
    assert "backend=b0" in line


def test_the_connection_limit_is_named_as_the_reason_of_a_pause():
    """No errno: nothing failed, it is full."""

    async def look(supervisor):
        supervisor.engine.events = [Event(EventKind.ACCEPT_PAUSED)]
        supervisor.engine.wake()
        await until(lambda: not supervisor.engine.events)

    assert run(look).about("accepting paused", "the connection limit is reached")


def test_clients_refused_for_their_number_are_counted_in_the_log():
    """Who is reset gets no access line."""

    async def look(supervisor):
        supervisor.engine.clients_refused = 7
        await asyncio.sleep(0.05)

    limits = LimitConfig(client_connections=5)
    (line,) = run(look, config(limits=limits)).about("clients refused above --max-client-connections")
    assert "times=7" in line


def test_lost_access_records_are_reported():
    """A gap in the log that nobody knows of is a lie."""

    async def look(supervisor):
        supervisor.engine.access_dropped = 7
        await asyncio.sleep(0.05)

    (line,) = run(look).about("access records lost to overload")
    assert "times=7" in line


def with_access_log(path) -> Config:
    """A configuration that logs to `path`."""
    return config(log=LogConfig(access=str(path), format=LogFormat.JSON))


def test_access_lines_are_written_when_the_engine_has_some(tmp_path):
    """And the engine is told in which format to make them."""
    path = tmp_path / "access.log"

    async def look(supervisor):
        assert supervisor.engine.config.access_format is LogFormat.JSON
        supervisor.engine.access = b'{"one":1}\n'
        supervisor.engine.wake()
        await until(path.read_bytes)

    run(look, with_access_log(path))
    assert path.read_bytes() == b'{"one":1}\n'


def test_the_last_access_lines_are_not_lost_at_the_end(tmp_path):
    """What ended while stopping belongs into the log too."""
    path = tmp_path / "access.log"

    async def look(supervisor):
        supervisor.engine.access = b"last\n"

    run(look, with_access_log(path))
    assert path.read_bytes() == b"last\n"


def test_without_an_access_log_the_engine_records_nothing():
    """What nobody reads should cost nothing."""

    async def look(supervisor):
        assert supervisor.engine.config.access_format is None

    run(look)


def test_troubles_of_the_access_log_reach_the_operational_log():
    """Where else would anybody see them."""

    async def look(supervisor):
        supervisor.engine.access = b"x\n"
        supervisor.engine.wake()
        await asyncio.sleep(0.1)

    assert run(look, with_access_log("/dev/full")).about("access log", "No space left on device")


def test_a_fault_in_the_housekeeping_does_not_pass_in_silence():
    """Ejections would never end, and nobody would know why."""

    async def look(supervisor):
        def fail():
            raise RuntimeError("a fault of ours")

        supervisor.membership.tick = fail
        await until(lambda: any(task.done() for task in supervisor._tasks))

    assert run(look).about("error", "a task of the supervisor has ended", "a fault of ours")


def test_a_drain_that_takes_too_long_is_said():
    """Somebody was cut off."""

    async def look(supervisor):
        assert not await supervisor.drain()

    said = run(look, config(timeouts=TimeoutConfig(drain_s=0.01)))
    assert said.about("still open at the end of the drain")


@pytest.mark.parametrize("second", ["in use", "a bad log"])
def test_a_start_that_fails_leaves_nothing_behind(tmp_path, second):
    """Neither sockets nor threads nor tasks nor paths, at whatever step it failed."""
    path = tmp_path / "s"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listeners = [ListenerConfig(address=Address(path=str(path)))]
        settings = config()
        if second == "in use":
            listeners.append(ListenerConfig(address=Address(host="127.0.0.1", port=taken.getsockname()[1])))
        else:
            settings = with_access_log("/no/such/dir/log")
        with pytest.raises(StartError):
            run(nothing, replace(settings, listeners=tuple(listeners)))

    assert not path.exists()


def test_a_unix_listener_takes_its_path_with_it(tmp_path):
    """A path without a listener only confuses."""
    path = tmp_path / "s"

    async def look(supervisor):
        assert supervisor.listeners == (Address(path=str(path)),)
        assert path.exists()

    run(look, config(listeners=(ListenerConfig(address=Address(path=str(path))),)))
    assert not path.exists()


def test_proxy_protocol_and_trust_reach_the_engine():
    """What the configuration says about proxies in front is the engine's to do."""
    trusted = TrustedProxies(unix=True)
    settings = config(
        trusted_proxies=trusted,
        listeners=(
            ListenerConfig(address=LOCAL, mode=Mode.TCP),
            ListenerConfig(address=LOCAL, mode=Mode.TCP, proxy_protocol=True),
        ),
    )

    async def look(supervisor):
        assert supervisor.engine.proxied == [False, True]
        assert supervisor.engine.config.trusted_proxies == trusted

    run(look, settings)


@pytest.mark.parametrize("what", ["engine", "membership"])
def test_what_a_start_makes_is_not_there_before_it(what):
    """A program that embeds a supervisor is told so, and does not get a None."""
    with pytest.raises(RuntimeError, match="not been started"):
        getattr(Supervisor(config(), log=Lines().log), what)


def test_a_log_rotation_without_an_access_log_is_no_trouble():
    """SIGUSR1 may come from a script for all services."""

    async def rotate(supervisor):
        supervisor.reopen_access_log()

    assert not run(rotate, config(log=LogConfig(access="off"))).about("error")


def test_backends_with_names_are_followed(monkeypatch):
    """And those without are not: no task for nothing."""
    followed = []

    class Follower:
        def __init__(self, membership, log, resolver, absent):
            followed.append(membership)

        async def follow(self):
            await asyncio.sleep(60)

    async def resolve(resolver, address, flag):
        return (address if address.is_numeric else Address(host="127.0.0.1", port=address.port),)

    monkeypatch.setattr(service, "NameFollower", Follower)
    monkeypatch.setattr(service, "resolve", resolve)
    run(nothing, config(1))
    assert followed == []
    named = BackendConfig(address=Address(host="localhost", port=1))
    run(nothing, replace(config(1), backends=(named,)))
    assert len(followed) == 1


def test_a_name_that_does_not_resolve_yet_is_a_backend_that_is_down(monkeypatch, listening):
    """The balancer must not wait for the resolver, nor end because of it."""

    async def resolve(resolver, address, flag):
        return (address,) if address.is_numeric else ()

    async def look(supervisor):
        assert [member.label for member in supervisor.membership.members] == ["b0"]

    monkeypatch.setattr(service, "resolve", resolve)
    settings = config(listening())
    named = BackendConfig(address=Address(host="late.example", port=1))
    said = run(look, replace(settings, backends=(*settings.backends, named)))

    assert said.about("warning", "does not resolve yet", "backend=late.example:1")


def test_a_listener_needs_its_address_at_once(monkeypatch):
    """There is nothing to accept from until then."""

    async def resolve(resolver, address, flag):
        return (address,) if address.is_numeric else ()

    monkeypatch.setattr(service, "resolve", resolve)
    listener = ListenerConfig(address=Address(host="edge.example", port=0))
    with pytest.raises(StartError, match=r"--listen edge.example:0: no answer"):
        run(nothing, config(listeners=(listener,)))


def test_an_address_given_by_itself_is_not_one_of_a_name(monkeypatch):
    """Each address is one backend's; the name has others."""
    found = tuple(Address(host=f"127.0.0.{n}", port=1) for n in (1, 2, 3))

    async def resolve(resolver, address, flag):
        return (address,) if address.is_numeric else found

    async def look(supervisor):
        first, second = supervisor.membership.members
        assert first.addresses == found[1:]
        assert second.addresses == found[:1]

    monkeypatch.setattr(service, "resolve", resolve)
    named = BackendConfig(address=Address(host="app.example", port=1))
    run(look, config(backends=(named, BackendConfig(address=found[0])), probe=ProbeConfig(enabled=False)))


def test_an_engine_that_calls_twice_is_asked_once(monkeypatch):
    """Each worker may wake the control plane; one look in the next turn of the loop is enough."""

    async def wake(supervisor):
        engine, looks = supervisor.engine, []
        real = engine.take_events
        engine.take_events = lambda: looks.append(1) or real()
        engine.wake()
        taking = supervisor._taking
        engine.wake()
        assert supervisor._taking is taking
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        engine.take_events = real
        assert len(looks) == 1

    monkeypatch.setattr(service, "_TICK_S", 60)
    run(wake)
