"""Three small HTTP servers that differ in how long they take, so that a policy has work to do."""

import asyncio
from dataclasses import dataclass, field
from typing import cast

CHECK_PATH = "/healthy"
_HEAD_MAX_BYTES = 16_384


@dataclass(slots=True, kw_only=True)
class Backend:
    """One server. `answered` counts requests, health checks left out."""

    name: str
    delay_s: float
    answered: int = 0
    server: asyncio.Server | None = None
    serving: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1. Raises: RuntimeError before `open`."""
        if self.server is None:
            raise RuntimeError("not open")
        port: int = self.server.sockets[0].getsockname()[1]
        return port

    async def open(self) -> None:
        """Listen on a free port."""
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_HEAD_MAX_BYTES)

    async def close(self) -> None:
        """Stop listening, and end open connections once their answer is out."""
        if self.server is None:
            return
        self.server.close()
        for writer in self.serving.values():
            writer.close()
        await asyncio.gather(*self.serving)
        await self.server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self.serving[task] = writer
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # the balancer has closed the connection, or somebody sends what no demo needs
        finally:
            del self.serving[task]
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request. Returns: True if the connection may carry another one."""
        head = await reader.readuntil(b"\r\n\r\n")
        if head.split(b" ", 2)[1] == CHECK_PATH.encode():
            body = b"healthy\n"
        else:
            await asyncio.sleep(self.delay_s)
            self.answered += 1
            body = f"Hello from {self.name}, request {self.answered}.\n".encode()
        if writer.is_closing():
            return False
        # A body is not read, so a request that has one ends its connection.
        fields = head.lower()
        last = b"\r\ncontent-length:" in fields or b"\r\ntransfer-encoding:" in fields
        last = last or b"\r\nconnection: close" in fields
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
            + f"Content-Length: {len(body)}\r\nX-Served-By: {self.name}\r\n".encode()
            + (b"Connection: close\r\n\r\n" if last else b"\r\n")
            + (b"" if head.startswith(b"HEAD ") else body)
        )
        await writer.drain()
        return not last


def make_backends() -> list[Backend]:
    """A quick, a middling and a slow one; not yet listening."""
    return [
        Backend(name="quick", delay_s=0.01),
        Backend(name="middling", delay_s=0.05),
        Backend(name="slow", delay_s=0.15),
    ]
