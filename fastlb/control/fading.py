"""What failures have added to the loads of backends halves every second: the engine adds, time takes away."""

from fastlb.control.clock import Clock
from fastlb.model.contract import Engine

# While there is something to fade, and while there is nothing that the last look knew of.
STEP_S = 0.2
LOOK_S = 1.0
_HALF_LIFE_S = 1.0


class Fading:
    """Lets failures be forgotten, by the time that has really passed."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._last_s = clock.now_s()

    def step(self) -> float:
        """Fade once. Returns: the seconds until the next step."""
        now_s = self._clock.now_s()
        share = 0.5 ** ((now_s - self._last_s) / _HALF_LIFE_S)
        self._last_s = now_s
        return STEP_S if self._engine.fade_failures(share) else LOOK_S
