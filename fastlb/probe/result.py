"""What one probe found out."""

import errno
import os
from dataclasses import dataclass

from fastlb.model.address import Address

# Faults of this machine: they say nothing about the backend that was to be asked.
LOCAL_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})
_WORDS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.ETIMEDOUT: "connect timed out",
    errno.ENOENT: "no such socket",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """`reason`: a few words, also for a pass. `took_s`: seconds. `local`: this machine could not
    ask, so the result must not count for or against the backend. `address`: the one of the backend's
    addresses that took the connection, if one did."""

    passed: bool
    reason: str
    took_s: float
    local: bool = False
    address: Address | None = None


def failed_connection(error: OSError, took_s: float) -> ProbeResult:
    """The result of a probe that ended with an error of the socket."""
    number = error.errno or 0
    reason = _WORDS.get(number) or (os.strerror(number).lower() if number else str(error))
    return ProbeResult(passed=False, reason=reason, took_s=took_s, local=number in LOCAL_ERRNOS)
