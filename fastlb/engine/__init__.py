"""The seam: loads an engine, and says why that one was chosen."""

from fastlb.engine.choice import LoadedEngine, load, native_missing_reason

__all__ = ["LoadedEngine", "load", "native_missing_reason"]
