"""An event loop in a thread of its own, so that tests can use plain blocking sockets."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
_CALL_S = 20.0


def new_loop(kind: str) -> asyncio.AbstractEventLoop:
    """A uvloop or asyncio event loop."""
    if kind == "asyncio":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


async def warm_up() -> None:
    """Make libuv open what it opens once for a process: a spare descriptor and its threads."""
    loop = asyncio.get_running_loop()
    await loop.getaddrinfo("localhost", 0)
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    async with server:
        transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
        transport.close()


class LoopThread:
    """The thread of the control plane: engines are called in it and nowhere else."""

    def __init__(self, kind: str) -> None:
        self.loop = new_loop(kind)
        self.complaints: list[str] = []
        self.loop.set_exception_handler(self._complain)
        self._thread = threading.Thread(target=self.loop.run_forever, name="test-loop", daemon=True)
        self._thread.start()

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    def call(self, function: Callable[[], T]) -> T:
        """Run a plain function in the loop's thread and return its result."""

        async def run() -> T:
            return function()

        return self.run(run())

    def run(self, awaitable: Awaitable[T]) -> T:
        """Run a coroutine in the loop and return its result."""

        async def await_it() -> T:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(await_it(), self.loop).result(_CALL_S)

    def tasks(self) -> list[str]:
        """Tasks alive in the loop, this call's own left out."""

        async def others() -> list[str]:
            mine = asyncio.current_task()
            return [repr(task) for task in asyncio.all_tasks() if task is not mine]

        return asyncio.run_coroutine_threadsafe(others(), self.loop).result(_CALL_S)

    def close(self) -> None:
        """Stop the loop and join its thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_CALL_S)
        self.loop.close()
