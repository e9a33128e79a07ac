"""Which event loop runs: uvloop, or asyncio's own where uvloop has no wheels, such as on PyPy."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


def run_on_best_loop(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run `work` to its end in a new event loop. Returns its result; raises what it raises."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.run(work)
    return uvloop.run(work)
