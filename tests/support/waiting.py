"""Waiting for a condition instead of sleeping for luck."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Generous, because the machine may have other work; reached only by a test that fails.
PATIENCE_S = 30.0
_POLL_S = 0.002


def wait_until(condition: Callable[[], T], what: str = "", timeout_s: float = PATIENCE_S) -> T:
    """Ask `condition` until it is true and return what it gave. Raises AssertionError in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what or condition}; last value {value!r}")
        time.sleep(_POLL_S)
