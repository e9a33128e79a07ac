"""Puts the rooms together: starts everything in order, keeps it going, and ends it cleanly.

Order of a start: names, access log, sockets, engine, members, probes. Sockets listen before the
first probes have ended but nothing is accepted until then, so that a client that connects at
start waits in the accept queue instead of being told that there is no backend.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from random import Random

from fastlb import __version__
from fastlb.control.access_log import AccessLog
from fastlb.control.clock import Clock, SystemClock
from fastlb.control.fading import Fading
from fastlb.control.listeners import PathIdentity, bind, bound_address, path_identity, unlink_own
from fastlb.control.logs import OftenRepeated, OperationLog
from fastlb.control.membership import Membership
from fastlb.control.names import NameFollower
from fastlb.control.prober import Prober, ask_by
from fastlb.control.resolve import Resolver, resolve
from fastlb.engine import LoadedEngine, load
from fastlb.model.address import Address
from fastlb.model.config import Config, EngineConfig, ListenerConfig, Mode
from fastlb.model.contract import Engine
from fastlb.model.errors import StartError
from fastlb.model.events import Event, EventKind

_TICK_S = 1.0
# Beyond the probes' own time-out while nobody is known to be up: for an event loop that is late under load.
_FIRST_ROUND_SLACK_S = 0.5
_POOL_SHOWN_MAX = 10
# Between two plans, as a multiple of what the last one took.
_PAUSE_SHARE = 4.0


class Supervisor:
    """One balancer in the running event loop. Leaves signals and process limits alone.

    Life: made, `start`, `drain` if wanted, `stop`; `stop` may come at any time and twice.
    """

    def __init__(
        self, config: Config, *, log: OperationLog | None = None, clock: Clock | None = None
    ) -> None:
        self._config = config
        self._log = log or OperationLog(config.log)
        self._clock = clock or SystemClock()
        self._loaded: LoadedEngine | None = None
        self._engine: Engine | None = None
        self._membership: Membership | None = None
        self._prober: Prober | None = None
        self._access_log: AccessLog | None = None
        self._sockets: list[tuple[socket.socket, ListenerConfig]] = []
        self._listeners: tuple[Address, ...] = ()
        self._unix_paths: list[tuple[str, PathIdentity]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._taking: asyncio.Handle | None = None
        self._publishing = False
        self._resolver = Resolver()
        self._publish_after_s = 0.0
        self._access_dropped = 0
        self._clients_refused = 0
        self._lost = OftenRepeated(self._log.warning, "access records lost to overload")
        self._refused = OftenRepeated(self._log.warning, "clients refused above --max-client-connections")
        self._paused = OftenRepeated(self._log.warning, "accepting paused")
        self._resumed = OftenRepeated(self._log.info, "accepting resumed")
        self._buffers_full = OftenRepeated(self._log.warning, "memory for buffers used up")
        self._no_ports = OftenRepeated(self._log.warning, "no local port left to connect from", every_s=60.0)

    @property
    def listeners(self) -> tuple[Address, ...]:
        """Where it listens, in the order of the configuration, with real ports."""
        return self._listeners

    @property
    def engine(self) -> Engine:
        """The engine. Raises: RuntimeError before `start`."""
        if self._engine is None:
            raise RuntimeError("the supervisor has not been started")
        return self._engine

    @property
    def membership(self) -> Membership:
        """The backends. Raises: RuntimeError before `start`."""
        if self._membership is None:
            raise RuntimeError("the supervisor has not been started")
        return self._membership

    async def start(self) -> None:
        """Return once traffic is accepted. Undoes everything if it fails.

        Raises: StartError, ConfigError, EngineUnavailableError.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def drain(self) -> bool:
        """Accept no more and let open exchanges finish, for at most `timeouts.drain_s`.

        Returns: True if all have ended.
        """
        timeout_s = self._config.timeouts.drain_s
        # A path that is gone lets nobody new into the queue that the engine is about to empty.
        self._unlink_paths()
        finished = await self.engine.drain(timeout_s)
        self._take()
        if not finished:
            self._log.warning("exchanges were still open at the end of the drain", timeout_s=timeout_s)
        return finished

    async def stop(self) -> None:
        """End at once, and leave no task, thread or descriptor behind. Idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._prober is not None:
            await self._prober.stop()
        if self._membership is not None:
            self._membership.close()
        if self._engine is not None:
            await self._engine.stop()
            self._take()
        self._close_sockets()
        if self._access_log is not None:
            await self._access_log.close()
            self._report_access_log()
            self._access_log = None

    def reopen_access_log(self) -> None:
        """Open the access log's path anew, for log rotation."""
        if self._access_log is not None:
            self._access_log.reopen()

    async def _start(self) -> None:
        config = self._config
        self._loaded = load(config.engine)
        backends, listeners = await asyncio.gather(
            self._resolve([backend.address for backend in config.backends], "--backend"),
            self._resolve([listener.address for listener in config.listeners], "--listen"),
        )
        if config.log.access != "off":
            self._access_log = AccessLog(config.log.access)
        for listener, addresses in zip(config.listeners, listeners, strict=True):
            if not addresses:
                name = listener.address.host
                raise StartError(f"--listen {listener.address}: no answer from the resolver for {name!r}")
            self._bind(addresses[0], listener)
        await self._start_engine(self._loaded)
        self._say_started(self._loaded)
        self._start_members(backends)
        if self._prober is not None:
            await self._prober.first_round(config.probe.timeout_s)
            if not self.membership.anybody_up:
                await self._prober.first_round(_FIRST_ROUND_SLACK_S)
        self._publishing = True
        self.membership.fail_open()
        for sock, listener in self._sockets:
            self.engine.open_listener(sock, listener.mode, listener.proxy_protocol)
            # The engine has its own duplicate; ours would keep the port open after a drain.
            sock.close()
        self._spawn(self._keep_house())
        self._spawn(self._forget_failures())

    async def _resolve(self, addresses: Sequence[Address], flag: str) -> list[tuple[Address, ...]]:
        """All at once. Raises: StartError for the first name or interface that there is not."""
        # An IPv4 address is what it is: ten thousand tasks would be half a second.
        found: dict[Address, tuple[Address, ...]] = {
            address: (address,) for address in addresses if ":" not in address.host and address.is_numeric
        }
        others = [address for address in addresses if address not in found]
        work = [asyncio.ensure_future(resolve(self._resolver, address, flag)) for address in others]
        try:
            found |= zip(others, await asyncio.gather(*work), strict=True)
            return [found[address] for address in addresses]
        finally:
            for task in work:
                task.cancel()

    def _bind(self, address: Address, listener: ListenerConfig) -> None:
        sock = bind(address, listener.socket_mode)
        self._sockets.append((sock, listener))
        self._listeners += (bound_address(sock),)
        if address.is_unix:
            self._unix_paths.append((address.path, path_identity(address.path)))

    async def _start_engine(self, loaded: LoadedEngine) -> None:
        config = self._config
        engine = loaded.engine_class(
            EngineConfig(
                workers=config.workers,
                timeouts=config.timeouts,
                limits=config.limits,
                fields=config.fields,
                access_format=config.log.format if self._access_log is not None else None,
                eject_errors=config.eject_errors,
                via=config.via,
                trusted_proxies=config.trusted_proxies,
            )
        )
        self._engine = engine
        await engine.start(self._wake)

    def _start_members(self, found: Sequence[tuple[Address, ...]]) -> None:
        config = self._config
        membership = Membership(
            self.engine,
            policy=config.policy,
            probe=config.probe,
            log=self._log,
            clock=self._clock,
            later=self._publish_later,
            all_down=config.all_down,
            on_down=config.on_down,
            ejection=config.ejection,
            drain_s=config.timeouts.drain_s,
        )
        self._membership = membership
        absent = []
        # What is given as an address is that backend's; a name that resolves to it, too, has the others.
        given = {backend.address for backend in config.backends if backend.address.is_numeric}
        for backend, addresses in zip(config.backends, found, strict=True):
            if not backend.address.is_numeric:
                addresses = tuple(one for one in addresses if one not in given) or addresses
            if addresses:
                membership.add(backend, addresses[0], addresses[1:])
            else:
                absent.append(backend)
                self._log.warning("backend down, its name does not resolve yet", backend=backend.label)
        if config.probe.enabled:
            self._prober = self._new_prober(membership)
            membership.watched_by(self._prober)
        if not all(backend.address.is_numeric for backend in config.backends):
            self._spawn(NameFollower(membership, self._log, self._resolver, absent).follow())

    def _publish_later(self, publish: Callable[[], None]) -> None:
        """In the next turn of the loop, but with pauses between plans of thousands: they may take a fifth
        of its time. Before accepting begins not at all: that asks for the first plan."""
        if self._publishing:
            loop = asyncio.get_running_loop()
            pause_s = self._publish_after_s - self._clock.now_s()
            if pause_s <= 0:
                loop.call_soon(self._publish, publish)
            else:
                loop.call_later(pause_s, self._publish, publish)

    def _publish(self, publish: Callable[[], None]) -> None:
        began_s = self._clock.now_s()
        publish()
        ended_s = self._clock.now_s()
        self._publish_after_s = ended_s + _PAUSE_SHARE * (ended_s - began_s)

    def _new_prober(self, membership: Membership) -> Prober:
        modes = {listener.mode for listener in self._config.listeners}
        mode = Mode.HTTP if Mode.HTTP in modes else Mode.TCP
        return Prober(
            ask=ask_by(mode, self._config.probe, self._config.limits),
            observe=membership.observe_probe,
            interval_s=self._config.probe.interval_s,
            in_doubt_s=self._config.probe.in_doubt_s,
            rng=Random(),
            clock=self._clock,
            log=self._log,
        )

    def _say_started(self, loaded: LoadedEngine) -> None:
        config = self._config
        pool = [backend.label for backend in config.backends[:_POOL_SHOWN_MAX]]
        if len(config.backends) > _POOL_SHOWN_MAX:
            pool.append(f"and {len(config.backends) - _POOL_SHOWN_MAX} more")
        self._log.info(
            "started",
            version=__version__,
            pid=os.getpid(),
            engine=loaded.name,
            why=loaded.reason,
            loop=type(asyncio.get_running_loop()).__module__.partition(".")[0],
            workers=config.workers if loaded.name == "native" else 1,
            listen=",".join(
                f"{address}/{listener.mode.value}"
                for address, (_, listener) in zip(self._listeners, self._sockets, strict=True)
            ),
            policy=config.policy.value,
            pool=",".join(pool),
            connection_limit=config.limits.connections or None,
        )

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self.membership.tick()
            self._take()
            self._report_access_log()
            self._report_lost_records()
            self._report_refused_clients()

    async def _forget_failures(self) -> None:
        fading = Fading(self.engine, self._clock)
        while True:
            pause_s = fading.step()
            await asyncio.sleep(pause_s)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        # Only a fault of ours ends a task that was not cancelled; it must not pass in silence.
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("a task of the supervisor has ended", error=repr(error))

    def _wake(self) -> None:
        if self._taking is None:
            self._taking = asyncio.get_running_loop().call_soon(self._take)

    def _take(self) -> None:
        """Take what the engine has to tell."""
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None
        for event in self.engine.take_events():
            self._observe(event)
        if self._access_log is not None:
            self._access_log.write(self.engine.take_access())

    def _observe(self, event: Event) -> None:
        if event.kind is EventKind.ACCEPT_PAUSED:
            reason = os.strerror(event.errno).lower() if event.errno else "the connection limit is reached"
            self._paused.happened(self._clock.now_s(), reason=reason)
        elif event.kind is EventKind.ACCEPT_RESUMED:
            self._resumed.happened(self._clock.now_s())
        elif event.kind is EventKind.BUFFERS_FULL:
            limit = self._config.limits.buffer_bytes
            self._buffers_full.happened(self._clock.now_s(), limit_bytes=limit)
        elif event.kind is EventKind.NO_PORTS:
            labels = [member.label for member in self.membership.members if member.slot == event.slot]
            self._no_ports.happened(self._clock.now_s(), backend="".join(labels))
        else:
            self.membership.observe_event(event)

    def _report_access_log(self) -> None:
        if self._access_log is not None:
            for report in self._access_log.take_reports():
                say = self._log.warning if report.trouble else self._log.info
                say("access log", report=report.text)

    def _report_lost_records(self) -> None:
        dropped = self.engine.ledger().access_dropped
        if dropped > self._access_dropped:
            self._lost.happened(self._clock.now_s(), dropped - self._access_dropped)
            self._access_dropped = dropped

    def _report_refused_clients(self) -> None:
        if not self._config.limits.client_connections:
            return
        refused = self.engine.ledger().clients_refused
        if refused > self._clients_refused:
            self._refused.happened(self._clock.now_s(), refused - self._clients_refused)
            self._clients_refused = refused

    def _close_sockets(self) -> None:
        sockets, self._sockets = self._sockets, []
        for sock, _ in sockets:
            sock.close()
        self._unlink_paths()

    def _unlink_paths(self) -> None:
        paths, self._unix_paths = self._unix_paths, []
        for path, identity in paths:
            unlink_own(path, identity)
