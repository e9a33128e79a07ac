"""A balancer inside a program: two backends, a hundred requests, and where they went."""

import asyncio

from fastlb import BackendConfig, Config, ListenerConfig, LogConfig, Supervisor, parse_backend, parse_listen

REQUESTS = 100


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A backend that says hello to everybody and hangs up."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n")
    await writer.drain()
    writer.close()


async def ask(port: int) -> bytes:
    """One request over a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


async def main() -> None:
    """Start, ask, count, stop."""
    servers = [await asyncio.start_server(answer, "127.0.0.1", 0) for _ in range(2)]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    config = Config(
        listeners=(ListenerConfig(address=parse_listen("127.0.0.1:0")),),
        backends=tuple(BackendConfig(address=parse_backend(f"127.0.0.1:{port}")) for port in ports),
        log=LogConfig(level="warning"),
    )
    balancer = Supervisor(config)
    await balancer.start()
    try:
        answers = [await ask(balancer.listeners[0].port) for _ in range(REQUESTS)]
        counts = balancer.engine.ledger()
    finally:
        await balancer.stop()
    good = sum(answer.endswith(b"hello\n") for answer in answers)
    print(f"{good} of {REQUESTS} answered; picked: {[backend.picked for backend in counts.backends]}")
    for server in servers:
        server.close()


asyncio.run(main())
