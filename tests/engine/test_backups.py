"""Backups: who stands in when every other backend was tried, or none is left."""

import pytest

from fastlb.model.config import Mode
from fastlb.model.errors import NoBackendError
from fastlb.model.plan import Pick, Plan, PlanEntry
from support.backend import OK, answering, echo
from support.balance import STREAMED
from support.waiting import wait_until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def planned(pick=Pick.LEAST_LOADED, *, full_at=0, backups=((2, 0), (3, 0))):
    """Primaries 0 and 1, which hold `full_at` exchanges each, and backups with their limits."""
    entries = (PlanEntry(0, 1, full_at), PlanEntry(1, 1, full_at))
    return Plan(
        pick=pick,
        entries=entries,
        table=() if pick is Pick.LEAST_LOADED else (0, 1),
        backups=tuple(PlanEntry(slot, 1, limit) for slot, limit in backups),
    )


def following(engine, plan):
    balancer = engine.Balancer()
    balancer.publish(plan)
    return balancer


@pytest.mark.parametrize("pick", Pick)
def test_backup_is_picked_once_every_primary_was_tried(engine, pick):
    """Whatever the policy: an exchange that met every primary is better served by a backup than not."""
    balancer = following(engine, planned(pick))

    assert {balancer.acquire() for _ in range(40)} == {0, 1}
    assert balancer.acquire(tried=[0]) == 1
    assert [balancer.acquire(tried=[0, 1]) for _ in range(4)] == [2, 3, 2, 3]
    assert balancer.acquire(tried=[0, 1, 3]) == 2
    with pytest.raises(NoBackendError):
        balancer.acquire(tried=[0, 1, 2, 3])
    balancer.verify()


@pytest.mark.parametrize("pick", Pick)
def test_primaries_that_are_full_are_waited_for(engine, pick):
    """A backup is for an outage and not for the load: it may be far away, or read only."""
    balancer = following(engine, planned(pick, full_at=1))
    assert sorted(balancer.acquire() for _ in range(2)) == [0, 1]
    for tried in ((), (0,), (1,)):
        with pytest.raises(NoBackendError):
            balancer.acquire(tried)

    assert balancer.acquire(tried=[0, 1]) == 2
    balancer.verify()


def test_backup_is_the_least_loaded_that_has_room(engine):
    """Backups are balanced among themselves, and have limits like anybody."""
    balancer = following(engine, planned(backups=((2, 1), (3, 2))))
    tried = (0, 1)
    assert [balancer.acquire(tried) for _ in range(3)] == [2, 3, 3]
    with pytest.raises(NoBackendError):
        balancer.acquire(tried)
    balancer.release(2)
    assert balancer.acquire(tried) == 2
    balancer.verify()


def test_backup_that_becomes_a_primary_keeps_its_count(engine):
    """The control plane publishes backups as primaries once no primary is up."""
    balancer = following(engine, planned())
    assert [balancer.acquire(tried=[0, 1]) for _ in range(3)] == [2, 3, 2]
    balancer.publish(Plan(entries=(PlanEntry(2), PlanEntry(3))))
    balancer.verify()
    assert [balancer.in_flight(slot) for slot in (2, 3)] == [2, 1]
    assert balancer.acquire() == 3

    balancer.publish(planned())
    balancer.verify()
    assert {balancer.acquire() for _ in range(10)} == {0, 1}


def standing_by(running, *indexes):
    """Publish the backends of these indexes as backups of the others."""
    entries = running.plan.entries
    running.publish(
        Plan(
            entries=tuple(entry for place, entry in enumerate(entries) if place not in indexes),
            backups=tuple(entries[place] for place in indexes),
        )
    )


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_refused_primary_leaves_its_request_to_the_backup(balance, backend, refused, method):
    """Until the primary is known to be down, its clients need not see that."""
    running = balance(refused, backend(answering(OK)))
    standing_by(running, 1)
    client = running.connect()
    for count in range(1, 8):
        client.send(method + b" / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        assert client.response().status == 200
        assert running.lines(count)[-1]["tries"] == 2


def test_request_that_broke_its_primary_goes_to_the_backup(balance, backend):
    """The retry table knows no difference between another primary and a backup."""
    breaking, standby = backend(lambda link: link.request()), backend(answering(OK))
    running = balance(breaking, standby)
    standing_by(running, 1)
    client = running.connect()
    client.send(GET)

    assert client.response().status == 200
    line = running.line()
    assert (line["backend"], line["tried"]) == (standby.label, [breaking.label, standby.label])


def test_backup_is_not_met_while_another_primary_is_left(balance, backend, refused):
    """First the primaries, all of them that may be tried."""
    running = balance(refused, backend(answering(OK)), backend(answering(OK)))
    standing_by(running, 2)
    client = running.connect()
    for _ in range(6):
        client.send(GET)
        assert client.response().status == 200
    assert running.picked(2) == 0


def test_request_waits_for_a_full_primary_beside_an_idle_backup(balance, backend):
    """In the queue, as if there were no backup."""
    running = balance(backend(answering(OK)), backend(answering(OK)), max_conns=[1, 0], limits=STREAMED)
    standing_by(running, 1)
    first = running.connect()
    first.send(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nh")
    running.wait_in_flight(1)
    second = running.connect()
    second.send(GET)
    wait_until(lambda: running.ledger().queued == 1, "one queued")
    first.send(b"i")

    assert first.response().status == second.response().status == 200
    assert running.picked(1) == 0


def test_session_of_a_refused_primary_goes_to_the_backup(balance, backend, refused):
    """A database and its standby: what the client said first is not lost."""
    running = balance(refused, backend(echo), mode=Mode.TCP)
    standing_by(running, 1)
    for _ in range(7):
        client = running.connect()
        client.send(b"hello")
        assert client.exactly(5) == b"hello"
        client.close()
