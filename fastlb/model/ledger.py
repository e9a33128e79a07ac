"""The counters, as read: written per worker by the engines and folded here.

The access-log record and its termination code are described here too, because both engines
write the same line.

Termination codes: two characters, who ended the exchange and in which phase.
who:   C client abort, c client time-out, S server abort or refusal, s server time-out,
       P policy or limit, L answered locally, R resource exhausted, I internal, D the backend
       went down, K killed by shutdown or by the end of its backend's time to drain, - normal.
phase: R waiting for the request, Q queued, C connecting, H waiting for the response head,
       D data, L last data to the client after the server finished, - done.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

# The fields of one access-log line, in order, with their meaning. Missing values are null in
# JSON and - in text. All `_us` are microseconds, -1 if the phase was not reached.
ACCESS_FIELDS = (
    ("time", "UTC start of the exchange, RFC 3339 with microseconds"),
    ("client", "address and port; unix for a UNIX socket"),
    ("method", "request method; null in TCP mode"),
    ("target", "request target as received, cut after 255 bytes; null in TCP mode"),
    ("status", "status sent to the client; null if none was (499 if the client left first)"),
    ("backend", "label of the last backend tried; null if none was picked"),
    ("bytes_in", "bytes received from the client for this exchange, head and body"),
    ("bytes_out", "bytes sent to the client for this exchange, head and body"),
    ("queue_us", "waiting for a backend below its max_conns"),
    ("connect_us", "until a connection to the backend was there; 0 for a pooled one"),
    ("first_byte_us", "from the pick to the first byte of the response"),
    ("total_us", "from the first byte of the request (TCP: accept) to the end"),
    ("tries", "backends or connections tried"),
    ("tried", "labels of the backends tried, in order"),
    ("in_flight", "exchanges counted on the backend at pick time, this one included"),
    ("code", "termination code"),
)
ACCESS_TARGET_MAX_BYTES = 255


@dataclass(frozen=True, slots=True)
class BackendCounts:
    """Counters of one backend, all workers together. All but `in_flight` only ever grow; those of
    another address that gets the slot of a removed one begin with 0."""

    slot: int
    in_flight: int = 0
    picked: int = 0
    connects: int = 0
    failures: int = 0
    bytes_in: int = 0  # received from the backend
    bytes_out: int = 0  # handed to its connections, as it gets them: rewritten heads, PROXY headers


class ReadCounts(Sequence[BackendCounts]):
    """The counters of all backends, read at the first look at them, and then kept.

    Whoever wants the totals only does not pay for ten thousand backends.
    """

    def __init__(self, read: Callable[[], tuple[BackendCounts, ...]]) -> None:
        self._read = read
        self._kept: tuple[BackendCounts, ...] | None = None

    def _all(self) -> tuple[BackendCounts, ...]:
        if self._kept is None:
            self._kept = self._read()
        return self._kept

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._all() == tuple(other)

    def __hash__(self) -> int:
        return hash(self._all())

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return tuple, (self._all(),)  # without the engine, for another process

    def __len__(self) -> int:
        return len(self._all())

    @overload
    def __getitem__(self, index: int) -> BackendCounts: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[BackendCounts, ...]: ...

    def __getitem__(self, index: int | slice) -> BackendCounts | tuple[BackendCounts, ...]:
        return self._all()[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Counters of one engine, all workers together.

    `clients`, `queued` and `buffer_bytes` are gauges; the others only ever grow. `buffer_bytes`:
    memory for bytes in flight, free buffers of the native engine included. `statuses[n]` counts answers of
    class n xx (index 0: exchanges that ended without one; 5: also those above 599, see RFC 9110 15).
    `backends`, in the order of their slots, are read when they are first looked at; the others at once, at a
    cost that does not depend on how many backends there are.
    """

    clients: int = 0
    queued: int = 0
    accepted: int = 0
    clients_refused: int = 0  # accepted, but their address had as many as it may
    exchanges: int = 0
    retries: int = 0
    retries_denied: int = 0  # the budget was spent
    bytes_in: int = 0  # from clients
    bytes_out: int = 0  # to clients
    buffer_bytes: int = 0
    access_dropped: int = 0
    statuses: tuple[int, ...] = (0, 0, 0, 0, 0, 0)
    backends: Sequence[BackendCounts] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What is in use, all workers together; what waits in a pool to be used again is left out.

    `connections` are sockets, listening and pooled ones included. The pure engine has neither
    buffers nor pipes.
    """

    connections: int = 0
    exchanges: int = 0
    buffers: int = 0
    pipes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The counters beside a walk over the live objects, taken at one instant.

    `counted` and `walked`: exchanges in flight by slot, zeros left out. `connections` are the
    sockets open on either side, pooled ones included. `taken` is what was taken and not given
    back; `found` is what the live objects own; what is in the one and not in the other is lost.
    """

    counted: dict[int, int]
    walked: dict[int, int]
    exchanges: int
    connections: int
    taken: Holdings = Holdings()
    found: Holdings = Holdings()

    @property
    def exact(self) -> bool:
        """True if the counters agree with the objects."""
        return self.counted == self.walked and self.taken == self.found
