"""From who may be picked to the table that an engine indexes."""

from collections.abc import Sequence

from fastlb.balancing.smooth_weighted import smooth_sequence
from fastlb.model.config import Policy
from fastlb.model.plan import Pick, Plan, PlanEntry

_PICKS = {
    Policy.LEAST_CONN: Pick.LEAST_LOADED,
    Policy.ROUND_ROBIN: Pick.CYCLE,
    Policy.RANDOM: Pick.RANDOM,
}


def build_plan(
    policy: Policy, entries: Sequence[PlanEntry], *, retry_after_s: int, backups: Sequence[PlanEntry] = ()
) -> Plan:
    """The plan of `policy` over `entries`; without entries, one that picks nobody.

    Random uses the smooth round too: a pick that is full steps to the next slot of the table,
    and in a smooth round that neighbour is not always the same one.
    """
    pick = _PICKS[policy]
    table: tuple[int, ...] = ()
    if pick is not Pick.LEAST_LOADED and entries:
        slots = [entry.slot for entry in entries]
        table = tuple(slots[index] for index in smooth_sequence([entry.weight for entry in entries]))
    return Plan(
        pick=pick,
        entries=tuple(entries),
        table=table,
        backups=tuple(backups),
        retry_after_s=retry_after_s,
    )
