"""Host names: resolved off the event loop, and followed when they move."""

import asyncio
import socket
import threading
import time

import pytest
from fakes import FakeClock, FakeEngine, Lines, until

import fastlb.control.names as names
import fastlb.control.resolve as room
from fastlb.control.membership import Membership
from fastlb.control.names import NameFollower
from fastlb.control.resolve import NoAnswerError, Resolver, resolve
from fastlb.model.address import Address
from fastlb.model.config import BackendConfig, Policy, ProbeConfig
from fastlb.model.errors import StartError
from fastlb.probe import ProbeResult

NAME = Address(host="app.example", port=80)


def answers(*hosts: str):
    """What getaddrinfo gives for these addresses."""
    families = [socket.AF_INET6 if ":" in host else socket.AF_INET for host in hosts]
    return [
        (family, socket.SOCK_STREAM, 6, "", (host, 80, 0, 0)[: 4 if ":" in host else 2])
        for family, host in zip(families, hosts, strict=True)
    ]


def resolver(zone: dict[str, object]) -> Resolver:
    """One that knows `zone`: answers, or what is raised, or called."""

    def ask(host, port, **_):
        answer = zone.get(host, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
        if callable(answer):
            answer = answer()
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Resolver(ask)


def looked_up(zone: dict[str, object], address: Address = NAME) -> tuple[Address, ...]:
    """What a look-up finds."""
    return asyncio.run(resolver(zone).lookup(address))


@pytest.mark.parametrize(
    "address",
    [Address(host="127.0.0.1", port=1), Address(host="::1", port=1), Address(path="/x"), Address(port=1)],
)
def test_numeric_addresses_are_not_looked_up(address):
    """No resolver, no thread, no wait."""
    assert looked_up({}, address) == (address,)


def test_ipv4_goes_before_ipv6():
    """`localhost` is both, and most application servers listen on 127.0.0.1 only."""
    zone = {"app.example": answers("::1", "127.0.0.2", "127.0.0.1")}

    assert [found.host for found in looked_up(zone)] == ["127.0.0.2", "127.0.0.1", "::1"]


def test_localhost_really_resolves():
    """The resolver of this machine, once."""
    found = asyncio.run(Resolver().lookup(Address(host="localhost", port=80)))

    assert all(address.is_numeric for address in found)


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "\udcff"])
def test_a_host_that_cannot_be_asked_for_names_flag_and_host(host):
    """Whoever makes an Address without parsing gets a start error too, not the codec's UnicodeError."""
    with pytest.raises(StartError, match=r"--backend .*not a host name"):
        asyncio.run(resolve(Resolver(), Address(host=host, port=80), "--backend"))


def test_a_name_that_does_not_resolve_names_flag_and_name():
    """A start error, in one line."""
    with pytest.raises(
        StartError, match=r"--backend app.example:80: cannot resolve 'app.example': name or service"
    ):
        asyncio.run(resolve(resolver({}), NAME, "--backend"))


@pytest.mark.parametrize("host", ["fe80::1%nothing", "fe80::1%999999"])
def test_an_interface_that_is_not_there_is_named(host):
    """Not an error of connect() or bind() much later."""
    with pytest.raises(StartError, match=r"--listen \[fe80.*no interface '(nothing|999999)' on this machine"):
        asyncio.run(resolve(Resolver(), Address(host=host, port=80), "--listen"))


def test_an_interface_by_number_is_the_same_address_as_by_name():
    """An address is given once; RFC 4007 11.2 allows both."""
    number = socket.if_nametoindex("lo")
    found = {looked_up({}, Address(host=f"fe80::1%{zone}", port=80)) for zone in ("lo", number)}

    assert found == {(Address(host="fe80::1%lo", port=80),)}


def test_the_interface_of_an_answer_is_kept():
    """Names of the local link (mDNS) resolve to such addresses."""
    lo = socket.if_nametoindex("lo")
    entry = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 80, 0, lo))

    assert looked_up({"app.example": [entry]}) == (Address(host="fe80::1%lo", port=80),)


@pytest.mark.parametrize("number", [socket.EAI_AGAIN, socket.EAI_SYSTEM])
def test_a_resolver_that_cannot_say_now_is_no_reason_not_to_start(number):
    """It is not known that the name is wrong."""
    zone = {"app.example": socket.gaierror(number, "Temporary failure in name resolution")}

    assert asyncio.run(resolve(resolver(zone), NAME, "--backend")) == ()


def test_a_resolver_that_is_silent_is_not_waited_for(monkeypatch):
    """Neither by the start, nor by the end of the loop, which joins the threads of its own executor."""
    monkeypatch.setattr(room, "TIMEOUT_S", 0.05)
    silent = threading.Event()
    began = time.monotonic()
    found = asyncio.run(resolve(resolver({"app.example": lambda: silent.wait(30)}), NAME, "--backend"))
    took_s = time.monotonic() - began
    silent.set()

    assert found == ()
    assert took_s < 15


def test_names_are_looked_up_at_once_but_not_all(monkeypatch):
    """Each holds a thread; silent ones hold theirs although nobody waits any more."""
    monkeypatch.setattr(room, "LOOKUPS_MAX", 3)
    under_way, most = [0], [0]
    gate, together = threading.Event(), threading.Barrier(3)

    def ask():
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        if not gate.is_set():
            together.wait(15)
            gate.set()
        under_way[0] -= 1
        return answers("10.0.0.1")

    async def run():
        asked = resolver({f"{n}.example": ask for n in range(9)})
        return await asyncio.gather(*(asked.lookup(Address(host=f"{n}.example", port=80)) for n in range(9)))

    assert len(asyncio.run(run())) == 9
    assert most == [3]


def test_a_look_up_that_waits_for_a_thread_in_vain_is_given_up(monkeypatch):
    """The thread that frees itself later goes to somebody who still waits."""
    monkeypatch.setattr(room, "LOOKUPS_MAX", 1)
    monkeypatch.setattr(room, "TIMEOUT_S", 0.05)
    silent = threading.Event()

    async def run():
        asked = resolver({"app.example": lambda: silent.wait(15), "b.example": answers("10.0.0.2")})
        lookups = [asked.lookup(NAME), asked.lookup(Address(host="b.example", port=80))]
        failed = await asyncio.gather(*lookups, return_exceptions=True)
        silent.set()
        monkeypatch.setattr(room, "TIMEOUT_S", 15)
        return failed, await asked.lookup(Address(host="b.example", port=80))

    failed, found = asyncio.run(run())

    assert [type(error) for error in failed] == [NoAnswerError, NoAnswerError]
    assert [address.host for address in found] == ["10.0.0.2"]


def test_without_a_thread_there_is_no_answer(monkeypatch):
    """The limit of processes is reached: a fault of this machine, not of the name."""

    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)

    assert asyncio.run(resolve(resolver({"app.example": answers("10.0.0.1")}), NAME, "--backend")) == ()


class Followed:
    """A pool of one named backend, and a follower."""

    def __init__(self, *absent: BackendConfig) -> None:
        self.engine, self.said = FakeEngine(), Lines()
        self.zone: dict[str, object] = {}
        self.all = Membership(
            self.engine,
            policy=Policy.LEAST_CONN,
            probe=ProbeConfig(enabled=False),
            log=self.said.log,
            clock=FakeClock(),
            later=lambda publish: publish(),
        )
        self.member = self.all.add(BackendConfig(address=NAME), Address(host="10.0.0.1", port=80))
        self.follower = NameFollower(self.all, self.said.log, resolver(self.zone), absent)

    def look(self, zone: dict[str, object]) -> str:
        self.zone.clear()
        self.zone.update(zone)
        asyncio.run(self.follower.look())
        return self.member.address.host


def test_a_backend_that_moved_is_found_at_its_new_address():
    """Containers get a new address with every deployment."""
    assert Followed().look({"app.example": answers("10.0.0.2")}) == "10.0.0.2"


def test_an_address_that_is_still_among_the_answers_stays():
    """Round-robin DNS shuffles its answers; that must not move traffic every half minute."""
    assert Followed().look({"app.example": answers("10.0.0.3", "10.0.0.1")}) == "10.0.0.1"


def test_a_resolver_that_is_down_changes_nothing_and_is_said_once():
    """The last address is better than none."""
    pool = Followed()

    assert (pool.look({}), pool.look({})) == ("10.0.0.1", "10.0.0.1")
    assert len(pool.said.about("does not resolve", "backend=app.example:80")) == 1


def test_a_name_that_resolves_to_another_backend_stays_where_it_is():
    """One address is one backend; the next free answer is taken, if there is one."""
    pool = Followed()
    other = Address(host="10.0.0.2", port=80)
    pool.all.add(BackendConfig(address=other), other)

    assert pool.look({"app.example": answers("10.0.0.2")}) == "10.0.0.1"
    assert pool.said.about("addresses of other backends")
    assert pool.look({"app.example": answers("10.0.0.2", "10.0.0.4")}) == "10.0.0.4"


def test_names_are_looked_up_again_and_again(monkeypatch):
    """A deployment may come at any time."""
    monkeypatch.setattr(names, "ROUND_S", 0.0)
    monkeypatch.setattr(names, "ROUNDS", 3)
    pool, looks = Followed(), []

    async def look(*, everybody):
        looks.append(everybody)

    async def run():
        monkeypatch.setattr(pool.follower, "look", look)
        following = asyncio.create_task(pool.follower.follow())
        await until(lambda: len(looks) > 5)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    asyncio.run(run())
    assert looks[:6] == [False, False, True] * 2


def test_a_backend_has_all_the_addresses_of_its_name():
    """RFC 1123 2.3: each is to be tried in turn until one works."""
    pool = Followed()
    pool.look({"app.example": answers("10.0.0.2", "10.0.0.3", "::1")})

    assert [address.host for address in pool.member.addresses] == ["10.0.0.2", "10.0.0.3", "::1"]
    assert pool.engine.slots[pool.member.addresses] == pool.member.slot


def test_a_backend_that_is_not_well_takes_what_its_name_resolves_to_now():
    """It may have been started anew beside its old address, which still is among the answers."""
    pool = Followed()
    pool.all.observe_probe(pool.member, ProbeResult(passed=False, reason="refused", took_s=0))
    for _ in range(3):
        pool.all.observe_probe(pool.member, ProbeResult(passed=False, reason="refused", took_s=0))
    assert not pool.member.in_rotation
    pool.look({"app.example": answers("10.0.0.1", "10.0.0.2")})

    assert [address.host for address in pool.member.addresses] == ["10.0.0.1", "10.0.0.2"]
    slot = pool.member.slot
    pool.look({"app.example": answers("10.0.0.2", "10.0.0.1")})
    assert pool.member.slot == slot


def test_a_backend_whose_name_resolves_late_joins_then():
    """The resolver was away when fastlb started; it must not stay without that backend."""
    late = BackendConfig(address=Address(host="late.example", port=80))
    pool = Followed(late)
    stays = {"app.example": answers("10.0.0.1")}
    pool.look(stays)
    before = len(pool.all.members)
    pool.look(stays | {"late.example": answers("10.0.0.1")})
    taken = len(pool.all.members)
    pool.look(stays | {"late.example": answers("10.0.0.8", "10.0.0.9")})

    assert (before, taken, len(pool.all.members)) == (1, 1, 2)
    assert pool.all.member("late.example:80").address.host == "10.0.0.8"


def test_a_fault_with_one_name_does_not_end_the_following_of_the_others():
    """Whoever follows names is one task for all of them."""
    other = BackendConfig(address=Address(host="b.example", port=80))
    pool = Followed(other)

    assert pool.look({"app.example": answers("10.0.0.2"), "b.example": 42}) == "10.0.0.2"
    assert pool.said.about("error", "a name could not be followed")
