"""One lazy timer for each connection.

Moving a deadline further away is the common case (every byte does it), so that only writes a
number; the loop's timer finds out when it fires and waits for the rest.

A process may stand still (SIGSTOP, a machine that sleeps, a turn that takes long), and what came
meanwhile lies in the sockets. uvloop runs timers before it looks there. So a time-out is believed
only when the loop has looked once more.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

# How often the peers of a Patience are looked at in its time.
_LOOKS = 4
_NEVER_S = float("inf")
# uvloop's clock counts milliseconds, so a timer may fire a little before its time.
_EARLY_S = 0.001
# Long enough to be a later turn of the loop for uvloop's clock.
_LOOK_S = 0.002


class Deadline:
    """Calls `expire` once when the time set last has passed. Moving it away costs no timer call."""

    __slots__ = ("_armed_s", "_at_s", "_doubted_s", "_expire", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._at_s = _NEVER_S
        self._armed_s = _NEVER_S
        self._doubted_s = _NEVER_S
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
        if self._doubted_s != self._at_s:
            self._doubted_s = self._at_s
            self._arm(self._loop.time() + _LOOK_S)
            return
        self._at_s = _NEVER_S
        self._expire()


class Peer(Protocol):
    """Somebody to whom much is sent."""

    def untaken_bytes(self) -> int: ...


class Patience:
    """A time-out that begins again when one of `peers` takes what was sent to it.

    Nobody tells what they take, so they are looked at a few times, and one that stalls may have a
    quarter more than its time. `deadline` is what it waits with; who owns it asks `goes_on` at its end.
    """

    __slots__ = ("_deadline", "_looks", "_peers", "_timeout_s", "_untaken_bytes")

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._peers: Sequence[Peer] = ()
        self._timeout_s = 0.0
        self._looks = 0
        self._untaken_bytes: list[int] | None = None

    def begin(self, timeout_s: float, *peers: Peer) -> None:
        """Wait from now on, in place of what was waited for."""
        self._peers = peers
        self._timeout_s = timeout_s
        self._looks = 0
        self._untaken_bytes = None
        self._deadline.set(timeout_s / _LOOKS)

    def goes_on(self) -> bool:
        """Look. False if the time is over."""
        before, self._untaken_bytes = self._untaken_bytes, [peer.untaken_bytes() for peer in self._peers]
        if before is None:
            self._looks = 0 if any(self._untaken_bytes) else 1
        elif any(now < then for now, then in zip(self._untaken_bytes, before, strict=True)):
            self._looks = 0
        else:
            self._looks += 1
        if self._looks == _LOOKS:
            return False
        self._deadline.set(self._timeout_s / _LOOKS)
        return True
