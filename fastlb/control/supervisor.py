"""fastlb as a process of its own: signals, descriptor limits, exit status. See service.py for the
supervisor itself.

SIGTERM, SIGINT and SIGQUIT drain, a second one ends at once; all end with status 0, because being
asked to stop is no error. SIGUSR1 and SIGHUP open the access log anew. SIGUSR2 is refused.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from fastlb.control.descriptors import connection_limit, raise_fd_limit
from fastlb.control.event_loop import run_on_best_loop
from fastlb.control.logs import OperationLog
from fastlb.control.memory import address_space, buffer_limit, clients_limit, machine_memory
from fastlb.control.service import Supervisor
from fastlb.control.signals import Actions, take_over
from fastlb.engine.choice import native_missing_reason
from fastlb.model.config import Config, EngineChoice

__all__ = ["Supervisor", "run", "serve"]

Ready = Callable[[Supervisor], None]


class _StopSignals:
    """The first and the second request to stop."""

    def __init__(self, log: OperationLog, drain_s: float) -> None:
        self._log = log
        self._drain_s = drain_s
        self.asked = asyncio.Event()
        self.again = asyncio.Event()

    def received(self, name: str) -> None:
        """Count one more signal."""
        if self.asked.is_set():
            self._log.warning("stopping at once", signal=name)
            self.again.set()
        else:
            self._log.info("stopping, open exchanges may finish", signal=name, drain_s=self._drain_s)
            self.asked.set()


async def serve(config: Config, *, ready: Ready | None = None) -> int:
    """Balance until a signal says stop. Returns the exit status.

    `ready` is called with the supervisor once traffic is accepted.
    Raises: StartError, ConfigError, EngineUnavailableError.
    """
    config = _with_machine_limits(config, raise_fd_limit())
    log = OperationLog(config.log)
    supervisor = Supervisor(config, log=log)
    stop = _StopSignals(log, config.timeouts.drain_s)
    loop = asyncio.get_running_loop()
    actions = _actions(supervisor, stop, log)
    take_over(loop, actions)
    try:
        if await _unless(stop.asked, supervisor.start()):
            if ready is not None:
                ready(supervisor)
            await stop.asked.wait()
            await _unless(stop.again, supervisor.drain())
    finally:
        await supervisor.stop()
        for number in actions:
            loop.remove_signal_handler(number)
    log.info("stopped")
    return 0


def run(config: Config) -> int:
    """`serve` on uvloop, or on asyncio where there is no uvloop. Returns the exit status."""
    return run_on_best_loop(serve(config))


def _with_machine_limits(config: Config, nofile: int) -> Config:
    """What was left to the machine to say."""
    limits = config.limits
    connections = limits.connections or connection_limit(nofile, config.workers)
    space_bytes = address_space()
    if space_bytes is not None and not limits.connections and _is_pure(config.engine):
        connections = min(connections, clients_limit(space_bytes))
    limits = replace(
        limits,
        connections=connections,
        buffer_bytes=limits.buffer_bytes or buffer_limit(machine_memory(), config.workers, space_bytes),
    )
    return replace(config, limits=limits)


def _is_pure(engine: EngineChoice) -> bool:
    return engine is EngineChoice.PURE or (
        engine is EngineChoice.AUTO and native_missing_reason() is not None
    )


def _actions(supervisor: Supervisor, stop: _StopSignals, log: OperationLog) -> Actions:
    """What each signal does. A terminal that closes (SIGHUP) ends no service."""
    stops = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

    def refuse() -> None:
        log.warning("SIGUSR2 does nothing: this version cannot be replaced while it runs")

    return {
        **{number: partial(stop.received, number.name) for number in stops},
        signal.SIGUSR1: supervisor.reopen_access_log,
        signal.SIGHUP: supervisor.reopen_access_log,
        signal.SIGUSR2: refuse,
    }


async def _unless(event: asyncio.Event, work: Awaitable[object]) -> bool:
    """Do `work` to its end, or cancel it when `event` is set. True if it came to its end."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        done = task.done()
    finally:
        task.cancel()
        watch.cancel()
        # Not by awaiting each: their cancellation could not be told from one of this function.
        await asyncio.wait({task, watch})
    if done or not task.cancelled():
        task.result()
    return done
