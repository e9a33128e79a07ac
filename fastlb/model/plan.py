"""The table that a policy publishes and an engine indexes.

A plan names the backends that may be picked, and nothing else: what is down or draining is simply
not in it. Backups stand apart in it, for exchanges that have tried every other entry. A new plan
replaces the old one at once for the next pick and touches no open exchange.
"""

from dataclasses import dataclass
from enum import Enum

from fastlb.model.errors import ConfigError
from fastlb.model.limits import BACKENDS_MAX, PLAN_TABLE_MAX, PLAN_WEIGHT_MAX


class Pick(str, Enum):
    """How an engine uses a plan.

    LEAST_LOADED: the heap of exchange counts.
    CYCLE: the table's next slot, one cursor for all workers.
    RANDOM: a slot of the table at random.
    """

    LEAST_LOADED = "least_loaded"
    CYCLE = "cycle"
    RANDOM = "random"


@dataclass(frozen=True, slots=True)
class PlanEntry:
    """One backend that may be picked.

    `max_conns`: exchanges at once, which a ramp may lower for a while. `conns_max`: connections that
    may be open to it, idle ones included. 0 = no limit.
    """

    slot: int
    weight: int = 1
    max_conns: int = 0
    conns_max: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.slot < BACKENDS_MAX:
            raise ConfigError("plan.slot", self.slot, f"from 0 to {BACKENDS_MAX - 1}")
        if not 1 <= self.weight <= PLAN_WEIGHT_MAX:
            raise ConfigError("plan.weight", self.weight, f"from 1 to {PLAN_WEIGHT_MAX}")
        if self.max_conns < 0:
            raise ConfigError("plan.max_conns", self.max_conns, "0 or more")
        if self.conns_max and not 0 < self.max_conns <= self.conns_max:
            raise ConfigError("plan.conns_max", self.conns_max, "0, or max_conns or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The immutable table of one policy.

    `table`: slots in the order (CYCLE) or in the proportion (RANDOM) in which they are picked;
    every slot in it has an entry; empty for LEAST_LOADED. A slot that is full or was already
    tried is stepped over to the next one of the table.
    `backups`: the least loaded of them is picked, whatever `pick` says, for an exchange that has
    tried all of `entries`. Entries that are only full are waited for.
    `retry_after_s`: what a 503 tells the client when nothing can be picked.
    """

    pick: Pick = Pick.LEAST_LOADED
    entries: tuple[PlanEntry, ...] = ()
    table: tuple[int, ...] = ()
    backups: tuple[PlanEntry, ...] = ()
    retry_after_s: int = 2

    def __post_init__(self) -> None:
        slots = {entry.slot for entry in self.entries}
        if len(slots | {entry.slot for entry in self.backups}) != len(self.entries) + len(self.backups):
            raise ConfigError("plan.entries", len(self.entries), "one entry for each slot")
        if len(self.table) > PLAN_TABLE_MAX:
            raise ConfigError("plan.table", len(self.table), f"at most {PLAN_TABLE_MAX} slots")
        if not slots.issuperset(self.table):
            raise ConfigError("plan.table", sorted(set(self.table) - slots), "made of slots with an entry")
        if self.pick is not Pick.LEAST_LOADED and self.entries and not self.table:
            raise ConfigError("plan.table", self.table, "present for this pick")
