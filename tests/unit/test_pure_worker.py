"""The pure engine's worker alone: waiting until nothing is open."""

import asyncio
import socket

import pytest

import fastlb.pure.worker as room
from fastlb.model.address import Address
from fastlb.model.config import EngineConfig
from fastlb.model.errors import ConfigError
from fastlb.model.proxied import ProxyProtocol
from fastlb.pure.accounting import Record
from fastlb.pure.peer import Peer, client_ends
from fastlb.pure.worker import Worker


class OpenExchange:
    """An exchange that holds no unit."""

    def __init__(self):
        self.slot = -1
        self.record = Record("a client")


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_cancellation_that_meets_the_end_of_the_last_exchange_is_not_lost(turns):
    """Who is told to stop waiting must stop, whatever else happens in the same turns of the loop."""

    async def run():
        worker = Worker(asyncio.get_running_loop(), EngineConfig())
        exchange = OpenExchange()
        worker.exchanges.add(exchange)
        ended_well = []

        async def drain():
            await worker.wait_quiet(10)
            ended_well.append(True)
            await asyncio.sleep(10)

        task = asyncio.create_task(drain())
        await asyncio.sleep(0)
        worker.exchanges.discard(exchange)
        worker.exchange_ended()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=5)
        assert done, "the cancellation was lost"
        assert task.cancelled()

    asyncio.run(run())


def test_wait_ends_for_all_who_wait():
    """A drain may be asked for twice."""

    async def run():
        worker = Worker(asyncio.get_running_loop(), EngineConfig())
        exchange = OpenExchange()
        worker.exchanges.add(exchange)
        waiting = {asyncio.create_task(worker.wait_quiet(60)) for _ in range(2)}
        await asyncio.sleep(0)
        worker.exchanges.discard(exchange)
        worker.exchange_ended()
        _, left = await asyncio.wait(waiting, timeout=5)
        assert not left

    asyncio.run(run())


def test_wait_for_quiet_is_bounded_and_can_be_repeated():
    """The time-out of a drain ends the wait; it does not end the worker."""

    async def run():
        worker = Worker(asyncio.get_running_loop(), EngineConfig())
        await worker.wait_quiet(60)
        exchange = OpenExchange()
        worker.exchanges.add(exchange)
        for _ in range(2):
            await asyncio.wait_for(worker.wait_quiet(0.01), 5)
        assert worker.exchanges == {exchange}

    asyncio.run(run())


def test_backends_are_limited_in_number(monkeypatch):
    """Slots are; a known address needs no new one."""
    monkeypatch.setattr(room, "BACKENDS_MAX", 1)
    first, second = (Address(host="127.0.0.1", port=port) for port in (1, 2))

    async def run():
        worker = Worker(asyncio.get_running_loop(), EngineConfig())
        slot = worker.add_backend(first, "a", ProxyProtocol.OFF)
        with pytest.raises(ConfigError):
            worker.add_backend(second, "b", ProxyProtocol.OFF)
        assert worker.add_backend(first, "c", ProxyProtocol.OFF) == slot
        worker.remove_backend(slot)
        worker.remove_backend(slot)
        assert worker.backends == {}

    asyncio.run(run())


def test_ends_of_a_socket_that_is_closed_cannot_be_told():
    """A PROXY header says so, and the request goes on."""
    with socket.socket() as sock:
        pass

    assert client_ends(sock, Peer("127.0.0.1", 1, False)) is None
