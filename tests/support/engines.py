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
    proxy_protocol: ModuleType
    ChunkDecoder: type[Any]


def load(name: str) -> EngineRooms:
    """Import one engine. Raises: ImportError as it is; there is no fallback."""
    engine = importlib.import_module(f"fastlb.{name}.engine")
    balancer = importlib.import_module(f"fastlb.{name}.balancer")
    # The native parsers are C functions; `parsing` shows them to Python.
    http1 = importlib.import_module("fastlb.native.parsing" if name == "native" else "fastlb.pure.http1")
    chunked = http1 if name == "native" else importlib.import_module("fastlb.pure.chunked")
    return EngineRooms(
        name=name,
        Engine=getattr(engine, f"{name.capitalize()}Engine"),
        Balancer=balancer.Balancer,
        LeastLoaded=balancer.LeastLoaded,
        proxy_protocol=importlib.import_module(f"fastlb.{name}.proxy_protocol"),
        http1=http1,
        ChunkDecoder=chunked.ChunkDecoder,
        RetryBudget=importlib.import_module(f"fastlb.{name}.retry_budget").RetryBudget,
    )
