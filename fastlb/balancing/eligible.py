"""Who may be picked at all: the first tier that has somebody in it, and who stands in for it."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A backend as policy sees it. `in_rotation`: up, not ejected and not draining."""

    slot: int
    weight: int = 1
    max_conns: int = 0
    backup: bool = False
    in_rotation: bool = True
    draining: bool = False


def eligible(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """The primaries in rotation; the backups in rotation only if there is no such primary."""
    in_rotation = [candidate for candidate in candidates if candidate.in_rotation]
    primaries = tuple(candidate for candidate in in_rotation if not candidate.backup)
    return primaries or tuple(in_rotation)


def stand_ins(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """The backups in rotation while there are primaries, for exchanges that have tried them all."""
    in_rotation = [candidate for candidate in candidates if candidate.in_rotation]
    backups = tuple(candidate for candidate in in_rotation if candidate.backup)
    return backups if len(backups) < len(in_rotation) else ()


def in_panic(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Everybody who is not draining, whatever their health: better than nobody, if nobody is up."""
    return tuple(candidate for candidate in candidates if not candidate.draining)
