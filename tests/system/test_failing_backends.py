"""What clients see of backends that fail while their checks pass."""

import asyncio

import pytest

failing = pytest.importorskip("benchmarks.failing", reason="the benchmarks are not beside the tests")


def test_backend_that_answers_500_at_once_gets_little_of_the_traffic(engine):
    """One of four, without any flag. It had 85 % of all answers; the goal is below 2 %, and the bound is
    wide because the first second of a busy machine says little."""
    found = asyncio.run(failing.scene(engine.name, 3, [failing.broken, *[failing.well] * 3]))

    assert found["200"] > 100
    assert failing.share(found) < 0.15, found


def test_pool_with_one_backend_that_is_well_serves_while_others_flap(engine):
    """Two of three stop and start listening all the time: three tries find the third."""
    found = asyncio.run(failing.scene(engine.name, 3, [failing.well], flapping=2))

    assert found["200"] > 100
    assert failing.share(found) < 0.1, found
