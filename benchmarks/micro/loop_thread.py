"""An engine on an event loop in a thread, between a client and an echo server in two others."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

from fastlb.model.address import Address
from fastlb.model.config import EngineConfig, Mode
from fastlb.model.plan import Plan, PlanEntry

_CALL_TIMEOUT_S = 10
_PIECE_BYTES = 1 << 18


@contextlib.contextmanager
def tcp_relay(engine_class: type[Any]) -> Iterator[int]:
    """A TCP listener of one engine before an echo server; gives its port."""
    with _loop() as loop, _echo_server() as backend_port, socket.create_server(("127.0.0.1", 0)) as listening:

        def call(work: Coroutine[Any, Any, Any]) -> Any:
            return asyncio.run_coroutine_threadsafe(work, loop).result(_CALL_TIMEOUT_S)

        async def start() -> Any:
            engine = engine_class(EngineConfig())
            await engine.start(lambda: None)
            slot = engine.add_backend(Address("127.0.0.1", backend_port), "echo")
            engine.publish(Plan(entries=(PlanEntry(slot),)))
            listening.setblocking(False)
            engine.open_listener(listening, Mode.TCP)
            return engine

        engine = call(start())
        try:
            yield listening.getsockname()[1]
        finally:
            call(engine.stop())


@contextlib.contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    try:
        from uvloop import new_event_loop
    except ImportError:
        from asyncio import new_event_loop
    loop = new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def _echo_server() -> Iterator[int]:
    """Sends back what it gets, one connection at a time."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_echo, args=(listening,))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() would not
            thread.join()


def _echo(listening: socket.socket) -> None:
    piece = bytearray(_PIECE_BYTES)
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection, contextlib.suppress(ConnectionError):
            while got := connection.recv_into(piece):
                connection.sendall(memoryview(piece)[:got])
