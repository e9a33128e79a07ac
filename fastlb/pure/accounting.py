"""What is written down about an exchange: its access line, the counters, the events."""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from fastlb.model.config import LogFormat
from fastlb.model.events import Event, EventKind
from fastlb.model.ledger import ACCESS_FIELDS, ACCESS_TARGET_MAX_BYTES

if TYPE_CHECKING or sys.implementation.name == "cpython":
    from orjson import dumps as _dumps
else:

    def _dumps(value):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


_NAMES = tuple(name for name, _ in ACCESS_FIELDS)
# Lines that nobody has taken yet; beyond it they are dropped and counted.
_PENDING_MAX_BYTES = 8 * 1024 * 1024
_LINES_WAKE_S = 0.05
_NOT_REACHED = -1


class Record:
    """What one exchange's access line will say. Times are CLOCK_MONOTONIC in nanoseconds, 0 = not yet."""

    __slots__ = (
        "backend",
        "bytes_in",
        "bytes_out",
        "client",
        "connected_ns",
        "first_byte_ns",
        "in_flight",
        "method",
        "picked_ns",
        "queued_ns",
        "started_ns",
        "started_s",
        "status",
        "target",
        "tried",
        "tries",
        "unanswered",
        "waited_ns",
    )

    def __init__(self, client: str, started_ns: int = 0) -> None:
        now_ns = time.monotonic_ns()
        self.started_ns = started_ns or now_ns
        self.started_s = time.time() - (now_ns - self.started_ns) / 1e9
        self.client = client
        self.method: bytes | None = None
        self.target: bytes | None = None
        self.status = 0
        self.unanswered = False  # `status` stands for a client that left; it was not sent
        self.backend: str | None = None
        self.bytes_in = 0
        self.bytes_out = 0
        self.queued_ns = 0  # entered the queue
        self.waited_ns = _NOT_REACHED  # in the queue, all told
        self.picked_ns = 0
        self.connected_ns = 0
        self.first_byte_ns = 0
        self.tries = 0
        self.tried: list[str] = []  # labels
        self.in_flight = 0

    def values(self, code: str) -> tuple[object, ...]:
        """The values of ACCESS_FIELDS, in their order."""
        now_ns = time.monotonic_ns()
        started = datetime.fromtimestamp(self.started_s, timezone.utc)
        return (
            started.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            self.client,
            self.method.decode("latin-1") if self.method is not None else None,
            self.target[:ACCESS_TARGET_MAX_BYTES].decode("latin-1") if self.target is not None else None,
            self.status or None,
            self.backend,
            self.bytes_in,
            self.bytes_out,
            self.waited_ns // 1000 if self.waited_ns >= 0 else _NOT_REACHED,
            self._since_pick_us(self.connected_ns),
            self._since_pick_us(self.first_byte_ns),
            (now_ns - self.started_ns) // 1000,
            self.tries,
            self.tried,
            self.in_flight,
            code,
        )

    def _since_pick_us(self, then_ns: int) -> int:
        return (then_ns - self.picked_ns) // 1000 if then_ns else _NOT_REACHED


def access_line(record: Record, code: str, log_format: LogFormat) -> bytes:
    """One line of the access log, with its newline."""
    values = record.values(code)
    if log_format is LogFormat.JSON:
        return _dumps(dict(zip(_NAMES, values, strict=True))) + b"\n"
    text = " ".join(map(_text, values))
    return text.encode("latin-1", "backslashreplace") + b"\n"


def _text(value: object) -> str:
    if isinstance(value, list):
        value = ",".join(value) or None
    return "-" if value is None else str(value)


def status_class(record: Record) -> int:
    """The index into Ledger.statuses."""
    return 0 if record.unanswered else min(record.status // 100, 5)


class Accounts:
    """The counters of one engine, and what the control plane has not taken yet."""

    def __init__(self, loop: asyncio.AbstractEventLoop, log_format: LogFormat | None) -> None:
        self._loop = loop
        self._format = log_format
        self._wake: Callable[[], None] | None = None
        self._events: list[Event] = []
        self._lines: list[bytes] = []
        self._lines_bytes = 0
        self._lines_timer: asyncio.TimerHandle | None = None
        self.accepted = 0
        self.refused = 0  # their address had as many as it may
        self.exchanges = 0
        self.retries = 0
        self.retries_denied = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.dropped = 0
        self.statuses = [0] * 6

    def wake_with(self, wake: Callable[[], None]) -> None:
        """Call `wake` when there is something to take."""
        self._wake = wake

    def close(self) -> None:
        """Call nobody any more. What was written down can still be taken."""
        self._wake = None
        if self._lines_timer is not None:
            self._lines_timer.cancel()
            self._lines_timer = None

    def event(self, kind: EventKind, slot: int = -1, errno: int = 0, in_a_row: int = 0) -> None:
        """Write down what happened, and wake the control plane in the loop's next turn."""
        self._events.append(Event(kind, slot, errno, in_a_row))
        if self._wake is not None and len(self._events) == 1:
            self._loop.call_soon(self._wake)

    def disown(self, slot: int) -> None:
        """Forget what happened to the backend that had this slot: it is another one's now."""
        self._events = [event for event in self._events if event.slot != slot]

    def finish(self, record: Record, code: str) -> None:
        """Count one exchange that has ended, and write its access line."""
        self.exchanges += 1
        self.bytes_in += record.bytes_in
        self.bytes_out += record.bytes_out
        self.statuses[status_class(record)] += 1
        if self._format is not None:
            self._write(access_line(record, code, self._format))

    def take_events(self) -> list[Event]:
        """What happened since the last call, oldest first."""
        events, self._events = self._events, []
        return events

    def take_lines(self) -> bytes:
        """Whole access lines since the last call, oldest first."""
        lines = b"".join(self._lines)
        self._lines.clear()
        self._lines_bytes = 0
        return lines

    def _write(self, line: bytes) -> None:
        if self._lines_bytes + len(line) > _PENDING_MAX_BYTES:
            self.dropped += 1
            return
        self._lines.append(line)
        self._lines_bytes += len(line)
        if self._lines_timer is None and self._wake is not None:
            self._lines_timer = self._loop.call_later(_LINES_WAKE_S, self._lines_due, self._wake)

    def _lines_due(self, wake: Callable[[], None]) -> None:
        self._lines_timer = None
        wake()
