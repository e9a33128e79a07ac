"""One lazy timer for each connection.

Moving a deadline further away is the common case (every byte does it), so that only writes a
number; the loop's timer finds out when it fires and waits for the rest.
"""

import asyncio
from collections.abc import Callable

_NEVER_S = float("inf")
# uvloop's clock counts milliseconds, so a timer may fire a little before its time.
_EARLY_S = 0.001


class Deadline:
    """Calls `expire` once when the time set last has passed. Moving it away costs no timer call."""

    __slots__ = ("_armed_s", "_at_s", "_expire", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._at_s = _NEVER_S
        self._armed_s = _NEVER_S
        self._timer: asyncio.TimerHandle | None = None

    def set(self, delay_s: float) -> None:
        """Expire in `delay_s` seconds from now, whatever was set before."""
        at_s = self._loop.time() + delay_s
        self._at_s = at_s
        if at_s < self._armed_s:
            self._arm(at_s)

    def set_once(self, delay_s: float) -> None:
        """Expire in `delay_s` seconds, unless a time is set already."""
        if self._at_s == _NEVER_S:
            self.set(delay_s)

    def clear(self) -> None:
        """Expire never, until set again."""
        self._at_s = _NEVER_S

    def cancel(self) -> None:
        """Expire never; `set` has no effect any more."""
        self._at_s = _NEVER_S
        self._armed_s = -_NEVER_S
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_s = at_s
        self._timer = self._loop.call_at(at_s, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._armed_s = _NEVER_S
        if self._at_s == _NEVER_S:
            return
        if self._at_s - self._loop.time() > _EARLY_S:
            self._arm(self._at_s)
            return
        self._at_s = _NEVER_S
        self._expire()
