"""Starts the parts of the demo in order, reports once a second, and stops them in reverse."""

import asyncio
import contextlib
import signal
from collections.abc import Sequence
from datetime import datetime

from rich.console import Console

from fastlb.control.event_loop import run_on_best_loop
from fastlb.control.signals import take_over
from fastlb.control.supervisor import Supervisor
from fastlb.model.address import Address
from fastlb.model.config import (
    BackendConfig,
    Config,
    EngineChoice,
    ListenerConfig,
    LogConfig,
    ProbeConfig,
)
from fastlb.model.errors import StartError
from fastlb.surface.demo.backends import CHECK_PATH, Backend, make_backends
from fastlb.surface.demo.flags import PORT_MAX
from fastlb.surface.demo.screen import line_of, opening, show
from fastlb.surface.demo.traffic import Tally, trickle

_LINE_EVERY_S = 1.0


def run_demo(port: int, engine: EngineChoice) -> int:
    """Run until SIGINT, SIGTERM, SIGQUIT or the end of the terminal (SIGHUP). Port 0 lets the kernel choose.

    Returns: 0.
    Raises:  StartError if the port is taken; EngineUnavailableError.
    """
    run_on_best_loop(_demo(port, engine))
    return 0


def demo_config(port: int, engine: EngineChoice, backends: Sequence[Backend]) -> Config:
    """What the demo asks of fastlb: one listener on loopback, quick checks, few log lines."""
    return Config(
        listeners=(ListenerConfig(address=Address(host="127.0.0.1", port=port)),),
        backends=tuple(
            BackendConfig(address=Address(host="127.0.0.1", port=each.port), name=each.name)
            for each in backends
        ),
        engine=engine,
        probe=ProbeConfig(path=CHECK_PATH),
        log=LogConfig(level="warning"),
    )


async def _demo(port: int, engine: EngineChoice) -> None:
    ended = asyncio.Event()
    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
    take_over(asyncio.get_running_loop(), dict.fromkeys(ends, ended.set))
    async with contextlib.AsyncExitStack() as stack:
        backends = make_backends()
        for backend in backends:
            await backend.open()
            stack.push_async_callback(backend.close)
        supervisor = Supervisor(demo_config(port, engine, backends))
        stack.push_async_callback(supervisor.stop)
        await _start(supervisor, port)
        bound = supervisor.listeners[0].port
        tally = Tally()
        traffic = asyncio.create_task(trickle(bound, tally))
        stack.push_async_callback(_cancel, traffic)
        console = Console(highlight=False)
        delays_ms = {backend.name: round(backend.delay_s * 1000) for backend in backends}
        console.print(
            opening(f"http://127.0.0.1:{bound}/", supervisor.engine.name, delays_ms), soft_wrap=True
        )
        await _report(console, backends, tally, ended)


async def _start(supervisor: Supervisor, port: int) -> None:
    try:
        await supervisor.start()
    except StartError as error:
        other = port + 1 if 0 < port < PORT_MAX else 0
        raise StartError(f"{error}; try another: fastlb demo --port {other}") from None


async def _report(console: Console, backends: Sequence[Backend], tally: Tally, ended: asyncio.Event) -> None:
    """One line for each whole second until `ended`."""
    end = asyncio.ensure_future(ended.wait())
    while True:
        before = [backend.answered for backend in backends]
        failed_before = tally.failed
        await asyncio.wait({end}, timeout=_LINE_EVERY_S)
        if end.done():
            return
        served = {backend.name: backend.answered - n for backend, n in zip(backends, before, strict=True)}
        now = datetime.now().astimezone()
        show(console, line_of(now, served, tally.failed - failed_before))


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
