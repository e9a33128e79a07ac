"""A Starlette application with a stream of events and a WebSocket. See README.md for the commands."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import datetime, timezone

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket


async def index(request: Request) -> Response:
    """The process that answers."""
    return PlainTextResponse(f"process {os.getpid()} answers {request.headers['x-forwarded-for']}\n")


async def healthy(_request: Request) -> Response:
    """What a health check asks for."""
    return Response(status_code=204)


async def clock(_request: Request) -> Response:
    """An event per second, for as long as somebody listens."""

    async def ticks() -> AsyncIterator[str]:
        while True:
            yield f"data: {datetime.now(timezone.utc):%H:%M:%S} from process {os.getpid()}\n\n"
            await asyncio.sleep(1)

    return StreamingResponse(ticks(), media_type="text/event-stream")


async def echo(socket: WebSocket) -> None:
    """Every text comes back."""
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


app = Starlette(
    routes=[
        Route("/", index),
        Route("/healthy", healthy),
        Route("/clock", clock),
        WebSocketRoute("/echo", echo),
    ]
)
