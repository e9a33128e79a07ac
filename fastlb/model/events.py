"""What an engine tells the control plane, apart from the access log."""

from dataclasses import dataclass
from enum import Enum


class EventKind(str, Enum):
    """CONNECT_FAILED: a connect to a backend was refused, unreachable or timed out.
    BACKEND_FAILED: a backend accepted, then broke before a valid response (HTTP mode).
    ACCEPT_PAUSED: accept() ran out of descriptors or memory, or the connection limit was reached.
    ACCEPT_RESUMED: accepting again.
    BUFFERS_FULL: an exchange needed memory for its bytes, and the limit was reached.
    BACKEND_ERROR: a backend answered with a status that counts as a failure (`eject_errors`).
    NO_PORTS: there was no local port left to connect to a backend from.
    """

    CONNECT_FAILED = "connect_failed"
    BACKEND_FAILED = "backend_failed"
    ACCEPT_PAUSED = "accept_paused"
    ACCEPT_RESUMED = "accept_resumed"
    BUFFERS_FULL = "buffers_full"
    BACKEND_ERROR = "backend_error"
    NO_PORTS = "no_ports"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in the data plane.

    `slot`: the backend, -1 if none. `errno`: the reason, 0 if there is none; ETIMEDOUT for a
    time-out of our own. `in_a_row`: failures of this backend since its last success.
    """

    kind: EventKind
    slot: int = -1
    errno: int = 0
    in_a_row: int = 0
