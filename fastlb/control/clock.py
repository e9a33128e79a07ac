"""Time as the control plane sees it; a test brings its own."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds, and waiting for something no longer than so many of them."""

    def now_s(self) -> float:
        """Seconds since some moment in the past; never runs backwards."""

    async def wait(self, event: asyncio.Event, timeout_s: float) -> None:
        """Return once `event` is set; set it after `timeout_s`."""


class SystemClock:
    """CLOCK_MONOTONIC and the running event loop."""

    def now_s(self) -> float:
        """See Clock."""
        return time.monotonic()

    async def wait(self, event: asyncio.Event, timeout_s: float) -> None:
        """See Clock."""
        # Not asyncio.wait_for: up to Python 3.11 it loses a cancellation that comes in the same
        # turn of the loop as the event (python/cpython#86296), and the task would never end.
        timer = asyncio.get_running_loop().call_later(timeout_s, event.set)
        try:
            await event.wait()
        finally:
            timer.cancel()
