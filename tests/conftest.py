"""Options and fixtures of the whole suite. Every engine test runs on each engine asked for."""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

# `support` is imported from here whatever pytest's import mode, and also when the tests run
# from a copy beside an installed fastlb.
sys.path.insert(0, str(Path(__file__).parent))

from support import leaks
from support.backend import Backend, Script, refused_address, unanswered_address
from support.balance import Balance
from support.engines import NAMES, EngineRooms, load
from support.looping import LoopThread, warm_up
from support.waiting import wait_until

_PARITY = Path(__file__).parent / "parity"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The engine and the event loop that a run uses."""
    parser.addoption("--engine", choices=(*NAMES, "both"), default="both", help="engines to test")
    parser.addoption(
        "--loop", choices=("uvloop", "asyncio"), default="uvloop", help="event loop of the control plane"
    )
    parser.addoption("--soak-exchanges", type=int, default=3000, help="so many on each engine, at least")
    parser.addoption("--soak-seconds", type=float, default=0.0, help="so long on each engine, at least")
    parser.addoption("--soak-seed", type=int, default=1, help="which random numbers")
    parser.addoption("--workers", type=int, default=1, help="workers of engines whose test does not say")


def _asked(config: pytest.Config) -> tuple[str, ...]:
    choice = config.getoption("--engine")
    return NAMES if choice == "both" else (choice,)


def _load_or_exit(name: str) -> EngineRooms:
    try:
        return load(name)
    except ImportError as error:
        pytest.exit(
            f"the {name} engine was asked for and cannot be imported: {error}. "
            "Build it, or say which engine to test with --engine.",
            returncode=pytest.ExitCode.INTERNAL_ERROR,
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `engine` to every test that wants it, once for each engine."""
    if "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", _asked(metafunc.config), indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """End the run if an engine is missing; leave parity to runs that asked for both engines."""
    asked = _asked(config)
    if len(asked) < len(NAMES):
        parity = [item for item in items if item.path.is_relative_to(_PARITY)]
        config.hook.pytest_deselected(items=parity)
        items[:] = [item for item in items if item not in parity]
    if any({"engine", "both"} & set(getattr(item, "fixturenames", ())) for item in items):
        for name in asked:
            _load_or_exit(name)


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> EngineRooms:
    """One engine, as a namespace of its classes and its parser."""
    return load(request.param)


@pytest.fixture(scope="session")
def both() -> dict[str, EngineRooms]:
    """Both engines by name, for tests that compare them."""
    return {name: load(name) for name in NAMES}


@pytest.fixture(scope="session")
def loop_thread(request: pytest.FixtureRequest) -> Iterator[LoopThread]:
    """The control plane's event loop, in a thread of its own."""
    thread = LoopThread(request.config.getoption("--loop"))
    thread.run(warm_up())
    yield thread
    thread.close()


@pytest.fixture
def no_leaks(loop_thread: LoopThread) -> Iterator[None]:
    """After the test the process owns what it owned before: descriptors, threads, tasks."""
    fds, threads = leaks.open_fds(), leaks.thread_count()
    loop_thread.complaints.clear()
    yield

    def left() -> dict[int, str]:
        return {fd: what for fd, what in leaks.open_fds().items() if fds.get(fd) != what}

    def ended() -> bool:
        if not left() and leaks.thread_count() <= threads and not loop_thread.tasks():
            return True
        gc.collect()
        return False

    try:
        wait_until(ended, "nothing leaked")
    except AssertionError:
        pytest.fail(
            f"leaked: fds {left()}, threads {leaks.thread_count() - threads} {leaks.thread_names()}, "
            f"tasks {loop_thread.tasks()}"
        )
    assert not loop_thread.complaints, loop_thread.complaints


@pytest.fixture
def backend(no_leaks: None) -> Iterator[Callable[..., Backend]]:
    """Start scripted backends; they are ended after the balancer."""
    with ExitStack() as stack:

        def start(script: Script, **where: Any) -> Backend:
            started = Backend(script, **where)
            stack.callback(started.close)
            return started

        yield start


@pytest.fixture
def refused(no_leaks: None) -> Iterator[Any]:
    """An address whose connects are refused."""
    with refused_address() as address:
        yield address


@pytest.fixture
def unanswered(no_leaks: None) -> Iterator[Any]:
    """An address whose connects are never answered."""
    with unanswered_address() as address:
        yield address


@pytest.fixture
def balance(
    request: pytest.FixtureRequest,
    engine: EngineRooms,
    loop_thread: LoopThread,
    backend: Callable[..., Backend],
) -> Iterator[Callable[..., Balance]]:
    """Start engines. After the test each must be idle with exact counts, and is stopped."""
    with ExitStack() as stack:

        def start(*backends: Any, **settings: Any) -> Balance:
            settings.setdefault("workers", request.config.getoption("--workers"))
            started = Balance(engine, loop_thread, backends, **settings)
            stack.callback(started.finish)
            return started

        yield start
