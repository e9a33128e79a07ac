"""What every engine must do: the seam between the control plane and the data plane.

The control plane calls an engine from the event loop's thread only. The engine never raises out
of the data path; what happened there is read with `take_events`, `take_access` and `ledger`.
"""

import socket
from collections.abc import Callable, Collection, Sequence
from typing import ClassVar, Protocol

from fastlb.model.address import Address
from fastlb.model.config import EngineConfig, Mode
from fastlb.model.events import Event
from fastlb.model.ledger import Ledger, Verification
from fastlb.model.plan import Plan
from fastlb.model.proxied import ProxyProtocol


class Balancer(Protocol):
    """Picks backends and counts exchanges; shared by the workers of its engine.

    Slots are small integers. A slot that is in no plan keeps its count until it is released.
    """

    def publish(self, plan: Plan) -> None:
        """Use `plan` from the next pick on. Counts are kept. O(n log n)."""

    def acquire(self, tried: Collection[int] = ()) -> int:
        """Pick a backend that is not in `tried` and count one more exchange on it.

        Returns: the slot.
        Order:   idle backends first, whatever their weight; then (n + phantom + 1) / weight,
                 compared by cross-multiplication. The phantom is what `blame` has added.
        Ties:    the backend picked longest ago, identically in both engines; never picked before
                 picked, then the lower slot.
        Raises:  NoBackendError if every backend of the plan is full or tried.
        """

    def release(self, slot: int) -> None:
        """Give one unit back. Raises ValueError if nothing was in flight."""

    def blame(self, slot: int) -> None:
        """A failure: let a backend look busier by one exchange, until that has faded. O(log n).

        It counts in the order of LEAST_LOADED and in nothing else, and keeps nobody out.
        """

    def fade(self, share: float) -> bool:
        """Let what failures have added fade to `share` of it, 0 to 1. Returns: True while some is left."""

    def in_flight(self, slot: int) -> int:
        """Exchanges counted on `slot` now; 0 for a slot never seen."""

    def verify(self) -> None:
        """Raise AssertionError if the inner order is broken. O(n)."""


class LeastLoaded(Balancer, Protocol):
    """A balancer over slots 0..n-1 with a plan of its own; for tests, benchmarks and programs.

    Thread-safe.
    """

    def __init__(self, weights: Collection[int], max_conns: Collection[int] = ()) -> None: ...

    def drain(self, slot: int) -> None:
        """Pick it no more; what is in flight stays counted. O(log n)."""

    def restore(self, slot: int) -> None:
        """Pick it again. O(log n)."""

    def set_weight(self, slot: int, weight: int) -> None:
        """Change its share; 0 drains it. O(log n)."""

    def churn(self, rounds: int) -> None:
        """Acquire and release `rounds` times in one loop; the native one without the GIL."""


class Engine(Protocol):
    """Accepts connections and carries exchanges to backends.

    Life: made, `start`, any number of `open_listener`, `drain`, `stop`. `stop` may come at any
    time, alone, and twice; after it no thread, descriptor or task of the engine is left.
    """

    name: ClassVar[str]

    def __init__(self, config: EngineConfig) -> None: ...

    async def start(self, wake: Callable[[], None]) -> None:
        """Start the workers. `wake` is called in the loop's thread when there is something to
        take; it may be called late by up to 100 ms and for nothing."""

    def add_backend(
        self,
        address: Address,
        label: str,
        proxy_protocol: ProxyProtocol = ProxyProtocol.OFF,
        others: Sequence[Address] = (),
    ) -> int:
        """The slot of a backend with a numeric or UNIX address: the one it had if it is still known.

        `others`: further addresses of the same backend. A connect begins at the one that worked last, the
        first one at first. Refused there it goes on to the next within the same try (RFC 1123 2.3); after a
        time-out the next try begins there. Other addresses, or another order of them, are another backend.
        `proxy_protocol`: each connection to it begins with a header that names the client, so it
        is closed after its exchange. The slot of a removed address is given to another one once
        nothing of it is left: no exchange that has met it, no connection, and no event or line that
        was not taken. Its counters begin anew.
        Raises: ConfigError if an address has a host name or an interface that is not there, the label more
        than LABEL_MAX_BYTES, or there are BACKENDS_MAX already.
        """

    def prefer_address(self, slot: int, site: int) -> None:
        """Begin the next connect at address number `site` of a backend, counted from 0: a check found
        that it works. Raises: ConfigError if there is none."""

    def remove_backend(self, slot: int) -> None:
        """Forget a backend once its last exchange has ended; its idle connections close now.
        The current plan must not name it any more."""

    def publish(self, plan: Plan) -> None:
        """Use `plan` from the next pick on, in every worker. Pooled idle connections of backends
        that are not in it are closed. Raises: ConfigError, and nothing changes, for an unknown slot."""

    def end_exchanges(self, slot: int, who: str) -> None:
        """End the exchanges that have a connection to a backend, with `who` and the phase as code.

        Those that have no response yet are answered with 502, the others are reset. What is
        still connecting goes on, to another backend if need be. Unknown slots are ignored.
        """

    def fade_failures(self, share: float) -> bool:
        """Let what failures have added to the loads of backends fade to `share` of it.

        Returns: True while some is left. Cost: O(b log n) for b backends that have failed of late.
        """

    def open_listener(self, sock: socket.socket, mode: Mode, proxy_protocol: bool = False) -> None:
        """Accept from a listening, non-blocking socket. The engine takes a duplicate of it and
        the caller may close its own. If the socket has SO_REUSEPORT, set after bind() and before
        listen(), every worker gets an accept queue of its own and so its share of the clients.
        `proxy_protocol`: nothing is done with a connection before its PROXY header is complete.

        Raises: StartError without descriptors or memory; stop the engine then.
        """

    async def drain(self, timeout_s: float) -> bool:
        """Stop accepting, close idle clients, let open exchanges finish.

        Returns: True if all had ended within `timeout_s`; the others are left for `stop`.
        Who has a connection before the listener closes is served: new ones are held off first
        (see model.handshake), then the accept queue is emptied, and only then it closes. The
        holding off acts on the socket itself, so nobody else may accept from a duplicate of it.
        """

    async def stop(self) -> None:
        """End at once: what is still open is reset, with code K. Idempotent."""

    def take_events(self) -> list[Event]:
        """What happened since the last call, oldest first."""

    def take_access(self) -> bytes:
        """Whole access-log lines since the last call, each ended by a newline, oldest first."""

    def exchanges_on(self, slot: int) -> int:
        """Exchanges counted on a backend now; 0 for a slot never seen. O(1), without a lock."""

    def ledger(self) -> Ledger:
        """The counters now. Workers are not stopped, so sums may be off by what is under way."""

    def verify(self) -> Verification:
        """Stop the workers for an instant and compare the counters with the live objects."""
