"""A backend with more than one address, and addresses that name an interface."""

import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fastlb.model.address import Address
from fastlb.model.config import Mode
from fastlb.model.errors import ConfigError
from fastlb.model.events import EventKind
from support import own_network
from support.backend import echo, recording
from support.balance import PATIENT
from support.serving import free_port

GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def closing(link):
    """Answer one request and close."""
    if link.request() is not None:
        link.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")


def ask(running) -> int:
    """The status that a new client gets."""
    client = running.connect()
    client.send(GET)
    return client.response().status


def test_refused_address_leads_to_the_next_one_within_the_same_try(balance, backend, refused):
    """RFC 1123 2.3: `localhost` may be served on ::1 only. No retry is spent, and nobody is blamed."""
    running = balance((refused, Address(path="/nowhere"), backend(closing)))

    assert ask(running) == 200
    line = running.line()
    assert (line["tries"], line["code"]) == (1, "--")
    assert running.ledger().retries == 0
    assert [event.kind for event in running.events()] == []


def test_address_that_worked_is_kept(balance, backend):
    """The first one is not asked again for every connection, also once it listens."""
    good = backend(closing)
    first = Address(host="127.0.0.1", port=free_port())
    running = balance((first, good))
    statuses = [ask(running)]
    with socket.create_server((first.host, first.port)) as late:
        late.setblocking(False)
        statuses += [ask(running) for _ in range(3)]
        with pytest.raises(BlockingIOError):
            late.accept()

    assert statuses == [200] * 4
    assert len(good.links) == 4


def test_refused_at_every_address_is_one_failure(balance, refused):
    """They are one backend."""
    running = balance((refused, Address(path="/nowhere")))

    assert ask(running) == 502
    assert (running.line()["tries"], running.line()["code"]) == (1, "SC")
    (event,) = running.wait_event(EventKind.CONNECT_FAILED)
    assert event.in_a_row == 1
    running.wait_in_flight(0)


def test_next_try_begins_at_another_address_after_a_time_out(balance, backend, unanswered):
    """Waiting once more within the same try would double the time-out that the user gave."""
    running = balance((unanswered, backend(closing)), timeouts=replace(PATIENT, connect_s=0.2))

    assert [ask(running), ask(running)] == [504, 200]


def test_session_goes_to_the_next_address_too(balance, backend, refused):
    """TCP mode: what the client said is not lost."""
    running = balance((refused, backend(echo)), mode=Mode.TCP)
    client = running.connect()
    client.send(b"hello")

    assert client.exactly(5) == b"hello"


def test_address_that_a_check_found_is_where_connects_begin(balance, backend, unanswered):
    """Otherwise the first clients of a backend whose first address is dead would wait for a time-out."""
    running = balance((unanswered, backend(closing)))
    running.prefer(0, 1)

    assert ask(running) == 200
    with pytest.raises(ConfigError):
        running.prefer(0, 2)


def test_backend_is_known_by_all_its_addresses(balance, refused):
    """Counters belong to a set of addresses in its order."""
    other = Address(host="127.0.0.2", port=1)
    running = balance((refused, other), refused)

    assert running.slots == [0, 1]
    assert [running.add(refused, "a", other), running.add(refused)] == [0, 1]
    assert running.add(other, "b", refused) == 2


@pytest.mark.parametrize("host", ["fe80::1%nothing", "fe80::1%999999", "name.example"])
def test_address_that_cannot_be_connected_to_is_refused_at_once(balance, refused, host):
    """Not at the first request: the interface is not there, or it is no address."""
    running = balance(refused)
    with pytest.raises(ConfigError):
        running.add(Address(host=host, port=80))
    with pytest.raises(ConfigError):
        running.add(refused, "a", Address(host=host, port=80))


@pytest.mark.parametrize("zone", ["name", "number"])
def test_link_local_address_is_reached_through_its_interface(request, engine, balance, backend, zone):
    """RFC 4007 11: without the interface connect() is refused by the kernel. The Host field of a request
    that brings none does not have it (RFC 6874 4)."""
    if not own_network.is_own():
        own_network.run_again(request.node.nodeid, engine.name)
        return
    subprocess.run(["ip", "-6", "addr", "add", "fe80::1/64", "dev", "lo", "nodad"], check=True)
    seen: list[bytes] = []
    there = backend(recording(seen), host="fe80::1%lo")
    name = "lo" if zone == "name" else str(socket.if_nametoindex("lo"))
    running = balance(Address(host=f"fe80::1%{name}", port=there.address.port))
    client = running.connect()
    client.send(b"GET / HTTP/1.0\r\n\r\n")

    assert client.response().status == 200
    assert f"Host: [fe80::1]:{there.address.port}\r\n".encode() in seen[0]


@pytest.mark.parametrize("order", ["first", "last"])
def test_address_that_cannot_be_reached_from_here_is_stepped_over(
    request, engine, balance, backend, refused, order
):
    """`localhost` is ::1 too, and a machine may have no IPv6: the other address counts, alive or dead."""
    if not own_network.is_own():
        own_network.run_again(request.node.nodeid, engine.name)
        return
    Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
    away = Address(host="::1", port=80)
    pairs = [(away, backend(closing)), (away, refused)]
    running, dead = (balance(pair if order == "first" else pair[::-1]) for pair in pairs)

    assert [ask(running), ask(dead)] == [200, 502]
    assert len(dead.wait_event(EventKind.CONNECT_FAILED)) == 1
