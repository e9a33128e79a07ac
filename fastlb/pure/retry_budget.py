"""How many retries there may be: a share of the exchanges, so that a failing pool is not asked twice.

The exchanges of the last ten seconds are not counted as they happen. Each second that has a retry
takes one sample, and what lies between two samples is taken as even.
"""

from dataclasses import dataclass

from fastlb.model.limits import RETRIES_MIN_PER_S, RETRY_WINDOW_S

_WINDOW_MS = RETRY_WINDOW_S * 1000
_ALWAYS = RETRY_WINDOW_S * RETRIES_MIN_PER_S


@dataclass(slots=True)
class _Second:
    """One second that had a retry; `exchanges` had begun at `at_ms`, its first one."""

    second: int
    at_ms: int
    exchanges: int
    retries: int = 0


class RetryBudget:
    """The budget of one engine. `percent` of the exchanges; None = no limit."""

    __slots__ = ("_before", "_percent", "_seconds")

    def __init__(self, percent: int | None, now_ms: int) -> None:
        self._percent = percent
        self._seconds: list[_Second] = []  # those of the window, oldest first
        self._before = _Second(0, now_ms, 0)  # the newest one that is older

    def spend(self, now_ms: int, exchanges: int) -> bool:
        """True if one more retry may be made, which is then counted. `exchanges`: begun so far."""
        if self._percent is None:
            return True
        self._forget(now_ms // 1000)
        if not self._seconds or self._seconds[-1].second != now_ms // 1000:
            self._seconds.append(_Second(now_ms // 1000, now_ms, exchanges))
        found = exchanges - self._seconds[0].exchanges + self._exchanges_before(now_ms)
        if sum(second.retries for second in self._seconds) >= max(found * self._percent // 100, _ALWAYS):
            return False
        self._seconds[-1].retries += 1
        return True

    def _forget(self, second: int) -> None:
        while self._seconds and self._seconds[0].second + RETRY_WINDOW_S <= second:
            self._before = self._seconds.pop(0)

    def _exchanges_before(self, now_ms: int) -> int:
        """Exchanges from the start of the window to the oldest sample in it."""
        oldest, before = self._seconds[0], self._before
        start_ms = max(now_ms - _WINDOW_MS, 0)
        if start_ms >= oldest.at_ms:
            return 0
        found = oldest.exchanges - before.exchanges
        if start_ms <= before.at_ms:
            return found
        return found * (oldest.at_ms - start_ms) // (oldest.at_ms - before.at_ms)
