"""fin_s: after one side has ended its direction, the other has this long to go on or to follow."""

import threading
from dataclasses import replace

import pytest

from fastlb.model.config import Mode
from support.balance import PATIENT
from support.wire import TruncatedError

pytestmark = pytest.mark.unbatched

UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.fixture(params=["session", "tunnel"])
def opened(request, balance, backend):
    """Open a TCP session or an upgraded connection to a script, with a short fin_s."""
    tunnel = request.param == "tunnel"

    def start(script, fin_s):
        def talk(link):
            if tunnel:
                link.until(b"\r\n\r\n")
                link.send(SWITCHING)
            script(link)

        mode = Mode.HTTP if tunnel else Mode.TCP
        running = balance(backend(talk), mode=mode, timeouts=replace(PATIENT, fin_s=fin_s))
        client = running.connect()
        if tunnel:
            client.send(UPGRADE)
            client.response_head()
        return running, client

    return start


def how_it_ends(link, ends):
    """Keep how a link ends."""
    try:
        link.rest()
        ends.append("fin")
    except TruncatedError as end:
        ends.append(end.how)


def test_client_that_finished_is_cut_off_with_a_backend_that_does_not(opened):
    """The backend owes its end: code sD, and a reset on both sides, because something is missing."""
    gate = threading.Event()

    def script(link):
        assert link.rest() == b"x"
        gate.wait(10)

    running, client = opened(script, 0.2)
    client.send(b"x")
    client.shut()

    assert client.ending() == "rst"
    running.wait_in_flight(0)
    gate.set()
    assert running.line()["code"] == "sD"


def test_backend_that_finished_is_cut_off_with_a_client_that_does_not(opened):
    """The client owes its end: code cD."""
    ends, done = [], threading.Event()

    def script(link):
        link.shut()
        how_it_ends(link, ends)
        done.set()

    running, client = opened(script, 0.2)

    assert client.ending() in ("fin", "rst")
    running.wait_in_flight(0)
    assert done.wait(5)
    assert ends == ["rst"]
    assert running.line()["code"] == "cD"


@pytest.mark.parametrize("first", ["client", "backend"])
def test_other_direction_may_go_on_as_long_as_it_moves(opened, first):
    """The time counts from the last byte, or a long download behind a FIN would be cut."""
    pause = threading.Event()
    heard = []

    def script(link):
        if first == "client":
            assert link.rest() == b""
            for n in range(8):
                pause.wait(0.1)
                link.send(b"%d" % n)
        else:
            link.shut()
            heard.append(link.rest())

    running, client = opened(script, 0.4)
    if first == "client":
        client.shut()
        assert client.rest() == b"01234567"
    else:
        assert client.rest() == b""
        for n in range(8):
            pause.wait(0.1)
            client.send(b"%d" % n)
        client.shut()
    running.wait_in_flight(0)

    assert running.line()["code"] == "--"
    assert heard in ([], [b"01234567"])
