"""Backends on their way out: what is still open on one when its time is over is ended, with code K.

Requests end by themselves long before; WebSockets and TCP sessions would stay for ever.
"""

from fastlb.control.clock import Clock
from fastlb.control.logs import OperationLog
from fastlb.model.contract import Engine


class Departures:
    """Which slots were drained or removed, and until when they may keep their open exchanges."""

    def __init__(self, engine: Engine, log: OperationLog, clock: Clock, patience_s: float) -> None:
        self._engine = engine
        self._log = log
        self._clock = clock
        self._patience_s = patience_s
        self._due_s: dict[int, tuple[str, float]] = {}

    def leave(self, slot: int, label: str) -> None:
        """It gets nothing new from now on."""
        self._due_s.setdefault(slot, (label, self._clock.now_s() + self._patience_s))

    def stay(self, slot: int) -> None:
        """It is used again, or is another backend now."""
        self._due_s.pop(slot, None)

    def tick(self) -> None:
        """End what is overdue."""
        if not self._due_s:
            return
        now_s = self._clock.now_s()
        for slot, (label, due_s) in list(self._due_s.items()):
            if due_s <= now_s:
                del self._due_s[slot]
                if exchanges := self._engine.exchanges_on(slot):
                    self._engine.end_exchanges(slot, "K")
                    self._log.warning(
                        "exchanges ended at the end of their backend's drain",
                        backend=label,
                        exchanges=exchanges,
                    )
