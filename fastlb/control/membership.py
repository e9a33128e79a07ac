"""The backends of the pool: who they are, how they are, and the plan that follows from it.

Everything here happens in the event loop's thread. What is observed changes one member at once,
and the plan in the next turn of the loop: a thousand changes in one turn make one plan.
"""

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fastlb.balancing.eligible import Candidate, eligible
from fastlb.balancing.plans import build_plan
from fastlb.control.clock import Clock
from fastlb.control.logs import OperationLog
from fastlb.health import passive, rise_fall, slow_start
from fastlb.health.passive import Ejection
from fastlb.health.rise_fall import Health, State
from fastlb.model.address import Address
from fastlb.model.config import BackendConfig, Policy, ProbeConfig
from fastlb.model.contract import Engine
from fastlb.model.errors import ConfigError
from fastlb.model.events import Event, EventKind
from fastlb.model.plan import Plan, PlanEntry
from fastlb.probe.result import ProbeResult

_FAILURES = {EventKind.CONNECT_FAILED: "connects", EventKind.BACKEND_FAILED: "exchanges"}


@dataclass(slots=True, kw_only=True, eq=False)
class Member:
    """A backend as the control plane knows it. Only Membership changes it."""

    config: BackendConfig
    address: Address  # numeric or UNIX
    slot: int
    added_s: float
    health: Health = field(default_factory=Health)
    ejection: Ejection = field(default_factory=Ejection)
    draining: bool = False
    recovered_s: float | None = None  # slow start since then

    @property
    def label(self) -> str:
        """The name that log lines use."""
        return self.config.label

    @property
    def status(self) -> str:
        """`up`, `down`, `unknown`, `ejected` or `draining`."""
        if self.draining:
            return "draining"
        if self.health.state is State.UP and self.ejection.until_s is not None:
            return "ejected"
        return self.health.state.value

    @property
    def in_rotation(self) -> bool:
        """True if it may be picked (a backup: once every primary is out)."""
        return self.status == "up"


class Watcher(Protocol):
    """Who asks the members how they are."""

    def watch(self, member: Member) -> None:
        """Begin to probe it, at once."""

    def forget(self, member: Member) -> None:
        """Probe it no more."""

    def bring_forward(self, member: Member) -> None:
        """It failed in traffic: probe it soon."""


class Membership:
    """The list of members, and the only place that publishes plans."""

    def __init__(
        self,
        engine: Engine,
        *,
        policy: Policy,
        probe: ProbeConfig,
        log: OperationLog,
        clock: Clock,
        later: Callable[[Callable[[], None]], object],
    ) -> None:
        """`later` calls what it is given in the next turn of the event loop."""
        self._engine = engine
        self._policy = policy
        self._probe = probe
        self._log = log
        self._clock = clock
        self._later = later
        self._members: dict[str, Member] = {}  # by label, in the order in which they were added
        self._by_slot: dict[int, Member] = {}
        self._addresses: set[Address] = set()  # of all members; asked before the engine is told anything
        self._statuses: Counter[str] = Counter()
        self._plan: Plan | None = None
        self._publish_due = False
        self._closed = False
        self._watcher: Watcher | None = None

    @property
    def members(self) -> Sequence[Member]:
        """The members now, in the order in which they were added."""
        return tuple(self._members.values())

    def watched_by(self, watcher: Watcher) -> None:
        """Let `watcher` probe all members, and those that come later."""
        self._watcher = watcher
        for member in self._members.values():
            watcher.watch(member)

    def member(self, label: str) -> Member:
        """The member with this label. Raises: KeyError."""
        return self._members[label]

    def add(self, config: BackendConfig, address: Address) -> Member:
        """Take in a backend, whose `address` is numeric.

        With probes it gets traffic from its first pass on, without them at once.
        Raises: ConfigError if its label or its address is there already.
        """
        if config.label in self._members:
            raise ConfigError("backend.name", config.label, "given once")
        if address in self._addresses:
            raise ConfigError("backend", str(config.address), "an address given once")
        slot = self._engine.add_backend(address, config.label, config.proxy_protocol)
        self._addresses.add(address)
        member = Member(config=config, address=address, slot=slot, added_s=self._clock.now_s())
        if not self._probe.enabled:
            member.health = rise_fall.assume_up(member.health)
        self._members[member.label] = self._by_slot[slot] = member
        self._statuses[member.status] += 1
        self._publish_later()
        if self._watcher is not None:
            self._watcher.watch(member)
        return member

    def remove(self, label: str) -> None:
        """Take a backend out; its open exchanges go on to their end. Raises: KeyError."""
        member = self.member(label)
        del self._members[label], self._by_slot[member.slot]
        self._addresses.remove(member.address)
        self._statuses[member.status] -= 1
        if self._watcher is not None:
            self._watcher.forget(member)
        self._publish()
        self._engine.remove_backend(member.slot)
        self._say(member, "removed", "asked for")

    def drain(self, label: str) -> None:
        """Send a backend nothing new; its open exchanges go on. Raises: KeyError."""
        self._set_draining(self.member(label), True)

    def restore(self, label: str) -> None:
        """End `drain`; probes have gone on meanwhile. Raises: KeyError."""
        self._set_draining(self.member(label), False)

    def move(self, member: Member, address: Address) -> bool:
        """Use another numeric address for a member whose name resolves to it now.

        Returns: False, with nothing changed, if another member has that address.
        """
        if address in self._addresses:
            return False
        slot = self._engine.add_backend(address, member.label, member.config.proxy_protocol)
        self._addresses.remove(member.address)
        self._addresses.add(address)
        old_slot, member.slot, member.address = member.slot, slot, address
        self._by_slot[slot] = self._by_slot.pop(old_slot)
        self._publish()
        self._engine.remove_backend(old_slot)
        self._say(member, "moved", f"its name resolves to {address} now")
        if self._watcher is not None:
            self._watcher.bring_forward(member)
        return True

    def observe_probe(self, member: Member, result: ProbeResult) -> None:
        """Judge a member by the result of a probe."""
        if result.local or self._by_slot.get(member.slot) is not member:
            return
        before, was = member.status, member.health.state
        member.health = rise_fall.observe(
            member.health, result.passed, rise=self._probe.rise, fall=self._probe.fall
        )
        if result.passed:
            member.ejection = Ejection()
        if was is State.DOWN and member.health.state is State.UP:
            member.recovered_s = self._clock.now_s()
        self._changed(member, before, self._probe_reason(was, result))

    def observe_event(self, event: Event) -> None:
        """Judge a member by what happened in traffic. Events of strangers are ignored."""
        member = self._by_slot.get(event.slot)
        if member is None or event.kind not in _FAILURES:
            return
        before = member.status
        member.ejection = passive.observe_failure(
            member.ejection, event.in_a_row, self._clock.now_s(), allowed=self._may_eject()
        )
        why = os.strerror(event.errno).lower() if event.errno else "no valid response"
        self._changed(member, before, f"{event.in_a_row} {_FAILURES[event.kind]} failed in a row: {why}")
        if self._watcher is not None:
            self._watcher.bring_forward(member)

    def tick(self) -> None:
        """Do what time alone brings about; call it about once a second."""
        now_s = self._clock.now_s()
        patience_s = rise_fall.first_result_due_s(
            interval_s=self._probe.interval_s, timeout_s=self._probe.timeout_s
        )
        for member in self._members.values():
            before = member.status
            if member.health.state is State.UNKNOWN and now_s - member.added_s > patience_s:
                member.health = rise_fall.assume_up(member.health)
                self._changed(member, before, f"no probe could be finished in {patience_s:g}s")
            elif member.ejection.until_s is not None:
                member.ejection = passive.observe_time(member.ejection, now_s)
                self._changed(member, before, "its ejection is over")
            if member.recovered_s is not None and slow_start.ramp_share(member.recovered_s, now_s) >= 1:
                member.recovered_s = None
        self._publish_later()

    def close(self) -> None:
        """Publish no more: the engine is about to end."""
        self._closed = True

    def _set_draining(self, member: Member, draining: bool) -> None:
        before = member.status
        member.draining = draining
        self._changed(member, before, "asked for")

    def _may_eject(self) -> bool:
        return passive.may_eject(
            pool=len(self._members) - self._statuses["draining"],
            ejected=self._statuses["ejected"],
            in_rotation=self._statuses["up"],
        )

    def _probe_reason(self, was: State, result: ProbeResult) -> str:
        if was is State.UNKNOWN:
            return f"first probe: {result.reason}"
        needed = self._probe.rise if result.passed else self._probe.fall
        probes = "probe" if needed == 1 else f"{needed} probes in a row"
        return f"{probes} {'passed' if result.passed else 'failed'}: {result.reason}"

    def _changed(self, member: Member, before: str, reason: str) -> None:
        if member.status == before:
            return
        self._statuses[before] -= 1
        self._statuses[member.status] += 1
        if not member.in_rotation:
            member.recovered_s = None
        self._publish_later()
        self._say(member, member.status, reason)

    def _say(self, member: Member, what: str, reason: str) -> None:
        say = self._log.warning if what in ("down", "ejected") else self._log.info
        say(
            f"backend {what}",
            backend=member.label,
            reason=reason,
            in_rotation=f"{self._statuses['up']}/{len(self._members)}",
        )

    def _publish_later(self) -> None:
        if not self._publish_due:
            self._publish_due = True
            self._later(self._publish)

    def _publish(self) -> None:
        """Publish a plan if it differs from the last one."""
        self._publish_due = False
        if self._closed:
            return
        plan = build_plan(
            self._policy, self._entries(), retry_after_s=max(1, math.ceil(self._probe.interval_s))
        )
        if plan != self._plan:
            self._engine.publish(plan)
            self._plan = plan

    def _entries(self) -> list[PlanEntry]:
        chosen = eligible(
            Candidate(
                slot=member.slot,
                weight=member.config.weight,
                max_conns=member.config.max_conns,
                backup=member.config.backup,
                in_rotation=member.in_rotation,
            )
            for member in self._members.values()
        )
        caps = self._ramp_caps(chosen)
        return [PlanEntry(one.slot, one.weight, caps.get(one.slot, one.max_conns)) for one in chosen]

    def _ramp_caps(self, chosen: Sequence[Candidate]) -> dict[int, int]:
        """Limits of the members in slow start, by slot."""
        since = {one.slot: one.recovered_s for one in self._members.values() if one.recovered_s is not None}
        warm = [one for one in chosen if one.slot not in since]
        if not since or not warm:
            return {}
        now_s = self._clock.now_s()
        in_flight = {counts.slot: counts.in_flight for counts in self._engine.ledger().backends}
        others = [(in_flight.get(one.slot, 0), one.weight) for one in warm]
        caps = {}
        for one in chosen:
            if one.slot in since:
                cap = slow_start.ramp_cap(slow_start.ramp_share(since[one.slot], now_s), one.weight, others)
                caps[one.slot] = slow_start.tighter(cap, one.max_conns)
        return caps
