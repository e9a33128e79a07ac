"""A limit on the bytes that wait for somebody: in full write buffers, in heads that are not complete, in
bodies that are awaited or kept.

A transport says when it holds more than its mark that its peer does not take. What it holds then is
counted here until it has drained or closed; what it holds below the mark is not counted: it is bounded
for each connection. Nobody is cut off for want of memory: where it is short, less is read at once, and
nothing while anything waits.
"""

from collections.abc import Callable
from typing import Protocol

# Of a peer that stops reading: what is below the mark, and one read.
WRITE_MARK_BYTES = 16_384
_READ_BYTES = 49_152
# One read where memory is short.
_SHORT_READ_BYTES = 2048


class Held(Protocol):
    """A connection whose write buffer is full; `held_bytes` of it are counted."""

    held_bytes: int

    def unsent_bytes(self) -> int:
        """What its write buffer holds."""


class Buffers:
    """What waits in one engine. `limit_bytes`: 0 = none. `tell`: little of it is left."""

    __slots__ = ("_few", "_limit_bytes", "_many", "_read_into", "_tell", "_told", "used_bytes")

    def __init__(self, limit_bytes: int, tell: Callable[[], None]) -> None:
        self._limit_bytes = limit_bytes
        self._tell = tell
        self._told = False
        self._read_into = bytearray(_READ_BYTES)
        self._many = memoryview(self._read_into)
        self._few = self._many[:_SHORT_READ_BYTES]
        self.used_bytes = 0

    # --- reading ----------------------------------------------------------------------------

    def room(self) -> memoryview:
        """Where the next read of any connection goes; it is taken out before there is another."""
        return self._few if self.short else self._many

    def taken(self, count: int) -> bytes:
        """The first bytes of `room`."""
        return bytes(self._many[:count])

    # --- counting ---------------------------------------------------------------------------

    @property
    def short(self) -> bool:
        """True if there is not enough for one more read that nobody takes."""
        return not self.spare(_READ_BYTES + WRITE_MARK_BYTES)

    def spare(self, more_bytes: int) -> bool:
        """True if a peer that is slow may hold so many bytes more: all of them at most three quarters of
        the limit. The rest is for what does not wait for them."""
        if not self._limit_bytes or self.used_bytes + more_bytes <= self._limit_bytes // 4 * 3:
            return True
        if not self._told:
            self._told = True
            self._tell()
        return False

    def change(self, had_bytes: int, has_bytes: int) -> None:
        """Somebody who was counted with `had_bytes` holds `has_bytes` now."""
        self.used_bytes += has_bytes - had_bytes
        if self._told and self.used_bytes < self._limit_bytes // 2:
            self._told = False

    def hold(self, held: Held) -> None:
        """Count what a full write buffer holds, in place of what was counted before."""
        size = held.unsent_bytes()
        self.change(held.held_bytes, size)
        held.held_bytes = size

    def let_go(self, held: Held) -> None:
        """It has drained, or is gone."""
        self.change(held.held_bytes, 0)
        held.held_bytes = 0
