"""Stand-ins for what the control plane talks to: an engine, a clock, a log."""

import asyncio
import socket
from collections.abc import Callable, Sequence

from fastlb.control.logs import OperationLog
from fastlb.model.address import Address
from fastlb.model.config import EngineConfig, LogConfig, LogFormat, Mode
from fastlb.model.events import Event
from fastlb.model.ledger import BackendCounts, Ledger, Verification
from fastlb.model.plan import Plan
from fastlb.model.proxied import ProxyProtocol


class FakeEngine:
    """Remembers what it was told, and tells what the test put into it."""

    name = "fake"

    def __init__(self, config: EngineConfig | None = None) -> None:
        self.config = config
        self.slots: dict[tuple[Address, ...], int] = {}
        self.preferred: dict[int, int] = {}
        self.removed: list[int] = []
        self.ended: list[tuple[int, str]] = []
        self.plans: list[Plan] = []
        self.in_flight: dict[int, int] = {}
        self.events: list[Event] = []
        self.access = b""
        self.access_dropped = 0
        self.clients_refused = 0
        self.listeners: list[tuple[socket.socket, Mode]] = []
        self.proxied: list[bool] = []
        self.proxy_protocols: dict[Address, ProxyProtocol] = {}
        self.shares: list[float] = []
        self.failing = False
        self.stops = 0
        self.drains = 0
        self.drained = asyncio.Event()
        self.wake: Callable[[], None] = lambda: None

    async def start(self, wake: Callable[[], None]) -> None:
        self.wake = wake

    def add_backend(
        self,
        address: Address,
        label: str,
        proxy_protocol: ProxyProtocol = ProxyProtocol.OFF,
        others: Sequence[Address] = (),
    ) -> int:
        self.proxy_protocols[address] = proxy_protocol
        return self.slots.setdefault((address, *others), len(self.slots))

    def prefer_address(self, slot: int, site: int) -> None:
        self.preferred[slot] = site

    def remove_backend(self, slot: int) -> None:
        assert slot not in self.picked, "a plan still names it"
        self.removed.append(slot)

    def publish(self, plan: Plan) -> None:
        self.plans.append(plan)

    def end_exchanges(self, slot: int, who: str) -> None:
        self.ended.append((slot, who))

    def fade_failures(self, share: float) -> bool:
        self.shares.append(share)
        return self.failing

    @property
    def picked(self) -> dict[int, int]:
        """Slots of the current plan with their max_conns."""
        return {entry.slot: entry.max_conns for entry in self.plans[-1].entries} if self.plans else {}

    def open_listener(self, sock: socket.socket, mode: Mode, proxy_protocol: bool = False) -> None:
        assert self.plans, "clients would find nobody"
        self.listeners.append((sock.dup(), mode))
        self.proxied.append(proxy_protocol)

    async def drain(self, timeout_s: float) -> bool:
        self.drains += 1
        try:
            await asyncio.wait_for(self.drained.wait(), timeout_s)
        except asyncio.TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        self.stops += 1
        for sock, _ in self.listeners:
            sock.close()

    def take_events(self) -> list[Event]:
        events, self.events = self.events, []
        return events

    def take_access(self) -> bytes:
        access, self.access = self.access, b""
        return access

    def exchanges_on(self, slot: int) -> int:
        return self.in_flight.get(slot, 0)

    def ledger(self) -> Ledger:
        return Ledger(
            access_dropped=self.access_dropped,
            clients_refused=self.clients_refused,
            backends=tuple(BackendCounts(slot, in_flight=n) for slot, n in self.in_flight.items()),
        )

    def verify(self) -> Verification:
        return Verification(counted={}, walked={}, exchanges=0, connections=0)


class FakeClock:
    """A clock that stands still until the test moves it."""

    def __init__(self) -> None:
        self.time_s = 1000.0

    def now_s(self) -> float:
        return self.time_s

    async def wait(self, event: asyncio.Event, timeout_s: float) -> None:
        until_s = self.time_s + timeout_s
        await until(lambda: event.is_set() or self.time_s >= until_s, every_s=0)
        event.set()

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass, and let everybody who waited for that run."""
        self.time_s += seconds
        await settle()


async def until(condition: Callable[[], object], every_s: float = 0.002) -> None:
    """Wait for a condition; the time-out of the suite ends a wait in vain."""
    while not condition():  # noqa: ASYNC110 - it has no event, and asking leaves no task behind
        await asyncio.sleep(every_s)


async def settle() -> None:
    """Let every task that can run do so, over and over."""
    for _ in range(20):
        await asyncio.sleep(0)


class Lines:
    """An operation log whose lines a test can read."""

    def __init__(self, format: LogFormat = LogFormat.TEXT, level: str = "info") -> None:  # noqa: A002
        self.lines: list[str] = []
        self.log = OperationLog(
            LogConfig(format=format, level=level), lambda line: self.lines.append(line.decode())
        )

    def about(self, *words: str) -> list[str]:
        """The lines that have all of `words` in them."""
        return [line for line in self.lines if all(word in line for word in words)]
