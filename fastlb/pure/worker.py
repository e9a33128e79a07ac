"""What all connections of one event loop share: the plan, the counts, and who is there."""

import asyncio
import time
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import islice
from operator import itemgetter
from typing import Protocol

from fastlb.model.address import Address, check_addresses
from fastlb.model.config import EngineConfig
from fastlb.model.errors import ConfigError
from fastlb.model.events import EventKind
from fastlb.model.ledger import BackendCounts
from fastlb.model.limits import BACKENDS_MAX, check_label
from fastlb.model.plan import Plan
from fastlb.model.proxied import ProxyProtocol
from fastlb.pure.accounting import Accounts, Record
from fastlb.pure.balancer import Balancer
from fastlb.pure.buffers import Buffers
from fastlb.pure.field_names import FieldNames
from fastlb.pure.peer import Peer, counted_as
from fastlb.pure.retry_budget import RetryBudget
from fastlb.pure.upstream import Backend, Roster


class Client(Protocol):
    """A client connection, as the worker sees it."""

    peer: Peer

    def drain(self) -> None:
        """Close as soon as no exchange is open."""

    def kill(self) -> None:
        """Reset now."""


class IdleClient(Protocol):
    """A client that waits for its first or next request, as the worker sees it."""

    def give_way(self) -> bool:
        """Close for somebody else. False if its request is here already."""


class Counted(Protocol):
    """An exchange, as the worker sees it: the slot it holds a unit of, or -1, and its bytes so far."""

    slot: int
    record: Record

    def backend_out(self, who: str) -> None:
        """Its backend must not be used any longer: end, with `who` and the phase as code."""


# An idle client between requests may have to give way to another after so long; one that has sent nothing
# yet has the time that it would have for a head.
_KEPT_LEAST_S = 1.0
# Looked at clients whose next request may be here already.
_IDLE_LOOKS = 16


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Worker:
    """The one worker of the pure engine; everything in it runs in the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, config: EngineConfig) -> None:
        self.loop = loop
        self.config = config
        self.timeouts = config.timeouts
        self.limits = config.limits
        self.names = FieldNames(config.fields)
        self.via = config.via.encode("latin-1")
        self.accounts = Accounts(loop, config.access_format)
        self.balancer = Balancer(config.seed)
        self._retry_budget = RetryBudget(config.limits.retry_percent, _now_ms())
        self.plan = Plan()
        self.backends: dict[int, Backend] = {}
        self._by_addresses: dict[tuple[Address, ...], Backend] = {}
        self._free_slots: list[int] = []  # a heap of those that somebody had, lowest first
        self.clients: set[Client] = set()
        self._of_client: dict[bytes, int] = {}  # connections, where they are limited
        # Since when they have been idle, the longest idle one first: before a first request, and between two.
        self.fresh: dict[IdleClient, float] = {}
        self.kept: dict[IdleClient, float] = {}
        self.exchanges: set[Counted] = set()
        self.buffers = Buffers(
            config.limits.buffer_bytes, lambda: self.accounts.event(EventKind.BUFFERS_FULL)
        )
        self.roster = Roster(self.buffers)
        self.draining = False
        self.on_room: list[Callable[[], None]] = []  # told when a client has left
        self._quiet: asyncio.Future[None] = loop.create_future()  # done: nothing is open

    # --- backends ---------------------------------------------------------------------------

    def add_backend(
        self, address: Address, label: str, proxy_protocol: ProxyProtocol, others: Sequence[Address] = ()
    ) -> int:
        """See Engine.add_backend."""
        check_label(label)
        addresses = check_addresses(address, others)
        known = self._by_addresses.get(addresses)
        if known is not None:
            known.removed = False
            known.label = label
            known.begin_with(proxy_protocol)
            return known.slot
        if len(self.backends) >= BACKENDS_MAX:
            raise ConfigError("backend", str(address), f"one of at most {BACKENDS_MAX}")
        slot = heappop(self._free_slots) if self._free_slots else len(self.backends)
        self.accounts.disown(slot)
        backend = Backend(self.loop, slot, addresses, label, self.timeouts.upstream_idle_s)
        backend.begin_with(proxy_protocol)
        self.backends[slot] = self._by_addresses[addresses] = backend
        return slot

    def prefer_address(self, slot: int, site: int) -> None:
        """See Engine.prefer_address."""
        if slot not in self.backends or site >= len(self.backends[slot].sites):
            raise ConfigError("site", site, "that of an address of the backend")
        self.backends[slot].preferred = site

    def remove_backend(self, slot: int) -> None:
        """See Engine.remove_backend."""
        backend = self.backends.get(slot)
        if backend is not None:
            backend.removed = True
            backend.pooling = False
            backend.close_idle()
            self._forget_if_unused(backend)

    def end_exchanges(self, slot: int, who: str) -> None:
        """See Engine.end_exchanges."""
        for exchange in tuple(self.exchanges):
            if exchange.slot == slot:
                exchange.backend_out(who)

    def publish(self, plan: Plan) -> None:
        """See Engine.publish."""
        named = {entry.slot: entry for entry in (*plan.entries, *plan.backups)}
        for slot in named:
            if slot not in self.backends:
                raise ConfigError("plan.slot", slot, "that of a backend")
        self.plan = plan
        for slot, backend in self.backends.items():
            backend.pooling = slot in named
            if slot in named:
                backend.limit(named[slot].conns_max)
            else:
                backend.close_idle()
        self.balancer.publish(plan)

    def counts(self) -> tuple[BackendCounts, ...]:
        """The counters of every backend now, in the order of their slots."""
        return tuple(
            BackendCounts(
                slot=slot,
                in_flight=self.balancer.in_flight(slot),
                picked=backend.picked,
                connects=backend.connects,
                failures=backend.failures,
                bytes_in=backend.bytes_in,
                bytes_out=backend.bytes_out,
            )
            for slot, backend in sorted(self.backends.items())
        )

    def release(self, slot: int) -> None:
        """Give one unit back; a removed backend is forgotten with its last one."""
        self.balancer.release(slot)
        backend = self.backends[slot]
        if backend.removed:
            self._forget_if_unused(backend)

    def let_go(self, slot: int) -> None:
        """An exchange that has met the backend, and given its unit back before, is over."""
        backend = self.backends[slot]
        backend.met_by -= 1
        if backend.removed:
            self._forget_if_unused(backend)

    def failed(self, backend: Backend, kind: EventKind, errno: int) -> None:
        """Write down that a backend failed."""
        backend.failures += 1
        backend.failed_in_a_row += 1
        self.balancer.blame(backend.slot)
        self.accounts.event(kind, backend.slot, errno, backend.failed_in_a_row)

    def retry_allowed(self) -> bool:
        """Ask for one retry; it is counted as denied if the budget is spent."""
        if self._retry_budget.spend(_now_ms(), self.accounts.exchanges + len(self.exchanges)):
            return True
        self.accounts.retries_denied += 1
        return False

    def _forget_if_unused(self, backend: Backend) -> None:
        if not self.balancer.in_flight(backend.slot) and not backend.met_by:
            backend.close()
            del self.backends[backend.slot], self._by_addresses[backend.addresses]
            heappush(self._free_slots, backend.slot)
            self.balancer.forget(backend.slot)

    # --- connections ------------------------------------------------------------------------

    def client_lost(self, client: Client) -> None:
        """A client connection is closed."""
        if client in self.clients:
            self.clients.discard(client)
            self._leave(client.peer)
        for tell in self.on_room:
            tell()
        self._tell_if_quiet()

    def enter(self, peer: Peer) -> bool:
        """Count one more connection of a client. False if it has as many as it may."""
        limit = self.limits.client_connections
        client = counted_as(peer) if limit else b""
        if not client:
            return True
        count = self._of_client.get(client, 0)
        if count >= limit:
            self.accounts.refused += 1
            return False
        self._of_client[client] = count + 1
        return True

    def _leave(self, peer: Peer) -> None:
        client = counted_as(peer) if self._of_client else b""
        if client:
            self._of_client[client] -= 1
            if not self._of_client[client]:
                del self._of_client[client]

    def make_room(self) -> None:
        """Too many are connected: the client that has been idle for longest gives way."""
        now_s = self.loop.time()
        found: list[tuple[float, IdleClient]] = []
        for idle, least_s in ((self.fresh, self.timeouts.header_s), (self.kept, _KEPT_LEAST_S)):
            for client, since_s in islice(idle.items(), _IDLE_LOOKS):
                if now_s - since_s >= least_s:
                    found.append((since_s, client))
        for _, client in sorted(found, key=itemgetter(0)):
            if client.give_way():
                return

    def not_idle(self, client: IdleClient) -> None:
        """A client has a request, or is going."""
        self.fresh.pop(client, None)
        self.kept.pop(client, None)

    def exchange_ended(self) -> None:
        """An exchange is over."""
        self._tell_if_quiet()

    def bytes_moved(self) -> tuple[int, int]:
        """Bytes from and to clients so far, those of open exchanges included. Cost: O(open exchanges)."""
        records = [exchange.record for exchange in self.exchanges]
        return (
            self.accounts.bytes_in + sum(record.bytes_in for record in records),
            self.accounts.bytes_out + sum(record.bytes_out for record in records),
        )

    async def wait_quiet(self, timeout_s: float) -> None:
        """Wait until no client connection and no exchange is left, at most `timeout_s`."""
        if self._quiet.done():
            self._quiet = self.loop.create_future()
        self._tell_if_quiet()
        # Not wait_for(): before Python 3.12 it forgets a cancellation that meets the result.
        await asyncio.wait({self._quiet}, timeout=timeout_s)

    async def wait_closed(self) -> None:
        """Wait for the loop to close every socket, which it does in its next turns."""
        if self.roster.dials:
            await asyncio.wait(self.roster.dials)
        while self.clients or self.roster.connections:  # noqa: ASYNC110 - a turn of the loop is the event
            await asyncio.sleep(0)

    def drain(self) -> None:
        """Close idle clients; the others follow after their exchange."""
        for client in tuple(self.clients):
            client.drain()

    def kill(self) -> None:
        """Reset every client, and with them their exchanges; close every pool."""
        self.draining = True
        self.balancer.publish(Plan())  # or the first to end would make way for one that waits
        for client in tuple(self.clients):
            client.kill()
        for backend in self.backends.values():
            backend.close()
        for connection in tuple(self.roster.connections):
            connection.abort()

    def _tell_if_quiet(self) -> None:
        if not self.clients and not self.exchanges and not self._quiet.done():
            self._quiet.set_result(None)
