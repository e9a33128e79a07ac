"""Two thousand connections at once through the fastlb command."""

import asyncio

import pytest

CROWD = 2000
OK = b"HTTP/1.1 200 OK\r\nDate: Sun, 29 Nov 2026 12:00:00 GMT\r\nContent-Length: 2\r\n\r\nok"


async def crowd(port, arrived, gate):
    """Open the crowd, each with a request, and return what each got once the gate was opened."""

    async def one(n):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n)
        answer = await reader.readexactly(len(OK))
        writer.close()
        return answer

    tasks = [asyncio.create_task(one(n)) for n in range(CROWD)]
    await asyncio.wait_for(arrived.wait(), 20)
    gate.set()
    return await asyncio.wait_for(asyncio.gather(*tasks), 20)


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_two_thousand_at_once(fastlb, mode):
    """All are with the backend at one moment, and all are answered."""

    async def run():
        arrived, gate, seen = asyncio.Event(), asyncio.Event(), set()

        async def serve(reader, writer):
            try:
                line = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
                seen.add(line)
                if len(seen) == CROWD:
                    arrived.set()
                await gate.wait()
                writer.write(OK)
                await reader.read()
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
        async with server:
            port = server.sockets[0].getsockname()[1]
            running = await asyncio.to_thread(fastlb, port, flags=("--no-check",), mode=mode)
            answers = await crowd(running.port, arrived, gate)
        return seen, answers

    seen, answers = asyncio.run(run())

    assert len(seen) == CROWD
    assert set(answers) == {OK}
