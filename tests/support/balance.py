"""One running engine with a listener and backends, and what a test asks of it."""

import json
import socket
from collections.abc import Sequence
from dataclasses import replace

from fastlb.model.address import Address
from fastlb.model.config import EjectErrors, EngineConfig, LogFormat, Mode, TimeoutConfig
from fastlb.model.events import Event, EventKind
from fastlb.model.fields import FieldConfig
from fastlb.model.ledger import Ledger, Verification
from fastlb.model.limits import LimitConfig
from fastlb.model.plan import Pick, Plan, PlanEntry
from fastlb.model.proxied import ProxyProtocol, parse_trusted_proxies
from support.backend import Backend
from support.engines import EngineRooms
from support.looping import LoopThread
from support.waiting import wait_until
from support.wire import Wire

# Longer than a test waits for anything, so that no time-out stands in for what a test is about.
PATIENT = TimeoutConfig(
    connect_s=15.0,
    header_s=15.0,
    idle_s=15.0,
    send_s=15.0,
    tunnel_s=15.0,
    fin_s=15.0,
    upstream_idle_s=15.0,
    queue_s=15.0,
)

# Each byte of a request goes to its backend as it comes, for tests that hold one back half-way.
STREAMED = LimitConfig(request_buffer_bytes=0)


def listen_socket(family: socket.AddressFamily = socket.AF_INET, *, spread: bool = False) -> socket.socket:
    """A listening socket as the supervisor makes it: non-blocking, port chosen by the kernel.

    `spread`: each worker has an accept queue of its own, and the kernel spreads clients over them.
    """
    sock = socket.socket(family)
    if spread:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
    sock.listen(4096)
    sock.setblocking(False)
    return sock


def address_of(backend: Backend | Address) -> Address:
    """Where it listens."""
    return backend.address if isinstance(backend, Backend) else backend


class Balance:
    """An engine between clients that the test drives and backends that it scripts.

    `backends` are scripted backends or addresses, or tuples of them for one backend with several
    addresses; the slot of each is in `slots`, in order.
    `proxied`: the listener wants PROXY headers; `proxy_protocol`: the backends do.
    """

    def __init__(
        self,
        rooms: EngineRooms,
        loop: LoopThread,
        backends: Sequence[Backend | Address | tuple[Backend | Address, ...]],
        *,
        mode: Mode = Mode.HTTP,
        weights: Sequence[int] = (),
        max_conns: Sequence[int] = (),
        pick: Pick = Pick.LEAST_LOADED,
        timeouts: TimeoutConfig = PATIENT,
        limits: LimitConfig | None = None,
        fields: FieldConfig | None = None,
        workers: int = 1,
        log_format: LogFormat | None = LogFormat.JSON,
        via: str = "fastlb",
        proxied: bool = False,
        trusted: Sequence[str] = (),
        proxy_protocol: ProxyProtocol = ProxyProtocol.OFF,
        eject_errors: EjectErrors = EjectErrors.OFF,
    ) -> None:
        self._loop = loop
        self._lines: list[bytes] = []
        self._events: list[Event] = []
        self.clients: list[Wire] = []
        self.wakes = 0
        self.stopped = False
        # The default would be derived from the fd limit by the supervisor.
        limits = limits or LimitConfig(connections=0)
        self.engine = rooms.Engine(
            EngineConfig(
                workers=workers,
                timeouts=timeouts,
                limits=limits,
                fields=fields or FieldConfig(),
                access_format=log_format,
                via=via,
                trusted_proxies=parse_trusted_proxies(trusted),
                eject_errors=eject_errors,
                seed=1,
            )
        )
        loop.run(self.engine.start(self._wake))
        self.slots = []
        for backend in backends:
            first, *others = map(address_of, backend if isinstance(backend, tuple) else (backend,))
            self.slots.append(
                loop.call(
                    lambda first=first, others=others: self.engine.add_backend(
                        first, str(first), proxy_protocol, others
                    )
                )
            )
        self.plan = Plan(
            pick=pick,
            entries=tuple(
                PlanEntry(
                    slot,
                    weights[i] if weights else 1,
                    max_conns=max_conns[i] if max_conns else 0,
                    conns_max=max_conns[i] if max_conns else 0,
                )
                for i, slot in enumerate(self.slots)
            ),
            table=() if pick is Pick.LEAST_LOADED else tuple(self.slots),
        )
        self.publish(self.plan)
        self.port = self.open_listener(mode, proxied=proxied)

    def _wake(self) -> None:
        self.wakes += 1

    def open_listener(
        self,
        mode: Mode,
        *,
        proxied: bool = False,
        family: socket.AddressFamily = socket.AF_INET,
        send_buffer_bytes: int = 0,
        spread: bool = False,
    ) -> int:
        """Open one more listener and return its port. Its connections have a send buffer of that size."""
        with listen_socket(family, spread=spread) as sock:
            if send_buffer_bytes:  # what accept() returns has it too, on Linux
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
            self._loop.call(lambda: self.engine.open_listener(sock, mode, proxied))
            return int(sock.getsockname()[1])

    def open_unix_listener(self, mode: Mode, path: str, *, proxied: bool = False) -> None:
        """Open a listener at `path`."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)
            sock.listen(64)
            sock.setblocking(False)
            self._loop.call(lambda: self.engine.open_listener(sock, mode, proxied))

    def publish(self, plan: Plan) -> None:
        """Give the engine a new plan."""
        self._loop.call(lambda: self.engine.publish(plan))

    def keep_only(self, *indexes: int, **changes: object) -> None:
        """Publish the first plan again with only these backends in it."""
        entries = tuple(self.plan.entries[index] for index in indexes)
        self.publish(replace(self.plan, entries=entries, **changes))  # type: ignore[arg-type]

    def adopt(self, sock: socket.socket) -> Wire:
        """A client connection that the test has made; closed at its end."""
        wire = Wire(sock)
        self.clients.append(wire)
        return wire

    def connect(self, port: int = 0, *, receive_buffer_bytes: int = 0) -> Wire:
        """A new client connection; closed at the end of the test."""
        sock = socket.socket()
        if receive_buffer_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        sock.connect(("127.0.0.1", port or self.port))
        return self.adopt(sock)

    def fade(self, share: float) -> bool:
        """Let failures fade, as the control plane does all the time. True while some are left."""
        return self._loop.call(lambda: self.engine.fade_failures(share))

    def ledger(self) -> Ledger:
        """The counters now."""
        return self._loop.call(self.engine.ledger)

    def verify(self) -> Verification:
        """The counters beside the objects."""
        return self._loop.call(self.engine.verify)

    def in_flight(self, index: int = 0) -> int:
        """Exchanges counted on the backend of that index."""
        slot = self.slots[index]
        return next((b.in_flight for b in self.ledger().backends if b.slot == slot), 0)

    def picked(self, index: int = 0) -> int:
        """How often the backend of that index was picked."""
        slot = self.slots[index]
        return next((b.picked for b in self.ledger().backends if b.slot == slot), 0)

    def wait_in_flight(self, count: int, index: int = 0) -> None:
        """Wait until that many exchanges are counted on a backend."""
        wait_until(lambda: self.in_flight(index) == count, f"{count} in flight on backend {index}")

    def wait_idle(self) -> None:
        """Wait until no exchange is open anywhere."""
        wait_until(lambda: self.verify().exchanges == 0, "no open exchange")
        wait_until(lambda: all(b.in_flight == 0 for b in self.ledger().backends), "nothing in flight")

    def _take_lines(self) -> list[bytes]:
        taken = self._loop.call(self.engine.take_access)
        assert not taken or taken.endswith(b"\n"), f"half a line: {taken!r}"
        self._lines += taken.splitlines()
        return self._lines

    def raw_lines(self, count: int) -> list[bytes]:
        """The first `count` access lines, waited for."""
        wait_until(lambda: len(self._take_lines()) >= count, f"{count} access lines")
        return self._lines[:count]

    def lines(self, count: int = 1) -> list[dict[str, object]]:
        """The access lines, waited for; there must be exactly `count`."""
        found = [json.loads(line) for line in self.raw_lines(count)]
        assert len(self._take_lines()) == count, f"more lines than {count}: {self._lines}"
        return found

    def line(self) -> dict[str, object]:
        """The one access line there is."""
        return self.lines(1)[0]

    def events(self) -> list[Event]:
        """Every event so far."""
        self._events += self._loop.call(self.engine.take_events)
        return self._events

    def wait_event(self, kind: EventKind, count: int = 1) -> list[Event]:
        """The events of that kind, waited for."""
        wait_until(lambda: sum(e.kind is kind for e in self.events()) >= count, f"{count} x {kind.value}")
        return [event for event in self._events if event.kind is kind]

    def add(self, backend: Backend | Address, label: str = "", *others: Address) -> int:
        """Add a backend, or label it anew, and return its slot; the plan is not changed."""
        address = address_of(backend)
        return self._loop.call(lambda: self.engine.add_backend(address, label or str(address), others=others))

    def prefer(self, slot: int, site: int) -> None:
        """Say that a check found this address of a backend."""
        self._loop.call(lambda: self.engine.prefer_address(slot, site))

    def remove(self, slot: int) -> None:
        """Remove a backend that the plan does not name any more."""
        self._loop.call(lambda: self.engine.remove_backend(slot))

    def end_exchanges(self, slot: int, who: str = "D") -> None:
        """End what has a connection to a backend."""
        self._loop.call(lambda: self.engine.end_exchanges(slot, who))

    def drain(self, timeout_s: float) -> bool:
        """Stop accepting and wait for open exchanges."""
        return self._loop.run(self.engine.drain(timeout_s))

    def stop(self) -> None:
        """End the engine at once."""
        self.stopped = True
        self._loop.run(self.engine.stop())

    def close_clients(self) -> None:
        """Close every client connection of the test."""
        for client in self.clients:
            client.close()

    def finish(self) -> None:
        """What holds at the end of every test: nothing open, counts exact, engine stopped."""
        self.close_clients()
        try:
            if not self.stopped:
                self.wait_idle()
                seen = self.verify()
                assert seen.exact, f"counters and objects differ: {seen}"
                assert not seen.counted
        finally:
            self.stop()
