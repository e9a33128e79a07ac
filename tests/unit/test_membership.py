"""Membership: from observations to plans."""

import errno
from collections.abc import Callable

import pytest
from fakes import FakeClock, FakeEngine, Lines

from fastlb.control.member import Member
from fastlb.control.membership import Membership
from fastlb.model.address import Address
from fastlb.model.config import AllDown, BackendConfig, EjectConfig, OnDown, Policy, ProbeConfig
from fastlb.model.errors import ConfigError
from fastlb.model.events import Event, EventKind
from fastlb.model.plan import Pick
from fastlb.model.proxied import ProxyProtocol
from fastlb.probe import ProbeResult

PASS = ProbeResult(passed=True, reason="status 200", took_s=0.001)
FAIL = ProbeResult(passed=False, reason="refused", took_s=0.001)
LOCAL = ProbeResult(passed=False, reason="too many open files", took_s=0.0, local=True)


class Watched:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def watch(self, member: Member) -> None:
        self.calls.append(("watch", member.label))

    def forget(self, member: Member) -> None:
        self.calls.append(("forget", member.label))

    def bring_forward(self, member: Member) -> None:
        self.calls.append(("forward", member.label))


class Pool:
    """A membership of backends a, b, c ... with everything around it faked."""

    def __init__(
        self,
        *options: dict,
        policy: Policy = Policy.LEAST_CONN,
        all_down: AllDown = AllDown.FAIL,
        on_down: OnDown = OnDown.KEEP,
        ejection: EjectConfig | None = None,
        **probe,
    ) -> None:
        self.engine, self.clock, self.said, self.watched = FakeEngine(), FakeClock(), Lines(), Watched()
        self.all = Membership(
            self.engine,
            policy=policy,
            probe=ProbeConfig(**probe),
            log=self.said.log,
            clock=self.clock,
            later=lambda publish: publish(),
            all_down=all_down,
            on_down=on_down,
            ejection=ejection,
            drain_s=30,
        )
        self.all.watched_by(self.watched)
        for letter, option in zip("abcdefgh", options, strict=False):
            self.add(letter, **option)

    def add(self, letter: str, **options) -> Member:
        address = Address(host="127.0.0.1", port=9000 + ord(letter))
        return self.all.add(BackendConfig(address=address, name=letter, **options), address)

    def probe(self, letters: str, *results: ProbeResult) -> None:
        for letter in letters:
            for result in results:
                self.all.observe_probe(self.all.member(letter), result)

    def fail(self, letter: str, *rows: int, kind: EventKind = EventKind.CONNECT_FAILED) -> None:
        slot = self.all.member(letter).slot
        for in_a_row in rows:
            self.all.observe_event(Event(kind, slot, errno.ECONNREFUSED, in_a_row))

    @property
    def picked(self) -> str:
        """Letters of the backends in the current plan."""
        labels = {member.slot: member.label for member in self.all.members}
        return "".join(sorted(labels[slot] for slot in self.engine.picked))


def test_a_backend_gets_traffic_from_its_first_pass_on():
    """Before that nobody knows whether it is there."""
    pool = Pool({}, {})
    before = pool.picked
    pool.probe("a", PASS)

    assert (before, pool.picked) == ("", "a")


def test_without_probes_all_are_up_from_the_start():
    """There is nothing to wait for."""
    assert Pool({}, {}, enabled=False).picked == "ab"


def test_a_backend_leaves_after_fall_failures_and_comes_back_after_rise_passes():
    """The plan follows the state at once, not at the next tick."""
    pool = Pool({}, {}, rise=2, fall=3)
    pool.probe("ab", PASS)
    seen = []
    for result in (FAIL, FAIL, FAIL, PASS, PASS):
        pool.probe("b", result)
        seen.append(pool.picked)

    assert seen == ["ab", "ab", "a", "a", "ab"]


def test_each_state_change_is_one_log_line_with_its_reason():
    """Whoever reads the log at night must see what happened and why, and nothing else."""
    pool = Pool({}, {}, rise=2, fall=3)
    pool.probe("ab", PASS, PASS)
    pool.probe("b", FAIL, FAIL, FAIL, FAIL, PASS, PASS)

    assert len(pool.said.lines) == 4
    assert pool.said.about("backend up", "backend=a", 'reason="first probe: status 200"')
    assert pool.said.about(
        "warning backend down", "backend=b", '"3 probes in a row failed: refused"', "in_rotation=1/2"
    )
    assert pool.said.about(
        "backend up", "backend=b", '"2 probes in a row passed: status 200"', "in_rotation=2/2"
    )


class TestFlapping:
    """A backend that goes and comes all the time."""

    def flapping(self, changes: int, every_s: float = 0.125) -> Pool:
        pool = Pool({}, {}, rise=1, fall=1)
        pool.probe("ab", PASS)
        for number in range(changes):
            pool.clock.time_s += every_s
            pool.probe("a", PASS if number % 2 else FAIL)
            pool.all.tick()
        return pool

    def test_changes_of_one_that_flaps_are_counted_and_said_together(self):
        """Thousands of lines say no more than one, and hide what else happens."""
        pool = self.flapping(601)
        flaps = pool.said.about("warning backend flaps", "backend=a")

        assert len(pool.said.about("backend=a")) == 4 + len(flaps)
        assert len(flaps) == 7
        assert "changes=80 now=" in flaps[-1]

    @pytest.mark.parametrize(("changes", "state"), [(20, "up"), (21, "down")])
    def test_what_was_said_last_is_how_it_is(self, changes, state):
        """Whoever reads the log when all is calm must not be told the opposite."""
        pool = self.flapping(changes)
        pool.clock.time_s += 10
        pool.all.tick()

        assert f"now={state}" in pool.said.about("backend=a")[-1]

    def test_changes_are_said_again_when_it_was_calm(self):
        """The next failure is news."""
        pool = self.flapping(20)
        for _ in range(3):
            pool.clock.time_s += 10
            pool.all.tick()
        pool.probe("a", FAIL)

        assert "backend down" in pool.said.lines[-1]

    def test_others_are_not_silenced_by_it(self):
        """Each is counted for itself."""
        pool = self.flapping(20)
        pool.probe("b", FAIL)

        assert pool.said.about("backend down", "backend=b")

    def test_what_the_user_asks_for_is_said(self):
        """And a backend that is no more is said to flap no more."""
        pool = self.flapping(20)
        pool.all.drain("a")
        pool.all.remove("a")
        pool.clock.time_s += 10
        pool.all.tick()

        assert "backend draining" in pool.said.lines[-2]
        assert "backend removed" in pool.said.lines[-1]

    def test_the_end_says_what_was_counted(self):
        """The state at the stop is the last thing that is known."""
        pool = self.flapping(21)
        pool.all.close()
        pool.all.close()

        assert "now=down" in pool.said.lines[-1]

    def test_panic_that_comes_and_goes_is_counted_too(self):
        """It follows the last backend, as often as that one flaps."""
        pool = Pool({}, all_down=AllDown.PANIC, rise=1, fall=1)
        for number in range(200):
            pool.clock.time_s += 0.1
            pool.probe("a", FAIL if number % 2 else PASS)
            pool.all.tick()

        assert len(pool.said.about("panic")) < 10
        assert pool.said.about("warning panic comes and goes", "changes=", "now=")


def test_all_down_publishes_a_plan_without_entries_that_says_when_to_come_back():
    """Clients get 503 with Retry-After: one probe interval, rounded up."""
    pool = Pool({}, interval_s=2.5)
    pool.probe("a", FAIL)

    assert (pool.engine.plans[-1].entries, pool.engine.plans[-1].retry_after_s) == ((), 3)


def test_retry_after_is_one_second_at_least():
    """Retry-After: 0 would invite a storm."""
    assert Pool({}, interval_s=0.05).engine.plans[-1].retry_after_s == 1


def test_nothing_is_published_when_nothing_changed():
    """A probe every two seconds must not disturb the workers."""
    pool = Pool({})
    pool.probe("a", PASS)
    plans = len(pool.engine.plans)
    pool.probe("a", PASS, PASS, FAIL)
    pool.all.tick()

    assert len(pool.engine.plans) == plans


def test_many_changes_in_one_turn_of_the_loop_make_one_plan():
    """A pool of ten thousand that comes up at once would be worked out ten thousand times."""
    turn: list[Callable[[], None]] = []
    engine = FakeEngine()
    members = Membership(
        engine,
        policy=Policy.ROUND_ROBIN,
        probe=ProbeConfig(),
        log=Lines().log,
        clock=FakeClock(),
        later=turn.append,
    )
    for port in range(1, 101):
        address = Address(host="127.0.0.1", port=port)
        members.observe_probe(members.add(BackendConfig(address=address), address), PASS)
    assert len(turn) == 1
    turn.pop()()

    assert [len(plan.entries) for plan in engine.plans] == [100]


def test_a_membership_that_is_closed_publishes_no_more():
    """The engine may have ended when the next turn of the loop comes."""
    pool = Pool({})
    plans = len(pool.engine.plans)
    pool.all.close()
    pool.probe("a", PASS)

    assert len(pool.engine.plans) == plans


def test_a_fault_of_this_machine_is_no_result():
    """Out of descriptors here says nothing about a backend there."""
    pool = Pool({}, fall=1)
    pool.probe("a", PASS, LOCAL, LOCAL)

    assert pool.picked == "a"


def test_backups_are_used_only_while_every_primary_is_out():
    """And give way at once when one is back."""
    pool = Pool({}, {"backup": True}, rise=1, fall=1)
    seen = []
    for result in (PASS, FAIL, PASS):
        pool.probe("a", result)
        pool.probe("b", PASS)
        seen.append(pool.picked)

    assert seen == ["a", "b", "a"]


def test_backups_that_are_up_stand_in_the_plan_for_further_tries():
    """A primary that has just died is in the plan until it is found out; its clients need not wait."""
    pool = Pool({}, {"backup": True, "max_conns": 3}, {"backup": True}, rise=1, fall=1)
    pool.probe("abc", PASS)
    pool.probe("c", FAIL)

    (backup,) = pool.engine.plans[-1].backups
    assert (pool.picked, backup.slot, backup.max_conns) == ("a", pool.all.member("b").slot, 3)
    pool.probe("a", FAIL)
    assert (pool.picked, pool.engine.plans[-1].backups) == ("b", ())


class TestAllDown:
    """Nobody is up: refuse, or try everybody."""

    def down(self, *options: dict, all_down: AllDown = AllDown.PANIC) -> Pool:
        pool = Pool(*options, all_down=all_down, rise=1, fall=1)
        pool.probe("abcdefgh"[: len(options)], PASS, FAIL)
        return pool

    def test_fail_refuses_everybody(self):
        """The default: nobody is sent where nothing is known to work."""
        pool = self.down({}, {}, all_down=AllDown.FAIL)

        assert (pool.picked, pool.all.panicking) == ("", False)

    def test_panic_balances_over_everybody(self):
        """Probes may be wrong; and a try costs less than a refusal that is certain."""
        pool = self.down({"weight": 3, "max_conns": 2}, {"backup": True})

        assert (pool.picked, pool.all.panicking) == ("ab", True)
        assert (pool.engine.plans[-1].entries[0].weight, pool.engine.picked[0]) == (3, 2)

    def test_backups_come_before_panic(self):
        """That is what they are for."""
        pool = Pool({}, {"backup": True}, all_down=AllDown.PANIC, rise=1, fall=1)
        pool.probe("ab", PASS)
        pool.probe("a", FAIL)

        assert (pool.picked, pool.all.panicking) == ("b", False)

    def test_a_draining_backend_is_never_used_in_panic(self):
        """Maintenance is no illness."""
        pool = self.down({}, {})
        pool.all.drain("a")

        assert pool.picked == "b"

    def test_panic_is_over_when_one_is_up(self):
        """The plan is that one alone, without a slow start: there is nobody to help it."""
        pool = self.down({}, {})
        pool.probe("b", PASS)

        assert (pool.picked, pool.all.panicking, pool.engine.picked) == ("b", False, {1: 0})

    def test_its_begin_and_its_end_are_one_line_each(self):
        """Whoever reads the log must see when health meant nothing."""
        pool = self.down({}, {})
        pool.probe("ab", FAIL)
        pool.all.tick()
        pool.probe("ab", PASS)

        assert len(pool.said.about("warning", "panic: every backend is down")) == 1
        assert len(pool.said.about("info", "panic is over")) == 1

    def test_who_was_not_heard_of_yet_is_no_reason_to_panic(self):
        """At start the first answers are a moment away."""
        pool = Pool({}, {}, all_down=AllDown.PANIC)
        pool.probe("a", FAIL)
        before = pool.picked
        pool.probe("b", FAIL)

        assert (before, pool.picked) == ("", "ab")


class TestOnDown:
    """The open exchanges of a backend whose checks fail."""

    def failing(self, **options) -> Pool:
        pool = Pool({}, {}, rise=1, fall=2, **options)
        pool.probe("ab", PASS)
        pool.probe("a", FAIL, FAIL, FAIL)
        return pool

    def test_they_are_kept_by_default(self):
        """A failing check says nothing of a request that is being answered."""
        assert self.failing().engine.ended == []

    def test_they_are_closed_once_if_the_user_says_so(self):
        """With code D, when nobody can be sent there any more."""
        pool = self.failing(on_down=OnDown.CLOSE)

        assert (pool.engine.ended, pool.picked) == ([(0, "D")], "b")

    def test_an_ejection_closes_nothing(self):
        """What is open on it may be well; only checks say that it is down."""
        pool = Pool({}, {}, on_down=OnDown.CLOSE, enabled=False)
        pool.fail("a", 5)

        assert (pool.picked, pool.engine.ended) == ("b", [])


class TestDepartures:
    """What is still open on a backend that was drained or removed, when its time is over."""

    def leaving(self, how: str) -> Pool:
        pool = Pool({}, {}, enabled=False)
        pool.engine.in_flight = {0: 2, 1: 5}
        getattr(pool.all, how)("a")
        return pool

    def after(self, pool: Pool, seconds: float) -> list[tuple[int, str]]:
        pool.clock.time_s += seconds
        pool.all.tick()
        return pool.engine.ended

    @pytest.mark.parametrize("how", ["drain", "remove"])
    def test_it_is_ended_with_code_k(self, how):
        """A WebSocket would keep a backend from being stopped for ever."""
        pool = self.leaving(how)

        assert self.after(pool, 29) == []
        assert self.after(pool, 1) == [(0, "K")]
        assert self.after(pool, 60) == [(0, "K")]
        assert pool.said.about("exchanges ended at the end of", "backend=a", "exchanges=2")

    def test_nothing_open_is_nothing_to_end(self):
        """And nothing to say."""
        pool = self.leaving("drain")
        pool.engine.in_flight = {}

        assert self.after(pool, 30) == []

    def test_a_restored_backend_keeps_them(self):
        """Its drain was called off."""
        pool = self.leaving("drain")
        pool.all.restore("a")

        assert self.after(pool, 30) == []

    def test_a_backend_that_is_added_again_keeps_them(self):
        """The engine finds the same slot; or it has given the slot to another backend."""
        pool = self.leaving("remove")
        pool.add("a")

        assert self.after(pool, 30) == []


def test_weight_and_max_conns_reach_the_plan():
    """Otherwise the flags would do nothing."""
    pool = Pool({"weight": 3, "max_conns": 7}, policy=Policy.ROUND_ROBIN, enabled=False)
    plan = pool.engine.plans[-1]

    assert (plan.pick, plan.entries[0].weight, plan.entries[0].max_conns) == (Pick.CYCLE, 3, 7)


def test_a_backend_that_cannot_be_asked_in_time_is_taken_as_up():
    """Fail open after one interval and one time-out, not before."""
    pool = Pool({}, interval_s=2, timeout_s=1)
    pool.clock.time_s += 3.0
    pool.all.tick()
    before = pool.picked
    pool.clock.time_s += 0.1
    pool.all.tick()

    assert (before, pool.picked) == ("", "a")
    assert pool.said.about("backend up", "no probe could be finished in 3s")


def test_the_end_of_the_wait_at_the_start_opens_to_everybody_unknown():
    """Nobody is known to be up, so that trying is better than refusing. Who was heard of keeps what was
    said."""
    pool = Pool({}, {}, {}, fall=1)
    pool.probe("b", FAIL)
    pool.all.fail_open()

    assert pool.picked == "ac"
    assert pool.said.about("backend up", "backend=c", "no probe could be finished in time")


def test_who_is_unheard_of_is_not_picked_while_somebody_is_known_to_be_up():
    """Of ten thousand backends a third has been asked when the wait is over; the rest may well be dead."""
    pool = Pool({}, {}, {}, rise=1, fall=1, interval_s=2, timeout_s=1)
    pool.probe("a", PASS)
    pool.all.fail_open()
    pool.clock.time_s += 100
    pool.all.tick()
    seen = [pool.picked]
    pool.probe("a", FAIL)
    pool.all.tick()
    seen.append(pool.picked)

    assert seen == ["a", "bc"]


def test_who_drains_is_nobody_to_wait_with():
    """It is up, and gets no traffic."""
    pool = Pool({}, {}, interval_s=2, timeout_s=1)
    pool.probe("a", PASS)
    pool.all.drain("a")
    pool.all.fail_open()

    assert pool.picked == "b"


@pytest.mark.parametrize(
    "kind", [EventKind.CONNECT_FAILED, EventKind.BACKEND_FAILED, EventKind.BACKEND_ERROR]
)
def test_five_failures_in_a_row_in_traffic_eject_for_ten_seconds(kind):
    """Probes may pass while real traffic fails, or be off."""
    pool = Pool({}, {}, enabled=False)
    pool.fail("a", 1, 2, 3, 4, 5, kind=kind)
    seen = [pool.picked]
    for _ in range(2):
        pool.clock.time_s += 5
        pool.all.tick()
        seen.append(pool.picked)

    assert seen == ["b", "b", "ab"]
    assert pool.said.about("warning backend ejected", "backend=a", "failed in a row: connection refused")
    assert pool.said.about("backend up", "its ejection is over")


def test_the_last_backend_in_rotation_is_never_ejected():
    """Trying it is better than refusing everybody."""
    pool = Pool({}, {}, {}, enabled=False)
    pool.all.drain("b")
    pool.all.drain("c")
    pool.fail("a", 5, 6, 7)

    assert pool.picked == "a"


def test_an_ejection_ends_when_nobody_else_is_left():
    """Whoever else was there has been drained: the ejected one is the last one now."""
    pool = Pool({}, {}, {}, enabled=False)
    pool.fail("a", 5)
    pool.all.drain("b")
    before = pool.picked
    pool.all.remove("c")

    assert (before, pool.picked) == ("c", "a")
    assert pool.said.about("backend up", "backend=a", "nobody else is left")


def test_not_more_than_half_the_pool_is_ejected():
    """The rest of it has to carry the traffic."""
    pool = Pool({}, {}, {}, {}, enabled=False)
    for letter in "abc":
        pool.fail(letter, 5)

    assert pool.picked == "cd"


def test_nobody_is_ejected_while_all_fail_alike():
    """Then the fault is elsewhere, and half of the pool would be missed when it is mended."""
    pool = Pool({}, {}, {}, {}, enabled=False)
    for letter in "abcd":
        pool.fail(letter, 5)
    before = pool.picked
    for letter in "abcd":
        pool.fail(letter, 6, 7)

    assert (before, pool.picked) == ("abcd", "abcd")
    assert pool.said.about("backend up", "backend=a", "who is left fails as well")


def test_who_goes_on_failing_is_ejected_when_another_does_well_again():
    """Its successes are not told: it has not failed for as long as an ejection lasts."""
    pool = Pool({}, {}, enabled=False)
    for row in range(1, 31):
        pool.fail("a", row)
        if row < 10:
            pool.fail("b", row)
        pool.clock.time_s += 1
        pool.all.tick()
        if row == 9:
            assert pool.picked == "ab"

    assert pool.picked == "b"


def test_what_is_ejected_is_set_by_the_user():
    """After two failures, for three seconds, all but one."""
    pool = Pool({}, {}, {}, enabled=False, ejection=EjectConfig(after=2, time_s=3, share_percent=100))
    pool.fail("a", 1, 2)
    pool.fail("b", 1, 2)
    seen = [pool.picked]
    for _ in range(2):
        pool.clock.time_s += 1.5
        pool.all.tick()
        seen.append(pool.picked)

    assert seen == ["c", "c", "abc"]


def test_a_passing_probe_ends_an_ejection_for_failed_connects():
    """It has been seen well: no need to wait out the time."""
    pool = Pool({}, {})
    pool.probe("ab", PASS)
    pool.fail("a", 5)
    before = pool.picked
    pool.probe("a", PASS)

    assert (before, pool.picked) == ("b", "ab")


def test_a_passing_probe_makes_up_for_the_failed_connects_before_it():
    """The engine's row goes on; one more failure is one, and not the sixth."""
    pool = Pool({}, {})
    pool.probe("ab", PASS)
    pool.fail("a", 5)
    pool.probe("a", PASS)
    pool.fail("a", 6, 7, 8, 9)
    before = pool.picked
    pool.fail("a", 10)

    assert (before, pool.picked) == ("ab", "b")


@pytest.mark.parametrize("kind", [EventKind.BACKEND_FAILED, EventKind.BACKEND_ERROR])
def test_a_passing_probe_neither_forgives_broken_exchanges_nor_ends_their_ejection(kind):
    """Each failure brings a probe forward, which passes: it would undo every ejection."""
    pool = Pool({}, {})
    pool.probe("ab", PASS)
    for row in range(1, 6):
        pool.fail("a", row, kind=kind)
        pool.probe("a", PASS)
    seen = [pool.picked]
    for _ in range(2):
        pool.clock.time_s += 5
        pool.all.tick()
        seen.append(pool.picked)
    pool.fail("a", 6, kind=kind)
    pool.probe("a", PASS)

    assert (seen, pool.picked) == (["b", "b", "ab"], "b")


def test_a_backend_that_was_down_and_came_back_is_tried_though_it_was_ejected():
    """It may have been mended, and a new process knows nothing of the old one's failures."""
    pool = Pool({}, {}, rise=1, fall=1)
    pool.probe("ab", PASS)
    pool.fail("a", 5, kind=EventKind.BACKEND_FAILED)
    pool.probe("a", FAIL, PASS)
    before = pool.picked
    pool.fail("a", 6, kind=EventKind.BACKEND_FAILED)

    assert (before, pool.picked) == ("ab", "b")


def test_any_failure_in_traffic_brings_the_next_probe_forward():
    """Also the first one, long before an ejection."""
    pool = Pool({}, {})
    pool.fail("b", 1)

    assert pool.watched.calls[-1] == ("forward", "b")


def test_events_of_a_backend_that_was_removed_are_ignored():
    """They may still be on their way when it goes."""
    pool = Pool({}, {}, enabled=False)
    slot = pool.all.member("a").slot
    pool.all.remove("a")
    pool.all.observe_event(Event(EventKind.CONNECT_FAILED, slot, errno.ECONNREFUSED, 5))

    assert pool.picked == "b"


def test_a_removed_backend_leaves_the_plan_before_the_engine_forgets_it():
    """The contract of remove_backend; and nobody probes it any more."""
    pool = Pool({}, {}, enabled=False)
    slot = pool.all.member("a").slot
    pool.all.remove("a")

    assert (pool.picked, pool.engine.removed) == ("b", [slot])
    assert pool.watched.calls[-1] == ("forget", "a")


def test_a_result_that_comes_after_the_removal_changes_nothing():
    """A probe may have been under way."""
    pool = Pool({}, {})
    member = pool.all.member("a")
    pool.all.remove("a")
    pool.all.observe_probe(member, PASS)

    assert pool.picked == ""


def test_a_backend_added_at_run_time_is_probed_and_waits_for_its_first_pass():
    """The same rule as at the start."""
    pool = Pool({})
    pool.probe("a", PASS)
    pool.add("b")
    before = pool.picked
    pool.probe("b", PASS)

    assert (before, pool.picked) == ("a", "ab")
    assert ("watch", "b") in pool.watched.calls


def test_a_drained_backend_stays_out_whatever_its_probes_say():
    """Maintenance is not an illness that a passing probe cures."""
    pool = Pool({}, {})
    pool.probe("ab", PASS)
    pool.all.drain("a")
    pool.probe("a", PASS)
    drained = pool.picked
    pool.all.restore("a")

    assert (drained, pool.picked) == ("b", "ab")


def test_a_restored_backend_that_went_down_meanwhile_stays_out():
    """Probes have gone on during the drain."""
    pool = Pool({}, {}, fall=1)
    pool.probe("ab", PASS)
    pool.all.drain("a")
    pool.probe("a", FAIL)
    pool.all.restore("a")

    assert pool.picked == "b"


@pytest.mark.parametrize("same", ["name", "address"])
def test_a_backend_given_twice_is_refused(same):
    """Two members on one slot could not be told apart by the engine."""
    pool = Pool({})
    first = pool.all.member("a")
    address = first.address if same == "address" else Address(host="127.0.0.1", port=1)
    name = "a" if same == "name" else "other"

    with pytest.raises(ConfigError, match="given once"):
        pool.all.add(BackendConfig(address=address, name=name), address)


def test_a_backend_whose_name_resolves_elsewhere_is_found_there():
    """Traffic moves without a gap, and the engine forgets the old address."""
    pool = Pool({}, {})
    pool.probe("ab", PASS)
    member = pool.all.member("a")
    old = member.slot

    assert pool.all.move(member, (Address(host="127.0.0.9", port=80),))
    assert (pool.picked, pool.engine.removed) == ("ab", [old])
    assert pool.watched.calls[-1] == ("forward", "a")


def test_a_name_that_resolves_to_another_backends_address_changes_nothing():
    """One address is one backend."""
    pool = Pool({}, {}, enabled=False)
    a, b = pool.all.members

    assert not pool.all.move(a, (b.address,))
    assert (pool.picked, pool.engine.removed) == ("ab", [])


class TestSlowStart:
    """A recovered backend is not handed all new traffic at once."""

    def recovered(self, *options: dict) -> Pool:
        """A pool whose backend a has just come back while the others carry 40 exchanges each."""
        pool = Pool(*options, rise=1, fall=1)
        pool.probe("abc"[: len(options)], PASS)
        pool.engine.in_flight = dict.fromkeys(range(1, len(options)), 40)
        pool.probe("a", FAIL, PASS)
        return pool

    def cap(self, pool: Pool, after_s: float) -> int:
        pool.clock.time_s += after_s
        pool.all.tick()
        return pool.engine.picked[pool.all.member("a").slot]

    def test_recovery_ramps_the_cap_over_ten_seconds(self):
        """From one exchange to what the others carry, then no limit."""
        pool = self.recovered({}, {}, {})
        slot = pool.all.member("a").slot

        assert [pool.engine.picked[slot], self.cap(pool, 5), self.cap(pool, 4), self.cap(pool, 1)] == [
            1,
            20,
            36,
            0,
        ]

    def test_the_first_pass_after_the_start_does_not_ramp(self):
        """At the start all are equally cold."""
        pool = Pool({}, {})
        pool.probe("a", PASS)
        pool.engine.in_flight = {0: 40}
        pool.probe("b", PASS)

        assert set(pool.engine.picked.values()) == {0}

    def test_the_only_backend_up_is_not_held_back(self):
        """There is nobody else to take the traffic."""
        assert self.recovered({}).engine.picked == {0: 0}

    def test_backends_that_recover_together_are_not_held_back(self):
        """Nobody is left who carries a full share: after an outage of all, traffic must flow."""
        pool = Pool({}, {}, rise=1, fall=1)
        pool.probe("ab", PASS, FAIL, PASS)

        assert pool.engine.picked == {0: 0, 1: 0}

    def test_the_ramp_ends_when_the_others_go_down(self):
        """Its caps are worked out anew with every plan."""
        pool = self.recovered({}, {})
        pool.probe("b", FAIL)

        assert pool.engine.picked == {0: 0}

    def test_a_limit_of_the_user_below_the_cap_holds(self):
        """max_conns is a promise."""
        assert self.cap(self.recovered({"max_conns": 3}, {}), 9) == 3


def test_proxy_protocol_reaches_the_engine_also_at_a_new_address():
    """A backend whose name resolves elsewhere wants the same header there."""
    pool = Pool({"proxy_protocol": ProxyProtocol.V2}, {})
    other = Address(host="127.0.0.2", port=1)
    pool.all.move(pool.all.member("a"), (other,))

    assert list(pool.engine.proxy_protocols.values()) == [
        ProxyProtocol.V2,
        ProxyProtocol.OFF,
        ProxyProtocol.V2,
    ]


def test_backend_at_the_address_of_another_does_not_change_that_one():
    """Its name in the log, and whether it wants PROXY headers, are its own."""
    pool = Pool({"proxy_protocol": ProxyProtocol.V1}, {})
    a, b = pool.all.members
    assert not pool.all.move(b, (a.address,))
    with pytest.raises(ConfigError):
        pool.all.add(BackendConfig(address=a.address, name="c"), a.address)

    assert pool.engine.proxy_protocols == {a.address: ProxyProtocol.V1, b.address: ProxyProtocol.OFF}


def test_a_backend_is_removed_also_where_none_is_checked():
    """Without checks there is no watcher that could forget it."""
    engine = FakeEngine()
    pool = Membership(
        engine,
        policy=Policy.LEAST_CONN,
        probe=ProbeConfig(enabled=False),
        log=Lines().log,
        clock=FakeClock(),
        later=lambda publish: publish(),
    )
    address = Address(host="127.0.0.1", port=9000)
    member = pool.add(BackendConfig(address=address, name="a"), address)
    pool.remove("a")

    assert (engine.removed, pool.members) == ([member.slot], ())


def test_an_address_that_a_check_found_is_where_traffic_begins():
    """The first address of the name refuses; clients should not have to find that out again."""
    pool = Pool()
    first, second, third = (Address(host=f"10.0.0.{n}", port=80) for n in (1, 2, 3))
    member = pool.all.add(BackendConfig(address=Address(host="app.example", port=80)), first, (second, third))
    before = (member.address, member.others)
    for _ in range(2):
        pool.all.observe_probe(member, ProbeResult(passed=True, reason="connected", took_s=0, address=second))

    assert before == (first, (second, third))
    assert (member.address, member.others) == (second, (third, first))
    assert pool.engine.preferred == {member.slot: 1}
    assert len(pool.said.about("backend reached", "at 10.0.0.2:80")) == 1


def test_a_backend_begins_with_no_address_that_another_begins_with():
    """Two names of one machine would get it twice its share."""
    pool = Pool()
    first, second = (Address(host=f"10.0.0.{n}", port=80) for n in (1, 2))
    for name in ("a", "b"):
        pool.all.add(BackendConfig(address=Address(host=name, port=80)), first, (second,))

    assert [member.addresses for member in pool.all.members] == [(first, second), (second,)]
    with pytest.raises(ConfigError):
        pool.all.add(BackendConfig(address=Address(host="c", port=80)), first, (second,))


def test_a_removed_backend_leaves_its_addresses_to_others():
    """Also when another address than its first one worked last."""
    pool = Pool()
    first, second = (Address(host=f"10.0.0.{n}", port=80) for n in (1, 2))
    member = pool.all.add(BackendConfig(address=Address(host="a", port=80)), first, (second,))
    pool.all.observe_probe(member, ProbeResult(passed=True, reason="connected", took_s=0, address=second))
    pool.all.remove("a:80")

    assert pool.all.add(BackendConfig(address=first), first).addresses == (first,)
