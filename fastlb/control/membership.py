"""The backends of the pool: who they are, how they are, and the plan that follows from it.

Everything here happens in the event loop's thread. What is observed changes one member at once,
and the plan in the next turn of the loop: a thousand changes in one turn make one plan.
"""

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from fastlb.control.clock import Clock
from fastlb.control.departures import Departures
from fastlb.control.logs import Bursts, OperationLog, Value
from fastlb.control.member import Member
from fastlb.control.publisher import Publisher
from fastlb.health import passive, rise_fall, slow_start
from fastlb.health.rise_fall import State
from fastlb.model.address import ADDRESSES_MAX, Address
from fastlb.model.config import AllDown, BackendConfig, EjectConfig, OnDown, Policy, ProbeConfig
from fastlb.model.contract import Engine
from fastlb.model.errors import ConfigError
from fastlb.model.events import Event, EventKind
from fastlb.probe.result import ProbeResult

# What failed, and why if there is no errno. A check would have met the first kind only.
_FAILURES = {
    EventKind.CONNECT_FAILED: ("connects", "unknown"),
    EventKind.BACKEND_FAILED: ("exchanges", "no valid response"),
    EventKind.BACKEND_ERROR: ("exchanges", "server error"),
}
_ASKED_FOR = "asked for"


class Watcher(Protocol):
    """Who asks the members how they are."""

    def watch(self, member: Member) -> None:
        """Begin to probe it, at once."""

    def forget(self, member: Member) -> None:
        """Probe it no more."""

    def bring_forward(self, member: Member) -> None:
        """It failed in traffic: probe it soon."""


class Membership:
    """The list of members, and when the engine has to be told of them."""

    def __init__(
        self,
        engine: Engine,
        *,
        policy: Policy,
        probe: ProbeConfig,
        log: OperationLog,
        clock: Clock,
        later: Callable[[Callable[[], None]], object],
        all_down: AllDown = AllDown.FAIL,
        on_down: OnDown = OnDown.KEEP,
        ejection: EjectConfig | None = None,
        drain_s: float = 30.0,
    ) -> None:
        """`later` calls what it is given in the next turn of the event loop. `drain_s`: how long a
        backend that is drained or removed may keep its open exchanges."""
        self._engine = engine
        self._probe = probe
        self._log = log
        self._clock = clock
        self._later = later
        self._on_down = on_down
        self._rules = ejection or EjectConfig()
        self._departures = Departures(engine, log, clock, drain_s)
        self._publisher = Publisher(
            engine,
            policy=policy,
            all_down=all_down,
            retry_after_s=probe.interval_s,
            log=log,
            clock=clock,
        )
        self._members: dict[str, Member] = {}  # by label, in the order in which they were added
        self._by_slot: dict[int, Member] = {}
        self._addresses: set[Address] = set()  # those that members begin with
        self._standings: Counter[tuple[str, bool]] = Counter()
        self._bursts = Bursts()
        self._publish_due = False
        self._closed = False
        self._watcher: Watcher | None = None

    @property
    def members(self) -> Sequence[Member]:
        """The members now, in the order in which they were added."""
        return tuple(self._members.values())

    @property
    def anybody_up(self) -> bool:
        """True if somebody may be picked without a panic."""
        return self._count("up") > 0

    @property
    def panicking(self) -> bool:
        """True while traffic goes to backends that are down, because all of them are."""
        return self._publisher.panicking

    def watched_by(self, watcher: Watcher) -> None:
        """Let `watcher` probe all members, and those that come later."""
        self._watcher = watcher
        for member in self._members.values():
            watcher.watch(member)

    def member(self, label: str) -> Member:
        """The member with this label. Raises: KeyError."""
        return self._members[label]

    def add(self, config: BackendConfig, address: Address, others: Sequence[Address] = ()) -> Member:
        """Take in a backend, whose `address` is numeric, as are its `others`. The first of them all that no
        other backend begins with is where it begins.

        With probes it gets traffic from its first pass on, without them at once.
        Raises: ConfigError if its label or its address is there already.
        """
        if config.label in self._members:
            raise ConfigError("backend.name", config.label, "given once")
        addresses = self._free((address, *others))
        if not addresses:
            raise ConfigError("backend", str(config.address), "an address given once")
        slot = self._engine.add_backend(
            addresses[0], config.label, config.proxy_protocol, others=addresses[1:]
        )
        self._addresses.add(addresses[0])
        member = Member(
            config=config,
            address=addresses[0],
            addresses=addresses,
            slot=slot,
            added_s=self._clock.now_s(),
        )
        if not self._probe.enabled:
            member.health = rise_fall.assume_up(member.health)
        self._members[member.label] = self._by_slot[slot] = member
        self._standings[member.standing] += 1
        self._departures.stay(slot)
        self._publish_later()
        if self._watcher is not None:
            self._watcher.watch(member)
        return member

    def remove(self, label: str) -> None:
        """Take a backend out; its open exchanges go on, for `drain_s` at most. Raises: KeyError."""
        member = self.member(label)
        del self._members[label], self._by_slot[member.slot]
        self._addresses.remove(member.addresses[0])
        self._standings[member.standing] -= 1
        if self._watcher is not None:
            self._watcher.forget(member)
        self._end_last_ejections()
        self._publish()
        self._departures.leave(member.slot, label)
        self._engine.remove_backend(member.slot)
        self._bursts.forget(label)
        self._say(member, "removed", _ASKED_FOR)

    def drain(self, label: str) -> None:
        """Send a backend nothing new; its open exchanges go on, for `drain_s` at most. Raises: KeyError."""
        self._set_draining(self.member(label), True)

    def restore(self, label: str) -> None:
        """End `drain`; probes have gone on meanwhile. Raises: KeyError."""
        self._set_draining(self.member(label), False)

    def move(self, member: Member, found: Sequence[Address]) -> bool:
        """Use other numeric addresses for a member whose name resolves to them now.

        Returns: False, with nothing changed, if other members begin with all of them.
        """
        self._addresses.remove(member.addresses[0])
        addresses = self._free(found)
        self._addresses.add(addresses[0] if addresses else member.addresses[0])
        if not addresses or addresses == member.addresses:
            return bool(addresses)
        slot = self._engine.add_backend(
            addresses[0], member.label, member.config.proxy_protocol, others=addresses[1:]
        )
        old_slot, member.slot = member.slot, slot
        member.address, member.addresses = addresses[0], addresses
        if slot != old_slot:
            self._departures.stay(slot)
            self._by_slot[slot] = self._by_slot.pop(old_slot)
            self._publish()
            self._engine.remove_backend(old_slot)
        self._say(member, "moved", f"its name resolves to {','.join(map(str, addresses))} now")
        if self._watcher is not None:
            self._watcher.bring_forward(member)
        return True

    def _free(self, found: Sequence[Address]) -> tuple[Address, ...]:
        """Those that no member begins with: who is picked twice as often was not meant to be."""
        return tuple(address for address in found if address not in self._addresses)[:ADDRESSES_MAX]

    def observe_probe(self, member: Member, result: ProbeResult) -> None:
        """Judge a member by the result of a probe."""
        if result.local or self._by_slot.get(member.slot) is not member:
            return
        self._note_address(member, result.address)
        before, was = member.standing, member.health.state
        member.health = rise_fall.observe(
            member.health, result.passed, rise=self._probe.rise, fall=self._probe.fall
        )
        if result.passed:
            member.ejection = passive.observe_pass(member.ejection)
            member.failing = member.failing and member.ejection.unseen
        if was is State.DOWN and member.health.state is State.UP:
            member.ejection = passive.observe_recovery(member.ejection)
            member.recovered_s = self._clock.now_s()
        self._changed(member, before, self._probe_reason(was, result))
        if self._on_down is OnDown.CLOSE and was is State.UP and member.health.state is State.DOWN:
            # Only once nobody picks it any more.
            self._publish()
            self._engine.end_exchanges(member.slot, "D")

    def _note_address(self, member: Member, address: Address | None) -> None:
        """A check got a connection to this one of its addresses."""
        if address is not None and address != member.address and address in member.addresses:
            member.address = address
            self._engine.prefer_address(member.slot, member.addresses.index(address))
            self._say(member, "reached", f"at {address}, an earlier address refused")

    def observe_event(self, event: Event) -> None:
        """Judge a member by what happened in traffic. Events of strangers are ignored."""
        member = self._by_slot.get(event.slot)
        if member is None or event.kind not in _FAILURES:
            return
        before, now_s = member.standing, self._clock.now_s()
        member.ejection = passive.observe_failure(
            member.ejection,
            event.in_a_row,
            now_s,
            self._rules,
            allowed=self._may_eject(member),
            unseen=event.kind is not EventKind.CONNECT_FAILED,
        )
        member.failing = passive.is_failing(member.ejection, now_s, self._rules)
        what, why = _FAILURES[event.kind]
        if event.errno:
            why = os.strerror(event.errno).lower()
        self._changed(member, before, f"{event.in_a_row} {what} failed in a row: {why}")
        if self._watcher is not None:
            self._watcher.bring_forward(member)

    def tick(self) -> None:
        """Do what time alone brings about; call it about once a second."""
        now_s = self._clock.now_s()
        patience_s = rise_fall.first_result_due_s(
            interval_s=self._probe.interval_s, timeout_s=self._probe.timeout_s
        )
        nobody = not self.anybody_up
        for member in self._members.values():
            before = member.standing
            if member.failing and not passive.is_failing(member.ejection, now_s, self._rules):
                # Nothing was heard of it for a while: it may do well, or nobody asks it for anything.
                member.failing = False
                self._changed(member, before, "its failures are long ago")
            if nobody and member.health.state is State.UNKNOWN and now_s - member.added_s > patience_s:
                self._take_as_up(member, f"no probe could be finished in {patience_s:g}s")
            elif member.ejection.until_s is not None:
                member.ejection = passive.observe_time(member.ejection, now_s)
                self._changed(member, before, "its ejection is over")
            if member.recovered_s is not None and slow_start.ramp_share(member.recovered_s, now_s) >= 1:
                member.recovered_s = None
        self._departures.tick()
        self._report_bursts(now_s)
        self._publish_later()

    def fail_open(self) -> None:
        """The wait at the start is over: who has not been heard of is taken as up, if nobody is known to
        be. Publishes."""
        if not self.anybody_up:
            for member in self._members.values():
                if member.health.state is State.UNKNOWN:
                    self._take_as_up(member, "no probe could be finished in time")
        # At once: accepting begins next, and nobody could be picked.
        self._publish()

    def close(self) -> None:
        """Publish no more: the engine is about to end."""
        self._closed = True
        self._report_bursts(math.inf)
        self._publisher.report_bursts(math.inf)

    def _set_draining(self, member: Member, draining: bool) -> None:
        before = member.standing
        member.draining = draining
        if draining:
            self._departures.leave(member.slot, member.label)
        else:
            self._departures.stay(member.slot)
        self._changed(member, before, _ASKED_FOR)

    def _take_as_up(self, member: Member, reason: str) -> None:
        """It is better to try who has not been heard of than to refuse clients."""
        before = member.standing
        member.health = rise_fall.assume_up(member.health)
        self._changed(member, before, reason)

    def _may_eject(self, member: Member) -> bool:
        return passive.may_eject(
            self._rules,
            pool=len(self._members) - self._count("draining"),
            ejected=self._count("ejected"),
            others_well=self._standings["up", False] - (member.standing == ("up", False)),
        )

    def _count(self, status: str) -> int:
        return self._standings[status, False] + self._standings[status, True]

    def _probe_reason(self, was: State, result: ProbeResult) -> str:
        if was is State.UNKNOWN:
            return f"first probe: {result.reason}"
        needed = self._probe.rise if result.passed else self._probe.fall
        probes = "probe" if needed == 1 else f"{needed} probes in a row"
        return f"{probes} {'passed' if result.passed else 'failed'}: {result.reason}"

    def _changed(self, member: Member, before: tuple[str, bool], reason: str) -> None:
        if member.standing != before:
            self._note(member, before, reason)
            self._end_last_ejections()

    def _note(self, member: Member, before: tuple[str, bool], reason: str) -> None:
        self._standings[before] -= 1
        self._standings[member.standing] += 1
        if member.status == before[0]:
            return
        if not member.in_rotation:
            member.recovered_s = None
        self._publish_later()
        if reason == _ASKED_FOR or self._bursts.say(member.label, self._clock.now_s(), reason):
            self._say(member, member.status, reason)

    def _end_last_ejections(self) -> None:
        """Nobody in rotation does well: who is only ejected is better than nobody, and no worse."""
        if self._standings["up", False] or not self._count("ejected"):
            return
        reason = "who is left fails as well" if self._count("up") else "nobody else is left"
        now_s = self._clock.now_s()
        for member in self._members.values():
            if member.status == "ejected":
                before = member.standing
                member.ejection = passive.end(member.ejection, now_s)
                member.failing = passive.is_failing(member.ejection, now_s, self._rules)
                self._note(member, before, reason)

    def _say(self, member: Member, what: str, reason: str, **more: Value) -> None:
        say = self._log.warning if what in ("down", "ejected", "flaps") else self._log.info
        say(
            f"backend {what}",
            backend=member.label,
            **more,
            reason=reason,
            in_rotation=f"{self._count('up')}/{len(self._members)}",
        )

    def _report_bursts(self, now_s: float) -> None:
        for label, times, reason in self._bursts.due(now_s):
            member = self._members[label]
            self._say(member, "flaps", reason, changes=times, now=member.status)

    def _publish_later(self) -> None:
        if not self._publish_due:
            self._publish_due = True
            self._later(self._publish)

    def _publish(self) -> None:
        self._publish_due = False
        if not self._closed:
            self._publisher.publish(self.members)
