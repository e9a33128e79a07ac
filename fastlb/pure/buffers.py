"""A limit on the bytes that wait in full write buffers.

A transport says when it holds more than 64 KiB that its peer does not take. What it holds then is
counted here until it has drained or closed; an exchange that would need more than there is, ends.
What a transport holds below its mark is not counted: it is bounded for each connection.
"""

from collections.abc import Callable

from fastlb.pure.connection import Connection


class Buffers:
    """The full write buffers of one engine. `limit_bytes`: 0 = none. `tell`: it was reached."""

    __slots__ = ("_limit_bytes", "_tell", "_told", "used_bytes")

    def __init__(self, limit_bytes: int, tell: Callable[[], None]) -> None:
        self._limit_bytes = limit_bytes
        self._tell = tell
        self._told = False
        self.used_bytes = 0

    def hold(self, connection: Connection) -> bool:
        """Count what `connection` holds, in place of what was counted before. False beyond the limit."""
        self.let_go(connection)
        size = connection.transport.get_write_buffer_size()
        if self._limit_bytes and self.used_bytes + size > self._limit_bytes:
            if not self._told:
                self._told = True
                self._tell()
            return False
        connection.held_bytes = size
        self.used_bytes += size
        return True

    def let_go(self, connection: Connection) -> None:
        """The buffer of `connection` has drained, or is gone."""
        self.used_bytes -= connection.held_bytes
        connection.held_bytes = 0
        if self._told and self.used_bytes < self._limit_bytes // 4 * 3:
            self._told = False
