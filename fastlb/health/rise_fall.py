"""Who is up, from the results of probes.

Results count in a row: one opposite result starts the count again. Before the first result a
backend is unknown and gets no traffic; that first result decides alone, so that a start does not
have to wait for `rise` probes. A backend that could not be asked in time is taken as up while nobody
is known to be up: it is better to try it than to refuse clients because the asking was slow.

state      pass                      failure
unknown    up                        down
up         up, count 0               count + 1; down at `fall`
down       count + 1; up at `rise`   down, count 0
"""

from dataclasses import dataclass
from enum import Enum


class State(str, Enum):
    """What probes have found out about a backend."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Health:
    """A state, and how many results in a row have spoken against it."""

    state: State = State.UNKNOWN
    against: int = 0


_AGREED = {True: State.UP, False: State.DOWN}


def observe(health: Health, passed: bool, *, rise: int, fall: int) -> Health:
    """The health after one more probe."""
    said = _AGREED[passed]
    if health.state is said:
        return Health(said)
    needed = {State.UNKNOWN: 1, State.UP: fall, State.DOWN: rise}[health.state]
    against = health.against + 1
    return Health(said) if against >= needed else Health(health.state, against)


def assume_up(health: Health) -> Health:
    """The health once the wait for a first result is over."""
    return Health(State.UP) if health.state is State.UNKNOWN else health


def first_result_due_s(*, interval_s: float, timeout_s: float) -> float:
    """How long a backend may stay unknown, in seconds from when it was added."""
    return interval_s + timeout_s
