"""The engine a benchmark runs on, chosen as in the tests: --engine native|pure|both."""

import sys
from pathlib import Path

import pytest

# What a test may use of an engine is what a benchmark may use.
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from support.engines import NAMES, EngineRooms, load


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which engines to measure."""
    parser.addoption("--engine", choices=(*NAMES, "both"), default="both", help="engines to measure")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `engine` to every benchmark that wants it, once for each engine."""
    if "engine" in metafunc.fixturenames:
        choice = metafunc.config.getoption("--engine")
        names = NAMES if choice == "both" else (choice,)
        metafunc.parametrize("engine", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> EngineRooms:
    """One engine. One that was asked for and cannot be imported fails, it is never skipped."""
    return load(request.param)
