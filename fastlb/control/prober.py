"""Asks every member, each in a task of its own, so that no two probes of one overlap."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

from fastlb.control.clock import Clock
from fastlb.control.logs import OftenRepeated, OperationLog
from fastlb.control.member import Member
from fastlb.health.schedule import forward_due_s, in_doubt_due_s, next_due_s
from fastlb.model.config import Mode, ProbeConfig
from fastlb.model.limits import LimitConfig
from fastlb.probe import ProbeResult, probe_http, probe_tcp

# Probes under way at once: enough for any pool, without taking the descriptors from the traffic.
PROBES_MAX = 256
# Probes a second, once everybody has been asked: a probe costs some 0.3 ms of the event loop's thread, in
# which the pure engine carries traffic. With more members each is asked less often.
PROBES_MAX_PER_S = 1000

Ask = Callable[[Member], Awaitable[ProbeResult]]


def ask_by(mode: Mode, config: ProbeConfig, limits: LimitConfig) -> Ask:
    """How to probe a member of a pool that speaks `mode`; `limits` are those of traffic."""

    async def ask_http(member: Member) -> ProbeResult:
        address = member.config.address
        return await probe_http(
            member.address,
            host=config.host or address.authority,
            path=config.path,
            expect=config.expect,
            timeout_s=config.timeout_s,
            proxy_protocol=member.config.proxy_protocol,
            limits=limits,
            others=member.others,
        )

    async def ask_tcp(member: Member) -> ProbeResult:
        return await probe_tcp(
            member.address,
            timeout_s=config.timeout_s,
            proxy_protocol=member.config.proxy_protocol,
            send=config.send,
            expect=config.expect_bytes,
            others=member.others,
        )

    return ask_http if mode is Mode.HTTP else ask_tcp


@dataclass(slots=True, eq=False)
class _Watch:
    task: asyncio.Task[None] | None = None
    started_s: float = 0.0
    due_s: float = 0.0
    sooner: asyncio.Event = field(default_factory=asyncio.Event)


class Prober:
    """Watches members and tells `observe` each result. Implements membership.Watcher."""

    def __init__(
        self,
        *,
        ask: Ask,
        observe: Callable[[Member, ProbeResult], None],
        interval_s: float,
        in_doubt_s: float,
        rng: Random,
        clock: Clock,
        log: OperationLog,
    ) -> None:
        self._ask = ask
        self._observe = observe
        self._interval_s = interval_s
        self._in_doubt_s = in_doubt_s
        self._rng = rng
        self._clock = clock
        self._log = log
        self._local_faults = OftenRepeated(log.warning, "probes could not be sent")
        self._turns = asyncio.Semaphore(PROBES_MAX)
        self._watches: dict[Member, _Watch] = {}
        self._unasked: set[Member] = set()
        self._all_asked = asyncio.Event()

    def watch(self, member: Member) -> None:
        """See Watcher."""
        watch = _Watch()
        watch.task = asyncio.get_running_loop().create_task(self._probe_on(member, watch))
        watch.task.add_done_callback(self._ended)
        self._watches[member] = watch
        self._unasked.add(member)

    def forget(self, member: Member) -> None:
        """See Watcher."""
        watch = self._watches.pop(member, None)
        if watch is not None and watch.task is not None:
            watch.task.cancel()
        self._asked(member)

    def bring_forward(self, member: Member) -> None:
        """See Watcher."""
        watch = self._watches.get(member)
        if watch is None:
            return
        now_s = self._clock.now_s()
        due_s = forward_due_s(watch.due_s, watch.started_s, now_s, self._interval_s)
        if due_s < watch.due_s:
            watch.due_s = due_s
            watch.sooner.set()

    async def first_round(self, timeout_s: float) -> None:
        """Return when each member has been asked once, or after `timeout_s`."""
        if self._unasked:
            self._all_asked.clear()
            await self._clock.wait(self._all_asked, timeout_s)

    async def stop(self) -> None:
        """End every task."""
        tasks = [watch.task for watch in self._watches.values() if watch.task is not None]
        for member in list(self._watches):
            self.forget(member)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _probe_on(self, member: Member, watch: _Watch) -> None:
        while True:
            async with self._turns:
                watch.started_s = self._clock.now_s()
                result = await self._ask(member)
            if result.local:
                self._local_faults.happened(self._clock.now_s(), reason=result.reason)
            self._observe(member, result)
            self._asked(member)
            now_s = self._clock.now_s()
            least_s = len(self._watches) / PROBES_MAX_PER_S
            interval_s = max(self._interval_s, least_s)
            watch.due_s = next_due_s(watch.started_s, now_s, interval_s, self._rng)
            if member.in_doubt:
                soon_s = max(self._in_doubt_s, least_s)
                watch.due_s = in_doubt_due_s(watch.due_s, now_s, soon_s, self._rng)
            await self._until_due(watch)

    def _asked(self, member: Member) -> None:
        self._unasked.discard(member)
        if not self._unasked:
            self._all_asked.set()

    async def _until_due(self, watch: _Watch) -> None:
        while (left_s := watch.due_s - self._clock.now_s()) > 0:
            watch.sooner.clear()
            await self._clock.wait(watch.sooner, left_s)

    def _ended(self, task: asyncio.Task[None]) -> None:
        # Only a fault of ours ends a task that was not cancelled; it must not pass in silence.
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("a probe task has ended", error=repr(error))
