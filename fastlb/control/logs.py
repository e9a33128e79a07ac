"""The operational log: what fastlb has to say about itself, one line each, on standard error.

A log must not stop the traffic. The event loop never waits for standard error: a line that cannot
be written now is lost, and the next one that can be says how many were.
"""

import json
import os
import select
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.util import find_spec

from fastlb.model.config import LogConfig, LogFormat

Value = str | int | float | bool | None
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
LEVELS = tuple(_LEVELS)


def _encoder() -> Callable[[dict[str, Value]], bytes]:
    # orjson has no wheels for PyPy, where the json module is fast enough.
    if find_spec("orjson") is None:
        return lambda record: json.dumps(record, separators=(",", ":")).encode()
    import orjson

    return orjson.dumps


class StandardError:
    """Writes whole lines to descriptor 2 without ever waiting for it."""

    # A pipe that poll(2) calls writable takes this much in one write(2) without blocking (pipe(7)).
    _LINE_MAX_BYTES = select.PIPE_BUF

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._lost = 0

    def __call__(self, line: bytes) -> None:
        """Write `line`, which ends with a newline, or count it as lost."""
        if self._lost and self._write(b"%d log lines were lost here\n" % self._lost):
            self._lost = 0
        if not self._write(line):
            self._lost += 1

    def _write(self, line: bytes) -> bool:
        if len(line) > self._LINE_MAX_BYTES:
            line = line[: self._LINE_MAX_BYTES - 4] + b"...\n"
        ready = self._poll.poll(0)
        if not ready or not ready[0][1] & select.POLLOUT:
            return False
        try:
            os.write(self._fd, line)
        except OSError:
            return False
        return True


class OperationLog:
    """Writes structured lines: a level, an event in a few words, and named values."""

    def __init__(self, config: LogConfig, sink: Callable[[bytes], None] | None = None) -> None:
        self._sink = StandardError() if sink is None else sink
        self._threshold = _LEVELS[config.level]
        self._encode = _encoder() if config.format is LogFormat.JSON else _text

    def debug(self, event: str, **fields: Value) -> None:
        """For whoever looks for a fault in fastlb."""
        self._write("debug", event, fields)

    def info(self, event: str, **fields: Value) -> None:
        """What is normal and worth knowing."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: Value) -> None:
        """What somebody should look at."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: Value) -> None:
        """What fastlb could not do."""
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, Value]) -> None:
        if _LEVELS[level] < self._threshold:
            return
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._sink(self._encode({"time": now, "level": level, "event": event, **fields}) + b"\n")


def _text(record: dict[str, Value]) -> bytes:
    time, level, event, *values = (_one_line(value) for value in record.values())
    pairs = (f" {name}={_quoted(value)}" for name, value in zip(list(record)[3:], values, strict=True))
    return f"{time} {level} {event}{''.join(pairs)}".encode()


def _one_line(value: Value) -> str:
    text = "-" if value is None else str(value)
    return "".join(c if c.isprintable() else "?" for c in text)


def _quoted(text: str) -> str:
    if text and not any(c in text for c in ' "='):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class OftenRepeated:
    """Says a thing that may happen thousands of times a second at most once in `every_s`."""

    def __init__(self, say: Callable[..., None], event: str, every_s: float = 10.0) -> None:
        self._say = say
        self._event = event
        self._every_s = every_s
        self._said_s: float | None = None
        self._times = 0

    def happened(self, now_s: float, times: int = 1, **fields: Value) -> None:
        """Count `times` more, and say so if it was quiet for long enough."""
        self._times += times
        if self._said_s is None or now_s - self._said_s >= self._every_s:
            self._say(self._event, times=self._times, **fields)
            self._said_s = now_s
            self._times = 0


class Bursts:
    """Of many subjects that change: which changes are said, and which are counted and said together.

    A subject's first few changes within `every_s` are said. Of one that goes on changing, the changes
    are counted, and `due` tells how many there were, once in `every_s`: so what was told last is how
    it is. After a time without a change it begins anew.
    """

    SAID_MAX = 4

    def __init__(self, every_s: float = 10.0) -> None:
        self._every_s = every_s
        self._bursts: dict[str, _Burst] = {}

    def say(self, subject: str, now_s: float, reason: str) -> bool:
        """Whether a change is to be said now; if not, it is counted, and its reason kept."""
        burst = self._bursts.setdefault(subject, _Burst(now_s))
        if burst.said < self.SAID_MAX:
            burst.said += 1
            return True
        burst.held += 1
        burst.reason = reason
        return False

    def due(self, now_s: float) -> list[tuple[str, int, str]]:
        """Whose time is over with changes that were not said, how many, and the reason of the last one."""
        over = [(name, one) for name, one in self._bursts.items() if now_s - one.since_s >= self._every_s]
        for name, burst in over:
            if burst.held:
                # It may go on: what comes in the next time is counted too.
                self._bursts[name] = _Burst(now_s, said=self.SAID_MAX)
            else:
                del self._bursts[name]
        return [(name, burst.held, burst.reason) for name, burst in over if burst.held]

    def forget(self, subject: str) -> None:
        """It is no more."""
        self._bursts.pop(subject, None)


@dataclass(slots=True)
class _Burst:
    since_s: float
    said: int = 0
    held: int = 0
    reason: str = ""
