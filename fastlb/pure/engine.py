"""The engine: the contract of fastlb.model, on one asyncio loop."""

import asyncio
import socket
from collections.abc import Callable
from typing import ClassVar

from fastlb.model.address import Address
from fastlb.model.config import EngineConfig, Mode
from fastlb.model.events import Event
from fastlb.model.ledger import BackendCounts, Holdings, Ledger, Verification
from fastlb.model.plan import Plan
from fastlb.pure.exchange import NO_SLOT
from fastlb.pure.listener import Listener
from fastlb.pure.worker import Worker


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

    def add_backend(self, address: Address, label: str) -> int:
        """The slot of a numeric or UNIX address: the one it had if it is still known."""
        return self._here.add_backend(address, label)

    def remove_backend(self, slot: int) -> None:
        """Forget a backend once its last exchange has ended."""
        self._here.remove_backend(slot)

    def publish(self, plan: Plan) -> None:
        """Use `plan` from the next pick on."""
        self._here.publish(plan)

    def open_listener(self, sock: socket.socket, mode: Mode) -> None:
        """Accept from a duplicate of a listening socket."""
        listener = Listener(self._here, sock.dup(), mode)
        self._listeners.append(listener)
        self._here.on_room.append(listener.room_again)

    async def drain(self, timeout_s: float) -> bool:
        """Accept what waits, close idle clients, let open exchanges finish."""
        listeners, self._listeners = self._listeners, []
        self._here.on_room.clear()
        await asyncio.gather(*(listener.drain() for listener in listeners))
        self._here.drain()
        await self._here.wait_quiet(timeout_s)
        return not self._here.exchanges

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
            exchanges=accounts.exchanges,
            retries=accounts.retries,
            bytes_in=bytes_in,
            bytes_out=bytes_out,
            access_dropped=accounts.dropped,
            statuses=tuple(accounts.statuses),
            backends=tuple(
                BackendCounts(
                    slot=slot,
                    in_flight=worker.balancer.in_flight(slot),
                    picked=backend.picked,
                    connects=backend.connects,
                    failures=backend.failures,
                    bytes_in=backend.bytes_in,
                    bytes_out=backend.bytes_out,
                )
                for slot, backend in sorted(worker.backends.items())
            ),
        )

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
        holdings = Holdings(connections=connections + len(self._listeners), exchanges=len(worker.exchanges))
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
