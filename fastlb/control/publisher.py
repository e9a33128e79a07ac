"""From the members to the plan that the engine uses: the only place that publishes plans."""

import math
from collections.abc import Sequence

from fastlb.balancing.eligible import Candidate, eligible, in_panic, stand_ins
from fastlb.balancing.plans import build_plan
from fastlb.control.clock import Clock
from fastlb.control.logs import Bursts, OperationLog
from fastlb.control.member import Member
from fastlb.health import slow_start
from fastlb.health.rise_fall import State
from fastlb.model.config import AllDown, Policy
from fastlb.model.contract import Engine
from fastlb.model.plan import Plan, PlanEntry


class Publisher:
    """Turns members into a plan, and tells the engine if it differs from the last one."""

    def __init__(
        self,
        engine: Engine,
        *,
        policy: Policy,
        all_down: AllDown,
        retry_after_s: float,
        log: OperationLog,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._policy = policy
        self._all_down = all_down
        self._retry_after_s = max(1, math.ceil(retry_after_s))
        self._log = log
        self._clock = clock
        self._plan: Plan | None = None
        self._bursts = Bursts()
        self.panicking = False

    def publish(self, members: Sequence[Member]) -> None:
        """Publish the plan of `members`, unless it is the one that is used."""
        candidates = _candidates(members)
        chosen = self._chosen(members, candidates)
        caps = self._ramp_caps(members, chosen)
        plan = build_plan(
            self._policy,
            [
                PlanEntry(one.slot, one.weight, caps.get(one.slot, one.max_conns), conns_max=one.max_conns)
                for one in chosen
            ],
            backups=[
                PlanEntry(one.slot, one.weight, one.max_conns, conns_max=one.max_conns)
                for one in stand_ins(candidates)
            ],
            retry_after_s=self._retry_after_s,
        )
        if plan != self._plan:
            self._engine.publish(plan)
            self._plan = plan
        self.report_bursts(self._clock.now_s())

    def report_bursts(self, now_s: float) -> None:
        """Say how often panic has begun and ended, if that was too often to say each time."""
        for _, times, now in self._bursts.due(now_s):
            self._log.warning("panic comes and goes", changes=times, now=now)

    def _chosen(self, members: Sequence[Member], candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Who may be picked; in panic everybody, if the user wants that."""
        chosen = eligible(candidates)
        if self._all_down is AllDown.FAIL:
            return chosen
        everybody = () if chosen else in_panic(candidates)
        # Who is unknown will soon be heard of; a panic that is on goes on meanwhile.
        unheard = any(member.status == State.UNKNOWN.value for member in members)
        panicking = bool(everybody) and (self.panicking or not unheard)
        self._note_panic(panicking)
        return everybody if panicking else chosen

    def _note_panic(self, panicking: bool) -> None:
        if panicking == self.panicking:
            return
        self.panicking = panicking
        if not self._bursts.say("panic", self._clock.now_s(), "on" if panicking else "over"):
            return
        if panicking:
            self._log.warning("panic: every backend is down, all of them get traffic")
        else:
            self._log.info("panic is over")

    def _ramp_caps(self, members: Sequence[Member], chosen: Sequence[Candidate]) -> dict[int, int]:
        """Limits of the members in slow start, by slot."""
        since = {one.slot: one.recovered_s for one in members if one.recovered_s is not None}
        warm = [one for one in chosen if one.slot not in since]
        if not since or not warm:
            return {}
        now_s = self._clock.now_s()
        others = [(self._engine.exchanges_on(one.slot), one.weight) for one in warm]
        caps = {}
        for one in chosen:
            if one.slot in since:
                cap = slow_start.ramp_cap(slow_start.ramp_share(since[one.slot], now_s), one.weight, others)
                caps[one.slot] = slow_start.tighter(cap, one.max_conns)
        return caps


def _candidates(members: Sequence[Member]) -> list[Candidate]:
    """The members as policy sees them."""
    return [
        Candidate(
            slot=member.slot,
            weight=member.config.weight,
            max_conns=member.config.max_conns,
            backup=member.config.backup,
            in_rotation=member.in_rotation,
            draining=member.draining,
        )
        for member in members
    ]
