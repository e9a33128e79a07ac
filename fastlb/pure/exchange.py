"""The life of one exchange, whatever it carries: pick, queue, connect, fail over, end.

The unit of the balancer's count belongs to the exchange. It is taken in `_take` and given back
in `give_back`, which every way out passes through.
"""

import errno
import time
from abc import ABC, abstractmethod

from fastlb.model.errors import NoBackendError
from fastlb.model.events import EventKind
from fastlb.model.proxied import Ends
from fastlb.pure.accounting import Record
from fastlb.pure.timers import Deadline
from fastlb.pure.upstream import LOCAL_ERRNOS, Backend, Dial, UpstreamConnection
from fastlb.pure.worker import Worker

NO_SLOT = -1


class Exchange(ABC):
    """What HTTP and TCP exchanges have in common.

    The subclass connects (`_reach`), goes on when a connection is there (`_connected`), and tells
    the client when none can be had (`_unavailable`).
    """

    __slots__ = (
        *("_dial", "_queue_deadline", "_ticket"),
        *("backend", "ended", "record", "slot", "tried", "worker"),
    )

    def __init__(self, worker: Worker, record: Record) -> None:
        self.worker = worker
        self.record = record
        self.slot = NO_SLOT  # the unit it holds
        self.backend: Backend | None = None  # the last one picked
        self.tried: list[int] = []
        self.ended = False
        self._ticket = 0
        self._queue_deadline: Deadline | None = None
        self._dial: Dial | None = None
        worker.exchanges.add(self)

    # --- what the subclass says -------------------------------------------------------------

    def _reach(self, backend: Backend) -> None:
        """Get a connection to the backend that was picked."""
        self._connect(backend)

    @abstractmethod
    def _connected(self, upstream: UpstreamConnection) -> None:
        """A connection is there."""

    @abstractmethod
    def _unavailable(self, status: int, code: str) -> None:
        """No backend can be had: the status for an HTTP client, and the termination code."""

    @abstractmethod
    def _client_ends(self) -> Ends | None:
        """The ends of the client's connection."""

    @abstractmethod
    def backend_out(self, who: str) -> None:
        """Its backend must not be used any longer: end what has a connection to it."""

    # --- pick and queue ---------------------------------------------------------------------

    def pick(self) -> None:
        """Take a unit of a backend, or wait in line for one."""
        balancer = self.worker.balancer
        if self.tried or not balancer.waiting:  # only a further try goes past the queue
            try:
                slot = balancer.acquire(self.tried)
            except NoBackendError:
                pass
            else:
                self._take(slot)
                return
        if not balancer.could_serve(self.tried):
            self._unavailable(503, "SC")
        elif balancer.waiting >= self.worker.limits.queue_depth:
            self._unavailable(503, "PQ")
        else:
            self.record.queued_ns = time.monotonic_ns()
            self._queue_deadline = Deadline(self.worker.loop, self._queue_expired)
            self._queue_deadline.set(self.worker.timeouts.queue_s)
            self._ticket = balancer.wait(self.tried, self._granted)

    def _granted(self, slot: int) -> None:
        self._leave_queue()
        self._take(slot)

    def _queue_expired(self) -> None:
        self._leave_queue()
        self._unavailable(503, "sQ")

    def _leave_queue(self) -> None:
        self.worker.balancer.leave(self._ticket)
        self._ticket = 0
        assert self._queue_deadline is not None
        self._queue_deadline.cancel()
        waited_ns = time.monotonic_ns() - self.record.queued_ns
        self.record.waited_ns = max(self.record.waited_ns, 0) + waited_ns

    def _take(self, slot: int) -> None:
        record = self.record
        backend = self.worker.backends[slot]
        self.slot = slot
        self.backend = backend
        backend.picked += 1
        record.picked_ns = time.monotonic_ns()
        record.waited_ns = max(record.waited_ns, 0)
        record.backend = backend.label
        record.tried.append(backend.label)
        record.in_flight = self.worker.balancer.in_flight(slot)
        self._reach(backend)

    def give_back(self) -> None:
        """Give the unit back, if one is held."""
        if self.slot != NO_SLOT:
            slot, self.slot = self.slot, NO_SLOT
            self.worker.release(slot)

    # --- connect ----------------------------------------------------------------------------

    def _connect(self, backend: Backend) -> None:
        worker = self.worker
        self.record.tries += 1
        self._dial = Dial(
            worker.loop,
            backend,
            worker.timeouts.connect_s,
            opened=self._opened,
            failed=self._connect_failed,
            roster=worker.roster,
        )

    def _opened(self, upstream: UpstreamConnection) -> None:
        self._dial = None
        self.record.connected_ns = time.monotonic_ns()
        upstream.backend.connects += 1
        if upstream.backend.proxy_version:
            upstream.announce(self._client_ends())
        self._connected(upstream)

    def _connect_failed(self, error: int) -> None:
        """Try another backend: nothing was sent, so any request may move on."""
        self._dial = None
        backend = self.backend
        assert backend is not None
        if error == errno.EADDRNOTAVAIL:  # no local port is left towards this backend
            self.worker.accounts.event(EventKind.NO_PORTS, backend.slot, error)
            if not self.try_another(free=True):
                self._unavailable(503, "RC")
            return
        if error in LOCAL_ERRNOS:
            self._unavailable(503, "RC")
            return
        self.worker.failed(backend, EventKind.CONNECT_FAILED, error)
        if self.try_another():
            return
        if error == errno.ETIMEDOUT:
            self._unavailable(504, "sC")
        else:
            self._unavailable(502, "SC")

    def try_another(self, *, free: bool = False) -> bool:
        """Give up on the backend, and pick another if there is one that was not tried. `free`: nothing was
        asked of the backend, so that costs no retry."""
        assert self.backend is not None
        self.tried.append(self.slot)
        self.backend.met_by += 1  # or its slot could be another one's, and be left out
        self.give_back()
        if len(self.tried) >= self.worker.limits.tries or not self.worker.balancer.could_serve(self.tried):
            return False
        if not free and not self.worker.retry_allowed():
            return False
        self.worker.accounts.retries += 1
        self.pick()
        return True

    # --- the end ----------------------------------------------------------------------------

    @property
    def waiting_phase(self) -> str:
        """Q while queued, C while connecting, else empty."""
        return "Q" if self._ticket else "C" if self._dial is not None else ""

    def end(self, code: str) -> None:
        """The one way out: nothing of the exchange is left, and its line is written."""
        if self.ended:
            return
        self.ended = True
        if self._ticket:
            self._leave_queue()
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        self.give_back()
        for slot in self.tried:
            self.worker.let_go(slot)
        self.worker.exchanges.discard(self)
        self.worker.accounts.finish(self.record, code)
        self.worker.exchange_ended()
