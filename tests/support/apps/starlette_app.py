"""A small Starlette application, as a backend for the tests."""

import asyncio
import hashlib
import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from starlette.routing import Route


async def home(request: Request) -> JSONResponse:
    """Who answered, and what was asked."""
    return JSONResponse({"pid": os.getpid(), "headers": dict(request.headers), "path": request.url.path})


async def digest(request: Request) -> PlainTextResponse:
    """SHA-256 of the body."""
    found = hashlib.sha256()
    async for piece in request.stream():
        found.update(piece)
    return PlainTextResponse(found.hexdigest())


async def events(request: Request) -> StreamingResponse:
    """Three server-sent events with a pause before each but the first."""

    async def say():
        for n in range(3):
            if n:
                await asyncio.sleep(0.1)
            yield f"data: {n}\n\n"

    return StreamingResponse(say(), media_type="text/event-stream")


async def cookies(request: Request) -> RedirectResponse:
    """Two cookies and a redirect."""
    response = RedirectResponse("/", status_code=302)
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


async def fail(request: Request) -> PlainTextResponse:
    """The application's own error."""
    return PlainTextResponse("mine", status_code=503)


app = Starlette(
    routes=[
        Route("/", home),
        Route("/digest", digest, methods=["POST", "PUT"]),
        Route("/events", events),
        Route("/cookies", cookies),
        Route("/fail", fail),
    ]
)
