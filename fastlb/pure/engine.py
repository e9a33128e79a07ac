"""The engine: the contract of fastlb.model, on one asyncio loop."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import ClassVar

from fastlb.model.address import Address
from fastlb.model.config import EngineConfig, Mode
from fastlb.model.errors import StartError
from fastlb.model.events import Event
from fastlb.model.handshake import HANDSHAKE_S
from fastlb.model.ledger import Holdings, Ledger, ReadCounts, Verification
from fastlb.model.plan import Plan
from fastlb.model.proxied import ProxyProtocol
from fastlb.pure.exchange import NO_SLOT
from fastlb.pure.listener import Listener
from fastlb.pure.worker import Worker

# Between two looks at an accept queue that waits for room.
_EMPTYING_S = 0.001


class PureEngine:
    """Carries exchanges on the loop that `start` runs on; see fastlb.model.contract.Engine."""

    name: ClassVar[str] = "pure"

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._worker: Worker | None = None
        self._listeners: list[Listener] = []
        self._stopped = False

    async def start(self, wake: Callable[[], None]) -> None:
        """Start the worker, which lives on the running loop."""
        self._here.accounts.wake_with(wake)

    def add_backend(
        self,
        address: Address,
        label: str,
        proxy_protocol: ProxyProtocol = ProxyProtocol.OFF,
        others: Sequence[Address] = (),
    ) -> int:
        """The slot of a backend with these addresses: the one it had if it is still known."""
        return self._here.add_backend(address, label, proxy_protocol, others)

    def prefer_address(self, slot: int, site: int) -> None:
        """Begin the next connect to the backend of `slot` at its address number `site`."""
        self._here.prefer_address(slot, site)

    def remove_backend(self, slot: int) -> None:
        """Forget a backend once its last exchange has ended."""
        self._here.remove_backend(slot)

    def publish(self, plan: Plan) -> None:
        """Use `plan` from the next pick on."""
        self._here.publish(plan)

    def end_exchanges(self, slot: int, who: str) -> None:
        """End what has a connection to the backend of `slot`."""
        self._here.end_exchanges(slot, who)

    def fade_failures(self, share: float) -> bool:
        """Let what failures have added to the loads of backends fade to `share` of it."""
        return self._here.balancer.fade(share)

    def open_listener(self, sock: socket.socket, mode: Mode, proxy_protocol: bool = False) -> None:
        """Accept from a duplicate of a listening socket."""
        try:
            queue = sock.dup()
        except OSError as error:
            place = sock.getsockname()
            raise StartError(f"listen: no accept queue for {place}: {error.strerror}") from error
        listener = Listener(self._here, queue, mode, proxy_protocol)
        self._listeners.append(listener)
        self._here.on_room.append(listener.room_again)

    async def drain(self, timeout_s: float) -> bool:
        """Accept what waits, close idle clients, let open exchanges finish."""
        worker = self._here
        until_s = worker.loop.time() + timeout_s
        worker.draining = True
        for listener in self._listeners:
            listener.deafen()
        await asyncio.sleep(min(HANDSHAKE_S, timeout_s))
        worker.on_room.clear()
        worker.drain()
        while not all(listener.emptied() for listener in self._listeners):
            if worker.loop.time() >= until_s:
                return False
            await asyncio.sleep(_EMPTYING_S)
        await worker.wait_quiet(max(0.0, until_s - worker.loop.time()))
        return not worker.exchanges

    async def stop(self) -> None:
        """End at once: what is still open is reset, with code K. Idempotent."""
        worker = self._worker
        if worker is None or self._stopped:
            return
        self._stopped = True
        listeners, self._listeners = self._listeners, []
        worker.on_room.clear()
        await asyncio.gather(*(listener.stop() for listener in listeners))
        worker.kill()
        await worker.wait_closed()
        worker.accounts.close()

    def take_events(self) -> list[Event]:
        """What happened since the last call, oldest first."""
        return self._worker.accounts.take_events() if self._worker is not None else []

    def take_access(self) -> bytes:
        """Whole access-log lines since the last call, oldest first."""
        return self._worker.accounts.take_lines() if self._worker is not None else b""

    def ledger(self) -> Ledger:
        """The counters now."""
        if self._worker is None:
            return Ledger()
        worker, accounts = self._worker, self._worker.accounts
        bytes_in, bytes_out = worker.bytes_moved()
        return Ledger(
            clients=len(worker.clients),
            queued=worker.balancer.waiting,
            accepted=accounts.accepted,
            clients_refused=accounts.refused,
            exchanges=accounts.exchanges,
            retries=accounts.retries,
            retries_denied=accounts.retries_denied,
            bytes_in=bytes_in,
            bytes_out=bytes_out,
            buffer_bytes=worker.buffers.used_bytes,
            access_dropped=accounts.dropped,
            statuses=tuple(accounts.statuses),
            backends=ReadCounts(worker.counts),
        )

    def exchanges_on(self, slot: int) -> int:
        """Exchanges counted on a backend now; 0 for a slot never seen."""
        return self._worker.balancer.in_flight(slot) if self._worker is not None else 0

    def verify(self) -> Verification:
        """Compare the counters with the live exchanges."""
        if self._worker is None:
            return Verification(counted={}, walked={}, exchanges=0, connections=0)
        worker = self._worker
        worker.balancer.verify()
        walked: dict[int, int] = {}
        for exchange in worker.exchanges:
            if exchange.slot != NO_SLOT:
                walked[exchange.slot] = walked.get(exchange.slot, 0) + 1
        connections = len(worker.clients) + len(worker.roster.connections)
        listening = sum(not listener.closed for listener in self._listeners)
        holdings = Holdings(connections=connections + listening, exchanges=len(worker.exchanges))
        return Verification(
            counted=worker.balancer.counted(),
            walked=walked,
            exchanges=len(worker.exchanges),
            connections=connections,
            taken=holdings,
            found=holdings,
        )

    @property
    def _here(self) -> Worker:
        """The worker, made on first use: it needs the running loop."""
        if self._worker is None:
            self._worker = Worker(asyncio.get_running_loop(), self._config)
        return self._worker
