"""The clients of the demo."""

import asyncio
from types import SimpleNamespace

import pytest
from fakes import until

import fastlb.surface.demo.traffic as traffic
from fastlb.surface.demo.backends import Backend
from fastlb.surface.demo.traffic import Tally, trickle

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Transport:
    """As much of a transport as is asked for."""

    def abort(self) -> None:
        """Never called here."""


def with_server(answer, work) -> None:
    """Run `work(port)` beside a server that calls `answer(writer)` for each request."""

    async def serve(reader, writer):
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            await work(server.sockets[0].getsockname()[1])
        finally:
            server.close()

    asyncio.run(run())


def test_an_answer_that_does_not_come_is_a_failure(monkeypatch):
    """The line of the demo must not look well while a backend hangs."""
    monkeypatch.setattr(traffic, "_ANSWER_TIMEOUT_S", 0.02)
    tally = Tally()

    async def work(port):
        clients = asyncio.create_task(trickle(port, tally))
        await until(lambda: tally.failed)
        clients.cancel()
        await asyncio.gather(clients, return_exceptions=True)

    with_server(lambda writer: None, work)
    assert tally.good == 0


@pytest.mark.parametrize("turns", range(4))
def test_a_cancellation_in_the_turn_of_an_answer_ends_the_client(turns):
    """asyncio.wait_for would lose it up to Python 3.11, and Ctrl-C would hang."""

    async def run():
        reader = asyncio.StreamReader()
        client = asyncio.create_task(traffic._answer(reader, SimpleNamespace(transport=Transport())))
        await asyncio.sleep(0)
        reader.feed_data(ANSWER)
        for _ in range(turns):
            await asyncio.sleep(0)
        if client.cancel():  # it had not ended
            with pytest.raises(asyncio.CancelledError):
                await client
        return client.cancelled()

    assert asyncio.run(run()) is (turns == 0)


def test_an_answer_that_is_no_success_is_counted_as_failed():
    """One of fastlb's own, of which one has no length either."""
    answers = iter([b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"])
    tally = Tally()

    async def work(port):
        clients = asyncio.create_task(trickle(port, tally))
        await until(lambda: tally.failed == 2 and tally.good)
        clients.cancel()
        await asyncio.gather(clients, return_exceptions=True)

    with_server(lambda writer: writer.write(next(answers, ANSWER)), work)


def test_a_backend_of_the_demo_has_a_port_once_it_is_open():
    """And is closed as often as one likes."""

    async def run():
        backend = Backend(name="a", delay_s=0)
        await backend.close()
        with pytest.raises(RuntimeError):
            _ = backend.port
        await backend.open()
        assert backend.port
        await backend.close()

    asyncio.run(run())
