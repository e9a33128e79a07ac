"""Fixtures of the system tests: the fastlb command and real servers as subprocesses."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from support.engines import EngineRooms
from support.serving import Fastlb, Server, flask_app, node_app, node_missing, uvicorn_app


@pytest.fixture(scope="session")
def uvicorn_backend() -> Iterator[Server]:
    """One Starlette application on uvicorn for the whole run."""
    server = uvicorn_app()
    yield server
    server.end()


@pytest.fixture(scope="session")
def flask_backend() -> Iterator[Server]:
    """One Flask application on gunicorn for the whole run."""
    server = flask_app()
    yield server
    server.end()


@pytest.fixture(scope="session")
def node_backend() -> Iterator[Server]:
    """One application on Node's http server for the whole run."""
    if reason := node_missing():
        pytest.skip(reason)
    server = node_app()
    yield server
    server.end()


@pytest.fixture
def fastlb(engine: EngineRooms) -> Iterator[Callable[..., Fastlb]]:
    """Start the fastlb command; at the end it must stop by SIGTERM with status 0."""
    with ExitStack() as stack:

        def start(
            *backends: Any,
            flags: tuple[str, ...] = (),
            mode: str = "http",
            listen: str = "127.0.0.1:0",
            python: tuple[str, ...] = (sys.executable,),
        ) -> Fastlb:
            running = Fastlb(
                engine.name,
                [getattr(b, "port", b) for b in backends],
                "--drain-timeout",
                "2s",
                *flags,
                mode=mode,
                listen=listen,
                python=python,
            )
            assert running.engine == engine.name
            stack.callback(lambda: _end(running))
            return running

        yield start


def _end(running: Fastlb) -> None:
    status = running.end()
    assert status == 0, running.said[-20:]
