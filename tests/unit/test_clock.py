"""The system's clock as the control plane uses it."""

import asyncio

from fastlb.control.clock import SystemClock


def test_a_wait_ends_with_its_time():
    """Nobody else may ever set the event."""
    clock = SystemClock()
    started_s = clock.now_s()
    asyncio.run(clock.wait(asyncio.Event(), 0.05))

    assert clock.now_s() - started_s >= 0.045


def test_a_wait_ends_with_its_event():
    """A probe is brought forward long before its time."""

    async def run():
        event = asyncio.Event()
        asyncio.get_running_loop().call_soon(event.set)
        await asyncio.wait_for(SystemClock().wait(event, 60), 5)

    asyncio.run(run())


def test_a_cancellation_in_the_turn_of_the_event_is_not_lost():
    """asyncio.wait_for of Python 3.11 loses it, and stopping would wait for ever."""

    async def run():
        event = asyncio.Event()
        task = asyncio.ensure_future(SystemClock().wait(event, 60))
        await asyncio.sleep(0)
        event.set()
        task.cancel()
        await asyncio.wait({task})
        return task.cancelled()

    assert asyncio.run(run())
