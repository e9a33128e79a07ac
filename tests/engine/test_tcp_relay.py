"""TCP mode: bytes both ways, ends both ways, and bounded memory."""

import hashlib
import socket
import threading
from dataclasses import replace

import pytest

from fastlb.model.config import Mode
from support.backend import echo, silent
from support.balance import PATIENT
from support.leaks import resident_bytes
from support.waiting import wait_until

MIB = 1 << 20
BODY_BYTES = 96 * MIB
# What two pairs of kernel buffers may hold at their largest, with room.
HELD_MAX_BYTES = 40 * MIB


@pytest.fixture
def tcp(balance):
    """Start engines in TCP mode."""

    def start(*backends, **settings):
        return balance(*backends, mode=Mode.TCP, **settings)

    return start


@pytest.mark.parametrize("size", [1, 100, 65_536, 65_537, 3_000_000])
def test_bytes_pass_both_ways(tcp, backend, size):
    """Small ones are copied and large ones spliced; nobody can tell."""
    client = tcp(backend(echo)).connect()
    sent = (hashlib.sha256(b"x").digest() * (size // 32 + 1))[:size]
    sender = threading.Thread(target=client.send, args=(sent,))
    sender.start()
    got = client.exactly(size)
    sender.join()

    assert hashlib.sha256(got).digest() == hashlib.sha256(sent).digest()


def test_many_small_messages_pass_in_order(tcp, backend):
    """Ping-pong, the shape of most protocols."""
    client = tcp(backend(echo)).connect()
    for n in range(300):
        client.send(b"%08d" % n)
        assert client.exactly(8) == b"%08d" % n


def test_large_and_small_alternate_on_one_session(tcp, backend):
    """Going from copying to splicing and back loses no order."""
    client = tcp(backend(echo)).connect()
    for size in (1, 500_000, *range(3, 13), 70_000, 5, 1_000_000, 2):
        piece = bytes([size % 251]) * size
        sender = threading.Thread(target=client.send, args=(piece,))
        sender.start()
        assert client.exactly(size) == piece
        sender.join()


def test_backend_may_speak_first(tcp, backend):
    """SMTP, SSH and MySQL do; the connect must not wait for the client's first byte."""

    def script(link):
        link.send(b"220 hello\r\n")
        link.rest()

    client = tcp(backend(script)).connect()

    assert client.exactly(11) == b"220 hello\r\n"


def test_client_may_finish_first(tcp, backend):
    """Half-close: FIN means that nothing more comes, not that nothing more is read."""

    def script(link):
        got = link.rest()
        link.send(b"got %d" % len(got))

    running = tcp(backend(script))
    client = running.connect()
    client.send(b"x" * 200_000)
    client.shut()

    assert client.rest() == b"got 200000"
    running.wait_in_flight(0)
    assert running.line()["code"] == "--"


def test_backend_may_finish_first(tcp, backend):
    """The same the other way round."""
    heard = []

    def script(link):
        link.send(b"bye" * 50_000)
        link.shut()
        heard.append(link.rest())

    running = tcp(backend(script))
    client = running.connect()
    assert client.rest() == b"bye" * 50_000
    assert running.in_flight() == 1
    client.send(b"after the end")
    client.close()
    running.wait_in_flight(0)
    wait_until(lambda: heard, "the backend's reading")

    assert heard == [b"after the end"]


def test_unit_is_held_until_both_directions_have_ended(tcp, backend):
    """From the pick to both sides closed."""
    gate = threading.Event()

    def script(link):
        link.rest()
        assert gate.wait(5)

    running = tcp(backend(script))
    client = running.connect()
    running.wait_in_flight(1)
    client.shut()
    assert running.in_flight() == 1
    gate.set()
    assert client.ending() == "fin"
    running.wait_in_flight(0)


def test_reset_of_the_backend_is_a_reset_for_the_client(tcp, backend):
    """A clean FIN would make truncation look like success."""

    def script(link):
        link.exactly(1)
        link.reset()

    running = tcp(backend(script))
    client = running.connect()
    client.send(b"x")

    assert client.ending() == "rst"
    running.wait_in_flight(0)
    assert running.line()["code"] == "SD"


def test_reset_of_the_client_is_a_reset_for_the_backend(tcp, backend):
    """The backend must be able to tell a crash from a goodbye."""
    how = []

    def script(link):
        link.exactly(1)
        how.append(link.ending())

    running = tcp(backend(script))
    client = running.connect()
    client.send(b"x")
    running.wait_in_flight(1)
    started_reading = wait_until(lambda: running.ledger().backends[0].bytes_out == 1)
    assert started_reading
    client.reset()
    wait_until(lambda: how, "the backend's end")
    running.wait_in_flight(0)

    assert how == ["rst"]
    assert running.line()["code"] == "CD"


def test_reset_after_half_close_is_passed_on(tcp, backend):
    """Also when one direction has ended already."""

    def script(link):
        link.rest()
        link.reset()

    running = tcp(backend(script))
    client = running.connect()
    client.send(b"x")
    client.shut()

    assert client.ending() == "rst"
    running.wait_in_flight(0)


def test_silent_half_closed_session_ends_after_its_time(tcp, backend):
    """fin_s: who has heard the FIN has this long to finish."""
    gate = threading.Event()

    def script(link):
        link.rest()
        gate.wait(20)

    running = tcp(backend(script), timeouts=replace(PATIENT, fin_s=0.2))
    client = running.connect()
    client.send(b"x")
    client.shut()
    try:
        assert client.ending() in ("fin", "rst")
        running.wait_in_flight(0)
    finally:
        gate.set()


def test_client_that_does_not_follow_a_finished_backend_ends_after_its_time(tcp, backend):
    """The same the other way: the backend has said all, the client stays and says nothing."""
    running = tcp(backend(lambda link: link.send(b"bye")), timeouts=replace(PATIENT, fin_s=0.2))
    client = running.connect()

    assert client.exactly(3) == b"bye"
    assert client.ending() in ("fin", "rst")
    assert running.line()["code"] == "cD"


def test_idle_session_ends_after_its_time(tcp, backend):
    """Nobody spoke, nobody will."""
    running = tcp(backend(echo), timeouts=replace(PATIENT, idle_s=0.2))
    client = running.connect()

    assert client.ending() in ("fin", "rst")
    running.wait_in_flight(0)


def test_progress_in_either_direction_is_progress(tcp, backend):
    """A download is not idle because its client is quiet."""
    pause = threading.Event()

    def script(link):
        for n in range(8):
            pause.wait(0.1)
            link.send(b"%d" % n)

    running = tcp(backend(script), timeouts=replace(PATIENT, idle_s=0.4))
    client = running.connect()

    assert client.rest() == b"01234567"


def stalls(counter):
    """Wait until a counter that grew has stopped growing for a while, and return it."""
    last = [-1, 0]

    def stopped():
        now = counter()
        last[1] = last[1] + 1 if now == last[0] and now > 0 else 0
        last[0] = now
        return last[1] > 100

    wait_until(stopped, "the sender to be held back")
    return last[0]


def pour(wire, sent):
    """Send the whole body, counting."""
    piece = bytes(64 * 1024)
    while sent[0] < BODY_BYTES:
        wire.send(piece)
        sent[0] += len(piece)


def swallow(wire):
    """Read the whole body without keeping it."""
    left = BODY_BYTES - len(wire.unread)
    while left > 0:
        got = len(wire.sock.recv(MIB))
        assert got, "the body broke off"
        left -= got


def test_client_that_does_not_read_holds_its_backend_back(tcp, backend):
    """Memory for a stalled reader is bounded, and nothing is lost when it reads again."""
    sent = [0]
    running = tcp(backend(lambda link: pour(link, sent)))
    before = resident_bytes()
    client = running.connect(receive_buffer_bytes=16_384)
    held = stalls(lambda: sent[0])

    assert held < HELD_MAX_BYTES
    assert resident_bytes() - before < 16 * MIB
    swallow(client)
    assert client.ending() == "fin"
    running.wait_in_flight(0) if client.close() is None else None


def test_backend_that_does_not_read_holds_its_client_back(tcp, backend):
    """The same in the other direction."""
    gate, sent = threading.Event(), [0]

    def script(link):
        assert gate.wait(10)
        swallow(link)
        link.send(b"all")

    running = tcp(backend(script))
    before = resident_bytes()
    client = running.connect()
    sender = threading.Thread(target=pour, args=(client, sent))
    sender.start()
    held = stalls(lambda: sent[0])
    grown = resident_bytes() - before
    gate.set()
    sender.join()

    assert held < HELD_MAX_BYTES
    assert grown < 16 * MIB
    assert client.rest() == b"all"


def test_sessions_are_spread_and_counted(tcp, backend):
    """Least connections counts sessions."""
    running = tcp(*[backend(silent) for _ in range(3)], workers=2)
    clients = [running.connect() for _ in range(12)]
    wait_until(lambda: sum(running.in_flight(i) for i in range(3)) == 12)

    assert [running.in_flight(index) for index in range(3)] == [4, 4, 4]
    assert running.verify().exact
    for client in clients:
        client.close()
    for index in range(3):
        running.wait_in_flight(0, index)


def test_session_has_one_line(tcp, backend):
    """Method and target are nobody's; the bytes are counted."""
    started = backend(echo)
    running = tcp(started)
    client = running.connect()
    client.send(b"hello")
    client.exactly(5)
    client.close()
    line = running.line()

    assert (line["method"], line["target"], line["status"]) == (None, None, None)
    assert (line["bytes_in"], line["bytes_out"], line["backend"]) == (5, 5, started.label)
    assert (line["code"], line["tries"], line["in_flight"]) == ("--", 1, 1)
    assert line["client"].startswith("127.0.0.1:")
    assert 0 <= line["connect_us"] <= line["total_us"]


@pytest.mark.parametrize("who", ["client", "backend"])
def test_reset_behind_a_fin_ends_the_session_at_once(tcp, backend, who):
    """Who has sent FIN can still vanish; waiting for the FIN time-out would keep its unit."""
    gate = threading.Event()

    def script(link):
        if who == "backend":
            link.exactly(1)
            link.sock.shutdown(socket.SHUT_WR)
        else:
            link.rest()
        gate.wait(20)
        if who == "backend":
            link.reset()

    running = tcp(backend(script))
    client = running.connect()
    client.send(b"x")
    if who == "client":
        client.shut()
        wait_until(lambda: running.ledger().backends[0].bytes_out == 1)
        client.reset()
    else:
        assert client.ending() == "fin"
        gate.set()
    try:
        running.wait_in_flight(0)
    finally:
        gate.set()

    assert running.line()["code"] == ("CD" if who == "client" else "SD")
