"""What one acquire and its release cost, by number of backends."""

from typing import Any

import pytest

from fastlb.model.limits import BACKENDS_MAX

_ROUNDS = 2000
_SIZES = (10, 1000, BACKENDS_MAX)


@pytest.mark.parametrize("backends", _SIZES)
def test_churn(engine: Any, benchmark: Any, backends: int) -> None:
    """The heap alone: pairs in one loop, the native one without the GIL. Time is per 2,000 pairs."""
    benchmark.group = f"balancer: {_ROUNDS} pairs in one loop, {backends} backends"
    heap = engine.LeastLoaded(weights=[1] * backends)
    benchmark(heap.churn, _ROUNDS)


@pytest.mark.parametrize("backends", _SIZES)
def test_calls(engine: Any, benchmark: Any, backends: int) -> None:
    """One pair as Python calls it, with one other exchange on every tenth backend."""
    benchmark.group = f"balancer: one pair called from Python, {backends} backends"
    heap = engine.LeastLoaded(weights=[1] * backends)
    for _ in range(backends // 10):
        heap.acquire()

    def pair() -> None:
        heap.release(heap.acquire())

    benchmark(pair)
