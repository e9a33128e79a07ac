"""What failures have added to loads halves every second, however late the clock."""

import pytest
from fakes import FakeClock, FakeEngine

from fastlb.control.fading import LOOK_S, STEP_S, Fading


def test_failures_fade_by_the_time_that_has_passed():
    """A loop that was busy must not make them last."""
    engine, clock = FakeEngine(), FakeClock()
    fading = Fading(engine, clock)
    for passed_s in (0.0, 0.2, 1.0, 3.0):
        clock.time_s += passed_s
        fading.step()

    assert engine.shares == pytest.approx([1, 0.5**0.2, 0.5, 0.125])


def test_the_engine_is_left_alone_while_nothing_fails():
    """Five times a second while there is something to fade, once otherwise."""
    engine, clock = FakeEngine(), FakeClock()
    fading = Fading(engine, clock)

    assert fading.step() == LOOK_S
    engine.failing = True
    assert fading.step() == STEP_S < LOOK_S
