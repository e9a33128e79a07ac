"""The engine a benchmark runs on, chosen as in the tests: --engine native|pure|both."""

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

_NAMES = ("native", "pure")


@dataclass(frozen=True)
class EngineRooms:
    """The parts of one engine; each is imported when a benchmark first uses it."""

    name: str

    @property
    def Engine(self) -> type[Any]:  # noqa: N802 -- it is a class, named as in the tests
        """The class that carries exchanges."""
        return getattr(self._room("engine"), f"{self.name.capitalize()}Engine")

    @property
    def LeastLoaded(self) -> type[Any]:  # noqa: N802 -- the same
        """The balancer alone."""
        return self._room("balancer").LeastLoaded

    @property
    def http1(self) -> ModuleType:
        """The parser of heads."""
        return self._room("http1")

    def _room(self, name: str) -> ModuleType:
        return importlib.import_module(f"fastlb.{self.name}.{name}")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which engines to measure."""
    parser.addoption("--engine", choices=(*_NAMES, "both"), default="both", help="engines to measure")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `engine` to every benchmark that wants it, once for each engine."""
    if "engine" in metafunc.fixturenames:
        choice = metafunc.config.getoption("--engine")
        names = _NAMES if choice == "both" else (choice,)
        metafunc.parametrize("engine", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> EngineRooms:
    """One engine. One that was asked for and cannot be imported fails, it is never skipped."""
    return EngineRooms(request.param)
