"""The supervisor with the real engines: what health decides is what clients see."""

import asyncio
import os
import threading

from fakes import Lines, until

from fastlb.control.service import Supervisor
from fastlb.model.address import Address
from fastlb.model.config import (
    AllDown,
    BackendConfig,
    Config,
    EngineChoice,
    ListenerConfig,
    LogConfig,
    LogFormat,
    OnDown,
    Policy,
    ProbeConfig,
    TimeoutConfig,
)
from fastlb.model.limits import LimitConfig


class Application:
    """A backend that answers with its name, and can go away and come back.

    `status`: of its answers to clients. `ill`: its check fails. What asks for /hold is never answered.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.status = 200
        self.ill = False
        self.held = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> "Application":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await until(lambda: not self._writers)

    def config(self) -> BackendConfig:
        return BackendConfig(address=Address(host="127.0.0.1", port=self.port), name=self.name)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET /hold "):
                    self.held += 1
                    continue
                status = self.status if b"\r\nVia: " in head else 500 if self.ill else 200
                body = self.name.encode()
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)


async def get(supervisor: Supervisor, path: str = "/") -> tuple[int, dict[str, str], str]:
    """Status, fields and body of a GET through the balancer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", supervisor.listeners[0].port)
    writer.write(b"GET %b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % path.encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.decode().partition("\r\n\r\n")
    first, *fields = head.split("\r\n")
    return int(first.split()[1]), dict(field.split(": ", 1) for field in fields), body


async def seen(supervisor: Supervisor, count: int = 6) -> str:
    """The names of the applications that answer, or the status of whoever does instead."""
    answers = [await get(supervisor) for _ in range(count)]
    return "".join(sorted({body if status == 200 else str(status) for status, _, body in answers}))


def balanced(engine, test, names: str = "ab", **changes) -> Lines:
    """Run `test` with a supervisor over applications with these names. Returns the log."""
    said = Lines()

    async def main():
        before = len(os.listdir("/proc/self/fd")), threading.active_count()
        applications = {name: await Application(name).start() for name in names}
        settings = {
            "listeners": (ListenerConfig(address=Address(host="127.0.0.1", port=0)),),
            "backends": tuple(application.config() for application in applications.values()),
            "policy": Policy.ROUND_ROBIN,
            "engine": EngineChoice(engine.name),
            "probe": ProbeConfig(interval_s=0.05, timeout_s=2, rise=1, fall=1),
            **changes,
        }
        supervisor = Supervisor(Config(**settings), log=said.log)
        try:
            await supervisor.start()
            await test(supervisor, applications)
            assert supervisor.engine.verify().exact
        finally:
            await supervisor.stop()
        for application in applications.values():
            await application.stop()
        # A transport closes its descriptor in a later turn of the loop. The supervisor is still
        # held: stop() has to let go of everything, not the garbage collector.
        await asyncio.wait_for(until(lambda: len(os.listdir("/proc/self/fd")) <= before[0]), 5)
        assert threading.active_count() <= before[1]

    asyncio.run(main())
    return said


def test_the_first_client_is_served_and_not_told_that_there_is_no_backend(engine):
    """The first round of probes is over when accepting begins."""

    async def test(supervisor, _):
        assert await seen(supervisor) == "ab"

    said = balanced(engine, test)
    assert said.about("started", f"engine={engine.name}")


def test_a_backend_that_goes_and_comes_back_is_followed_without_an_error(engine):
    """Out of the rotation, back into it, and no client notices."""

    async def test(supervisor, applications):
        await applications["a"].stop()
        assert await seen(supervisor) == "b"
        await until(lambda: supervisor.membership.member("a").status == "down")
        await applications["a"].start()
        await until(lambda: supervisor.membership.member("a").status == "up")
        assert await seen(supervisor) == "ab"

    balanced(engine, test)


def test_all_down_is_503_with_retry_after_and_recovers_by_itself(engine):
    """Nobody has to restart the balancer after an outage."""

    async def test(supervisor, applications):
        await applications["a"].stop()
        await until(lambda: supervisor.membership.member("a").status == "down")
        status, fields, _ = await get(supervisor)
        assert (status, fields["Retry-After"]) == (503, "1")
        await applications["a"].start()
        await until(lambda: supervisor.membership.member("a").status == "up")
        assert await seen(supervisor) == "a"

    balanced(engine, test, names="a")


def test_failed_connects_eject_where_no_probe_looks(engine):
    """Passive health through the engine's own events."""

    async def test(supervisor, applications):
        await applications["a"].stop()
        while supervisor.membership.member("a").status == "up":
            assert await seen(supervisor, 1) == "b"
        assert supervisor.membership.member("a").status == "ejected"

    # Before there were any requests the budget of retries is 30, and this loop is faster than that.
    unlimited = LimitConfig(retry_percent=None)
    said = balanced(engine, test, probe=ProbeConfig(enabled=False), limits=unlimited)
    assert said.about("backend ejected", "backend=a", "connection refused")


def test_in_panic_everybody_is_tried_and_it_is_over_when_one_is_well(engine):
    """Checks that fail where the service does not: clients are served all the same."""

    async def test(supervisor, applications):
        for application in applications.values():
            application.ill = True
        await until(lambda: supervisor.membership.panicking)
        assert await seen(supervisor) == "ab"
        applications["b"].ill = False
        await until(lambda: not supervisor.membership.panicking)
        assert await seen(supervisor) == "b"

    said = balanced(engine, test, all_down=AllDown.PANIC)
    assert len(said.about("panic")) == 2


async def holding(supervisor: Supervisor, application: Application) -> "asyncio.Task[tuple]":
    """A request that its application will never answer."""
    asked = asyncio.ensure_future(get(supervisor, "/hold"))
    await until(lambda: application.held)
    return asked


def test_going_down_ends_open_exchanges_only_if_the_user_says_so(engine):
    """--on-down close answers for a backend that fails its checks; keep waits for it."""

    async def test(supervisor, applications):
        application = applications["a"]
        asked = await holding(supervisor, application)
        application.ill = True
        await until(lambda: supervisor.membership.member("a").status == "down")
        if closing:
            assert (await asked)[0] == 502
        else:
            assert (await get(supervisor))[0] == 503
            assert not asked.done()
            await application.stop()
            assert (await asked)[0] == 502

    for closing in (True, False):
        balanced(engine, test, names="a", on_down=OnDown.CLOSE if closing else OnDown.KEEP)


def test_what_is_open_on_a_drained_backend_ends_in_time(engine, monkeypatch):
    """Somebody waits for it to be free."""
    monkeypatch.setattr("fastlb.control.service._TICK_S", 0.01)

    async def test(supervisor, applications):
        asked = await holding(supervisor, applications["a"])
        supervisor.membership.drain("a")
        assert (await asked)[0] == 502

    said = balanced(engine, test, names="a", timeouts=TimeoutConfig(drain_s=0.1))
    assert said.about("exchanges ended", "backend=a", "exchanges=1")


def test_gateway_errors_eject(engine):
    """Five in a row, as with refused connections, unless the user says that they mean something else."""

    async def test(supervisor, applications):
        applications["a"].status = 503
        while supervisor.membership.member("a").status == "up":
            assert await seen(supervisor, 2) in ("b", "503b")
        assert await seen(supervisor) == "b"

    said = balanced(engine, test, probe=ProbeConfig(enabled=False))
    assert said.about("backend ejected", "backend=a", "5 exchanges failed in a row: server error")


def test_membership_changes_at_run_time_reach_the_next_request(engine):
    """Drain, restore, add and remove, without a reload."""

    async def test(supervisor, _):
        members = supervisor.membership
        members.drain("a")
        assert await seen(supervisor) == "b"
        members.restore("a")
        assert await seen(supervisor) == "ab"
        third = await Application("c").start()
        members.add(third.config(), third.config().address)
        await until(lambda: members.member("c").status == "up")
        assert await seen(supervisor) == "abc"
        members.remove("c")
        members.remove("b")
        assert await seen(supervisor) == "a"
        await third.stop()

    balanced(engine, test)


def test_each_exchange_is_one_access_line_and_none_is_lost_at_the_end(engine, tmp_path):
    """From the engine through the thread into the file, also those of the last moment."""
    path = tmp_path / "access.log"

    async def test(supervisor, _):
        await seen(supervisor, 20)

    balanced(engine, test, log=LogConfig(access=str(path), format=LogFormat.JSON))
    assert path.read_bytes().count(b"\n") == 20
