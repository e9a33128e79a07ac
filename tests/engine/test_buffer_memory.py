"""Memory for bytes in flight is limited: who needs more ends, and the others go on."""

import json

import pytest

from fastlb.model.config import Mode
from fastlb.model.events import EventKind
from fastlb.model.limits import LimitConfig
from support.backend import OK
from support.balance import Balance
from support.waiting import wait_until
from support.wire import Wire

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ENDLESS = b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n"
LIMIT_BYTES = 1_048_576
PIECE = b"10000\r\n" + b"x" * 65_536 + b"\r\n"


def pouring(link):
    """Endless chunks for those who ask for them, and a short answer for the others."""
    while (request := link.request()) is not None:
        if b"/endless" not in request.start:
            link.send(OK)
            continue
        link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            link.send(PIECE)


def limited(balance, *backends, **settings) -> Balance:
    """An engine with very little memory for buffers, all of it one worker's."""
    return balance(*backends, limits=LimitConfig(buffer_bytes=LIMIT_BYTES), workers=1, **settings)


def codes(running, count) -> list[str]:
    """The termination codes of the first exchanges that ended."""
    return [json.loads(line)["code"] for line in running.raw_lines(count)]


def stalled_readers(running, count) -> list[Wire]:
    """Clients that ask for much and read nothing."""
    clients = [running.connect(receive_buffer_bytes=4096) for _ in range(count)]
    for client in clients:
        client.send(ENDLESS)
    return clients


def test_stalled_readers_beyond_the_memory_are_cut_off_and_the_others_are_served(balance, backend):
    """Ten thousand of them must not take the machine's memory: code RD."""
    running = limited(balance, backend(pouring))
    clients = stalled_readers(running, 80)
    wait_until(lambda: running.ledger().exchanges >= 8, "some are cut off")
    client = running.connect()
    for _ in range(3):
        client.send(GET)
        assert client.response().body == b"ok"

    assert 0 < running.ledger().buffer_bytes <= LIMIT_BYTES
    assert set(codes(running, 8)) <= {"RD", "--"}
    assert running.ledger().exchanges < len(clients)
    assert len(running.wait_event(EventKind.BUFFERS_FULL)) == 1


def test_memory_comes_back_when_stalled_readers_leave(balance, backend):
    """Nothing of what was held is lost to the ones that come later."""
    running = limited(balance, backend(pouring))
    for _ in range(2):
        stalled_readers(running, 80)
        wait_until(lambda: running.events() and running.ledger().exchanges >= 8, "some are cut off")
        running.close_clients()
        running.wait_idle()
        client = running.connect()
        client.send(GET)
        assert client.response().body == b"ok"
        client.close()

    running.wait_idle()
    assert running.ledger().buffer_bytes < LIMIT_BYTES


def test_tunnel_whose_reader_stalls_beyond_the_memory_is_reset(balance, backend):
    """A session in TCP mode has the same limit."""

    def flood(link):
        link.more()
        while True:
            link.send(PIECE)

    running = limited(balance, backend(flood), mode=Mode.TCP)
    for _ in range(80):
        running.connect(receive_buffer_bytes=4096).send(b"go")
    wait_until(lambda: running.ledger().exchanges >= 4, "some are reset")

    assert codes(running, 4) == ["RD"] * 4
    assert running.ledger().buffer_bytes <= LIMIT_BYTES


def test_heads_that_never_end_share_the_memory(balance, backend, engine):
    """A partial head costs a buffer; without one the client is told so: 503, code RR."""
    if engine.name == "pure":
        pytest.skip("counts full write buffers only: docs/semantics.md")
    running = limited(balance, backend(pouring))
    clients = [running.connect() for _ in range(600)]
    for client in clients:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
    wait_until(lambda: running.ledger().exchanges >= 50, "some are refused")
    line = running.raw_lines(1)[0]

    assert b'"status":503' in line
    assert b'"code":"RR"' in line
    assert running.ledger().buffer_bytes <= LIMIT_BYTES


def test_bodies_that_are_kept_share_the_memory(balance, backend, engine):
    """What is kept for a retry counts too; beyond it the answer is 503, code RC."""
    if engine.name == "pure":
        pytest.skip("counts full write buffers only: docs/semantics.md")

    def mute(link):
        link.rest()

    running = limited(balance, backend(mute))
    clients = [running.connect() for _ in range(20)]
    for client in clients:
        client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000)
    wait_until(lambda: running.ledger().exchanges >= 4, "some are refused")

    assert set(codes(running, 4)) <= {"RC", "RD"}
    assert running.ledger().statuses[5] == running.ledger().exchanges
    assert running.in_flight() > 8
