"""Host names: resolved off the event loop, and followed when they move."""

import asyncio
import socket

import pytest
from fakes import FakeClock, FakeEngine, Lines, until

import fastlb.control.names as names
from fastlb.control.membership import Membership
from fastlb.control.names import NameFollower
from fastlb.control.resolve import lookup, resolve
from fastlb.model.address import Address
from fastlb.model.config import BackendConfig, Policy, ProbeConfig
from fastlb.model.errors import StartError

NAME = Address(host="app.example", port=80)


def answers(*hosts: str):
    """What getaddrinfo gives for these addresses."""
    families = [socket.AF_INET6 if ":" in host else socket.AF_INET for host in hosts]
    return [
        (family, socket.SOCK_STREAM, 6, "", (host, 80)) for family, host in zip(families, hosts, strict=True)
    ]


def with_dns(zone: dict[str, list], work):
    """Run `work` in a loop whose resolver knows `zone`."""

    async def run():
        async def getaddrinfo(host, port, **_):
            if host not in zone:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return zone[host]

        asyncio.get_running_loop().getaddrinfo = getaddrinfo
        return await work()

    return asyncio.run(run())


@pytest.mark.parametrize(
    "address",
    [Address(host="127.0.0.1", port=1), Address(host="::1", port=1), Address(path="/x"), Address(port=1)],
)
def test_numeric_addresses_are_not_looked_up(address):
    """No resolver, no thread, no wait."""
    assert with_dns({}, lambda: lookup(address)) == (address,)


def test_ipv4_goes_before_ipv6():
    """`localhost` is both, and most application servers listen on 127.0.0.1 only."""
    zone = {"app.example": answers("::1", "127.0.0.2", "127.0.0.1")}

    assert [found.host for found in with_dns(zone, lambda: lookup(NAME))] == ["127.0.0.2", "127.0.0.1", "::1"]


def test_localhost_really_resolves():
    """The resolver of this machine, once."""
    assert asyncio.run(resolve(Address(host="localhost", port=80), "--backend")).is_numeric


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "\udcff"])
def test_a_host_that_cannot_be_asked_for_names_flag_and_host(host):
    """Whoever makes an Address without parsing gets a start error too, not the codec's UnicodeError."""
    with pytest.raises(StartError, match=r"--backend .*not a host name"):
        asyncio.run(resolve(Address(host=host, port=80), "--backend"))


def test_a_name_that_does_not_resolve_names_flag_and_name():
    """A start error, in one line."""
    with pytest.raises(
        StartError, match=r"--backend app.example:80: cannot resolve 'app.example': name or service"
    ):
        with_dns({}, lambda: resolve(NAME, "--backend"))


class Followed:
    """A pool of one named backend, and a follower."""

    def __init__(self) -> None:
        self.engine, self.said = FakeEngine(), Lines()
        self.all = Membership(
            self.engine,
            policy=Policy.LEAST_CONN,
            probe=ProbeConfig(enabled=False),
            log=self.said.log,
            clock=FakeClock(),
            later=lambda publish: publish(),
        )
        self.member = self.all.add(BackendConfig(address=NAME), Address(host="10.0.0.1", port=80))
        self.follower = NameFollower(self.all, self.said.log)

    def look(self, zone: dict[str, list]) -> str:
        with_dns(zone, self.follower.look)
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
    monkeypatch.setattr(names, "EVERY_S", 0.0)
    pool, looks = Followed(), []

    async def look():
        looks.append(1)

    async def run():
        monkeypatch.setattr(pool.follower, "look", look)
        following = asyncio.create_task(pool.follower.follow())
        await until(lambda: len(looks) > 2)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    asyncio.run(run())
