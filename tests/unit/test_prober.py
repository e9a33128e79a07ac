"""The prober: who is asked when. Time stands still unless a test moves it."""

import asyncio
from random import Random

import pytest
from fakes import FakeClock, FakeEngine, Lines, settle

import fastlb.control.prober as room
from fastlb.control.member import Member
from fastlb.control.prober import PROBES_MAX, Prober, ask_by
from fastlb.health.passive import Ejection
from fastlb.health.rise_fall import Health, State
from fastlb.model.address import Address
from fastlb.model.config import BackendConfig, Mode, ProbeConfig
from fastlb.model.limits import LimitConfig
from fastlb.probe import ProbeResult

PASS = ProbeResult(passed=True, reason="status 200", took_s=0.001)


class Bench:
    """A prober whose probes end when the test says so."""

    def __init__(self, interval_s: float = 10.0) -> None:
        self.clock, self.said = FakeClock(), Lines()
        self.asked: list[str] = []
        self.under_way: list[str] = []
        self.results: list[tuple[str, ProbeResult]] = []
        self.answer: ProbeResult | Exception = PASS
        self.gate = asyncio.Event()
        self.gate.set()
        self.prober = Prober(
            ask=self.ask,
            observe=lambda member, result: self.results.append((member.label, result)),
            interval_s=interval_s,
            in_doubt_s=1.0,
            rng=Random(1),
            clock=self.clock,
            log=self.said.log,
        )

    async def ask(self, member: Member) -> ProbeResult:
        assert member.label not in self.under_way, "two probes of one backend at once"
        self.asked.append(member.label)
        self.under_way.append(member.label)
        try:
            await self.gate.wait()
        finally:
            self.under_way.remove(member.label)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def member(name: str) -> Member:
    """A member for the prober to ask."""
    address = Address(host="127.0.0.1", port=1)
    config = BackendConfig(address=address, name=name)
    slot = FakeEngine().add_backend(address, name)
    return Member(config=config, address=address, slot=slot, added_s=0, health=Health(State.UP))


def on_bench(test):
    """Run `test` with a bench in an event loop, and stop its prober at the end."""

    async def run():
        bench = Bench()
        try:
            await test(bench)
        finally:
            await bench.prober.stop()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


def test_all_are_asked_at_once_and_in_parallel():
    """A start with a hundred backends must not take a hundred time-outs."""

    async def test(bench):
        bench.gate.clear()
        for name in "abc":
            bench.prober.watch(member(name))
        await settle()

        assert bench.under_way == ["a", "b", "c"]

    on_bench(test)


def test_the_first_round_is_over_when_each_has_been_asked_once():
    """Then accepting may begin."""

    async def test(bench):
        bench.gate.clear()
        bench.prober.watch(member("a"))
        waiting = asyncio.ensure_future(bench.prober.first_round(30))
        await settle()
        before = waiting.done()
        bench.gate.set()
        await waiting

        assert not before
        assert bench.results == [("a", PASS)]

    on_bench(test)


def test_the_wait_for_the_first_round_is_bounded():
    """A probe that hangs must not keep the balancer from serving."""

    async def test(bench):
        bench.gate.clear()
        bench.prober.watch(member("a"))
        waiting = asyncio.ensure_future(bench.prober.first_round(30))
        await settle()
        await bench.clock.advance(29)
        early = waiting.done()
        await bench.clock.advance(2)
        await waiting

        assert (early, bench.results) == (False, [])

    on_bench(test)


def test_the_next_probe_comes_one_interval_later_give_or_take_a_tenth():
    """Not before nine seconds of ten, and not after eleven."""

    async def test(bench):
        bench.prober.watch(member("a"))
        await settle()
        await bench.clock.advance(8.99)
        early = len(bench.asked)
        await bench.clock.advance(2.02)

        assert (early, len(bench.asked)) == (1, 2)

    on_bench(test)


def test_so_many_members_that_probes_would_take_the_machine_are_asked_less_often(monkeypatch):
    """The pure engine carries traffic in the thread that probes: five thousand probes a second left none."""
    monkeypatch.setattr(room, "PROBES_MAX_PER_S", 2)

    async def test(bench):
        for number in range(40):
            bench.prober.watch(member(str(number)))
        await settle()
        first = len(bench.asked)
        await bench.clock.advance(17.9)
        early = len(bench.asked)
        await bench.clock.advance(4.2)

        assert (first, early, len(bench.asked)) == (40, 40, 80)

    on_bench(test)


@pytest.mark.parametrize(
    ("health", "ejection", "soon"),
    [
        (Health(State.DOWN), Ejection(), True),
        (Health(State.UP, against=1), Ejection(), True),
        (Health(State.UP), Ejection(1, 2000.0, 5), True),
        (Health(State.UP), Ejection(1, 2000.0, 5, unseen=True), False),
        (Health(State.UP), Ejection(), False),
    ],
)
def test_a_backend_that_is_down_or_in_doubt_is_asked_more_often(health, ejection, soon):
    """It may be back, or about to go. Of an ejection that no check ends there is nothing to find out."""

    async def test(bench):
        one = member("a")
        one.health, one.ejection = health, ejection
        bench.prober.watch(one)
        await settle()
        await bench.clock.advance(1.11)

        assert len(bench.asked) == (2 if soon else 1)

    on_bench(test)


def test_a_slow_probe_is_never_overtaken_by_the_next():
    """Not even when a failure in traffic brings the next one forward."""

    async def test(bench):
        one = member("a")
        bench.gate.clear()
        bench.prober.watch(one)
        await settle()
        bench.prober.bring_forward(one)
        await bench.clock.advance(100)

        assert bench.asked == ["a"]

    on_bench(test)


def test_a_failure_in_traffic_brings_the_next_probe_forward():
    """But not closer than a quarter of a second to the last one."""

    async def test(bench):
        one = member("a")
        bench.prober.watch(one)
        await settle()
        await bench.clock.advance(0.1)
        bench.prober.bring_forward(one)
        await bench.clock.advance(0.1)
        early = len(bench.asked)
        await bench.clock.advance(0.1)

        assert (early, len(bench.asked)) == (1, 2)

    on_bench(test)


def test_a_storm_of_failures_is_no_storm_of_probes():
    """A thousand failures in a second ask at most five times."""

    async def test(bench):
        one = member("a")
        bench.prober.watch(one)
        await settle()
        for _ in range(1000):
            bench.prober.bring_forward(one)
            await bench.clock.advance(0.001)

        assert 4 <= len(bench.asked) <= 5

    on_bench(test)


def test_who_is_forgotten_is_asked_no_more():
    """Also in the middle of a probe, whose result then counts for nothing."""

    async def test(bench):
        one = member("a")
        bench.gate.clear()
        bench.prober.watch(one)
        await settle()
        bench.prober.forget(one)
        bench.gate.set()
        await bench.clock.advance(100)

        assert (bench.asked, bench.results, bench.under_way) == (["a"], [], [])

    on_bench(test)


def test_no_more_than_a_limited_number_of_probes_is_under_way():
    """Ten thousand backends must not take ten thousand descriptors in one moment."""

    async def test(bench):
        bench.gate.clear()
        for number in range(PROBES_MAX + 10):
            bench.prober.watch(member(str(number)))
        await settle()
        first = len(bench.under_way)
        bench.gate.set()
        await bench.prober.first_round(30)

        assert (first, len(bench.results)) == (PROBES_MAX, PROBES_MAX + 10)

    on_bench(test)


def test_a_fault_in_a_probe_task_does_not_pass_in_silence():
    """A backend that nobody asks any more would stay up for ever."""

    async def test(bench):
        bench.answer = RuntimeError("a fault of ours")
        bench.prober.watch(member("a"))
        await settle()

        assert bench.said.about("error", "a probe task has ended", "a fault of ours")

    on_bench(test)


def test_probes_that_this_machine_cannot_send_are_said_once():
    """Out of descriptors: every probe of every backend fails, and one line is enough."""

    async def test(bench):
        bench.answer = ProbeResult(passed=False, reason="too many open files", took_s=0, local=True)
        for name in "abc":
            bench.prober.watch(member(name))
        await settle()

        assert len(bench.said.about("probes could not be sent", "too many open files")) == 1

    on_bench(test)


def test_the_wait_for_the_first_round_needs_no_task_for_each_member():
    """Ten thousand tasks more, only to wait."""

    async def test(bench):
        bench.gate.clear()
        for name in "abc":
            bench.prober.watch(member(name))
        waiting = asyncio.ensure_future(bench.prober.first_round(30))
        await settle()
        tasks = len(asyncio.all_tasks())
        bench.gate.set()
        await waiting

        assert tasks == 5  # the test, the wait, and a probe each

    on_bench(test)


def test_who_is_forgotten_in_the_first_round_is_not_waited_for():
    """It is never asked."""

    async def test(bench):
        bench.gate.clear()
        one = member("a")
        bench.prober.watch(one)
        waiting = asyncio.ensure_future(bench.prober.first_round(60))
        await settle()
        bench.prober.forget(one)
        await waiting

    on_bench(test)


def test_who_is_not_watched_is_nobody_to_forget_or_to_hurry():
    """A failure in traffic may be told after its backend was removed."""

    async def test(bench):
        stranger = member("a")
        bench.prober.bring_forward(stranger)
        bench.prober.forget(stranger)
        await bench.prober.first_round(60)

        assert bench.asked == []

    on_bench(test)


@pytest.mark.parametrize(
    ("mode", "config", "answer", "reason"),
    [
        (Mode.TCP, ProbeConfig(send=b"PING\r\n\r\n", expect_bytes=b"+PONG"), b"+PONG", "expected answer"),
        (Mode.TCP, ProbeConfig(expect_bytes=b"+PONG"), b"-ERR", "closed without the expected answer"),
        (Mode.HTTP, ProbeConfig(), b"HTTP/1.1 200 OK\r\n\r\n", "status 200"),
        (
            Mode.HTTP,
            ProbeConfig(),
            b"HTTP/1.1 200 OK\r\nX: " + b"a" * 2000 + b"\r\n\r\n",
            "invalid answer: header section too large",
        ),
    ],
)
def test_members_are_asked_as_the_user_says_and_within_the_limits_of_traffic(mode, config, answer, reason):
    """What is set and not passed on would be set in vain."""

    async def serve(reader, writer):
        if mode is Mode.HTTP or config.send:
            await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async def run():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        one = member("a")
        one.address = Address(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
        result = await ask_by(mode, config, LimitConfig(header_bytes=1024))(one)
        server.close()
        await settle()
        return result

    assert asyncio.run(run()).reason == reason
