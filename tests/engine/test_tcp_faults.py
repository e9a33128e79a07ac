"""TCP mode: ends, resets and silences of both peers at every phase; each is passed on as what it is."""

import socket
import threading
from dataclasses import replace

import pytest

from fastlb.model.config import Mode
from fastlb.model.events import EventKind
from fastlb.model.limits import LimitConfig
from support.backend import echo
from support.balance import PATIENT
from support.waiting import wait_until
from support.wire import TruncatedError

SIZES = [0, 1, 200_000]
ENDS = {"fin": lambda wire: wire.close(), "rst": lambda wire: wire.reset()}


@pytest.fixture
def tcp(balance):
    """Start engines in TCP mode."""

    def start(*backends, **settings):
        return balance(*backends, mode=Mode.TCP, **settings)

    return start


def how_it_ends(wire):
    """What came, and how it ended."""
    try:
        return wire.rest(), "fin"
    except TruncatedError as end:
        return end.got, end.how


def wait_reset(wire):
    """Wait for a reset, also for one behind a FIN, of which recv() does not tell."""
    if how_it_ends(wire)[1] == "fin":
        wait_until(lambda: wire.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), "a reset")


# ---- half-close ---------------------------------------------------------------------------------


@pytest.mark.parametrize("before", SIZES)
@pytest.mark.parametrize("after", SIZES)
def test_backend_answers_after_the_client_s_fin(tcp, backend, before, after):
    """FIN behind the data, and data against the FIN: nothing is lost either way."""

    def script(link):
        got = link.rest()
        link.send(b"%08d" % len(got), b"y" * after)

    running = tcp(backend(script))
    client = running.connect()
    client.send(b"x" * before)
    client.shut()

    assert client.exactly(8) == b"%08d" % before
    assert how_it_ends(client) == (b"y" * after, "fin")
    running.wait_idle()
    line = running.line()
    assert (line["code"], line["bytes_in"], line["bytes_out"]) == ("--", before, after + 8)


@pytest.mark.parametrize("before", SIZES)
@pytest.mark.parametrize("after", SIZES)
def test_client_goes_on_after_the_backend_s_fin(tcp, backend, before, after):
    """The same the other way round, in pieces."""
    heard = []

    def script(link):
        link.send(b"y" * before)
        link.shut()
        heard.append(how_it_ends(link))

    running = tcp(backend(script))
    client = running.connect()
    assert how_it_ends(client) == (b"y" * before, "fin")
    for at in range(0, after, 50_000):
        client.send(b"x" * min(50_000, after - at))
    client.shut()
    wait_until(lambda: heard, "the backend's reading")

    assert heard == [(b"x" * after, "fin")]
    running.wait_idle()
    assert running.line()["code"] == "--"


def test_conversation_goes_on_in_neither_direction_before_both_fins(tcp, backend):
    """Whoever is left may take its time, piece by piece."""
    step = threading.Semaphore(0)

    def script(link):
        link.rest()
        for _ in range(5):
            assert step.acquire(timeout=8)
            link.send(b"piece")

    running = tcp(backend(script))
    client = running.connect()
    client.shut()
    for _ in range(5):
        running.wait_in_flight(1)
        step.release()
        assert client.exactly(5) == b"piece"

    assert client.ending() == "fin"


def test_fin_of_a_client_that_waits_for_its_backend_is_kept(tcp, backend):
    """In the queue a FIN is no goodbye: what was said and the FIN behind it arrive later."""
    heard = []

    def script(link):
        got = link.rest()
        heard.append(got)
        link.send(b"bye")

    running = tcp(backend(script), max_conns=[1])
    first = running.connect()
    running.wait_in_flight(1)
    second = running.connect()
    second.send(b"second")
    second.shut()
    wait_until(lambda: running.ledger().queued == 1, "queued")
    first.send(b"first")
    first.shut()

    assert first.rest() == b"bye"
    assert second.rest() == b"bye"
    assert heard == [b"first", b"second"]


def connected(running):
    """True once the engine has its connection to the only backend."""
    return running.ledger().backends[0].connects == 1


# ---- resets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("who", ["client", "backend"])
def test_reset_is_a_reset_for_the_other_side(tcp, backend, who, size):
    """At every size, so copied and spliced; who is left must not take it for an end."""
    heard, sent, gate = [], threading.Event(), threading.Event()

    def script(link):
        if who == "client":
            heard.append(how_it_ends(link)[1])
        else:
            link.send(b"y" * size)
            sent.set()
            assert gate.wait(8)
            link.reset()

    started = backend(script)
    running = tcp(started)
    client = running.connect()
    if who == "client":
        client.send(b"x" * size)
        started.link()
        wait_until(lambda: connected(running) and running.ledger().backends[0].bytes_out == size)
        client.reset()
        wait_until(lambda: heard, "the backend's end")
    else:
        client.exactly(size)
        wait_until(lambda: connected(running), "the session")
        gate.set()
        heard.append(how_it_ends(client)[1])

    assert heard == ["rst"]
    running.wait_idle()
    # Of a connection without a byte a reset may be the first thing that is known.
    codes = ("CD",) if who == "client" else ("SD",) if size else ("SD", "SC")
    assert running.line()["code"] in codes


@pytest.mark.parametrize("who", ["client", "backend"])
def test_reset_reaches_a_peer_that_does_not_read(tcp, backend, who):
    """Bytes in our hands do not keep a reset from its receiver."""
    heard, gate = [], threading.Event()

    def pour(wire):
        piece = bytes(100_000)
        wire.sock.settimeout(0.2)
        try:
            for _ in range(1000):
                wire.send(piece)
        except TimeoutError:
            wire.reset()

    def script(link):
        if who == "backend":
            pour(link)
        else:
            assert gate.wait(8)
            heard.append(how_it_ends(link)[1])

    running = tcp(backend(script))
    client = running.connect(receive_buffer_bytes=16_384)
    if who == "client":
        pour(client)
        running.wait_idle()
        gate.set()
        wait_until(lambda: heard, "the backend's end")
    else:
        running.wait_idle()
        heard.append(how_it_ends(client)[1])

    assert heard == ["rst"]


# ---- before there is a session ------------------------------------------------------------------


@pytest.mark.parametrize("how", ["closes", "half-closes", "resets"])
def test_client_that_ends_before_its_connect(tcp, unanswered, how):
    """A reset gives its unit back at once; a FIN may be a half-close, so its connect goes on."""
    running = tcp(unanswered, timeouts=replace(PATIENT, connect_s=0.3))
    client = running.connect()
    client.send(b"hello")
    running.wait_in_flight(1)
    {"closes": client.close, "half-closes": client.shut, "resets": client.reset}[how]()
    running.wait_idle()

    assert running.line()["code"] == ("CC" if how == "resets" else "sC")
    if how == "half-closes":
        assert client.ending() == "rst"


@pytest.mark.parametrize("size", [0, 5, 60_000, 300_000])
@pytest.mark.parametrize("fin", [True, False], ids=["fin", "open"])
def test_failover_before_the_first_byte_loses_nothing(tcp, backend, refused, size, fin):
    """What the client said while its first backend refused arrives whole at the second one."""
    running = tcp(refused, backend(echo))
    client = running.connect()
    sender = threading.Thread(target=lambda: client.send(b"x" * size) or (fin and client.shut()))
    sender.start()

    assert client.exactly(size) == b"x" * size
    sender.join()
    if not fin:
        client.shut()
    assert client.ending() == "fin"
    running.wait_idle()
    line = running.line()
    assert (line["tries"], line["code"], line["bytes_in"]) == (2, "--", size)


@pytest.mark.parametrize("end", ENDS)
def test_backend_that_ends_after_accept_is_not_failed_over(tcp, backend, end):
    """It was connected, so it may have heard something: its end is the client's."""
    untouched = []
    gate = threading.Event()

    def ending(link):
        assert gate.wait(8)
        ENDS[end](link)

    running = tcp(backend(ending), backend(lambda link: untouched.append(link)))
    client = running.connect()
    running.wait_in_flight(1)
    gate.set()

    assert client.ending() == end
    client.close()
    running.wait_idle()
    assert (running.line()["code"], untouched) == ("--" if end == "fin" else "SD", [])


# ---- silence ------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["client", "backend"])
def test_fin_that_is_not_answered_ends_in_a_reset(tcp, backend, who):
    """fin_s after one side's end the other one has had its time; cut, and seen by both to be cut."""
    heard = []

    def script(link):
        if who == "backend":
            link.shut()
        wait_reset(link)
        heard.append("rst")

    running = tcp(backend(script), timeouts=replace(PATIENT, fin_s=0.2))
    client = running.connect()
    if who == "client":
        client.send(b"x")
        client.shut()
    else:
        assert client.ending() == "fin"

    wait_reset(client)
    running.wait_idle()
    wait_until(lambda: heard, "the backend's end")
    assert running.line()["code"] == ("sD" if who == "client" else "cD")


def test_progress_puts_the_fin_time_out_off(tcp, backend):
    """The time is for silence, not for a long answer to a short question."""
    pause = threading.Event()

    def script(link):
        link.rest()
        for _ in range(8):
            pause.wait(0.1)
            link.send(b"still here")

    running = tcp(backend(script), timeouts=replace(PATIENT, fin_s=0.4))
    client = running.connect()
    client.shut()

    assert client.rest() == b"still here" * 8


def test_idle_session_ends_in_a_reset(tcp, backend):
    """Neither side has said that it is done, so neither is told so."""
    heard = []
    running = tcp(
        backend(lambda link: heard.append(how_it_ends(link))), timeouts=replace(PATIENT, idle_s=0.2)
    )
    client = running.connect()
    client.send(b"x")

    assert how_it_ends(client) == (b"", "rst")
    wait_until(lambda: heard, "the backend's end")
    assert heard == [(b"x", "rst")]
    running.wait_idle()


def test_next_session_works_after_each_fault(tcp, backend):
    """Nothing of a broken session is left for the one after it."""

    def script(link):
        word = link.exactly(4)
        if word == b"rst!":
            link.reset()
        elif word == b"fin!":
            link.shut()
            link.rest()
        else:
            link.send(word)
            link.rest()

    running = tcp(backend(script), limits=LimitConfig(connections=50))
    for n in range(30):
        client = running.connect()
        client.send([b"rst!", b"fin!", b"echo"][n % 3])
        assert how_it_ends(client)[1] == "rst" if n % 3 == 0 else True
        if n % 3 == 2:
            assert client.exactly(4) == b"echo"
        client.close()
    running.wait_idle()

    assert len(running.lines(30)) == 30
    assert not [event for event in running.events() if event.kind is EventKind.CONNECT_FAILED]
