"""fastlb as a process: signals, exit status, the event loop. The engine is faked."""

import asyncio
import os
import signal
import time

import pytest
from fakes import FakeEngine, until

import fastlb.control.service as service
import fastlb.control.supervisor as process
from fastlb.control.supervisor import run, serve
from fastlb.engine import LoadedEngine
from fastlb.model.address import Address
from fastlb.model.config import BackendConfig, Config, ListenerConfig, LogConfig, ProbeConfig, TimeoutConfig
from fastlb.model.errors import StartError
from fastlb.model.limits import LimitConfig

BACKEND = BackendConfig(address=Address(host="127.0.0.1", port=1))


@pytest.fixture(autouse=True)
def fake_engine(monkeypatch):
    """The fake engine; and the limits of the test process stay as they are."""
    monkeypatch.setattr(service, "load", lambda choice: LoadedEngine(FakeEngine, "fake", "for a test"))
    monkeypatch.setattr(process, "raise_fd_limit", lambda: 1024)


def config(**changes) -> Config:
    """A balancer without probes on a port of the kernel's choice."""
    settings = {
        "listeners": (ListenerConfig(address=Address(host="127.0.0.1", port=0)),),
        "backends": (BACKEND,),
        "probe": ProbeConfig(enabled=False),
        "timeouts": TimeoutConfig(drain_s=20),
    }
    return Config(**{**settings, **changes})


def serve_until(when_ready, settings: Config | None = None) -> int:
    """Serve, and do `when_ready` once traffic is accepted."""
    return asyncio.run(serve(settings or config(), ready=when_ready))


def kill(number: signal.Signals) -> None:
    """Signal this process."""
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_with_status_0(number, capfd):
    """Being asked to stop is no error."""

    def ready(supervisor):
        supervisor.engine.drained.set()
        kill(number)

    assert serve_until(ready) == 0
    log = capfd.readouterr().err
    assert f"stopping, open exchanges may finish signal={number.name} drain_s=20" in log
    assert " info stopped" in log


def test_a_second_signal_stops_at_once(capfd):
    """Somebody who presses Ctrl-C twice does not want to wait for twenty seconds."""

    def ready(supervisor):
        async def press_twice():
            kill(signal.SIGINT)
            await until(lambda: supervisor.engine.drains)
            kill(signal.SIGINT)

        tasks.append(asyncio.ensure_future(press_twice()))

    tasks: list[asyncio.Future] = []
    started = time.monotonic()

    assert serve_until(ready) == 0
    assert time.monotonic() - started < 10
    assert "stopping at once" in capfd.readouterr().err


def test_a_signal_during_the_start_ends_it(monkeypatch, capfd):
    """A probe of a hanging backend must not make Ctrl-C wait."""

    async def hang(member):
        kill(signal.SIGTERM)
        await asyncio.sleep(60)

    monkeypatch.setattr(service, "ask_by", lambda mode, probe, limits: hang)
    accepted: list[object] = []
    started = time.monotonic()

    assert serve_until(accepted.append, config(probe=ProbeConfig(timeout_s=60))) == 0
    assert accepted == []
    assert time.monotonic() - started < 10


def test_a_cancellation_is_not_lost_while_cancelled_work_ends():
    """A program that embeds serve() may cancel it in the middle of a stop."""

    async def end_late(ending):
        try:
            await asyncio.sleep(60)
        finally:
            ending.set()
            await asyncio.sleep(0.01)

    async def cancel_in_between():
        ending, stop = asyncio.Event(), asyncio.Event()
        stopping = asyncio.ensure_future(process._unless(stop, end_late(ending)))
        asyncio.get_running_loop().call_soon(stop.set)
        await ending.wait()
        stopping.cancel()
        await asyncio.wait({stopping})
        return stopping.cancelled()

    assert asyncio.run(cancel_in_between())


def test_an_error_of_cancelled_work_is_raised():
    """It would be lost otherwise."""

    async def work():
        try:
            await asyncio.sleep(60)
        finally:
            raise StartError("cannot end")

    async def stop_it():
        stop = asyncio.Event()
        asyncio.get_running_loop().call_soon(stop.set)
        await process._unless(stop, work())

    with pytest.raises(StartError, match="cannot end"):
        asyncio.run(stop_it())


def test_sigusr1_opens_the_access_log_anew(tmp_path):
    """For logrotate."""
    path = tmp_path / "access.log"

    def ready(supervisor):
        async def rotate():
            path.rename(tmp_path / "old")
            kill(signal.SIGUSR1)
            await until(path.exists)
            supervisor.engine.drained.set()
            kill(signal.SIGTERM)

        tasks.append(asyncio.ensure_future(rotate()))

    tasks: list[asyncio.Future] = []
    assert serve_until(ready, config(log=LogConfig(access=str(path)))) == 0
    assert path.exists()


def test_the_signals_belong_to_the_process_again_afterwards():
    """A program that embeds serve() has handlers of its own."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]

    def ready(supervisor):
        supervisor.engine.drained.set()
        kill(signal.SIGTERM)

    serve_until(ready)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before


def test_the_connection_limit_follows_from_the_descriptors_and_is_logged(capfd):
    """Half of what is left of 1024 after what the process needs for itself."""
    limits: list[int] = []

    def ready(supervisor):
        limits.append(supervisor.engine.config.limits.connections)
        supervisor.engine.drained.set()
        kill(signal.SIGTERM)

    serve_until(ready)
    assert limits == [476]
    assert "connection_limit=476" in capfd.readouterr().err


def test_a_connection_limit_of_the_user_is_kept():
    """--max-connections."""
    limits: list[int] = []

    def ready(supervisor):
        limits.append(supervisor.engine.config.limits.connections)
        supervisor.engine.drained.set()
        kill(signal.SIGTERM)

    serve_until(ready, config(limits=LimitConfig(connections=10)))
    assert limits == [10]


def test_a_start_that_fails_is_raised_to_the_caller():
    """The command line turns it into one line and status 1."""
    address = Address(host="192.0.2.1", port=8080)

    with pytest.raises(StartError, match=r"--listen 192\.0\.2\.1:8080"):
        serve_until(None, config(listeners=(ListenerConfig(address=address),)))


@pytest.mark.parametrize(("there", "loop"), [(True, "uvloop"), (False, "asyncio")])
def test_uvloop_runs_where_it_is_installed_and_asyncio_elsewhere(monkeypatch, there, loop):
    """The start line says which."""
    seen: list[str] = []

    async def look(settings):
        seen.append(type(asyncio.get_running_loop()).__module__.partition(".")[0])
        return 0

    monkeypatch.setattr(process, "serve", look)
    if not there:
        monkeypatch.setitem(__import__("sys").modules, "uvloop", None)

    assert run(config()) == 0
    assert seen == [loop]
