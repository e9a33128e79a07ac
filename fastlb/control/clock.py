"""Time as the control plane sees it; a test brings its own."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds, and waiting for something no longer than so many of them."""

    def now_s(self) -> float:
        """Seconds since some moment in the past; never runs backwards."""

    async def wait(self, event: asyncio.Event, timeout_s: float) -> bool:
        """True once `event` is set, False if `timeout_s` have passed before that."""


class SystemClock:
    """CLOCK_MONOTONIC and the running event loop."""

    def now_s(self) -> float:
        """See Clock."""
        return time.monotonic()

    async def wait(self, event: asyncio.Event, timeout_s: float) -> bool:
        """See Clock."""
        try:
            await asyncio.wait_for(event.wait(), timeout_s)
        except asyncio.TimeoutError:
            return False
        return True
