"""Signals from the first instant on.

Python leaves most of them as the kernel has them: SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 end a
process that is still importing, without a drain; and for the first process of a container the kernel
throws a signal away that nobody handles (pid_namespaces(7)). So the command holds them before anything
slow is imported, and whoever serves takes them over, beginning with those that came meanwhile.
SIGINT is Python's own: until then it ends the command, as it does everywhere.
"""

import signal
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Protocol

_HELD = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_early: list[int] = []

Actions = Mapping[signal.Signals, Callable[[], None]]


class SignalLoop(Protocol):
    """The part of an asyncio event loop that is needed here."""

    def add_signal_handler(self, sig: int, callback: Callable[[], None]) -> None:
        """Call `callback` in the loop when the signal comes."""


def hold() -> None:
    """Remember the signals that come from now on. In the main thread only."""
    for number in _HELD:
        signal.signal(number, _remember)


def take_over(loop: SignalLoop, actions: Actions) -> None:
    """Let each signal do its action, the remembered ones now and in their order."""
    for number, action in actions.items():
        loop.add_signal_handler(number, action)
    while _early:
        number = signal.Signals(_early.pop(0))
        if number in actions:
            actions[number]()


def _remember(number: int, _frame: FrameType | None) -> None:
    _early.append(number)
