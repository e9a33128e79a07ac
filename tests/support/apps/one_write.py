"""A server that sends each response with one write: python one_write.py PORT [PATH].

Killed at any moment, it leaves a response whole or not begun, never only its head; but /half is begun
and never ends. Every request line is written to PATH before it is answered, and stays there.
"""

import asyncio
import os
import sys

BODY = b'{"pid": %d}' % os.getpid()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
RESPONSE = HEAD % len(BODY) + BODY
HALF = HEAD % 1000 + b"half"
SEEN = os.open(sys.argv[2] if len(sys.argv) > 2 else os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            os.write(SEEN, head.partition(b"\r\n")[0] + b"\n")
            writer.write(HALF if head.startswith(b"GET /half ") else RESPONSE)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


asyncio.run(main())
