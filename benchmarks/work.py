"""What every balancer is asked to do, and what a balancer is to the benchmarks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.launch import Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Equal work for all: one listener, the same three backends, least connections, checks on.

    `http`: HTTP mode, else TCP. `access_log`: a file to write the log to, None = off.
    `bulk`: large responses, for which a peer may be tuned otherwise than for small ones.
    """

    http: bool
    port: int
    backends: tuple[int, ...]
    bulk: bool = False
    access_log: Path | None = None


class Peer(Protocol):
    """One balancer: where it is, which version, and how it is started for some work."""

    name: str

    def missing(self) -> str | None:
        """Why it cannot run here, with what to do; None if it can."""

    def version(self) -> str:
        """Its version, for the results."""

    def command(self, work: Work, run_dir: Path) -> Command:
        """Write its configuration to `run_dir` and say how to start it in the foreground."""
