"""Slots of removed addresses are given to others once nothing of the old ones is left."""

import threading

import pytest

from fastlb.model.address import Address
from fastlb.model.config import LogFormat, Mode
from fastlb.model.errors import ConfigError
from fastlb.model.events import EventKind
from fastlb.model.limits import BACKENDS_MAX
from fastlb.model.plan import Plan, PlanEntry
from support.backend import OK, answering, echo
from support.waiting import wait_until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
GONE = Plan()


def numbered(number):
    """An address that is nobody else's."""
    return Address(host=f"127.{number >> 16}.{number >> 8 & 255}.{number & 255}", port=9)


def ask(client):
    client.send(GET)
    return client.response()


def only(running, slot):
    running.publish(Plan(entries=(PlanEntry(slot),)))


def removed(running, index=0):
    """Take a backend out of the plan and remove it."""
    running.publish(GONE)
    running.remove(running.slots[index])


def test_more_addresses_come_and_go_than_there_are_slots(balance, backend):
    """Where addresses change all day the last slot would be used up some day, and no new backend come in."""
    running = balance(backend(answering(OK)))

    def churn():
        slots = set()
        for number in range(BACKENDS_MAX + 5000):
            slot = running.engine.add_backend(numbered(number), "passing")
            running.engine.remove_backend(slot)
            slots.add(slot)
        return slots

    slots = running._loop.call(churn)
    assert max(slots) < 100
    assert ask(running.connect()).status == 200


def test_slots_in_use_are_bounded(balance, backend):
    """At the limit a new address is refused, until one that is not used any more is removed."""
    running = balance(backend(answering(OK)))

    def fill():
        return [running.engine.add_backend(numbered(n), "x") for n in range(BACKENDS_MAX - 1)]

    slots = running._loop.call(fill)
    with pytest.raises(ConfigError, match="at most"):
        running.add(numbered(BACKENDS_MAX))
    running.remove(slots[77])

    assert running.add(numbered(BACKENDS_MAX)) == slots[77]


@pytest.mark.parametrize("mode", Mode)
def test_slot_with_an_open_exchange_stays_its_own(balance, backend, mode):
    """Its unit, its connection and its log line are those of the address that was picked."""
    gate = threading.Event()

    def script(link):
        if mode is Mode.TCP:
            echo(link)
        else:
            link.request()
            assert gate.wait(8)
            link.send(OK)

    first = backend(script)
    running = balance(first, mode=mode)
    client = running.connect()
    client.send(GET)
    running.wait_in_flight(1)
    removed(running)
    slots = {running.add(numbered(number)) for number in range(20)}
    assert running.slots[0] not in slots

    gate.set()
    if mode is Mode.TCP:
        assert client.exactly(len(GET)) == GET
        client.close()
    else:
        assert client.response().status == 200
    running.wait_idle()
    wait_until(lambda: running.verify().connections <= 1, "its connection is closed")
    assert running.add(numbered(21), "another") == running.slots[0]
    assert running.line()["backend"] == first.label


def test_slot_that_an_open_exchange_has_tried_stays_its_own(balance, backend, refused):
    """The line of a session says at its end whom it met first, and may not be left out by the number of one
    that it did not meet."""
    second = backend(echo)
    running = balance(refused, second, mode=Mode.TCP)
    client = running.connect()
    client.send(b"x")
    assert client.exactly(1) == b"x"
    assert [event.slot for event in running.wait_event(EventKind.CONNECT_FAILED)] == [running.slots[0]]
    running.keep_only(1)
    running.remove(running.slots[0])
    assert running.slots[0] not in {running.add(numbered(number)) for number in range(20)}

    client.close()
    running.wait_idle()
    assert running.line()["tried"] == [str(refused), second.label]
    assert running.add(numbered(21)) == running.slots[0]


@pytest.mark.parametrize("log_format", LogFormat)
def test_lines_that_nobody_has_read_keep_the_label_of_their_backend(balance, backend, log_format):
    """The log is read later than the slot changes hands."""
    first = backend(answering(OK))
    running = balance(first, log_format=log_format)
    client = running.connect()
    for _ in range(3):
        assert ask(client).status == 200
    running.wait_idle()
    removed(running)
    wait_until(lambda: running.verify().connections <= 1, "its connection is closed")
    second = backend(answering(OK))
    slot = running.add(second, "second")
    assert slot == running.slots[0]
    only(running, slot)
    assert ask(client).status == 200

    lines = running.raw_lines(4)
    assert [first.label.encode() in line for line in lines] == [True, True, True, False]
    assert b"second" in lines[3]


def test_events_of_the_old_address_are_not_those_of_the_new_one(balance, backend, refused):
    """A backend would begin with the failures of a stranger."""
    running = balance(refused)
    assert ask(running.connect()).status == 502
    running.wait_idle()
    removed(running)
    assert running.add(numbered(1)) == running.slots[0]

    assert not [event for event in running.events() if event.slot == running.slots[0]]


def test_counters_and_failures_begin_anew_with_the_new_address(balance, backend, refused):
    """They are those of a backend, not of a number."""
    running = balance(refused)
    assert ask(running.connect()).status == 502
    running.wait_idle()
    removed(running)
    slot = running.add(backend(answering(OK)))
    assert slot == running.slots[0]

    (counts,) = (counts for counts in running.ledger().backends if counts.slot == slot)
    assert (counts.picked, counts.connects, counts.failures, counts.bytes_in) == (0, 0, 0, 0)
    other = running.add(numbered(1))
    running.publish(Plan(entries=(PlanEntry(other), PlanEntry(slot))))
    client = running.connect()
    assert ask(client).status == 200
    assert running.lines(2)[1]["tries"] == 1  # the lower slot, which nothing weighs on
    assert not running.fade(0.0)


def test_address_that_comes_back_before_its_slot_was_given_away_has_it_again(balance, backend):
    """As long as anything of it is left."""
    first = backend(lambda link: link.request() and link.sock.recv(1))
    running = balance(first)
    client = running.connect()
    client.send(GET)
    running.wait_in_flight(1)
    removed(running)
    other = running.add(numbered(1))

    assert running.add(first) == running.slots[0] != other
    assert running.in_flight() == 1
    client.close()
    running.wait_in_flight(0)
    assert running.slots[0] not in {running.add(numbered(number)) for number in range(2, 20)}
