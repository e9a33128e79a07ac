"""The engines, each as one namespace, so that every test runs on both."""

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

NAMES = ("native", "pure")


@dataclass(frozen=True)
class EngineRooms:
    """What a test may use of one engine."""

    name: str
    Engine: type[Any]
    Balancer: type[Any]
    LeastLoaded: type[Any]
    RetryBudget: type[Any]
    http1: ModuleType


def load(name: str) -> EngineRooms:
    """Import one engine. Raises: ImportError as it is; there is no fallback."""
    engine = importlib.import_module(f"fastlb.{name}.engine")
    balancer = importlib.import_module(f"fastlb.{name}.balancer")
    return EngineRooms(
        name=name,
        Engine=getattr(engine, f"{name.capitalize()}Engine"),
        Balancer=balancer.Balancer,
        LeastLoaded=balancer.LeastLoaded,
        RetryBudget=importlib.import_module(f"fastlb.{name}.retry_budget").RetryBudget,
        http1=importlib.import_module(f"fastlb.{name}.http1"),
    )
